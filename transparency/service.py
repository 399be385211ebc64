"""The log at work: admission, batches, witnesses, and one node list an epoch.

One task writes. A turn of it is: take the waiting leaves and the lists that are due, `append` them
(durable and signed), ask the witnesses, `publish`, answer who waited. Without a quorum the turn
ends before `publish`: the waiting are told to try again, their leaves stay, and the next turn asks
the witnesses for the same tree or one that continues it.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from transparency import signing
from transparency.admission import Admit, Admitted, check_node
from transparency.assembly import build_document
from transparency.batch import Waiting, ended_by_amendments, fail
from transparency.cosigning import Cosigner
from transparency.current import Current
from transparency.due_lists import DueLists
from transparency.epochs import EpochNotes
from transparency.errors import (
    AdmissionRefused,
    LogUnavailable,
    Malformed,
    QuorumMissing,
    TransparencyError,
    WrongAmendment,
    WrongRole,
)
from transparency.leaf import (
    Body,
    KeyRotationLeaf,
    Leaf,
    NodeLeaf,
    NodeListLeaf,
    Role,
    RoleKeys,
    WithdrawalLeaf,
    sign_leaf,
)
from transparency.log import Log
from transparency.policy import CLOCK_TOLERANCE_S, LogPolicy
from transparency.proof import LogProof
from transparency.roles import RoleHistory
from wire.merkle import leaf_hash

BATCH_S = 0.1
"""How long the first leaf of a batch waits for others. An answer is due within a second."""

POLL_S = 0.5
"""How often the writer looks whether a list is due or the witnesses are back."""

MAX_WAITING = 1024
"""Leaves waiting for the next batch; more are told to come back."""


class LogService:
    """The one writer of an open log, its readers' answers, and its clockwork."""

    def __init__(
        self,
        log: Log,
        *,
        policy: LogPolicy,
        roles: RoleKeys,
        list_keys: Sequence[Ed25519PrivateKey],
        cosigner: Cosigner,
        epoch_notes: EpochNotes,
        epoch_seconds: int,
        min_nodes: int,
        admit: Admit,
        clock: Callable[[], float],
    ) -> None:
        """Read the log's leaves and appraise the evidence of the nodes still in use once more.

        `roles` are the keys of the trust file, `list_keys` the private keys of the list role:
        the present one, and, before it is rotated, the next one.

        Raises:
            StorageDamaged: the log's files are not what it signed.
            WrongRole: none of `list_keys` has the list role now.
        """
        self._log = log
        self._policy = policy
        self._roles = RoleHistory(roles)
        self._list_keys = {signing.public_bytes(key): key for key in list_keys}
        self._cosigner = cosigner
        self._epoch_notes = epoch_notes
        self._epoch_seconds = epoch_seconds
        self._admit = admit
        self._clock = clock
        self._current = Current()
        self._lists = DueLists(self._current, epoch_seconds=epoch_seconds, min_nodes=min_nodes)
        self._storage = threading.Lock()
        self._waiting: list[Waiting] = []
        self._work = asyncio.Event()
        self._stopping = False
        self._documents: dict[int, bytes] = {}
        self._load()

    @property
    def size(self) -> int:
        """The number of entries, published or not."""
        return self._log.size

    @property
    def published_size(self) -> int:
        """The size of the published checkpoint."""
        return self._log.published_size

    async def add(self, data: bytes, attachment: bytes) -> LogProof:
        """Admit a leaf and wait for the proof that a published checkpoint covers it.

        Raises:
            Malformed: not a leaf, or an attachment to a leaf that has none.
            WrongRole, BadSignature: not signed by its role; lists are the log's own to make.
            WrongBundle, AdmissionRefused: a node leaf without evidence that is accepted.
            WrongAmendment: a withdrawal of nothing, or a rotation the log could not follow.
            LogUnavailable: no quorum of witnesses, or too many are waiting. Try again.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise LogUnavailable("too many leaves are waiting")
        leaf = Leaf.decode(data)
        index = self._log.index_of(data)
        roles = self._roles.current if index is None else self._roles.at(index)
        body = leaf.verify(roles)
        admitted = None
        if index is None:
            admitted = await asyncio.to_thread(self._check, leaf, body, attachment)
        waiting = Waiting(leaf, data, body, roles, admitted)
        self._waiting.append(waiting)
        self._work.set()
        return await waiting.answer

    def alive(self, data: bytes) -> None:
        """Take a listed node's sign of life: its leaf, signed anew with an early not-after.

        Only the node's receipt key can make one. It counts from one epoch before its not-after,
        so that who repeats it gains nothing.

        Raises:
            Malformed: not a node's leaf, or one with another bundle than the log holds.
            BadSignature, WrongRole: not signed by the node's receipt key.
            AdmissionRefused: of no admitted node, or with a not-after that lies too far ahead.
        """
        leaf = Leaf.decode(data)
        body = leaf.verify(self._roles.current)
        if not isinstance(body, NodeLeaf):
            raise Malformed("a sign of life is a node's leaf")
        given_at = body.not_after - self._epoch_seconds
        if given_at > self._clock() + CLOCK_TOLERANCE_S:
            raise AdmissionRefused("a sign of life from the future")
        with self._storage:
            self._check_known(leaf, body)
            self._current.renew(body.key_document_digest, given_at)

    def _check_known(self, leaf: Leaf, body: NodeLeaf) -> None:
        if not self._current.is_admitted(body.key_document_digest):
            raise AdmissionRefused("a sign of life of a node that is not admitted")
        index = self._current.node_leaf(body.key_document_digest, self._log.size)
        logged = Leaf.decode(self._log.entry(index))
        if logged.key != leaf.key:
            raise WrongRole("a sign of life that is not signed by the node's receipt key")
        if NodeLeaf.decode(logged.body).bundle_digest != body.bundle_digest:
            raise Malformed("a sign of life with another bundle than the log holds")

    async def run(self) -> None:
        """Be the writer until `stop`, which the present turn outlives.

        Raises:
            OSError, StorageDamaged: the disk or the log's files fail; the process must end, and
                what is on the disk decides at the next start.
        """
        try:
            while not self._stopping:
                await self._wait_for_work()
                await self._turn()
        finally:
            batch, self._waiting = self._waiting, []
            fail(batch, LogUnavailable("the log is stopping"))

    def stop(self) -> None:
        """Let `run` return after its present turn; a turn is never torn."""
        self._stopping = True
        self._work.set()

    def nodes(self) -> tuple[bytes, float]:
        """Return the nodes document of the present epoch and the seconds that are left of it.

        Raises:
            LogUnavailable: there is no list for this epoch yet.
        """
        now = self._clock()
        epoch = int(now) // self._epoch_seconds
        left = (epoch + 1) * self._epoch_seconds - now
        with self._storage:
            if epoch not in self._documents:
                document = build_document(self._log, self._current, self._epoch_notes, epoch)
                self._documents = {epoch: document.encode()}
            return self._documents[epoch], left

    def _load(self) -> None:
        now = int(self._clock())
        nodes: list[tuple[Leaf, NodeLeaf]] = []
        listed: set[bytes] = set()
        for index, leaf in enumerate([Leaf.decode(entry) for entry in self._log.entries()]):
            body = leaf.unverified_body()
            self._note(index, body, self._log.tree.hash(0, index))
            if isinstance(body, NodeListLeaf):
                listed = {row.key_document_digest for row in body.nodes}
            elif isinstance(body, NodeLeaf):
                nodes.append((leaf, body))
                listed.add(body.key_document_digest)
        for leaf, body in nodes:
            if body.not_after > now:
                self._readmit(leaf, body, now, alive=body.key_document_digest in listed)
        if self._roles.current.list not in self._list_keys:
            raise WrongRole("the list seed is not that of the role's key")

    def _note(self, index: int, body: Body, item: bytes) -> None:
        self._current.add(index, body, item)
        if isinstance(body, KeyRotationLeaf):
            self._roles.rotate(index, body)

    def _readmit(self, leaf: Leaf, body: NodeLeaf, now: int, *, alive: bool) -> None:
        """Admit a node as before; it was alive if the newest list names it or it came after."""
        bundle = self._log.attachment(body.bundle_digest)
        try:
            admitted = self._appraise(leaf, body, bundle, now)
        except AdmissionRefused:
            return  # its evidence is no longer good enough to list it; its leaf stays
        self._current.admit(admitted, now if alive else -math.inf)

    def _appraise(self, leaf: Leaf, body: NodeLeaf, bundle: bytes, now: int) -> Admitted:
        statements = self._current.current_statements(now)
        return check_node(leaf, body, bundle, admit=self._admit, at=now, statements=statements)

    def _check(self, leaf: Leaf, body: Body, attachment: bytes) -> Admitted | None:
        if isinstance(body, NodeListLeaf):
            raise WrongRole("node lists are made by the log")
        if not isinstance(body, NodeLeaf):
            if attachment:
                raise Malformed("an attachment to a leaf that has none")
            self._check_amendment(body)
            return None
        now = int(self._clock())
        admitted = self._appraise(leaf, body, attachment, now)
        with self._storage:
            self._current.check_room(admitted)
            self._log.put_attachment(attachment)
        return admitted

    def _check_amendment(self, body: Body) -> None:
        if not isinstance(body, KeyRotationLeaf | WithdrawalLeaf):
            return
        self._current.check_amendment(body)
        if isinstance(body, KeyRotationLeaf):
            self._roles.check(body)
            if body.role is Role.LIST and body.key not in self._list_keys:
                raise WrongAmendment("a list key that this log does not hold")

    async def _wait_for_work(self) -> None:
        try:
            await asyncio.wait_for(self._work.wait(), POLL_S)
        except TimeoutError:
            return
        await asyncio.sleep(BATCH_S)

    async def _turn(self) -> None:
        self._work.clear()
        batch, self._waiting = self._waiting, []
        try:
            await asyncio.to_thread(self._append, batch)
            await self._publish()
        except QuorumMissing as error:
            self._answer(batch, LogUnavailable(str(error)))
        except BaseException:
            fail(batch, LogUnavailable("the log is stopping"))
            raise
        else:
            self._answer(batch, LogUnavailable("the leaf is not published yet"))

    def _append(self, batch: list[Waiting]) -> None:
        with self._storage:
            for group in ended_by_amendments(batch):
                good = [waiting for waiting in group if self._is_still_good(waiting)]
                for waiting in good:
                    if waiting.admitted is not None:
                        self._current.admit(waiting.admitted, self._clock())
                self._write([(waiting.data, waiting.body) for waiting in good])
            key = self._list_keys[self._roles.current.list]
            lists = self._lists.at(self._clock(), self._log.size)
            self._write([(sign_leaf(body, key).encode(), body) for body in lists])

    def _is_still_good(self, waiting: Waiting) -> bool:
        """Whether a leaf may follow those that came before it since it was checked."""
        if self._log.index_of(waiting.data) is not None:
            return True
        try:
            if waiting.roles is not self._roles.current:
                waiting.leaf.verify(self._roles.current)
            self._check_amendment(waiting.body)
        except TransparencyError as error:
            waiting.refusal = error
            return False
        return True

    def _write(self, entries: list[tuple[bytes, Body]]) -> None:
        if not entries:
            return
        known = self._log.size
        indexes = self._log.append([entry for entry, _ in entries])
        for index, (entry, body) in zip(indexes, entries, strict=True):
            if index == known:
                self._note(index, body, leaf_hash(entry))
                known += 1

    def _answer(self, batch: list[Waiting], error: LogUnavailable) -> None:
        """Give proofs to those whose leaf is published, and the error to the others."""
        for waiting in batch:
            index = self._log.index_of(waiting.data)
            if index is None or index >= self._log.published_size:
                fail([waiting], waiting.refusal or error)
            elif not waiting.answer.done():
                waiting.answer.set_result(self._prove(index))

    async def _publish(self) -> None:
        if self._log.size == self._log.published_size:
            return
        signed, size = self._log.signed_note, self._log.size
        note = await self._cosigner.cosign(
            signed, lambda old: self._log.tree.consistency_proof(old, size)
        )
        self._policy.verify(note.encode(), int(self._clock()))
        await asyncio.to_thread(self._publish_note, note.encode(), size)

    def _publish_note(self, note: bytes, size: int) -> None:
        with self._storage:
            epoch = int(self._clock()) // self._epoch_seconds
            for recent in (epoch - 1, epoch, epoch + 1):
                index = self._current.list_index(recent)
                if index is not None and index < size:
                    self._epoch_notes.save(recent, note)
            self._log.publish(note)

    def _prove(self, index: int) -> LogProof:
        note, size = self._log.published_note, self._log.published_size
        return LogProof(index, self._log.tree.inclusion_proof(index, size), note or b"")
