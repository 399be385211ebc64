"""The wallet's questions to its issuer: one new token, or one for an old one."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from client.errors import IssuerError, TokenWorthless
from wire import privacy_pass
from wire.refund import EXCHANGE_TYPE

WORTHLESS = frozenset({403, 409, 422})
"""What an issuer answers to a token that no asking again will exchange."""


def anonymous_client() -> httpx.AsyncClient:
    """Return a client whose connections have never carried an account key."""
    return httpx.AsyncClient(
        timeout=30.0,
        trust_env=False,
        headers={"user-agent": "sottovoce", "accept": "*/*", "accept-encoding": "identity"},
    )


class Issuance:
    """One issuer, asked on one account. `anonymous` makes the client for one exchange."""

    def __init__(
        self,
        issuer_url: str,
        account_key: str,
        http: httpx.AsyncClient,
        anonymous: Callable[[], httpx.AsyncClient],
    ) -> None:
        self._url = issuer_url.rstrip("/")
        self._authorization = f"Bearer {account_key}"
        self._http = http
        self._anonymous = anonymous

    async def draw(self, token_request: bytes) -> bytes:
        """Return the blind signature for one token request, paid by the account.

        Raises:
            IssuerError: the issuer refused or cannot be reached.
        """
        headers = {
            "content-type": privacy_pass.TOKEN_REQUEST_TYPE,
            "authorization": self._authorization,
        }
        answer = await _post(self._http, self._url + "/token-request", token_request, headers)
        return _signed(answer)

    async def swap(self, body: bytes) -> bytes:
        """Return the blind signature for an old token and a token request behind it.

        Raises:
            TokenWorthless: it will never be exchanged. IssuerError: ask again, with the same bytes.
        """
        headers = {"content-type": EXCHANGE_TYPE}
        async with self._anonymous() as http:
            answer = await _post(http, self._url + "/token-exchange", body, headers)
        if answer.status_code in WORTHLESS:
            raise TokenWorthless(f"the issuer answered {answer.status_code}")
        return _signed(answer)


async def _post(
    http: httpx.AsyncClient, url: str, content: bytes, headers: dict[str, str]
) -> httpx.Response:
    try:
        return await http.post(url, content=content, headers=headers)
    except httpx.HTTPError:
        raise IssuerError("the issuer cannot be reached") from None


def _signed(answer: httpx.Response) -> bytes:
    if answer.status_code != httpx.codes.OK:
        raise IssuerError(f"the issuer answered {answer.status_code}")
    return answer.content
