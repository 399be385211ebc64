"""All the metrics of a worker: aggregates, of fixed names, with labels from fixed enumerations.

Nothing here can single out a user or a request: no sizes, no durations of one request, no label
that comes from outside.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)

from server.messages import Admission, Marking, Spending
from wire.refund import REFUSED

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

STATUSES = (200, 400, 405, 408, 413, 415, 422, 503)
"""Every status the gateway answers in clear."""


class Metrics:
    """The counters and gauges of one front."""

    def __init__(self) -> None:
        # When a label was first met is the time of one request: not for a metric.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._requests = self._counter("requests", "Answers of the gateway.", "status")
        self._cut = self._counter("responses_cut", "Responses that ended before their end.")
        self._marks = self._counter("marks", "Answers of the replay set.", "marking")
        self._admissions = self._counter("admissions", "Answers about capacity.", "admission")
        self._spends = self._counter("spends", "Answers of the spent-token store.", "spending")
        self._refunds = self._counter("refunds", "Tokens to be given back.", "outcome")
        self.idle_capsules = self._gauge("capsules_idle", "Capsules waiting for a request.")
        self.busy_capsules = self._gauge("capsules_in_use", "Capsules with a request.")
        self.admitted = self._gauge("requests_admitted", "Requests being served.")
        self.marks_kept = self._gauge("marks_kept", "Requests remembered against replay.")
        for status in STATUSES:
            self._requests.labels(str(status))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"sottovoce_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"sottovoce_{name}", text, registry=self._registry)

    def answered(self, status: int) -> None:
        """Count an answer in clear; KeyError for a status that is not on the list."""
        if status not in STATUSES:
            raise KeyError(status)
        self._requests.labels(str(status)).inc()

    def cut(self) -> None:
        """Count a response that was cut."""
        self._cut.inc()

    def marked(self, marking: Marking) -> None:
        """Count an answer of the replay set."""
        self._marks.labels(marking.name.lower()).inc()

    def admission(self, admission: Admission) -> None:
        """Count an answer about capacity."""
        self._admissions.labels(admission.name.lower()).inc()

    def spent(self, spending: Spending) -> None:
        """Count an answer of the spent-token store."""
        self._spends.labels(spending.name.lower()).inc()

    def refunded(self, signatures: Sequence[bytes]) -> None:
        """Count the tokens that were given back, and those that the issuer refused."""
        for signature in signatures:
            self._refunds.labels("refused" if signature == REFUSED else "signed").inc()

    def encode(self) -> bytes:
        """Encode in Prometheus' text format."""
        return generate_latest(self._registry)
