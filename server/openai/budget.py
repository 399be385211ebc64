"""How long a completion may get, and how many tokens (of the paying kind) that costs.

A request is priced before anything is computed, by the most it may use: every prompt once, and
for every choice the longest completion asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.connection import MAX_SLOTS
from server.openai.errors import ContextLengthExceeded, InvalidRequest

CLASSES = (1, 2, 4, 8)  # how many tokens a request can cost; padding hides anything between
MAX_SEQUENCES = MAX_SLOTS  # choices of all prompts together
FLOOR = 256  # a completion of unasked length gets at least this, if the context has it


def tokens_needed(used: int, token_budget: int) -> int:
    """The smallest class that pays for `used` tokens of the model.

    Raises:
        InvalidRequest: code `request_too_large`, with the numbers.
    """
    for count in CLASSES:
        if used <= count * token_budget:
            return count
    raise InvalidRequest(
        "request_too_large",
        f"The request may use {used} tokens in prompts and completions; the most that one request "
        f"can pay for is {CLASSES[-1] * token_budget}. Lower max_tokens or n, or split it.",
    )


def tokens_used(used: int, token_budget: int) -> int:
    """How many tokens `used` tokens of the model use up: whole ones, and one at least."""
    return max(1, -(-used // token_budget))


def check_choices(count: int) -> None:
    """Check how many choices a request asks for, of all prompts together.

    Raises:
        InvalidRequest: too many.
    """
    if count > MAX_SEQUENCES:
        raise InvalidRequest(
            "invalid_value", f"A request may ask for at most {MAX_SEQUENCES} choices in all.", "n"
        )


def completion_room(
    *, prompts: Sequence[int], choices: int, asked: int | None, context: int, token_budget: int
) -> int:
    """The most tokens each completion may have.

    What was asked, or, if nothing was, what fits the context and the budget of one token; of more
    tokens only as far as a completion would else have less than `FLOOR`.

    Args:
        prompts: the length of each prompt.
        choices: how many completions each prompt gets.
        asked: the request's own bound.
        context: the model's longest sequence.
        token_budget: model tokens that one token pays for.

    Raises:
        InvalidRequest: too many choices; ContextLengthExceeded if a prompt leaves no such room.
    """
    check_choices(len(prompts) * choices)
    longest = max(prompts)
    left = context - longest
    if left < (1 if asked is None else asked):
        raise ContextLengthExceeded(context=context, prompt=longest, completion=asked or 1)
    if asked is not None:
        return asked
    shares = ((c * token_budget - sum(prompts)) // (len(prompts) * choices) for c in CLASSES)
    room = next((share for share in shares if share >= min(left, FLOOR)), left)
    return min(left, room)
