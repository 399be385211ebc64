"""The forms of a channel: who encrypts.

sealed   we do, at both ends: a frame is bound to its place, so frames go in strict order
cc       the driver does, below us: we predict and copy ahead into what it takes from
plain    nobody: the baseline, refused where a policy is attested
"""

from __future__ import annotations

from typing import Protocol

from engine.aead import TAG, Buffer, bytes_of
from engine.transfer.frame import Frame
from engine.transfer.session import Session


class Form(Protocol):
    """How a content becomes the frame of a sequence number, and back."""

    ordered: bool
    """A frame made ahead fits one sequence number only."""
    ahead: bool
    """Making frames ahead saves time."""

    def counter(self, number: int) -> int:
        """Return the counter of a sequence number."""

    def seal(  # noqa: PLR0917 - a header's fields, in its order
        self, number: int, flags: int, block: int, version: int, data: Buffer, out: memoryview
    ) -> Frame:
        """Make a frame, in `out` (16 bytes longer than the data) or where the data lie."""

    def open(self, number: int, frame: Frame, out: Buffer) -> None:
        """Write a frame's content.

        Raises:
            FrameRefused: it is not the frame of this sequence number.
        """

    def passed(self, number: int) -> None:
        """Nothing before this sequence number is needed any more."""

    def restart(self, secret: Buffer) -> None:
        """Begin again at 0 under another secret.

        Raises:
            SecretReused: it is not another.
        """

    def close(self) -> None:
        """Erase what is secret."""


class SealedForm(Session):
    """Sealed by us: see `Session`."""

    ordered = True
    ahead = True


class PlainForm:
    """In clear, and not copied: what is written between `send` and `sync` may cross."""

    ordered = False
    ahead = False

    def counter(self, number: int) -> int:
        """See `Form`."""
        return number

    def seal(  # noqa: PLR0917 - a header's fields, in its order
        self, number: int, flags: int, block: int, version: int, data: Buffer, out: memoryview
    ) -> Frame:
        """See `Form`."""
        del out
        body = memoryview(data).cast("B")
        return Frame(number, flags, block, version, len(body), body)

    def open(self, number: int, frame: Frame, out: Buffer) -> None:
        """See `Form`."""
        del number
        bytes_of(out)[:] = bytes_of(frame.ciphertext)

    def passed(self, number: int) -> None:
        """See `Form`."""

    def restart(self, secret: Buffer) -> None:
        """See `Form`."""

    def close(self) -> None:
        """See `Form`."""


class CcForm(PlainForm):
    """Encrypted by the driver, which takes it from a copy of ours: made ahead, in any order."""

    ahead = True

    def seal(  # noqa: PLR0917 - a header's fields, in its order
        self, number: int, flags: int, block: int, version: int, data: Buffer, out: memoryview
    ) -> Frame:
        """See `Form`."""
        copy = out[: len(out) - TAG]
        bytes_of(copy)[:] = bytes_of(data)
        return Frame(number, flags, block, version, len(copy), copy)
