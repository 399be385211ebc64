"""Ask a party whether it serves: exit 0 if its `/health` answers 200, else 1.

    health.py http://127.0.0.1:8081/health
    health.py https://127.0.0.1:8443/health
    health.py unix:/run/sottovoce/spent.sock

Without an argument the URL is that of the variable SOTTOVOCE_HEALTH. A party asks itself, so whose
certificate it meets is not looked at. Only the standard library: a probe every few seconds must
cost little.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

TIMEOUT_S = 5.0


class UnixConnection(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def connection(url: str) -> HTTPConnection:
    """Return a connection to what the URL names, not yet open.

    Raises:
        ValueError: it is none of the three forms.
    """
    parts = urlsplit(url)
    if parts.scheme == "unix" and Path(parts.path).is_absolute():
        return UnixConnection(parts.path)
    if parts.scheme == "http" and parts.hostname:
        return HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
    if parts.scheme == "https" and parts.hostname:
        anyone = ssl._create_unverified_context()  # noqa: S323, SLF001 - itself
        return HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT_S, context=anyone)
    raise ValueError("http://HOST:PORT/health, https://HOST:PORT/health or unix:/PATH")


def healthy(url: str) -> bool:
    """Return whether what the URL names answers 200 in time."""
    asked = connection(url)
    path = urlsplit(url).path if not url.startswith("unix:") else "/health"
    try:
        asked.request("GET", path or "/health")
        return asked.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        asked.close()


if __name__ == "__main__":
    url = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("SOTTOVOCE_HEALTH", "")
    sys.exit(0 if healthy(url) else 1)
