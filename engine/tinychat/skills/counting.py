"""Tasks about order: counting, neighbours, the larger one, sorting, days and months."""

from __future__ import annotations

import random

from engine.tinychat import words
from engine.tinychat.grammar import capitalized
from engine.tinychat.part import Part
from engine.tinychat.skills.exchange import Exchange, only, pick

_COUNTING = (
    "count [from {a} to {b}|{a} to {b}]",
    "[can you |please |]count from {a} to {b}",
    "[list|write|say|give me] [the|all] numbers from {a} to {b}",
    "[numbers|all numbers|the numbers|please count|now count] [from |]{a} to {b}",
    "[start|begin] [at|with] {a} and count to {b}",
    "the numbers between {a} and {b}, both included",
)
_FROM_ONE = (
    "count to {b}",
    "[can you |please |][count|count up] to {b}",
    "[say|tell me|list|write] [the|all] numbers [up to|to|until] {b}",
    "[i want you to|let us|now] count [up |]to {b}",
    "all numbers until {b}, please",
)
_DOWN = (
    "[please |now |can you |]count [down|backwards|in reverse] from {a}",
    "[start|begin] at {a} and count [down|backwards]",
    "[numbers|the numbers|count] from {a} [down |]to 0",
    "a countdown from {a}",
)
_NEXT = (
    "[what|which number|what number] [comes|is|follows] [after|right after|next after] {a}",
    "[the |which ]number after {a}",
    "[next after|one more than|what is next after] {a}",
    "{a} is followed by",
)
_BEFORE = (
    "[what|which number|what number] [comes|is] [before|right before|just before] {a}",
    "[the |which ]number before {a}",
    "[one less than|what is one less than|the one before] {a}",
    "which is one below {a}",
)
_LARGER = (
    "[which|what|which number] is [larger|bigger|more|greater], {a} or {b}",
    "is {a} [larger|more|bigger|greater] than {b}",
    "[the larger|the bigger|larger|the greater] of {a} and {b}",
    "compare {a} and {b}",
)
_SORT = (
    "[sort|please sort|now sort|can you sort] [|the numbers |these: |this list: ]{a}",
    "[put|bring] [|the numbers |these: ]{a} [in|into] order",
    "[{a}, sorted|{a}: sort them|sorted: {a}]",
    "order {a} from small to large",
)
_DAY = (
    "[what|which] day [comes|is] [after|right after] {a}",
    "[the|next|which is the] day after {a}",
    "[after {a} comes which day|{a}, and then|what comes after {a}]",
    "which day follows {a}",
)
_MONTH = (
    "[what|which] month [comes|is] [after|right after] {a}",
    "[the|next|which is the] month after {a}",
    "[after {a} comes which month|{a}, and then|what comes after {a}]",
    "which month follows {a}",
)


def _count_up(rng: random.Random) -> tuple[tuple[str, ...], dict[str, object], str]:
    start = 1 if rng.random() < 0.6 else rng.randint(2, 30)
    end = start + rng.randint(2, 12)
    patterns = _FROM_ONE if start == 1 and rng.random() < 0.6 else _COUNTING
    return patterns, {"a": start, "b": end}, ", ".join(map(str, range(start, end + 1)))


def _count_down(rng: random.Random) -> tuple[tuple[str, ...], dict[str, object], str]:
    start = rng.randint(3, 15)
    return _DOWN, {"a": start}, ", ".join(map(str, range(start, -1, -1)))


def _neighbour(rng: random.Random) -> tuple[tuple[str, ...], dict[str, object], str]:
    a = rng.randint(1, 98)
    if rng.random() < 0.5:
        return _NEXT, {"a": a}, f"{a + 1} comes after {a}."
    return _BEFORE, {"a": a}, f"{a - 1} comes before {a}."


def _comparison(rng: random.Random) -> tuple[tuple[str, ...], dict[str, object], str]:
    a, b = rng.sample(range(1, 100), 2)
    return _LARGER, {"a": a, "b": b}, f"{max(a, b)} is larger than {min(a, b)}."


def _sorted(rng: random.Random) -> tuple[tuple[str, ...], dict[str, object], str]:
    digits = rng.sample(range(10), rng.randint(3, 5))
    given, ordered = (", ".join(map(str, some)) for some in (digits, sorted(digits)))
    return _SORT, {"a": given}, f"{ordered}"


def _next_name(rng: random.Random) -> tuple[tuple[str, ...], dict[str, object], str]:
    patterns, names = rng.choice(((_DAY, words.DAYS), (_MONTH, words.MONTHS)))
    i = rng.randrange(len(names))
    return patterns, {"a": names[i]}, f"{names[(i + 1) % len(names)]} comes after {names[i]}."


_ORDERINGS = (_count_up, _count_down, _neighbour, _comparison, _sorted, _next_name)


def counting(rng: random.Random, part: Part) -> Exchange:
    """Return a task about order: counting, neighbours, the larger one, sorting, days, months."""
    patterns, slots, answer = rng.choices(_ORDERINGS, (3, 1, 1, 1, 1, 1))[0](rng)
    pattern = pick(rng, patterns, part)
    for name, value in slots.items():
        pattern = pattern.replace("{" + name + "}", str(value))
    return only("counting", capitalized(pattern), answer)
