"""Another engine behind our slots: one slot, one request to it.

What `engine.core.Engine` does by steps happens here by tasks: a submitted slot becomes a streamed
request, its ids go into the slot as they come, and cancelling closes the stream, by which the other
engine knows that nobody is there any more. Slots are erased as ever; what the other engine keeps is
not seen from here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from engine.errors import InvalidRequest
from engine.slot import Command, Slot, SlotRequest
from engine.slot_server import Changed
from engine.types import (
    EngineState,
    ErrorCode,
    FinishReason,
    Logprobs,
    SamplingParams,
    VerificationCounts,
)
from server.upstream_dialect import SALT_BYTES, Delta, Unsupported, UpstreamFailed

_UNCHECKED = VerificationCounts(checks=0, decisions=bytes(32), sent=0, hits=0, misses=0)


class Source(Protocol):
    """Where completions come from."""

    def complete(
        self, prompt: Sequence[int], params: SamplingParams, salt: bytes
    ) -> AsyncIterator[Delta]:
        """Yield a completion as it comes, every delta with its ids.

        Raises:
            Unsupported: it cannot do what is asked for.
            UpstreamFailed: it fails.
        """
        ...


@dataclass(eq=False)
class _Entry:
    """A slot, and the task that fills it while that runs."""

    slot: Slot
    state: EngineState = EngineState.EMPTY
    task: asyncio.Task[FinishReason] | None = None
    ending: Command | None = None
    """What the capsule asked for while the task ran."""
    dropped: bool = False


class UpstreamEngine:
    """See `engine.slot_server.Computing`. To be used within one running event loop."""

    busy = False

    def __init__(self, source: Source, changed: Changed) -> None:
        self._source = source
        self._mark = changed
        self.on_change: Callable[[], None] = lambda: None
        """Called when a capsule should look and no socket has led to it."""
        self._entries: dict[Hashable, _Entry] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def register(self, key: Hashable, slot: Slot) -> None:
        """See `Computing`."""
        self._entries[key] = _Entry(slot)

    def look(self, key: Hashable, group_scope: Hashable) -> None:  # noqa: ARG002 - nothing shared
        """See `Computing`."""
        entry = self._entries[key]
        command = entry.slot.command
        if entry.state is EngineState.EMPTY and command is Command.SUBMIT:
            self._set(entry, EngineState.QUEUED)
            entry.task = asyncio.get_running_loop().create_task(self._fill(key, entry))
            entry.task.add_done_callback(partial(self._ended, key, entry))
            self._tasks.add(entry.task)
        elif command in (Command.CANCEL, Command.DONE):
            self._end(key, entry, command)

    def drop(self, key: Hashable) -> None:
        """See `Computing`; a slot whose request still runs is erased once that is aborted."""
        entry = self._entries.pop(key)
        entry.dropped = True
        self._end(key, entry, Command.CANCEL)
        if entry.task is None:
            entry.slot.close()

    def step(self) -> bool:
        """See `Computing`: whatever runs, runs elsewhere."""
        return False

    async def settled(self) -> None:
        """Wait until no request runs any more."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _fill(self, key: Hashable, entry: _Entry) -> FinishReason:
        request = entry.slot.request()
        with entry.slot.prompt_buffer() as data, data.cast("I") as words:
            prompt = words.tolist()
        if any(token >= entry.slot.geometry.vocab_size for token in prompt):
            raise InvalidRequest("a prompt id is outside the vocabulary")
        room = entry.slot.geometry.max_model_len - request.prompt_length
        left = min(request.params.max_new_tokens, room)
        if left == 0:
            return FinishReason.LENGTH
        self._set(entry, EngineState.RUNNING)
        stream = self._source.complete(prompt, request.params, os.urandom(SALT_BYTES))
        finish = FinishReason.LENGTH
        async with aclosing(stream) as deltas:  # type: ignore[type-var]
            async for delta in deltas:
                _write(entry.slot, request, delta, left)
                left -= len(delta.ids[:left])
                finish = delta.finish or finish
                self._changed(key)
                if left == 0:
                    break
        return finish

    def _changed(self, key: Hashable) -> None:
        self._mark(key)
        self.on_change()

    def _end(self, key: Hashable, entry: _Entry, command: Command) -> None:
        if entry.task is not None:
            entry.ending = command
            entry.task.cancel()
        elif entry.state is not EngineState.ERASED:
            running = entry.state is EngineState.EMPTY
            self._erase(key, entry, _reason(command) if running else None)

    def _ended(self, key: Hashable, entry: _Entry, task: asyncio.Task[FinishReason]) -> None:
        """Record how a task ended; what its error says may quote the request and is dropped."""
        self._tasks.discard(task)
        entry.task = None
        failure = None if task.cancelled() else task.exception()
        if entry.ending is not None:
            self._erase(key, entry, _reason(entry.ending))
        elif failure is None and not task.cancelled():
            self._set(entry, EngineState.FINISHED, task.result())
            self._changed(key)
        else:
            entry.slot.erase()
            self._set(entry, EngineState.FAILED, FinishReason.FAILED, _code(failure))
            self._changed(key)
        if entry.dropped:
            entry.slot.close()

    def _erase(self, key: Hashable, entry: _Entry, finish: FinishReason | None) -> None:
        entry.slot.erase()
        self._set(entry, EngineState.ERASED, finish)
        if not entry.dropped:
            self._changed(key)

    def _set(
        self,
        entry: _Entry,
        state: EngineState,
        finish: FinishReason | None = None,
        error: ErrorCode = ErrorCode.NONE,
    ) -> None:
        entry.state = state
        entry.slot.set_state(state, finish=finish, error=error)


def _reason(command: Command) -> FinishReason:
    return FinishReason.STOP if command is Command.DONE else FinishReason.ABORTED


def _code(failure: BaseException | None) -> ErrorCode:
    if isinstance(failure, InvalidRequest):
        return ErrorCode.INVALID_REQUEST
    return ErrorCode.UNSUPPORTED if isinstance(failure, Unsupported) else ErrorCode.STEP_FAILED


def _write(slot: Slot, request: SlotRequest, delta: Delta, left: int) -> None:
    """Write a delta's ids and log-probabilities into the slot, then publish them.

    Raises:
        UpstreamFailed: an id outside the vocabulary, or not the log-probabilities asked for.
    """
    ids, first = delta.ids[:left], slot.sampled
    if any(not 0 <= token < slot.geometry.vocab_size for token in ids):
        raise UpstreamFailed("an id outside the vocabulary")
    with slot.output_buffer() as data, data.cast("I") as words:
        for index, token in enumerate(ids, first):
            words[index] = token
    top = request.params.logprobs
    if top >= 0:
        if len(delta.logprobs) != len(delta.ids):
            raise UpstreamFailed("ids without their log-probabilities")
        for index, logprobs in enumerate(delta.logprobs[: len(ids)], first):
            _write_row(slot, request.prompt_length + index, logprobs, top)
    if ids:
        slot.publish_sampled(first + len(ids))
        slot.publish_released(first + len(ids), _UNCHECKED)


def _write_row(slot: Slot, row: int, logprobs: Logprobs, top: int) -> None:
    if len(logprobs.top) < top or any(
        not 0 <= token < slot.geometry.vocab_size for token, _ in logprobs.top[:top]
    ):
        raise UpstreamFailed("fewer log-probabilities than were asked for")
    at, values_at = row * slot.geometry.row_words, 1 + slot.geometry.max_logprobs
    with slot.rows_buffer() as data, data.cast("I") as words, data.cast("f") as floats:
        floats[at] = logprobs.chosen
        for number, (token, value) in enumerate(logprobs.top[:top]):
            words[at + 1 + number] = token
            floats[at + values_at + number] = value
