"""Draw where one core can no longer hide its sealing: overhead against link speed, as SVG.

python benchmarks/plot_links.py        # reads pipeline.jsonl, writes links.svg, both beside it
"""

from __future__ import annotations

import json
import re
from pathlib import Path

HERE = Path(__file__).parent
_CASE = re.compile(r"sweep (\w+) overhead ([\w ]+) @ link ([\d.]+) GB/s")
_WIDTH, _HEIGHT, _LEFT, _TOP = 640, 360, 60, 20
_COLOURS = {"pipelined": "#1b7837", "naive": "#b2182b"}
_DASHES = {"weight cycling": "", "kv mixed": "6 4"}

Lines = dict[tuple[str, str], list[tuple[float, float]]]


def read(path: Path) -> Lines:
    """Return (mode, pattern) to points (GB/s, per cent of plain throughput lost)."""
    found: Lines = {}
    for text in path.read_text().splitlines():
        line = json.loads(text)
        if match := _CASE.match(line["case"]):
            mode, pattern, link = match.groups()
            found.setdefault((mode, pattern), []).append((float(link), line["value"]))
    return {key: sorted(points) for key, points in found.items()}


def draw(lines: Lines) -> str:
    """Return the plot."""
    most_x = max(x for points in lines.values() for x, _ in points)
    most_y = 10 * (1 + int(max(y for points in lines.values() for _, y in points) // 10))

    def place(x: float, y: float) -> str:
        across = _LEFT + x / most_x * (_WIDTH - _LEFT - 20)
        down = _TOP + (1 - max(0.0, y) / most_y) * (_HEIGHT - _TOP - 50)
        return f"{across:.1f},{down:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}">',
        "<style>text { font: 12px sans-serif }</style>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    for y in range(0, most_y + 1, 10):
        start, stop = place(0, y), place(most_x, y)
        parts.append(f'<path d="M{start} L{stop}" stroke="#ddd"/>')
        parts.append(_text(start, f"{y} %", "end"))
    links = sorted({x for points in lines.values() for x, _ in points})
    parts += [_text(place(x, 0), f"{x:g}", "middle", 16) for x in links]
    for number, ((mode, pattern), points) in enumerate(sorted(lines.items())):
        path = " L".join(place(*point) for point in points)
        style = f'stroke="{_COLOURS[mode]}" stroke-dasharray="{_DASHES[pattern]}"'
        parts.append(f'<path d="M{path}" fill="none" stroke-width="2" {style}/>')
        top = 20 + 16 * number
        parts.append(f'<path d="M{_LEFT + 15},{top} h30" stroke-width="2" {style}/>')
        parts.append(_text(f"{_LEFT + 52},{top + 4}", f"{mode}, {pattern}", "start", 0, 0))
    caption = "GB/s of the link, each way (emulated device and link, sealing on one core)"
    parts.append(_text(f"{_WIDTH // 2},{_HEIGHT - 8}", caption, "middle", 0, 0))
    return "\n".join([*parts, "</svg>", ""])


def _text(at: str, text: str, anchor: str, down: float = 4, left: float = 6) -> str:
    x, y = (float(part) for part in at.split(","))
    x -= left if anchor == "end" else 0
    return f'<text x="{x}" y="{y + down}" text-anchor="{anchor}">{text}</text>'


if __name__ == "__main__":
    (HERE / "links.svg").write_text(draw(read(HERE / "pipeline.jsonl")))
