"""What the tests of TPM evidence share."""

import pytest

from attestation.errors import Refused


@pytest.fixture
def refusal():
    """A function that makes a call and returns the code with which it was refused."""

    def call(function, *args, **kwargs):
        with pytest.raises(Refused) as caught:
            function(*args, **kwargs)
        assert caught.value.reason
        return caught.value.code

    return call
