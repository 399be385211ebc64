"""The errors of this floor.

    ServerError
    ├── HygieneError         the process cannot be made safe; the worker refuses to serve
    ├── ProtocolError        a message between two roles is not of the format, or not its turn
    ├── PeerGone             the other role closed its socket
    ├── StartError           configuration or a start-up step that cannot succeed
    ├── Rejected             answered in clear, before anything was opened: a status code, no reason
    └── Refused              answered inside the encapsulated response

    ClientGone(BaseException)    the client closed its connection: stop, whatever is going on

No message quotes what a request holds: these errors are raised next to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wire import bhttp


class ServerError(Exception):
    """Base of every error raised by the worker's roles."""


class HygieneError(ServerError):
    """A protection of the process is missing; nothing may be decrypted in it."""


class ProtocolError(ServerError):
    """A message between two roles is malformed, too long, or not the one that may come now."""


class PeerGone(ServerError):
    """The role at the other end of a socket closed it."""


class StartError(ServerError):
    """A start-up step cannot succeed."""


class Rejected(ServerError):
    """The request could not be opened: the front answers `status` in clear, and says no more."""

    def __init__(self, status: int) -> None:
        super().__init__(f"rejected with {status}")
        self.status = status


class Refused(ServerError):
    """The request was opened and is refused: `response` travels encapsulated."""

    def __init__(self, response: bhttp.Response) -> None:
        super().__init__(f"refused with {response.status}")
        self.response = response


class ClientGone(BaseException):
    """The client has gone; the capsule cancels, waits for the erasure and ends.

    Not an Exception: an application that turns every failure into an answer must not turn this.
    """
