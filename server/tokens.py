"""Which tokens a worker takes, and the checking of those that a request brings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wire import inner
from wire.errors import BadSignature, WireError
from wire.privacy_pass import Token, TokenChallenge, key_id, spent_row, verify_token


@dataclass(frozen=True)
class AcceptedIssuer:
    """The issuer's name and the token keys (SPKI) now in use, the newest first."""

    name: str
    spkis: tuple[bytes, ...]

    @property
    def challenge(self) -> TokenChallenge:
        """The fleet's one challenge: any token answers it, at any node, at any time."""
        return TokenChallenge(self.name, b"", inner.AUTHORITY.decode())


@dataclass(frozen=True)
class Payment:
    """Verified tokens, as the spent-token store will know them."""

    key_id: bytes
    rows: tuple[bytes, ...]


def verify(tokens: Sequence[Token], issuer: AcceptedIssuer) -> Payment:
    """Verify every token of a request.

    All must be of one key, because the store spends one key's rows at a time, and different: a
    token twice would be one payment counted double.

    Raises:
        BadSignature: there is none, or any of that is not so. Which, is not told.
    """
    if not tokens:
        raise BadSignature("no token")
    keys = {key_id(spki): spki for spki in issuer.spkis}
    first = tokens[0].key_id
    rows = tuple(spent_row(token.key_id, token.nonce) for token in tokens)
    if first not in keys or len(set(rows)) != len(rows):
        raise BadSignature("a token of an unknown key, or one given twice")
    digest = issuer.challenge.digest
    try:
        for token in tokens:
            verify_token(token, keys[first], digest)
    except WireError as error:
        raise BadSignature("a token does not verify") from error
    return Payment(first, rows)
