"""The monitor: fetches a whole log, judges it, and compares it with what it showed before.

    checkpoint      the last note that this monitor verified, in its directory
    proof-*.json    what was found (transparency.misbehaviour), to be published

It trusts the log's key and its witnesses' and asks for nothing but the static files, so that it
may run anywhere and be run by anybody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from transparency.audit import Audit
from transparency.checkpoint import Checkpoint
from transparency.errors import (
    Inconsistent,
    LogUnavailable,
    NotIncluded,
    RolledBack,
    StorageDamaged,
    TransparencyError,
    TwoLists,
)
from transparency.files import make_directory, read_if_present, write_durably
from transparency.leaf import RoleKeys
from transparency.misbehaviour import Misbehaviour, from_inconsistent, from_two_lists
from transparency.nodes_document import verify_nodes_document
from transparency.note import Note
from transparency.policy import LogPolicy, verify_log_signature
from transparency.tile_tree import Fetch, fetch_hashes
from transparency.tiles import WIDTH, Tile, check_entries, decode_entries

TIMEOUT_S = 30.0
MAX_FILE = 20 << 20
"""A full entry bundle of the longest entries has 16 MiB."""


@dataclass(frozen=True)
class Report:
    """What an audit found: nothing, if the log is what it says it is.

    `document` says what became of the nodes document: "checked", "differs", or why it was skipped.
    """

    origin: str
    size: int
    root: bytes
    previous_size: int
    document: str
    counts: dict[str, int] = field(default_factory=dict)
    findings: tuple[Misbehaviour, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the report for programs; findings in full, ready to be published."""
        return {
            "log": self.origin,
            "size": self.size,
            "root": self.root.hex(),
            "previous_size": self.previous_size,
            "nodes_document": self.document,
            "leaves": self.counts,
            "findings": [found.to_json() for found in self.findings],
        }


@dataclass(frozen=True)
class Monitor:
    """One monitor of one log, with a directory of its own for what it remembers.

    Attributes:
        fetch: returns the bytes at a path under the log's URL, None where there are none.
    """

    policy: LogPolicy
    roles: RoleKeys
    epoch_seconds: int
    directory: Path
    fetch: Fetch

    def run(self, at: int) -> Report:
        """Audit the log as of `at` (Unix seconds); write the proofs, then remember its checkpoint.

        The checkpoint is remembered only if nothing was found: a log that forked is compared with
        its honest past until a person has looked.

        Raises:
            LogUnavailable: the log shows no checkpoint.
            StorageDamaged: what the monitor remembers is not a note of this log.
            TransparencyError: the checkpoint does not satisfy the policy.
        """
        document = self._document()  # first, so that the checkpoint below covers it
        note = self.fetch("checkpoint")
        if note is None:
            raise LogUnavailable("the log shows no checkpoint")
        checkpoint = self.policy.verify(note, at)
        last = self._last()
        report = self._audit(note, checkpoint, last, document, at)
        for found in report.findings:
            self._write_proof(found)
        if not report.findings:
            make_directory(self.directory)
            write_durably(self.directory / "checkpoint", note)
        return report

    def _audit(
        self,
        note: bytes,
        checkpoint: Checkpoint,
        last: bytes | None,
        document: bytes | None,
        at: int,
    ) -> Report:
        audit, findings = Audit(self.roles, self.epoch_seconds), []
        try:
            for entry in self._entries(checkpoint.size):
                audit.add(entry)
        except TransparencyError as error:
            findings.append(Misbehaviour(error.code, f"not served: {error}", (note,)))
        if audit.is_of(checkpoint):
            findings += audit.findings(note)
        elif not findings:
            message = "the entries are not the tree that the log signed"
            findings.append(Misbehaviour(NotIncluded.code, message, (note,)))
        previous = self._checkpoint(last)
        findings += _compare(last, previous, note, checkpoint, audit)
        said = "skipped: the log shows none now"
        if document is not None:
            wrong = self._check_document(document, note, checkpoint, audit, at)
            findings += wrong
            said = "differs" if wrong else "checked"
        return Report(
            checkpoint.origin,
            checkpoint.size,
            checkpoint.root,
            previous.size if previous is not None else 0,
            said,
            audit.counts,
            tuple(findings),
        )

    def _document(self) -> bytes | None:
        try:
            return self.fetch("nodes")
        except LogUnavailable:
            return None

    def _check_document(
        self, data: bytes, note: bytes, checkpoint: Checkpoint, audit: Audit, at: int
    ) -> list[Misbehaviour]:
        """Compare what clients are shown now with what the log holds."""
        try:
            shown = verify_nodes_document(
                data,
                policy=self.policy,
                roles=self.roles,
                epoch_seconds=self.epoch_seconds,
                at=at,
                last=None,
            )
            audit.check_list(shown)
        except TwoLists as error:
            return [from_two_lists(error)]
        except TransparencyError as error:
            return [Misbehaviour(error.code, f"the nodes document: {error}")]
        if shown.checkpoint.size > audit.tree.size:
            return []  # a cache may show an older checkpoint than the document it shows
        return _compare(shown.seen.checkpoint, shown.checkpoint, note, checkpoint, audit)

    def _entries(self, size: int) -> Iterator[bytes]:
        for number in range(-(-size // WIDTH)):
            width = min(WIDTH, size - number * WIDTH)
            hashes = fetch_hashes(Tile(0, number, width), self.fetch)
            bundle = Tile(None, number, width)
            data = self.fetch(bundle.path) or self.fetch(bundle.full.path) or b""
            entries = decode_entries(data)[:width]
            check_entries(entries, hashes)
            yield from entries

    def _last(self) -> bytes | None:
        return read_if_present(self.directory / "checkpoint")

    def _checkpoint(self, note: bytes | None) -> Checkpoint | None:
        if note is None:
            return None
        try:
            return verify_log_signature(Note.parse(note), [self.policy.log_key])
        except TransparencyError as error:
            raise StorageDamaged("what the monitor remembers is not a note of its log") from error

    def _write_proof(self, found: Misbehaviour) -> None:
        data = found.encode()
        name = f"proof-{found.code}-{hashlib.sha256(data).hexdigest()[:16]}.json"
        write_durably(self.directory / name, data)


def http_fetch(url: str, client: httpx.Client) -> Fetch:
    """Return a `Fetch` of a log's files over HTTP, bounded in time and size.

    What it returns raises LogUnavailable for any answer but 200 and 404.
    """

    def fetch(path: str) -> bytes | None:
        try:
            with client.stream("GET", f"{url.rstrip('/')}/{path}") as answer:
                if answer.status_code == httpx.codes.NOT_FOUND:
                    return None
                if answer.status_code != httpx.codes.OK:
                    raise LogUnavailable(f"the log answered {answer.status_code} to {path}")
                return _read(answer, path)
        except httpx.HTTPError as error:
            raise LogUnavailable(f"the log cannot be reached: {type(error).__name__}") from error

    return fetch


def _read(answer: httpx.Response, path: str) -> bytes:
    data = bytearray()
    for part in answer.iter_raw():
        data += part
        if len(data) > MAX_FILE:
            raise LogUnavailable(f"the log's {path} is too large")
    return bytes(data)


def _compare(
    last: bytes | None,
    previous: Checkpoint | None,
    note: bytes,
    checkpoint: Checkpoint,
    audit: Audit,
) -> list[Misbehaviour]:
    """What the checkpoint of last time says against this one."""
    if last is None or previous is None:
        return []
    if checkpoint.size < previous.size:
        return [
            from_inconsistent(
                RolledBack("the log shows a smaller tree than before", older=last, newer=note)
            )
        ]
    if checkpoint.size == previous.size:
        return [] if checkpoint.root == previous.root else [_fork(last, note)]
    if audit.is_of(checkpoint) and audit.tree.root(previous.size) != previous.root:
        proof = audit.tree.consistency_proof(previous.size, checkpoint.size)
        return [_fork(last, note, audit.tree.root(previous.size), proof)]
    return []  # if the entries were not served, that was said, and nothing more is known


def _fork(
    older: bytes, newer: bytes, prefix_root: bytes = b"", proof: tuple[bytes, ...] = ()
) -> Misbehaviour:
    message = "the log signed two trees, and neither continues the other"
    return Misbehaviour(Inconsistent.code, message, (older, newer), (), (), prefix_root, proof)
