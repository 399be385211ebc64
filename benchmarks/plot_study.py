"""Print the table of the H100 study for our way, and draw its throughput, as SVG. EMULATED.

python benchmarks/plot_study.py        # reads pipeline.jsonl, writes study.svg, both beside it
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
_CASE = re.compile(r"sweep study (TPS|QPS|TTFT|ITL) (\w+) @ (\d+) at a time, (.+)")
_COLOURS = ("#762a83", "#1b7837", "#b2182b")
_METRICS = ("TPS", "QPS", "TTFT", "ITL")
_BAR, _STEP, _TOP, _LEFT, _WIDTH = 12, 54, 44, 130, 640
PUBLISHED = (
    "Published (Zhu et al., arXiv 2409.03992, H100 and H200, vLLM, confidential mode against none; "
    "not ours, not the same machine): below 7 % for most queries, nearly none for larger models "
    "and longer sequences. Their tables by length could not be read."
)

Cells = dict[tuple[str, int], dict[str, dict[str, float]]]
"""(length, concurrency) to mode to metric to value."""


def read(path: Path) -> Cells:
    """Return the study's cells, in the order of the file."""
    cells: Cells = {}
    for text in path.read_text().splitlines():
        line = json.loads(text)
        if match := _CASE.fullmatch(line["case"]):
            metric, length, concurrency, mode = match.groups()
            modes = cells.setdefault((length, int(concurrency)), {})
            modes.setdefault(mode, {})[metric] = line["value"]
    return cells


def lost(modes: dict[str, dict[str, float]], mode: str) -> float:
    """Return how much of plain tokens a second a mode loses, in per cent."""
    return 100 * (1 - modes[mode]["TPS"] / modes["plain"]["TPS"])


def table(cells: Cells) -> str:
    """Return the table, in Markdown."""
    rows = [
        "| length, at a time | mode | TPS | QPS | TTFT ms | ITL ms | TPS lost |",
        "|---|---|---|---|---|---|---|",
    ]
    for (length, concurrency), modes in cells.items():
        for mode, values in modes.items():
            shown = " | ".join(f"{values[metric]:.4g}" for metric in _METRICS)
            where = f"{length}, {concurrency}"
            rows.append(f"| {where} | {mode} | {shown} | {lost(modes, mode):.1f} % |")
    return "\n".join([*rows, "", PUBLISHED, ""])


def draw(cells: Cells) -> str:
    """Return the plot: a bar for each cell and mode, and the published bound as a line."""
    modes = [mode for mode in next(iter(cells.values())) if mode != "plain"]
    most = max(10.0, *(lost(cell, mode) for cell in cells.values() for mode in modes))
    height = _TOP + _STEP * len(cells) + 30
    scale = (_WIDTH - _LEFT - 60) / most
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}">',
        "<style>text { font: 12px sans-serif }</style>",
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
    ]
    for number, mode in enumerate(modes):
        parts.append(_text(_LEFT + 130 * number, 18, mode, _COLOURS[number]))
    for row, ((length, concurrency), cell) in enumerate(cells.items()):
        top = _TOP + _STEP * row
        parts.append(_text(8, top + 24, f"{length}, {concurrency} at a time"))
        for number, mode in enumerate(modes):
            wide, down = max(0.0, lost(cell, mode)) * scale, top + (_BAR + 2) * number
            size = f'x="{_LEFT}" y="{down}" width="{wide:.1f}" height="{_BAR}"'
            parts.append(f'<rect {size} fill="{_COLOURS[number]}"/>')
            parts.append(_text(_LEFT + wide + 4, down + 10, f"{lost(cell, mode):.1f}"))
    bound = _LEFT + 7 * scale
    parts.append(f'<path d="M{bound:.1f},{_TOP - 8} V{height - 30}" stroke="#777"/>')
    parts.append(_text(bound + 3, 36, "7 %: published, H100 (not ours)", "#777"))
    caption = "% of plain tokens a second lost; ours: emulated device and link, sealing on one core"
    parts.append(_text(60, height - 8, caption))
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, text: str, colour: str = "black") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}">{text}</text>'


if __name__ == "__main__":
    found = read(HERE / "pipeline.jsonl")
    if not found:
        sys.exit("pipeline.jsonl has no lines of the study: sottovoce bench pipeline --json")
    (HERE / "study.svg").write_text(draw(found))
    sys.stdout.write(table(found))
