"""Whatever can be made from our OpenAPI document, and whatever contradicts it, is answered well.

schemathesis makes the calls; they go the whole way. Answers are never 500 or 502, and errors have
the one form that the document gives them. The heavy form makes many more.
"""

from pathlib import Path

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed here")

from hypothesis import HealthCheck, settings  # noqa: E402
from jsonschema_rs import validator_for  # noqa: E402

from sottovoce import openapi  # noqa: E402

pytestmark = pytest.mark.xdist_group("stack")

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"
SCHEMA = schemathesis.openapi.from_path(str(DOCUMENT))
IS_ERROR = validator_for(openapi.document()["components"]["schemas"]["Error"])
MODEL = "tinychat"
FEW, MANY = 4, 300
AT_MOST = {"max_tokens": 3, "max_completion_tokens": 3, "max_output_tokens": 20, "n": 2}
"""So that a call that is good costs no minute."""
NOT_OURS = {501, 505}


def calls(count):
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def tamed(body):
    """Name a model that is there, in half of the calls, and ask for little of it."""
    if not isinstance(body, dict):
        return body
    small = {name: most for name, most in AT_MOST.items() if isinstance(body.get(name), int)}
    if not small and ("messages" in body or "prompt" in body):
        small = {"max_tokens": 3}
    named = {"model": MODEL} if len(str(body)) % 2 else {}
    return {**body, **small, **named, "min_tokens": None} if "model" in body else body


def judge(case, stack):
    if case.method == "POST":
        case.body = tamed(case.body)
    response = case.call(base_url=stack.base_url.removesuffix("/v1"), timeout=60)
    status = response.status_code
    assert status == 503 or status < 500, (case.path, case.body, response.content)
    if status >= 400:
        assert IS_ERROR.is_valid(response.json()), response.content


@SCHEMA.parametrize()
@calls(FEW)
def test_no_call_is_answered_with_a_failure_and_every_error_has_its_form(case, stack):
    judge(case, stack)


@pytest.mark.soak
@pytest.mark.timeout(900)
@SCHEMA.parametrize()
@calls(MANY)
def test_nor_are_many(case, stack):
    judge(case, stack)
