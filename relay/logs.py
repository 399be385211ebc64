"""What a relay writes: that something happened, never to whom or about what.

Nothing of ours logs a client. But an exception's text, and a traceback's, hold whatever they were
made of, so the one handler of the process writes neither.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from types import TracebackType
from typing import Any

_LOG = logging.getLogger("relay")

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class WithoutDetail(logging.Formatter):
    """Formats an exception as its type and the line of code it came from."""

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 - logging's name
        """Return `ZeroDivisionError at app.py:17`."""
        kind, _, traceback = ei
        while traceback is not None and traceback.tb_next is not None:
            traceback = traceback.tb_next
        name = kind.__name__ if kind else "no exception"
        if traceback is None:
            return name
        code = traceback.tb_frame.f_code
        return f"{name} at {code.co_filename.rpartition('/')[2]}:{traceback.tb_lineno}"


def start_logging() -> None:
    """Write warnings and worse to standard error, without detail, and nothing else anywhere."""
    logging.raiseExceptions = False  # a line that cannot be formatted would show its arguments
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(WithoutDetail("%(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("httpcore").setLevel(logging.WARNING)  # its debug lines quote header fields


def log_without_detail(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log that something failed unnoticed: asyncio's own line would show transports and values."""
    _LOG.error("unhandled %s in the event loop", type(context.get("exception")).__name__)
