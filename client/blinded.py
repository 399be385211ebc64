"""Blinded messages made ahead, one for each token that a request will show.

Blinding is milliseconds of big-integer work, and a request must not wait for it. What was blinded
for a key that is no longer the newest is thrown away: nothing is lost with it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from transparency.leaf import IssuerKeyLeaf
from wire import privacy_pass
from wire.refund import BlindedMessages

AHEAD = 16
"""Messages kept ready: for two of the largest requests."""


@dataclass(frozen=True)
class Blinded:
    """One blinded message, and what makes a token of its signature."""

    key: IssuerKeyLeaf
    request: privacy_pass.TokenRequest
    pending: privacy_pass.PendingToken


def blind(key: IssuerKeyLeaf) -> Blinded:
    """Blind one new token for `key`."""
    request, pending = privacy_pass.begin_issuance(
        privacy_pass.TokenChallenge.decode(key.challenge),
        key.spki,
        nonce=secrets.token_bytes(32),
        salt=secrets.token_bytes(privacy_pass.SALT_LENGTH),
        blind=secrets.token_bytes(privacy_pass.BLIND_LENGTH),
    )
    return Blinded(key, request, pending)


def messages(blinded: Sequence[Blinded]) -> BlindedMessages:
    """Return what a request carries of them; all are of one key."""
    return BlindedMessages(
        blinded[0].request.truncated_key_id, tuple(one.request.blinded for one in blinded)
    )


class BlindedStock:
    """Messages for the newest key, ready to be sent."""

    def __init__(self) -> None:
        self._ready: list[Blinded] = []

    async def take(self, key: IssuerKeyLeaf, count: int) -> list[Blinded]:
        """Return `count` messages for `key`, making what is not there."""
        self._ready = [one for one in self._ready if one.key == key]
        taken, self._ready = self._ready[:count], self._ready[count:]
        while len(taken) < count:
            taken.append(await asyncio.to_thread(blind, key))
        return taken

    async def fill(self, key: IssuerKeyLeaf) -> None:
        """Make messages until `AHEAD` are ready."""
        self._ready = [one for one in self._ready if one.key == key]
        while len(self._ready) < AHEAD:
            self._ready.append(await asyncio.to_thread(blind, key))
