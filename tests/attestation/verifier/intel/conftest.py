"""Honest Intel nodes, made once."""

import pytest

from attestation.errors import Refused
from tests.support.evidence.intel import IntelNode

HONEST = {
    "sgx v3": IntelNode(version=3),
    "tdx v4": IntelNode(version=4),
    "tdx v5, 1.0": IntelNode(version=5, body=2),
    "tdx v5, 1.5": IntelNode(version=5, body=3),
    "tdx v5, 1.5 extended": IntelNode(version=5, body=4),
}


@pytest.fixture(params=HONEST.values(), ids=HONEST.keys(), scope="session")
def honest(request):
    """An honest node with each kind of quote there is."""
    return request.param


@pytest.fixture
def refused():
    """Say with which code a verification is refused."""

    def code_of(function, *args, **kwargs):
        with pytest.raises(Refused) as caught:
            function(*args, **kwargs)
        return caught.value.code

    return code_of
