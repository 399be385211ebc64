"""The openai package's own clients with the private path inside: no proxy, no base URL, no key.

    client = sottovoce.OpenAI(profile="client.toml")
    completion = client.chat.completions.create(model=..., messages=...)
    completion.attestation.verification

Everything else is as the openai package has it. `attestation` is there on completions, on
responses, and on the last chunk or event of a stream.
"""

from __future__ import annotations

import os
from typing import Any

from sottovoce.sdk.attestation import Attestation
from sottovoce.sdk.httpx_transport import BASE
from sottovoce.sdk.session import Session

try:
    import httpx2
    import openai
    from openai._types import ResponseT

    from sottovoce.sdk.httpx2_transport import AsyncTransport, Transport
except ImportError as error:
    raise ImportError(
        "sottovoce.OpenAI needs the openai package, version 3.52 or later: pip install openai"
    ) from error

BASE_URL = f"{BASE}/v1"
API_KEY = "not-needed"
"""The package insists on a key; nobody reads it, and it never leaves the process."""

Profile = str | os.PathLike[str] | None
"""A path to a `client.toml` (`sottovoce.sdk.profile`); None: the user's own."""


class OpenAI(openai.OpenAI):
    """`openai.OpenAI` over the private path.

    Args:
        profile: a path to a `client.toml`; None: the user's own.
        session: a session to share with other clients, in place of a profile; it is not closed.
        http_client: in place of both, a client whose transport is one of ours.
        options: whatever else `openai.OpenAI` takes.

    Raises:
        ClientError: as `Session.from_profile`.
    """

    def __init__(
        self,
        *,
        profile: Profile = None,
        session: Session | None = None,
        http_client: httpx2.Client | None = None,
        **options: Any,  # noqa: ANN401 - the package names and checks them
    ) -> None:
        if http_client is None:
            opened = Session.from_profile(profile) if session is None else session
            transport = Transport(opened, closes_session=session is None)
            http_client = openai.DefaultHttpx2Client(transport=transport, trust_env=False)
        super().__init__(http_client=http_client, **_with_defaults(options))

    def _process_response_data(
        self, *, data: object, cast_to: type[ResponseT], response: httpx2.Response
    ) -> ResponseT:
        answer = super()._process_response_data(data=data, cast_to=cast_to, response=response)
        return _typed(answer)


class AsyncOpenAI(openai.AsyncOpenAI):
    """`openai.AsyncOpenAI` over the private path, on asyncio; otherwise as `OpenAI`."""

    def __init__(
        self,
        *,
        profile: Profile = None,
        session: Session | None = None,
        http_client: httpx2.AsyncClient | None = None,
        **options: Any,  # noqa: ANN401 - the package names and checks them
    ) -> None:
        if http_client is None:
            opened = Session.from_profile(profile) if session is None else session
            transport = AsyncTransport(opened, closes_session=session is None)
            http_client = openai.DefaultAsyncHttpx2Client(transport=transport, trust_env=False)
        super().__init__(http_client=http_client, **_with_defaults(options))

    def _process_response_data(
        self, *, data: object, cast_to: type[ResponseT], response: httpx2.Response
    ) -> ResponseT:
        answer = super()._process_response_data(data=data, cast_to=cast_to, response=response)
        return _typed(answer)


def _with_defaults(options: dict[str, Any]) -> dict[str, Any]:
    # An environment made for another service must not decide where a prompt goes, and each retry
    # would be another draw of a node.
    return {"max_retries": 0, **options, "api_key": API_KEY, "base_url": BASE_URL}


def _typed(answer: ResponseT) -> ResponseT:
    """Give the attestation of an answer, or of the response within an event, its type."""
    for holder in (answer, getattr(answer, "response", None)):
        written = getattr(holder, "attestation", None)
        if isinstance(written, dict):
            setattr(holder, "attestation", Attestation.model_validate(written))  # noqa: B010
    return answer
