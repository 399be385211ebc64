"""The errors of this floor.

    WireError
    ├── Malformed        the bytes are not of the format, or not its one accepted encoding
    │   └── Truncated    the bytes end before the format does
    ├── Unsupported      well formed, but an algorithm, key or version we do not take
    ├── OpenFailed       authenticated decryption failed; the context must not be used again
    └── BadSignature     a signature does not verify

No message quotes the bytes it is about: they may be a prompt.
"""

from __future__ import annotations


class WireError(Exception):
    """Base of every error raised by `wire`."""


class Malformed(WireError):
    """The bytes are not of the format, or not in the one encoding that is accepted."""


class Truncated(Malformed):
    """The bytes end before the format does."""


class Unsupported(WireError):
    """Well formed, but names an algorithm, key or version that is not accepted."""


class OpenFailed(WireError):
    """Authenticated decryption failed. The context it failed in must not be used again."""


class BadSignature(WireError):
    """A signature does not verify under the key it was checked with."""
