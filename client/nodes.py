"""Which nodes exist now: the list of the epoch, fetched, verified and remembered.

The list comes as one file, the same for everybody, through the relay's cache. The log's signature
and the witnesses' are checked over it (`client.node_list`), then every node's evidence is appraised
under the client's policy (`client.appraisal`). Only what survives as a `VerifiedNode` can be
encrypted to.

A list is believed for its own epoch only. While relay or log show no newer one, a list that was
verified in its epoch is held for an hour longer, and says so: an outage harms nobody, and whoever
makes one gains no list of his choice. What contradicts the log's own past is written to a file, to
be published.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import httpx

from attestation.verdict import Outcome, Step
from attestation.verifier.policy import ClientPolicy
from client.appraisal import Appraisal, appraise_all
from client.errors import NodeListError, StateUnwritable
from client.files import write_private
from client.node_list import verify_document
from client.trust import Trust
from transparency.checkpoint import Checkpoint
from transparency.errors import ConsistencyMissing, Inconsistent, TransparencyError, TwoLists
from transparency.leaf import IssuerKeyLeaf
from transparency.misbehaviour import from_inconsistent, from_two_lists
from transparency.nodes_document import NodesDocument, SeenCheckpoint, VerifiedNodes
from transparency.note import Note
from transparency.tile_tree import consistency_from_tiles

MAX_DOCUMENT = 64 << 20
"""Bytes of the largest node document read: a thousand nodes with 35 kB of evidence each."""

RETRIES = 12
RETRY_PAUSE_S = 0.5
"""A list is published ahead of its epoch, but clocks differ: ask again for a few seconds."""

OUTAGE_S = 3600
"""How long a list is held after its epoch while there is no newer one."""

HELD_PAUSE_S = 10.0
"""How often a newer list is asked for while one is held."""

MAX_TILE = 256 * 32


class NodeDirectory:
    """Fetches, verifies and remembers the list of the current epoch."""

    def __init__(
        self,
        *,
        trust: Trust,
        policy: ClientPolicy,
        relay_url: str,
        http: httpx.AsyncClient,
        state: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Read what is remembered in `state`; proofs of misbehaviour are written beside it."""
        self._trust = trust
        self._policy = policy
        self._url = relay_url.rstrip("/")
        self._http = http
        self._state = state
        self._clock = clock
        self._seen = self._load_seen()
        self._current: Appraisal | None = None
        self._held: Appraisal | None = None
        self._next_try = 0.0
        self._fetching = asyncio.Lock()

    @property
    def known(self) -> Appraisal | None:
        """The last appraisal, even of an epoch gone by; for display only."""
        return self._current

    async def current(self) -> Appraisal:
        """Return the appraisal of the current epoch, fetching it if the known one is of another.

        While no newer list can be had, the one of the last hour is returned, with a step that says
        so and without the nodes whose keys have run out.

        Raises:
            NodeListError: the list cannot be had or does not verify.
            StateUnwritable: what the log has shown cannot be remembered.
        """
        if (known := self._fresh()) is not None:
            return known
        async with self._fetching:
            if (known := self._fresh()) is not None:
                return known
            return await self._refresh_or_hold()

    async def issuer_keys(self) -> Sequence[IssuerKeyLeaf]:
        """Return the issuer keys that the log vouches for, of the trusted issuer only."""
        try:
            listed = (await self.current()).listed
        except NodeListError:
            return ()
        name, now = self._trust.issuer_name, self._clock()
        return [k for k in listed.issuer_keys if k.issuer_name == name and now < k.not_after]

    def _fresh(self) -> Appraisal | None:
        """The appraisal of this epoch, or the one that is held until the next try."""
        if self._current is not None and self._current.listed.epoch == self._epoch():
            return self._current
        return self._hold() if self._clock() < self._next_try else None

    def _epoch(self) -> int:
        return int(self._clock()) // self._trust.list_epoch_s

    async def _refresh_or_hold(self) -> Appraisal:
        try:
            self._current = await self._refresh(1 if self._held is not None else RETRIES)
        except NodeListError as error:
            held = self._hold() if error.code in _NOTHING_NEW else None
            if held is None:
                raise
            self._held, self._next_try = held, self._clock() + HELD_PAUSE_S
            return held
        self._held, self._next_try = None, 0.0
        return self._current

    def _hold(self) -> Appraisal | None:
        """The last list's nodes, as long as it and their keys may be held; None without any."""
        now = self._clock()
        if self._current is None or now >= self._current.listed.not_after + OUTAGE_S:
            return None
        age = Step(
            "node-list-age",
            Outcome.SKIP,
            f"relay and log show no list newer than epoch {self._current.listed.epoch}",
        )
        nodes = tuple(n for n in self._current.nodes if now < n.key_document.not_after)
        return replace(self._current, log_steps=(*self._current.log_steps, age), nodes=nodes)

    async def _refresh(self, attempts: int) -> Appraisal:
        for left in reversed(range(attempts)):
            try:
                return await self._believe(await self._fetch())
            except NodeListError as error:
                # An older list is what a cache or a slow log shows at an epoch's edge; anything
                # else will not get better by asking again.
                if error.code not in _NOTHING_NEW or not left:
                    raise
                await asyncio.sleep(RETRY_PAUSE_S)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _believe(self, document: bytes) -> Appraisal:
        at = int(self._clock())
        try:
            try:
                listed = self._verify(document, at)
            except ConsistencyMissing as missing:
                listed = self._verify(document, at, await self._bridge(missing, document))
        except TransparencyError as error:
            written = self._write_proof(error)
            raise NodeListError(
                f"the node list is refused: {error}{written}", code=error.code
            ) from error
        self._remember(listed)
        return appraise_all(listed, trust=self._trust, policy=self._policy, at=at)

    def _verify(
        self, document: bytes, at: int, bridge: Sequence[bytes] | None = None
    ) -> VerifiedNodes:
        return verify_document(
            document,
            trust=self._trust,
            policy=self._policy,
            at=at,
            last=self._seen,
            bridge=bridge,
        )

    async def _bridge(self, missing: ConsistencyMissing, document: bytes) -> Sequence[bytes]:
        """Make the proof that the document is too young to hold, from a few of the log's tiles."""
        if self._seen is None:
            raise missing
        notes = (self._seen.checkpoint, NodesDocument.decode(document).checkpoint)
        old, new = (Checkpoint.parse(Note.parse(note).text) for note in notes)
        tiles: dict[str, bytes | None] = {}
        while True:
            try:
                return consistency_from_tiles(
                    (old.size, old.root), (new.size, new.root), tiles.__getitem__
                )
            except KeyError as wanted:
                path = str(wanted.args[0])
                tiles[path] = await self._get(path, MAX_TILE)
            except Inconsistent as error:
                raise Inconsistent(
                    str(error), older=notes[0], newer=notes[1], proof=error.proof
                ) from None

    async def _fetch(self) -> bytes:
        document = await self._get("nodes", MAX_DOCUMENT)
        if document is None:
            raise NodeListError("the relay has no node list (404)", code="unavailable")
        return document

    async def _get(self, path: str, limit: int) -> bytes | None:
        """Fetch a file of the log through the relay; None if there is none."""
        try:
            async with self._http.stream("GET", f"{self._url}/{path}") as answer:
                if answer.status_code == httpx.codes.NOT_FOUND:
                    return None
                if answer.status_code != httpx.codes.OK:
                    raise NodeListError(
                        f"the relay has no node list ({answer.status_code})", code="unavailable"
                    )
                data = b""
                async for part in answer.aiter_raw():
                    data += part
                    if len(data) > limit:
                        raise NodeListError("the node list is too large")
                return data
        except httpx.HTTPError:
            raise NodeListError("the relay cannot be reached", code="unavailable") from None

    def _write_proof(self, error: TransparencyError) -> str:
        """Keep what convicts the log; return where, as the end of a sentence."""
        if isinstance(error, Inconsistent):
            found = from_inconsistent(error)
        elif isinstance(error, TwoLists):
            found = from_two_lists(error)
        else:
            return ""
        if self._state is None:
            return ""
        data = found.encode()
        name = f"proof-{found.code}-{hashlib.sha256(data).hexdigest()[:16]}.json"
        try:
            write_private(self._state.with_name(name), data)
        except StateUnwritable as unwritable:
            return f" ({unwritable}: it would be the log's own word against itself)"
        return f" (publish {name}: it is the log's own word against itself)"

    def _remember(self, listed: VerifiedNodes) -> None:
        self._seen = listed.seen
        if self._state is not None:
            write_private(self._state, self._seen.encode())

    def _load_seen(self) -> SeenCheckpoint | None:
        if self._state is None or not self._state.exists():
            return None
        return SeenCheckpoint.decode(self._state.read_bytes())


_NOTHING_NEW = frozenset({"stale_epoch", "unavailable"})
"""Codes of what an outage looks like. A list that contradicts something is none."""
