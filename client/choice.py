"""Which node gets the request: one weighted draw that nobody outside can lean on.

The chance of a node is its share of the capacity, clamped so that no single node, whatever
capacity it claims, draws more than a policy maximum. With r redraws an adversary who holds a
fraction f of the list and refuses on purpose gets a request with at most 1 - (1 - f)^(r + 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

MAX_SHARE = 0.25
"""No node draws more than a quarter of the requests, unless there are fewer than eight nodes."""

MAX_REDRAWS = 2
"""How often an authenticated refusal may be answered by a new draw from the whole list."""


def shares(capacities: Sequence[int]) -> list[float]:
    """Return each node's probability: proportional to capacity, clamped, summing to 1.

    A clamped node's excess goes to the others in proportion, again clamped, until none exceeds the
    maximum of 25 %, or 2/N if that is larger.

    Raises:
        ValueError: no node, or a capacity below 1.
    """
    if not capacities or min(capacities) < 1:
        raise ValueError("every node needs a capacity of at least 1")
    ceiling = max(MAX_SHARE, 2 / len(capacities))
    clamped: set[int] = set()
    while True:
        free = sum(c for i, c in enumerate(capacities) if i not in clamped)
        left = 1.0 - ceiling * len(clamped)
        result = [ceiling if i in clamped else left * c / free for i, c in enumerate(capacities)]
        over = {i for i, share in enumerate(result) if share > ceiling and i not in clamped}
        if not over:
            return result
        clamped |= over


def draw(capacities: Sequence[int], uniform: Callable[[], float]) -> int:
    """Draw the index of one node; `uniform` gives a number in [0, 1) from a secure generator."""
    point = uniform()
    for index, share in enumerate(shares(capacities)):
        point -= share
        if point < 0:
            return index
    return len(capacities) - 1


def steering_bound(fraction: float, redraws: int = MAX_REDRAWS) -> float:
    """Return the largest chance that nodes drawn with `fraction` see a request: 1-(1-f)^(r+1)."""
    return 1 - (1 - fraction) ** (redraws + 1)
