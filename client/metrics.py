"""The proxy's metrics: counts of answers by status, and what it has in stock.

Nothing in them comes from a request: no model, no size, no duration, no address.
"""

from __future__ import annotations

from collections.abc import Mapping

TYPE = "text/plain; version=0.0.4; charset=utf-8"


def write(gauges: Mapping[str, int], answers: Mapping[int, int]) -> str:
    """Write Prometheus's text format. `answers` counts by HTTP status."""
    lines = [
        "# HELP sottovoce_proxy_answers_total Answers to callers.",
        "# TYPE sottovoce_proxy_answers_total counter",
        *(
            f'sottovoce_proxy_answers_total{{status="{status}"}} {count}'
            for status, count in sorted(answers.items())
        ),
    ]
    for name, value in gauges.items():
        lines += [f"# TYPE sottovoce_proxy_{name} gauge", f"sottovoce_proxy_{name} {value}"]
    return "\n".join(lines) + "\n"
