"""Answers made of `choices`, as chats and text completions have them.

The shape of a choice differs by endpoint (`Answer`); what surrounds it does not: one id, token
counts, and a last payload with the place of the receipt.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from server.openai.generation import Step
from server.openai.outputs import DONE, Event, Usage
from server.openai.payloads import Frame, encode, random_id, usage_members

Json = dict[str, Any]


class Answer(ABC):
    """The choices of one answer. Built for one request, fed with the steps of its sequences."""

    id_prefix: str
    whole_object: str
    chunk_object: str

    @abstractmethod
    def entries(self, step: Step) -> list[Json]:
        """The entries of `choices` that a step adds to a stream, one chunk each."""

    @abstractmethod
    def whole(self, entries: Sequence[Json]) -> list[Json]:
        """The `choices` of a whole answer, put together from all entries of its stream."""


@dataclass(frozen=True)
class ChoicesWriter:
    """Writes an answer's choices: as chunks of one entry each, or put together.

    `choices` counts those of all prompts. With `include_usage` a stream ends with token counts.
    """

    answer: Answer
    choices: int
    model: str
    fingerprint: str | None
    include_usage: bool

    def whole(self, steps: Iterator[Step], usage: Callable[[], Usage], now: int) -> bytes:
        """See `plan.Writer`."""
        entries = [entry for step in steps for entry in self.answer.entries(step)]
        payload = self._frame(now).write(
            self.answer.whole_object,
            self.answer.whole(entries),
            usage=usage_members(usage()),
        )
        return encode(payload, last=True)

    def events(
        self, steps: Iterator[Step], usage: Callable[[], Usage], now: int
    ) -> Iterator[Event]:
        """See `plan.Writer`. The last payload is held until the steps end."""
        frame, name = self._frame(now), self.answer.chunk_object
        further: Json = {"usage": None} if self.include_usage else {}
        chunks = frame.chunks(name, **further)
        held: Json | None = None
        unfinished = self.choices
        for step in steps:
            unfinished -= step.finish is not None
            for entry in self.answer.entries(step):
                if unfinished or entry["finish_reason"] is None or self.include_usage:
                    yield Event(chunks.encode(entry))
                held = entry
        if self.include_usage:
            last = frame.write(name, [], usage=usage_members(usage()))
            yield Event(encode(last, last=True), last=True)
        elif held is not None:
            yield Event(encode(frame.write(name, [held]), last=True), last=True)
        yield Event(DONE)

    def _frame(self, now: int) -> Frame:
        return Frame(random_id(self.answer.id_prefix), now, self.model, self.fingerprint)
