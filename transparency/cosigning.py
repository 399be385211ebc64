"""The log's side of witnessing: ask every witness at once, stop waiting soon after the quorum."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from transparency import note
from transparency.checkpoint import Checkpoint
from transparency.errors import Malformed, QuorumMissing, TransparencyError, WitnessRefusal
from transparency.note import Note, NoteSignature, VerifierKey
from transparency.text import decode_decimal
from transparency.witness_request import SIZE_TYPE, AddCheckpoint

REQUEST_TIMEOUT_S = 2.0
"""A witness on another continent answers in well under a second."""

GRACE_S = 0.25
"""How long the witnesses beyond the quorum may take; more cosignatures make a stronger note."""

Prove = Callable[[int], tuple[bytes, ...]]
"""The consistency proof from a tree size to the note that is being cosigned."""


@dataclass(frozen=True)
class WitnessAddress:
    """Where a witness listens, and its verifier key string."""

    url: str
    vkey: str


class _Peer:
    """One witness, and the size it was last known to be at."""

    def __init__(self, address: WitnessAddress) -> None:
        self.key = VerifierKey.parse(address.vkey)
        self._url = f"{address.url.rstrip('/')}/add-checkpoint"
        self._size = 0

    async def cosign(
        self, client: httpx.AsyncClient, signed: Note, checkpoint: Checkpoint, prove: Prove
    ) -> NoteSignature:
        """Ask once, and once more if the witness is at another size than we believed."""
        if self._size > checkpoint.size:
            self._size = 0
        response = await self._ask(client, signed, prove)
        if _tells_size(response):
            self._size = decode_decimal(response.text.removesuffix("\n"))
            if self._size > checkpoint.size:
                raise WitnessRefusal(409, "a witness has cosigned a larger tree")
            response = await self._ask(client, signed, prove)
        if response.status_code != httpx.codes.OK:
            raise WitnessRefusal(response.status_code, "a witness does not cosign")
        line = self._own_line(response.text)
        note.verify_cosignature(signed.text, line, self.key)
        self._size = checkpoint.size
        return line

    async def _ask(self, client: httpx.AsyncClient, signed: Note, prove: Prove) -> httpx.Response:
        body = AddCheckpoint(self._size, prove(self._size), signed.encode()).encode()
        return await client.post(self._url, content=body)

    def _own_line(self, text: str) -> NoteSignature:
        for item in text.removesuffix("\n").split("\n"):
            line = NoteSignature.parse(item)
            if line.is_by(self.key):
                return line
        raise Malformed("a witness's answer without its cosignature")


class Cosigner:
    """Collects a quorum of cosignatures for one log's notes."""

    def __init__(self, witnesses: tuple[WitnessAddress, ...], quorum: int) -> None:
        self._peers = tuple(_Peer(address) for address in witnesses)
        self._quorum = quorum
        self._client = httpx.AsyncClient(trust_env=False, timeout=REQUEST_TIMEOUT_S)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def cosign(self, signed: Note, prove: Prove) -> Note:
        """Return the note with at least a quorum of cosignatures, in the witnesses' order.

        Raises:
            QuorumMissing: too few witnesses answered with a cosignature that verifies.
        """
        checkpoint = Checkpoint.parse(signed.text)
        tasks = [
            asyncio.create_task(peer.cosign(self._client, signed, checkpoint, prove))
            for peer in self._peers
        ]
        try:
            await self._wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        lines = tuple(result for result in results if isinstance(result, NoteSignature))
        _raise_unexpected(results)
        if len(lines) < self._quorum:
            raise QuorumMissing(f"{len(lines)} witnesses cosigned, {self._quorum} are needed")
        return Note(signed.text, signed.signatures + lines)

    async def _wait(self, tasks: list[asyncio.Task[NoteSignature]]) -> None:
        now = asyncio.get_running_loop().time
        pending, deadline = set(tasks), now() + 2 * REQUEST_TIMEOUT_S
        while pending and (left := deadline - now()) > 0:
            _, pending = await asyncio.wait(
                pending, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            if sum(task.done() and task.exception() is None for task in tasks) >= self._quorum:
                deadline = min(deadline, now() + GRACE_S)


def _tells_size(response: httpx.Response) -> bool:
    kind = response.headers.get("content-type", "").partition(";")[0]
    return response.status_code == httpx.codes.CONFLICT and kind == SIZE_TYPE


def _raise_unexpected(results: list[NoteSignature | BaseException]) -> None:
    """A witness may fail in the ways witnesses fail; anything else is a fault of ours."""
    expected = (NoteSignature, TransparencyError, httpx.HTTPError, asyncio.CancelledError)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, expected):
            raise result
