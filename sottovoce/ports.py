"""Whether the ports that a command needs are free, before anything is started."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable


def require_free(ports: Iterable[int], host: str = "127.0.0.1") -> None:
    """Try to listen on each port, and stop at once.

    Raises:
        OSError: one is taken, or may not be had; the message names it.
    """
    for port in ports:
        try:
            _listen(host, port)
        except OSError as error:
            code = error.errno or errno.EADDRINUSE
            raise OSError(
                code, f"port {port} of {host} cannot be had: {os.strerror(code)}"
            ) from None


def _listen(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        # As servers do: what a program that has ended left behind is not in the way.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
