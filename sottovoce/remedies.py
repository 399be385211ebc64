"""Failures of a command, told to a person: one sentence of cause, one of remedy."""

from __future__ import annotations

import errno

from rich.console import Console

from client import openai_errors
from client.errors import ClientError

_OWN = {
    "no_proxy": "Start one with `sottovoce up`, or say with --proxy where yours is.",
    "answered": "Run `sottovoce nodes` to see whether a node can be used now.",
    "broke_off": "Ask again; if it stays so, `sottovoce nodes` shows what the path is like.",
    "profile_file": "Compare it with the example in docs/tutorial.md.",
    "state_in_use": "Stop the other client, or give this one a state folder of its own.",
    "model_not_found": "Ask for a model that `sottovoce nodes` shows.",
    "busy": "Ask again in a second: no place is free.",
    "context_length_exceeded": "Begin anew with /forget, or say it in fewer words.",
    "no_model": "Wait for a node to be listed; `sottovoce nodes` shows why none is.",
}
_SYSTEM = {
    errno.EADDRINUSE: "Stop the program that has the port, or choose another one.",
    errno.EACCES: "Give the file to the user that runs this, or run it as the file's owner.",
    errno.ENOENT: "Check the path: it is looked up from the folder you are in.",
}


def remedy(error: Exception) -> str | None:
    """Return what to do about an error, or None where the message says it all."""
    if isinstance(error, ClientError):
        return _OWN.get(error.code) or openai_errors.remedy(error.code)
    return _SYSTEM.get(error.errno or 0) if isinstance(error, OSError) else None


def explain(console: Console, who: str, error: Exception) -> None:
    """Print cause and remedy of an error."""
    console.print(f"{who}: {error}", markup=False, highlight=False, soft_wrap=True)
    if (text := remedy(error)) is not None:
        console.print(f"what to do: {text}", markup=False, highlight=False, soft_wrap=True)
