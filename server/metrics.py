"""All the metrics of a worker: aggregates, of fixed names, with labels from fixed enumerations.

Nothing here can single out a user or a request: no sizes, no durations of one request, no label
that comes from outside. What is published changes once a period, and coarsely (`server.coarse`).
An ordinary request is an event of one count, whatever happens inside it: of marks, admissions,
tokens and refunds only what goes wrong is counted.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Iterable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)

from server.coarse import LEAST, LEVEL_STEP, STEP, Pending, rounded
from server.messages import Admission, Marking, Spending
from wire.refund import REFUSED

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

STATUSES = (200, 400, 405, 408, 413, 415, 422, 503)
"""Every status the gateway answers in clear."""

WRONG_MARKINGS = (Marking.REPLAYED, Marking.FULL)
WRONG_SPENDINGS = (Spending.SPENT, Spending.UNAVAILABLE)


class Count:
    """A counter of Prometheus' that moves coarsely: one value for each of its labels."""

    def __init__(self, counter: Counter, labels: Iterable[str], new: Callable[[], Pending]) -> None:
        children = {label: counter.labels(label) for label in labels} or {"": counter}
        self._values = {label: (new(), child) for label, child in children.items()}

    def add(self, label: str = "") -> None:
        """Count an event; KeyError for a label that is not on the list."""
        self._values[label][0].add()

    def publish(self) -> None:
        """Move what may move."""
        for pending, child in self._values.values():
            child.inc(pending.take())


class Metrics:
    """The metrics of one front.

    Args:
        chance: where the randomness of what is published is from.
        least, step, level_step: see `server.coarse`; of ones only, everything is exact.
    """

    def __init__(
        self,
        chance: random.Random | None = None,
        *,
        least: int = LEAST,
        step: int = STEP,
        level_step: int = LEVEL_STEP,
    ) -> None:
        # When a label was first met is the time of one request: not for a metric.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._chance = chance or secrets.SystemRandom()
        self._new = lambda: Pending(self._chance, least=least, step=step)
        self._level_step = level_step
        self._registry = CollectorRegistry()
        self._counts: list[Count] = []
        statuses = [str(status) for status in STATUSES]
        self._requests = self._count("requests", "Answers of the gateway.", "status", statuses)
        self._cut = self._count("responses_cut", "Responses that ended before their end.")
        self._marks = self._count(
            "marks", "Requests refused by the replay set.", "marking", _names(WRONG_MARKINGS)
        )
        self._admissions = self._count(
            "admissions", "Requests for which there was no room.", "admission", ["busy"]
        )
        self._spends = self._count(
            "spends", "Requests whose tokens were not spent.", "spending", _names(WRONG_SPENDINGS)
        )
        self._refunds = self._count(
            "refunds", "Requests with a refund that was refused.", "outcome", ["refused"]
        )
        self._in_use = self._gauge("capsules_in_use", "Capsules with a request.")
        self._admitted = self._gauge("requests_admitted", "Requests being served.")
        self._looked = 0, 0
        self._encoded: bytes | None = None

    def _count(self, name: str, text: str, label: str = "", values: Sequence[str] = ()) -> Count:
        labels = (label,) if label else ()
        counter = Counter(f"sottovoce_{name}", text, labels, registry=self._registry)
        self._counts.append(Count(counter, values, self._new))
        return self._counts[-1]

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"sottovoce_{name}", text, registry=self._registry)

    def answered(self, status: int) -> None:
        """Count an answer in clear; KeyError for a status that is not on the list."""
        self._requests.add(str(status))

    def cut(self) -> None:
        """Count a response that was cut."""
        self._cut.add()

    def marked(self, marking: Marking) -> None:
        """Count an answer of the replay set, unless it is the ordinary one."""
        if marking in WRONG_MARKINGS:
            self._marks.add(_name(marking))

    def admission(self, admission: Admission) -> None:
        """Count an answer about capacity, unless it is the ordinary one."""
        if admission is Admission.BUSY:
            self._admissions.add(_name(admission))

    def spent(self, spending: Spending) -> None:
        """Count an answer of the spent-token store, unless it is the ordinary one."""
        if spending in WRONG_SPENDINGS:
            self._spends.add(_name(spending))

    def refunded(self, signatures: Sequence[bytes]) -> None:
        """Count one refund, however many tokens it is of, if any of them was refused."""
        if REFUSED in signatures:
            self._refunds.add("refused")

    def look(self, in_use: int, admitted: int) -> None:
        """Remember how much is in use now; published at the end of the period."""
        self._looked = in_use, admitted

    def publish(self) -> None:
        """End a period: only now does what `encode` returns change."""
        for count in self._counts:
            count.publish()
        for gauge, level in zip((self._in_use, self._admitted), self._looked, strict=True):
            gauge.set(rounded(level, self._level_step, self._chance))
        self._encoded = None

    def encode(self) -> bytes:
        """Encode in Prometheus' text format what was published last."""
        self._encoded = self._encoded or generate_latest(self._registry)
        return self._encoded

    async def publish_every(self, period_s: float, levels: Callable[[], tuple[int, int]]) -> None:
        """Publish at the end of each period, on a grid that no request moves; never returns.

        Args:
            period_s: seconds of a period.
            levels: what to look at, once a period, at a moment drawn from all of it.
        """
        loop = asyncio.get_running_loop()
        end = loop.time()
        while True:
            moment = end + period_s * self._chance.random()
            end += period_s
            await asyncio.sleep(moment - loop.time())
            self.look(*levels())
            await asyncio.sleep(end - loop.time())
            self.publish()


def _name(answer: Marking | Admission | Spending) -> str:
    return answer.name.lower()


def _names(answers: Iterable[Marking | Spending]) -> list[str]:
    return [_name(answer) for answer in answers]
