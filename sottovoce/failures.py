"""Failures of a command, told to a person: a sentence of cause, a sentence of remedy."""

from __future__ import annotations

import errno

from rich.console import Console

from client.errors import ClientError
from client.remedies import explain

_SYSTEM = {
    errno.EADDRINUSE: "Stop what listens there, or choose another port",
    errno.EACCES: "Give the file to the user that runs this, or run it as the file's owner",
    errno.ENOENT: "Check the path: it is looked up from the folder you are in",
}


class Answered(ClientError):
    """An error that the proxy answered with: its message has the remedy in it already.

    `code` is the one that it gave.
    """

    code = "answered"

    def __init__(self, message: str, code: str | None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


def tell(console: Console, who: str, error: Exception) -> None:
    """Print cause and remedy of an error."""
    text = f"{who}: {_sentences(error)}"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _sentences(error: Exception) -> str:
    if isinstance(error, ClientError) and not isinstance(error, Answered):
        return explain(error)
    remedy = _SYSTEM.get(error.errno or 0) if isinstance(error, OSError) else None
    return str(error) if remedy is None else f"{error}. {remedy}."
