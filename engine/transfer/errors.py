"""The errors of transfers. Each ends one request, or says that nothing was begun.

    TransferError(EngineError)
    ├── FrameRefused       a frame is malformed, forged, replayed or out of order
    │   └── SessionFaulted a frame was refused before: nothing more is taken until a restart
    ├── BlockUnusable
    │   ├── UnknownBlock   no such block
    │   ├── BlockEmpty     reserved, and nothing has arrived
    │   ├── BlockPoisoned  what arrived was refused
    │   └── BlockBusy      it is being written, or was while it was sealed
    ├── PoolFull           the bound on sealed bytes is reached
    ├── DiskFull           the file that holds sealed bytes cannot grow
    ├── KeyDestroyed       the request has ended, and its key with it
    ├── SecretReused       a session restarts under a secret that it had before
    ├── ChannelClosed      the channel was closed
    └── PlainRefused       the policy demands sealed transfers

No message quotes data.
"""

from __future__ import annotations

from engine.errors import EngineError


class TransferError(EngineError):
    """Base of every error raised by `engine.transfer`."""


class FrameRefused(TransferError):
    """A frame is malformed, forged, replayed or out of order; its block is poisoned."""


class SessionFaulted(FrameRefused):
    """A frame was refused before; nothing more is taken until both ends restart."""


class BlockUnusable(TransferError):
    """A block cannot be read, written or sent now."""


class UnknownBlock(BlockUnusable):
    """No block has this id."""


class BlockEmpty(BlockUnusable):
    """The block is reserved, and nothing has arrived for it."""


class BlockPoisoned(BlockUnusable):
    """What arrived for the block was refused; its request has failed."""


class BlockBusy(BlockUnusable):
    """The block is being written, or was written while it was sealed."""


class PoolFull(TransferError):
    """The bound on sealed bytes is reached; others' requests have to end first."""


class DiskFull(TransferError):
    """The file that holds sealed bytes cannot grow."""


class KeyDestroyed(TransferError):
    """The request has ended, and its key with it: what was sealed can be opened no more."""


class SecretReused(TransferError):
    """A session was to restart under a secret that it had before."""


class ChannelClosed(TransferError):
    """The channel was closed."""


class PlainRefused(TransferError):
    """Transfers in clear were asked for where the policy demands sealed ones."""
