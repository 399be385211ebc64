"""One party dies: the client gets a clear error in time, and the system recovers with the party."""

import signal
import time

import httpx
import pytest

pytestmark = pytest.mark.xdist_group("stack")

CLIENT_TIMEOUT_S = 30


def openai_error(response):
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


def test_streams_that_are_cut_are_errors(stack):
    """The relay dies in mid-stream: an error event, no `[DONE]`, no attestation."""
    request = {
        "model": "tinychat",
        "stream": True,
        "max_tokens": 400,
        "messages": [{"role": "user", "content": "Tell me everything about sottovoce."}],
        "ignore_eos": True,
    }
    url = f"{stack.base_url}/chat/completions"
    with httpx.stream("POST", url, json=request, timeout=60, trust_env=False) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        stack.process("relay").kill()
        rest = [line for line in lines if line]
    assert rest[-1].startswith('data: {"error"')
    assert not any("[DONE]" in line for line in rest)
    assert not any('"receipt"' in line for line in rest)
    stack.until(stack.serves)


@pytest.mark.parametrize("party", ["relay", "issuer", "spent", "log", "witness0", "worker0"])
def test_a_killed_party_gives_a_clear_error_or_none_and_comes_back(stack, party):
    process = stack.process(party)
    process.kill()
    process.wait()
    began = time.monotonic()
    response = stack.chat(timeout=CLIENT_TIMEOUT_S)
    assert time.monotonic() - began < CLIENT_TIMEOUT_S
    if response.status_code != 200:
        assert response.status_code in {502, 503, 504}
        assert response.headers["x-should-retry"] == "false"
        assert openai_error(response)["code"]
    stack.until(
        lambda: stack.process(party) not in (None, process) and stack.serves() and stack.settled(),
        timeout=90,
    )


def test_the_relay_down_is_named(stack):
    process = stack.process("relay")
    process.send_signal(signal.SIGSTOP)
    process.kill()
    process.wait()
    response = stack.chat(timeout=CLIENT_TIMEOUT_S)
    assert response.status_code in {502, 503}
    assert openai_error(response)["code"] in {"relay_error", "unavailable"}
    stack.until(stack.serves, timeout=90)


def test_the_spent_store_down_is_an_encapsulated_503_and_nothing_is_spent(stack):
    process = stack.process("spent")
    process.kill()
    process.wait()
    response = stack.chat(timeout=CLIENT_TIMEOUT_S)
    assert response.status_code == 503
    assert openai_error(response)["code"] == "payment_unavailable"
    stack.until(stack.serves, timeout=90)


def test_the_proxy_itself_comes_back_with_its_wallet(stack):
    stack.process("proxy").kill()
    stack.until(stack.serves, timeout=90)
