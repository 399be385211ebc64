"""The loss curve of a run as an SVG picture, drawn without any library."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

_WIDTH, _HEIGHT, _LEFT, _TOP = 640, 280, 56, 16
_POINTS = 200
_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def smoothed(values: Sequence[float], points: int = _POINTS) -> list[tuple[float, float]]:
    """Return at most `points` pairs: the middle of a stretch, 0 to 1, and the mean over it."""
    size = max(1, math.ceil(len(values) / points))
    stretches = [values[start : start + size] for start in range(0, len(values), size)]
    return [
        ((i * size + len(some) / 2) / len(values), sum(some) / len(some))
        for i, some in enumerate(stretches)
    ]


def picture(curves: dict[str, Sequence[float]]) -> str:
    """Return the named loss curves over the share of their steps; the loss axis is logarithmic."""
    lines = {name: smoothed(values) for name, values in curves.items()}
    every = [loss for line in lines.values() for _, loss in line]
    low, high = math.log(min(every) * 0.9), math.log(max(every) * 1.1)

    def place(share: float, loss: float) -> tuple[float, float]:
        up = (math.log(loss) - low) / (high - low)
        return _LEFT + share * _WIDTH, _TOP + (1 - up) * _HEIGHT

    shapes = [_tick(*place(0.0, t), t) for t in _TICKS if low < math.log(t) < high]
    for colour, (name, line) in zip(("#1f5fa8", "#b5521b"), lines.items(), strict=False):
        ends = place(*line[-1])
        dots = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*pair) for pair in line))
        shapes.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{dots}"/>'
        )
        label = f'<text x="{ends[0]:.1f}" y="{ends[1] - 6:.1f}" fill="{colour}" text-anchor="end">'
        shapes.append(f"{label}{name}</text>")
    return _framed(shapes)


def _tick(x: float, y: float, loss: float) -> str:
    rule = f'<path stroke="#ddd" d="M{x:.1f} {y:.1f}h{_WIDTH}"/>'
    return f'{rule}<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{loss:g}</text>'


def _framed(shapes: Sequence[str]) -> str:
    width, height = _LEFT + _WIDTH + 16, _TOP + _HEIGHT + 32
    foot = f'<text x="{_LEFT}" y="{height - 10}">loss of the answers over the steps of a run</text>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
    style = (
        ' font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
    )
    return "\n".join([head + style, *shapes, foot, "</svg>", ""])


def losses(run: Path) -> list[float]:
    """Return the losses of the run in `run`, a step each."""
    return [json.loads(line)["loss"] for line in (run / "loss.jsonl").read_text().splitlines()]
