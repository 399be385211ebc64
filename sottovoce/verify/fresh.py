"""A fresh quote, asked for through the user's own proxy: it has the tokens and knows the relay.

The proxy is believed in nothing: the nonce is made here, and what comes back is appraised here.
"""

from __future__ import annotations

from collections.abc import Callable

import httpx

from attestation.bundle import MAX_ENCODED
from client.errors import InsecureUrl
from client.urls import require_private_link
from sottovoce.verify.arguments import Unusable

TIMEOUT_S = 60.0
"""Others may wait before us, and hardware takes its time."""


def ask_through(proxy_url: str) -> Callable[[str, bytes], bytes]:
    """Return what asks a node, by its name, for evidence over a nonce.

    Raises:
        Unusable: (on a call, too) an address that is not to be used, or no evidence from there.
    """
    try:
        require_private_link(proxy_url)
    except InsecureUrl as error:
        raise Unusable(str(error)) from error

    def ask(node: str, nonce: bytes) -> bytes:
        parameters = {"node": node, "nonce": nonce.hex()}
        url = f"{proxy_url.rstrip('/')}/v1/attestation"
        try:
            answer = httpx.get(url, params=parameters, timeout=TIMEOUT_S, trust_env=False)
        except httpx.HTTPError as error:
            raise Unusable("the proxy cannot be reached, or says nothing") from error
        if answer.status_code != httpx.codes.OK:
            raise Unusable(f"the proxy gave no evidence: {_reason(answer)}")
        if len(answer.content) > MAX_ENCODED:
            raise Unusable("what the proxy gave is longer than evidence can be")
        return answer.content

    return ask


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"
