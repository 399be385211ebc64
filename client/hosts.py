"""The names that the proxy answers to, against DNS rebinding.

A page of another site may have its own name resolve to this machine's address. To the browser the
proxy is then that site: the page reads every answer, and no mark of a browser's says so. What gives
it away is the name that it asks by. An address cannot be made to mean another machine, so those of
this machine are answered to, `localhost`, and what the proxy was told to listen on.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from client import openai_errors
from client.errors import HostRefused

_HOST = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::\d{1,5})?")  # RFC 9110, section 7.2


class OwnNames:
    """ASGI middleware: refuses what was asked by another name than the proxy's own, with 421."""

    def __init__(self, app: ASGIApp, listens_on: str) -> None:
        self._app = app
        self._listens_on = listens_on

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http" or answers_to(_asked(scope), self._listens_on):
            await self._app(scope, receive, send)
        else:
            refused = HostRefused("the proxy does not answer to the host that was asked for")
            await openai_errors.response(refused)(scope, receive, send)


def answers_to(field: str, listens_on: str) -> bool:
    """Return whether a request with this Host field is one for a proxy that listens there.

    The port does not matter. A proxy that listens on every address answers to every address, and to
    no name but `localhost`.
    """
    match = _HOST.fullmatch(field)
    if match is None:
        return False
    host = (match[1] or match[2]).lower()
    if host in ("localhost", listens_on.lower()):
        return True
    address, own = _address(host), _address(listens_on)
    if address is None:
        return False
    return address.is_loopback or (own is not None and (own.is_unspecified or own == address))


def _asked(scope: Scope) -> str:
    fields = [value for name, value in scope["headers"] if name == b"host"]
    return fields[0].decode("latin-1") if len(fields) == 1 else ""


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
