"""One end of an encrypted way: what one side sends, and what it receives.

    host = open_channel("sealed", store, link, side="host", secret=secret)
    host.send(block); host.sync()               what was sent crosses, in order, as one batch
    device.receive(frame).result()              the block's id, or FrameRefused

The forms (`engine.transfer.forms`) have one interface.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Literal, Protocol

from engine.aead import Aead, Buffer, aes_256_gcm
from engine.transfer.blocks import BlockStore
from engine.transfer.buffers import Buffers
from engine.transfer.counts import TransferCounts
from engine.transfer.errors import PlainRefused
from engine.transfer.forms import CcForm, Form, PlainForm, SealedForm
from engine.transfer.frame import TO_DEVICE, TO_HOST, Frame
from engine.transfer.link import Link
from engine.transfer.predict import Mixture, Predictor
from engine.transfer.receiver import Receiver
from engine.transfer.sealer import InlineSealer, Sealer
from engine.transfer.sender import Sender
from engine.transfer.session import LIMIT

Kind = Literal["sealed", "cc", "plain"]
DEPTH, GAP = 16, 1


class Channel(Protocol):
    """One end of both directions."""

    def stage(self, ids: Sequence[int]) -> None:
        """These will be sent next: seal them ahead, as far as there is room."""

    def send(self, block: int) -> Frame:
        """Put the block's content of this moment into the batch; it crosses at the next `sync`.

        Raises:
            BlockUnusable: there is no content, or it is being written.
            ChannelClosed: the channel was closed.
        """

    def sync(self) -> None:
        """Release the batch, in order."""

    def receive(self, frame: Frame) -> Future[int]:
        """Take a frame that arrived; never raises, never waits.

        The future's result is the block's id (of a NOP 0), or FrameRefused. The block is pending
        until then: whoever reads it waits.
        """

    def stats(self) -> TransferCounts:
        """Return what was counted so far."""

    def close(self) -> None:
        """Zeroise what is staged or not released, erase the keys, end the threads."""


class Duplex:
    """A sender and a receiver over the blocks of one side."""

    def __init__(self, sender: Sender, receiver: Receiver, sealer: Sealer, opener: Sealer) -> None:
        """Join both; the workers end with the channel."""
        self._sender, self._receiver = sender, receiver
        self._sealer, self._opener = sealer, opener
        self._left: list[int] = []

    @property
    def faulted(self) -> bool:
        """Whether a frame was refused: nothing more is received until both ends restart."""
        return self._receiver.faulted

    def stage(self, ids: Sequence[int]) -> None:
        """See `Channel`."""
        self._sender.stage(ids)

    def send(self, block: int) -> Frame:
        """See `Channel`."""
        self._tell()
        return self._sender.send(block)

    def sync(self) -> None:
        """See `Channel`."""
        self._tell()
        self._sender.sync()

    def receive(self, frame: Frame) -> Future[int]:
        """See `Channel`."""
        taken = self._receiver.receive(frame)
        if frame.flags == 0 and not self._receiver.faulted:
            self._left.append(frame.block)
        return taken

    def received(self) -> None:
        """A batch was handed to `receive` whole: once it is open, stage what may be sent next."""
        count = len(self._left)
        self._tell()
        self._opener.submit(lambda: self._sender.expect(count))

    def forget(self, blocks: Iterable[int]) -> None:
        """These blocks' request has ended: zeroise what is staged of them, predict them no more."""
        blocks = list(blocks)
        self._tell()
        self._sender.drop_blocks(blocks)

    def restart(self, to_device: Buffer, to_host: Buffer, side: Literal["host", "device"]) -> None:
        """Both directions begin again under fresh secrets; what was on the way is lost.

        Raises:
            SecretReused: a secret is not fresh.
        """
        out, back = (to_device, to_host) if side == "host" else (to_host, to_device)
        self._sender.restart(out)
        self._receiver.restart(back)

    def stats(self) -> TransferCounts:
        """See `Channel`."""
        return self._sender.counts

    def close(self) -> None:
        """See `Channel`."""
        self._sender.close()
        self._sealer.close()
        self._opener.close()
        self._receiver.close()

    def _tell(self) -> None:
        """What arrived since the last order left the other side as one batch."""
        if self._left:
            self._sender.left(self._left)
            self._left = []


def open_channel(
    kind: Kind,
    store: BlockStore,
    link: Link,
    *,
    side: Literal["host", "device"],
    secret: Buffer,
    attested: bool = True,
    predictor: Predictor | None = None,
    depth: int = DEPTH,
    gap: int = GAP,
    limit: int = LIMIT,
    aead: Callable[[Buffer], Aead] = aes_256_gcm,
    sealer: Sealer | None = None,
    opener: Sealer | None = None,
    buffers: Buffers | None = None,
) -> Duplex:
    """Return one end of a channel.

    Args:
        kind: who encrypts.
        store: the blocks of this side.
        link: this side's way out.
        side: which end this is.
        secret: 32 bytes that only the two ends have; each direction has its own keys under it.
        attested: whether the engine's policy is attested; then nothing goes in clear.
        predictor: which block is sent next; `Mixture` unless told.
        depth: blocks sealed ahead at most; 0 is sealing without speculation.
        gap: sequence numbers left free before what a `sync` stages, while there are misses.
        limit: frames a key.
        aead: makes an AEAD of a key; `chacha20_poly1305` where a GPU of ours opens.
        sealer: seals ahead; the caller's own thread unless told (deterministic).
        opener: opens what arrives; likewise.
        buffers: private memory for frames.

    Raises:
        PlainRefused: the policy is attested.
    """
    if kind == "plain" and attested:
        raise PlainRefused("an attested policy has no transfers in clear")
    out, back = (TO_DEVICE, TO_HOST) if side == "host" else (TO_HOST, TO_DEVICE)
    predictor = Mixture() if predictor is None else predictor
    sealer = InlineSealer() if sealer is None else sealer
    opener = InlineSealer() if opener is None else opener

    def form(direction: int) -> Form:
        if kind == "sealed":
            return SealedForm(secret, direction, limit=limit, aead=aead)
        return CcForm() if kind == "cc" else PlainForm()

    sender = Sender(
        form(out),
        store,
        link,
        predictor=predictor,
        sealer=sealer,
        depth=depth,
        gap=gap,
        buffers=buffers,
    )
    receiver = Receiver(form(back), store, opener)
    return Duplex(sender, receiver, sealer, opener)
