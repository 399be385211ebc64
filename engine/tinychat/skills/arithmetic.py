"""Sums, differences, tables: with a scratch step a digit, so that each step is a table look-up."""

from __future__ import annotations

import random
import zlib

from engine.tinychat.grammar import capitalized
from engine.tinychat.part import Part
from engine.tinychat.skills.exchange import Exchange, only, pick


def held_out_operands(sign: str, a: int, b: int) -> bool:
    """Say whether `a sign b` belongs to the tenth of the sums that training never sees."""
    return zlib.crc32(f"{a}{sign}{b}".encode()) % 10 == 0


def added(a: int, b: int) -> str:
    """Return the answer to a sum, digit by digit: every step is a table look-up or a copy."""
    ones = a % 10 + b % 10
    if a < 10 and b < 10:
        return f"{a} + {b} = {a + b}."
    tens = f"{a // 10}+{b // 10}" + ("+1" if ones > 9 else "")
    return f"{a % 10}+{b % 10}={ones}, {tens}={(a + b) // 10}. So {a} + {b} = {a + b}."


def subtracted(a: int, b: int) -> str:
    """Return the answer to a difference, digit by digit; a negative one is turned round first."""
    high, low, sign = (a, b, "") if a >= b else (b, a, "-")
    if high < 10:
        return f"{a} - {b} = {a - b}."
    borrow = high % 10 < low % 10
    ones = high % 10 + (10 if borrow else 0)
    tens = f"{high // 10}" + ("-1" if borrow else "") + f"-{low // 10}"
    steps = f"{ones}-{low % 10}={ones - low % 10}, {tens}={(high - low) // 10}."
    turned = "" if a >= b else f"{a} is less than {b}. "
    return f"{turned}{steps} So {a} - {b} = {sign}{high - low}."


_SUMS: dict[str, tuple[str, ...]] = {
    "+": (
        "[what is |what's |how much is |calculate |compute ||]{a}[ + |+| plus | and ]{b}",
        "[add {a} and {b}|add {b} to {a}|add: {a}, {b}|now add {a} and {b}]",
        "[sum of|total of|the total of|what is the sum of] {a} and {b}",
        "[what does|what do|can you work out|solve|work out] {a}[ + |+| plus ]{b}[| make| give]",
        "[{a}+{b}=|{a} + {b} =|{a} + {b} = ?]",
        "the sum of {a} and {b}",
    ),
    "-": (
        "[what is |what's |how much is |calculate |compute ||]{a}[ - |-| minus | less ]{b}",
        "[subtract {b} from {a}|take {b} from {a}|take {b} away from {a}|from {a} take {b}]",
        "[what is left of|what remains of] {a} [without|after taking] {b}",
        "[can you work out|solve|work out|what does] {a}[ - |-| minus ]{b}[| make| give]",
        "[{a}-{b}=|{a} - {b} =|{a} - {b} = ?]",
        "the difference {a} minus {b}",
    ),
    "*": (
        (
            "[what is |what's |how much is |calculate |compute ||]{a}[ * |*| times | x | "
            "multiplied by ]{b}"
        ),
        "multiply {a} [and|by|with] {b}",
        "[{a}*{b}=|{a} x {b} =|{a} * {b} = ?]",
        "the product of {a} and {b}",
    ),
    "/": (
        "[what is |what's |how much is |calculate |compute ||]{a}[ / |/| divided by | over ]{b}",
        "divide {a} by {b}",
        "[{a}/{b}=|{a} / {b} =|{a} / {b} = ?]",
        "the quotient of {a} and {b}",
    ),
}


def _operands(sign: str, rng: random.Random) -> tuple[int, int, str]:
    if sign == "+":
        a, b = _number(rng), _number(rng)
        return a, b, added(a, b)
    if sign == "-":
        a, b = _number(rng), _number(rng)
        if a < b and rng.random() < 0.85:
            a, b = b, a
        return a, b, subtracted(a, b)
    a, b = rng.randint(0, 10), rng.randint(1, 10)
    if sign == "*":
        return a, b, f"{a} x {b} = {a * b}."
    return a * b, b, f"{a * b} / {b} = {a}."


def _number(rng: random.Random) -> int:
    return rng.randint(0, 9) if rng.random() < 0.2 else rng.randint(10, 99)


def arithmetic(rng: random.Random, part: Part) -> Exchange:
    """Return a sum or difference up to 99, a product from the tables, or an exact quotient.

    Operands of sums and differences are held out; tables are learnt whole, so there the wording is.
    """
    sign = rng.choices("+-*/", (45, 30, 18, 7))[0]
    a, b, answer = _operands(sign, rng)
    tables = sign in "*/"
    while not tables and held_out_operands(sign, a, b) != (part is not Part.TRAINING):
        a, b, answer = _operands(sign, rng)
    worded = Part.TRAINING if part is Part.HELD_OUT and not tables else part
    pattern = pick(rng, _SUMS[sign], worded)
    question = pattern.replace("{a}", str(a)).replace("{b}", str(b))
    mark = "?" if question[:1].isalpha() else ""
    return only("arithmetic", capitalized(question) + mark, answer)
