"""The front door: the command line, every party on one machine, and the SDK's classes.

`sottovoce.OpenAI` and `sottovoce.AsyncOpenAI` are the openai package's own classes with the private
path inside; no proxy runs. They are imported when they are asked for: neither `import sottovoce`
nor the command line needs the openai package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sottovoce.sdk.attestation import Attestation as Attestation
    from sottovoce.sdk.attestation import attestation_of as attestation_of
    from sottovoce.sdk.openai_clients import AsyncOpenAI as AsyncOpenAI
    from sottovoce.sdk.openai_clients import OpenAI as OpenAI
    from sottovoce.sdk.session import Session as Session

__version__ = "0.1.0"

_PLACES = {
    "AsyncOpenAI": "sottovoce.sdk.openai_clients",
    "Attestation": "sottovoce.sdk.attestation",
    "OpenAI": "sottovoce.sdk.openai_clients",
    "Session": "sottovoce.sdk.session",
    "attestation_of": "sottovoce.sdk.attestation",
}
"""Public name to the module that has it."""


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'sottovoce' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
