"""The checkpoints under which each epoch's node list was published, kept for two days.

They fix the nodes document of an epoch, also across a restart, and are the older ends of the
consistency proofs in later ones: every client's last checkpoint is one of them.
"""

from __future__ import annotations

from pathlib import Path

from transparency.checkpoint import Checkpoint
from transparency.files import TEMPORARY_SUFFIX, make_directory, write_durably
from transparency.nodes_format import CONSISTENCY_PROOFS
from transparency.note import Note

KEPT_S = 48 * 3600


class EpochNotes:
    """The notes by epoch, in a directory of one file each."""

    def __init__(self, directory: Path, epoch_seconds: int) -> None:
        """Read what is there.

        Raises:
            Malformed: a file is not a checkpoint.
        """
        make_directory(directory)
        self._directory = directory
        self._kept = min(KEPT_S // epoch_seconds, CONSISTENCY_PROOFS)
        self._notes: dict[int, bytes] = {}
        self._sizes: dict[int, int] = {}
        for path in directory.iterdir():
            if path.suffix != TEMPORARY_SUFFIX:
                self._remember(int(path.name), path.read_bytes())

    def get(self, epoch: int) -> bytes | None:
        """Return the note of an epoch's list, None if it has not been published."""
        return self._notes.get(epoch)

    def save(self, epoch: int, note: bytes) -> None:
        """Keep the note of an epoch's list, once; drop those that are too old."""
        if epoch in self._notes:
            return
        write_durably(self._directory / str(epoch), note)
        self._remember(epoch, note)
        for old in [old for old in self._notes if old < epoch - self._kept]:
            del self._notes[old], self._sizes[old]
            (self._directory / str(old)).unlink(missing_ok=True)

    def sizes_before(self, epoch: int) -> list[int]:
        """Return the distinct tree sizes of the lists before `epoch`, ascending."""
        sizes = {size for old, size in self._sizes.items() if epoch - self._kept <= old < epoch}
        return sorted(sizes)

    def _remember(self, epoch: int, note: bytes) -> None:
        self._notes[epoch] = note
        self._sizes[epoch] = Checkpoint.parse(Note.parse(note).text).size
