"""The wallet's file: every token that no node has been shown, and when its key ends."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from client.errors import WalletDamaged
from client.files import write_private
from wire import privacy_pass
from wire.errors import WireError


@dataclass(frozen=True)
class StoredToken:
    """A finished token and the end of the key it was signed under."""

    token: privacy_pass.Token
    not_after: int

    @cached_property
    def entry(self) -> str:
        """The token as the file has it; the file is written whole."""
        token = base64.b64encode(self.token.encode()).decode()
        return json.dumps({"token": token, "not_after": self.not_after})


class TokenFile:
    """Tokens in a file; without a path, in memory only."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def load(self) -> list[StoredToken]:
        """Read all tokens.

        Raises:
            WalletDamaged: the file is not a wallet's. It was put aside, so that the next start
                begins with an empty wallet, and nothing in it is overwritten.
        """
        if self._path is None or not self._path.exists():
            return []
        try:
            return decode(self._path.read_bytes())
        except ValueError:
            aside = self._path.with_name(f"{self._path.name}.damaged-{int(time.time())}")
            self._path.rename(aside)
            raise WalletDamaged(
                f"the wallet file {self._path} is damaged. It was kept as {aside}: put it back if "
                "you can mend it. Start again to begin with an empty wallet, which the issuer fills"
            ) from None

    def save(self, tokens: Iterable[StoredToken]) -> None:
        """Replace the file by one with these tokens.

        Raises:
            StateUnwritable: it is what it was.
        """
        if self._path is not None:
            entries = ",".join(stored.entry for stored in tokens)
            write_private(self._path, f"[{entries}]".encode())


def decode(data: bytes) -> list[StoredToken]:
    """Decode a wallet file.

    Raises:
        ValueError: it is not what `TokenFile.save` writes.
    """
    try:
        return [_decode_entry(**entry) for entry in json.loads(data)]
    except (TypeError, ValueError, RecursionError, WireError):
        raise ValueError("not a wallet file") from None


def _decode_entry(token: str, not_after: int) -> StoredToken:
    if type(not_after) is not int:
        raise TypeError("a time is whole seconds")
    return StoredToken(privacy_pass.Token.decode(base64.b64decode(token, validate=True)), not_after)
