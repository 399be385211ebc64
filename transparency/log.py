"""The log itself: one writer, one directory, C2SP tiles, and three steps a crash may fall between.

    append    entries and tiles are on the disk, then `signed`: the log's own note over them
    (cosign)  witnesses see the note; the caller's affair
    publish   `checkpoint`: the cosigned note, which readers see

A tree that was ever signed is on the disk before anyone sees the signature, so that a restart
continues exactly it: nothing acknowledged is lost and no second tree of the same size is signed.
What lies on the disk beyond `signed` was never shown to anyone and is removed at the next start.

    lock            held by the one writer
    signed          the newest note the log signed, without cosignatures
    checkpoint      the newest note that is published
    tile/...        c2sp.org/tlog-tiles
    attachments/    bundles, by SHA-256
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from transparency import note
from transparency.checkpoint import Checkpoint
from transparency.errors import LogInUse, StorageDamaged, TransparencyError
from transparency.files import make_directory, read_if_present, write_durably
from transparency.merkle import Tree
from transparency.note import Note, Signer
from transparency.policy import verify_log_signature
from transparency.tiles import (
    MAX_ENTRY_LENGTH,
    WIDTH,
    Tile,
    changed_tiles,
    check_entries,
    decode_entries,
    encode_entries,
    split_hashes,
    tile_bytes,
)
from wire.merkle import leaf_hash


class Log:
    """An open log. Use it from one thread at a time, and close it (or use `with`).

    After an exception from `append` or `publish` the object is closed: what is on the disk decides,
    and it is read again by opening the log anew.
    """

    def __init__(self, directory: Path, signer: Signer) -> None:
        """Open the log in `directory`, or begin one. The signer's name is the log's origin.

        Raises:
            LogInUse: another process writes there.
            StorageDamaged: the files contradict each other or belong to another log.
        """
        make_directory(directory)
        self._directory = directory
        self._signer = signer
        self._lock = _lock(directory / "lock")
        try:
            self._tree = Tree()
            self._indexes: dict[bytes, int] = {}
            self._tail: list[bytes] = []
            self._load()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def size(self) -> int:
        """The number of entries that the log has signed for, published or not."""
        return self._tree.size

    @property
    def published_size(self) -> int:
        """The size of the published checkpoint; 0 before the first."""
        return self._published_size

    @property
    def published_note(self) -> bytes | None:
        """The published checkpoint, a cosigned note; None before the first."""
        return self._published_note

    @property
    def tree(self) -> Tree:
        """The tree, for proofs. Not to be appended to."""
        return self._tree

    @property
    def signed_note(self) -> Note:
        """The log's own note over all its entries, to be cosigned."""
        text = Checkpoint(self._signer.name, self.size, self._tree.root()).encode()
        return Note(text, (note.sign(text, self._signer),))

    def index_of(self, entry: bytes) -> int | None:
        """Return the index of an entry, None if the log does not hold it."""
        return self._indexes.get(leaf_hash(entry))

    def append(self, entries: Sequence[bytes]) -> tuple[int, ...]:
        """Append entries and return their indexes; an entry the log holds already is not repeated.

        When it returns, the entries and a signed note over them are on the disk.

        Raises:
            ValueError: an entry is longer than 65535 bytes.
            OSError: the disk refused.
            LogInUse: the log is closed.
        """
        self._check_open()
        if any(len(entry) > MAX_ENTRY_LENGTH for entry in entries):
            raise ValueError("an entry of more than 65535 bytes")
        old_size = self.size
        try:
            for entry in entries:
                self._integrate(entry)
            if self.size > old_size:
                self._write_tiles(old_size)
                write_durably(self._directory / "signed", self.signed_note.encode())
        except BaseException:
            self.close()
            raise
        self._tail = self._tail[-(self.size % WIDTH) :] if self.size % WIDTH else []
        return tuple(self._indexes[leaf_hash(entry)] for entry in entries)

    def publish(self, data: bytes) -> None:
        """Make a cosigned note the published checkpoint. It must be over a tree of this log.

        Raises:
            StorageDamaged: it is not, or it is older than the published one.
            OSError: the disk refused.
            LogInUse: the log is closed.
        """
        self._check_open()
        old_size = self._published_size
        try:
            self._accept(data)
            write_durably(self._directory / "checkpoint", data)
            self._remove_partials(old_size)
        except BaseException:
            self.close()
            raise

    def entry(self, index: int) -> bytes:
        """Return one entry.

        Raises:
            ValueError: no such entry.
            StorageDamaged: its bundle is gone or is not what the tree was made of.
        """
        if not 0 <= index < self.size:
            raise ValueError("no such entry")
        return self._bundle(index // WIDTH)[index % WIDTH]

    def entries(self) -> Iterator[bytes]:
        """Yield all entries in order.

        Raises:
            StorageDamaged: a bundle is gone or is not what the tree was made of.
        """
        for number in range(-(-self.size // WIDTH)):
            yield from self._bundle(number)

    def read_tile(self, tile: Tile) -> bytes | None:
        """Return a tile or an entry bundle, None if the published tree has none such."""
        if not tile.exists_at(self._published_size):
            return None
        return read_if_present(self._directory / tile.path)

    def put_attachment(self, data: bytes) -> None:
        """Keep a bundle, on the disk when the call returns. Keeping it twice is harmless."""
        path = self._attachment_path(hashlib.sha256(data).digest())
        if not path.exists():
            write_durably(path, data)

    def attachment(self, digest: bytes) -> bytes:
        """Return the bundle of this SHA-256.

        Raises:
            StorageDamaged: it is gone or was changed.
        """
        data = read_if_present(self._attachment_path(digest))
        if data is None or hashlib.sha256(data).digest() != digest:
            raise StorageDamaged("a bundle is missing or was changed")
        return data

    def close(self) -> None:
        """Let another writer in. Reading stays possible, writing does not."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _check_open(self) -> None:
        if self._lock < 0:
            raise LogInUse("the log is closed")

    def _integrate(self, entry: bytes) -> None:
        item = leaf_hash(entry)
        if item not in self._indexes:
            self._indexes[item] = self._tree.size
            self._tree.append(item)
            self._tail.append(entry)

    def _write_tiles(self, old_size: int) -> None:
        start = old_size - old_size % WIDTH
        for tile in changed_tiles(old_size, self.size):
            if tile.level is None:
                first = tile.index * WIDTH - start
                data = encode_entries(self._tail[first : first + tile.width])
            else:
                data = tile_bytes(self._tree, tile)
            write_durably(self._directory / tile.path, data)

    def _load(self) -> None:
        self._published_note: bytes | None = None
        self._published_size = 0
        signed = read_if_present(self._directory / "signed")
        published = read_if_present(self._directory / "checkpoint")
        if signed is not None:
            self._load_tree(self._parse(signed))
        self._remove_unsigned()
        if published is not None:
            self._accept(published)
        if self.size % WIDTH:
            self._tail = list(self._bundle(self.size // WIDTH))

    def _load_tree(self, checkpoint: Checkpoint) -> None:
        for number in range(-(-checkpoint.size // WIDTH)):
            tile = _covering(0, number, checkpoint.size)
            for item in self._read_hashes(tile):
                self._indexes.setdefault(item, self._tree.size)
                self._tree.append(item)
        if self._tree.root() != checkpoint.root:
            raise StorageDamaged("the tiles are not the tree that the log signed")

    def _read_hashes(self, tile: Tile) -> tuple[bytes, ...]:
        try:
            hashes = split_hashes(read_if_present(self._directory / tile.path) or b"")
        except TransparencyError as error:
            raise StorageDamaged(f"{tile.path} is missing or damaged") from error
        if len(hashes) != tile.width:
            raise StorageDamaged(f"{tile.path} is damaged")
        return hashes

    def _bundle(self, number: int) -> tuple[bytes, ...]:
        tile = _covering(None, number, self.size)
        hashes = [self._tree.hash(0, number * WIDTH + i) for i in range(tile.width)]
        try:
            entries = decode_entries(read_if_present(self._directory / tile.path) or b"")
            check_entries(entries, hashes)
        except TransparencyError as error:
            raise StorageDamaged(f"{tile.path} is missing or damaged") from error
        return entries

    def _parse(self, data: bytes) -> Checkpoint:
        try:
            return verify_log_signature(Note.parse(data), [self._signer.verifier_key])
        except TransparencyError as error:
            raise StorageDamaged("a note that is not this log's") from error

    def _accept(self, data: bytes) -> None:
        checkpoint = self._parse(data)
        if not self._published_size <= checkpoint.size <= self.size:
            raise StorageDamaged("a published checkpoint outside what the log holds")
        if self._tree.root(checkpoint.size) != checkpoint.root:
            raise StorageDamaged("a published checkpoint over another tree")
        self._published_note, self._published_size = data, checkpoint.size

    def _remove_unsigned(self) -> None:
        """Remove what was written for a tree that was never signed: no one has seen it."""
        root = self._directory / "tile"
        for path in [path for path in root.rglob("*") if path.is_file()]:
            try:
                known = Tile.parse(path.relative_to(self._directory).as_posix())
            except TransparencyError:
                path.unlink()
            else:
                if not known.exists_at(self.size):
                    path.unlink()

    def _remove_partials(self, old_size: int) -> None:
        """Remove the partial tiles that the newly published full ones replace."""
        for tile in changed_tiles(old_size, self._published_size):
            if tile.width == WIDTH:
                directory = self._directory / (tile.path + ".p")
                for path in directory.glob("*"):
                    path.unlink()
                if directory.is_dir():
                    directory.rmdir()

    def _attachment_path(self, digest: bytes) -> Path:
        return self._directory / "attachments" / digest.hex()[:2] / digest.hex()


def _covering(level: int | None, number: int, size: int) -> Tile:
    """The tile over leaves [256 number, ...) in a tree of `size`: full, or as wide as it goes."""
    return Tile(level, number, min(WIDTH, size - number * WIDTH))


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise LogInUse("another process writes to this log") from None
    return descriptor
