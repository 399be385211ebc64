"""How a command reaches the private path: through the local proxy, or inside its own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from client.errors import ClientError
from client.exchange import TIMEOUT
from sottovoce.failures import Answered

LOCAL_PROXY = "http://127.0.0.1:8080"

Proxy = Annotated[
    str, typer.Option(envvar="SOTTOVOCE_PROXY", help="The local proxy, as `up` prints it.")
]
Profile = Annotated[
    Path | None, typer.Option(help="A client.toml: go without a proxy, in this process.")
]


class NoProxy(ClientError):
    """Nothing answers where the proxy should be."""

    code = "no_proxy"


@contextmanager
def way(proxy: str, profile: Path | None) -> Iterator[httpx.Client]:
    """Open a client whose requests go the private way.

    Raises:
        NoProxy: (also within) nothing answers at `proxy`.
        ClientError: the profile cannot be used.
    """
    if profile is not None:
        with _inside(profile) as client:
            yield client
        return
    url = proxy.rstrip("/").removesuffix("/v1")
    try:
        with httpx.Client(base_url=url, timeout=TIMEOUT, trust_env=False) as client:
            yield client
    except (httpx.ConnectError, httpx.UnsupportedProtocol, httpx.InvalidURL):
        raise NoProxy(f"no proxy answers at {url}") from None


@contextmanager
def _inside(profile: Path) -> Iterator[httpx.Client]:
    from sottovoce.sdk.httpx_transport import BASE, Transport  # noqa: PLC0415 - only for this way
    from sottovoce.sdk.session import Session  # noqa: PLC0415 - likewise

    with Session.from_profile(profile) as session:
        transport = Transport(session)
        with httpx.Client(transport=transport, base_url=BASE, timeout=TIMEOUT) as client:
            yield client


def fetch(client: httpx.Client, path: str) -> Any:  # noqa: ANN401 - as JSON has it
    """Return the JSON at `path`.

    Raises:
        Answered: the answer is an error.
        NoProxy: it is no JSON; something else listens there.
    """
    answer = client.get(path)
    check(answer)
    try:
        return answer.json()
    except ValueError:
        raise NoProxy("what answers there is no sottovoce proxy") from None


def check(answer: httpx.Response) -> None:
    """Raise Answered if an answer, read to its end, is an error."""
    if answer.is_success:
        return
    try:
        error = answer.json()["error"]
        message, code = str(error["message"]), error.get("code")
    except (ValueError, KeyError, TypeError, AttributeError):
        message, code = f"the answer is an HTTP error ({answer.status_code})", None
    raise Answered(message, code)
