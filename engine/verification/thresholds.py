"""How far honest rounding may go before T calls it a lie. Free of torch.

What is measured on a model and a device (`sottovoce calibrate`) is written to `thresholds.json` in
the model's folder and so part of the model digest; it can only be tighter than the bounds here.

The unit of the linear checks is the standard deviation of what rounding the product to bfloat16
leaves in a secret sum. T knows it row by row, from exponents and secrets, so it needs no
calibration and no outlier channel moves it. In units of u |y| rms(R), u = 2^-8, which the
literature uses, it is 0.4245 for most rows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from engine.errors import ModelFiles
from wire import canonical_json
from wire.errors import WireError

FILE = "thresholds.json"


@dataclass(frozen=True)
class Thresholds:
    """Largest values that pass; what is larger, or not a number, fails."""

    scalar: float = 7.07
    """One secret sum of one row: a Gaussian exceeds it once in 6e11."""
    row: float = 5.0
    """Mean square of a row's 16 sums: once in 6e9."""
    rows: float = 1.5
    """Mean square over 32 rows of a matrix: 8 standard deviations."""
    matrix: float = 1.06
    """Mean square over 1,024 rows of a matrix: 5 standard deviations."""
    steps: float = 3.0
    """Between an input that U multiplied and the one T replays, in 2^-8 of the larger one: how far
    apart two roundings to bfloat16 are, with room for another order of operations."""
    head: float = 2.0e-5
    """Of |logits| rms(R): what float32 sums of another order leave in a secret sum."""
    attention: float = 1.0
    """Of u sqrt(|o|^2 + sum p^2 |v|^2): an attention output against T's own."""
    scores: float = 1.0e-6
    """Of rms(r) |q| sqrt(sum |k|^2) c: what float32 sums leave in a secret sum of scores."""
    mixed: float = 3.5
    """Mean square of 16 secret sums of a head's output, in the square of attention's unit: rho^2
    by a chi-square of 16, which stays below 6 but once in 1e12."""


BOUNDS = Thresholds()
"""No verifier is looser than this, whatever a manifest says."""


def read(folder: Path) -> Thresholds:
    """Return the thresholds of a model's folder; the bounds where it has none.

    Raises:
        ModelFiles: the file is not what `write` writes, or looser than the bounds.
    """
    try:
        content = (folder / FILE).read_bytes()
    except FileNotFoundError:
        return BOUNDS
    except OSError as error:
        raise ModelFiles("the thresholds cannot be read") from error
    return parse(content)


def parse(content: bytes) -> Thresholds:
    """Read the content of `thresholds.json`.

    Raises:
        ModelFiles: a member is missing, unknown, not a positive number, or looser than its bound.
    """
    try:
        found: Any = canonical_json.decode(content)
    except WireError:
        raise ModelFiles("the thresholds are not JSON") from None
    names = {each.name for each in fields(Thresholds)}
    if not isinstance(found, dict) or set(found) != names:
        raise ModelFiles("the thresholds have other members than they should")
    if not all(type(value) in {int, float} and value > 0 for value in found.values()):
        raise ModelFiles("a threshold is not a positive number")
    thresholds = Thresholds(**{name: float(value) for name, value in found.items()})
    if loosest(thresholds, BOUNDS) != BOUNDS:
        raise ModelFiles("a threshold is looser than any verifier allows")
    return thresholds


def declared(folder: Path) -> dict[str, float]:
    """Return a folder's thresholds as the model digest has them: nothing where it has no file.

    Raises:
        ModelFiles: see `read`.
    """
    return settings(read(folder)) if (folder / FILE).exists() else {}


def write(thresholds: Thresholds) -> bytes:
    """Return the content of `thresholds.json`."""
    return canonical_json.encode(settings(thresholds)) + b"\n"


def settings(thresholds: Thresholds) -> dict[str, float]:
    """Return the thresholds as the model digest has them."""
    return asdict(thresholds)


def loosest(*all_of: Thresholds) -> Thresholds:
    """Return the larger of each threshold."""
    return Thresholds(*map(max, *(asdict(each).values() for each in all_of)))


def tightest(*all_of: Thresholds) -> Thresholds:
    """Return the smaller of each threshold."""
    return Thresholds(*map(min, *(asdict(each).values() for each in all_of)))
