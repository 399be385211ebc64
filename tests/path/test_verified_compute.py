"""A served completion was checked before it left, and its verdict says in plain words how."""

import openai
import pytest

from engine.native import library

try:
    library.load()
except library.NativeUnavailable as unavailable:
    pytest.skip(f"compiled kernels: {unavailable}", allow_module_level=True)

pytestmark = pytest.mark.xdist_group("stack")


def test_the_verdict_of_a_completion_says_what_was_checked(stack):
    client = openai.OpenAI(base_url=stack.base_url, api_key="anything", max_retries=0)
    completion = client.chat.completions.create(
        model="tinychat", messages=[{"role": "user", "content": "Hello"}], max_tokens=8
    )
    steps = completion.model_extra["attestation"]["verification"]
    [reason] = [step["reason"] for step in steps if step["step"] == "receipt-verification"]
    assert reason.startswith("audit: every token's computation and secret samples")
