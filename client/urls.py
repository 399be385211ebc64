"""Where a client may send what: HTTPS, or clear HTTP that never leaves this machine."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from client.errors import InsecureUrl


def require_private_link(url: str) -> None:
    """Refuse a base URL that an observer of the network could read along.

    The content is sealed in any case, but in clear HTTP the network would see which node a client
    talks to, and at the issuer its account key.

    Raises:
        InsecureUrl: neither HTTPS nor loopback, or not a base URL at all.
    """
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme == "http" and parts.hostname and _is_loopback(parts.hostname):
        return
    raise InsecureUrl(f"{url} is neither https nor on this machine")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
