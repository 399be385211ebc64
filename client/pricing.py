"""How many tokens a request will probably cost, so that a worker seldom has to say it.

A worker prices a request by the most it may use: its prompt, and the longest completion asked for,
times the choices. All but the length of the prompt in tokens stands in the body. That is estimated
from its bytes, by what the model's answers have said so far. Too many tokens come back by the blind
refund; too few cost a second round trip.
"""

from __future__ import annotations

import json
from typing import Any

CLASSES = (1, 2, 4, 8)

FIRST_GUESS = 1 / 3
"""Tokens for a byte of the body, before anything is known: between English prose (1/4) and code
(1/3), and some for the template."""


class Pricing:
    """What is known of the models' tokens for a byte."""

    def __init__(self) -> None:
        self._ratio: dict[str, float] = {}

    def predict(self, model: str, body: bytes, token_budget: int) -> int:
        """Return 1, 2, 4 or 8: what a node with this budget will probably ask for."""
        members = json.loads(body)
        used = self._prompt(model, body) + _completions(members)
        return next((count for count in CLASSES if used <= count * token_budget), CLASSES[-1])

    def learn(self, model: str, body: bytes, prompt_tokens: int) -> None:
        """Take note of how many tokens the prompt of `body` had."""
        self._ratio[model] = prompt_tokens / max(1, len(body))

    def _prompt(self, model: str, body: bytes) -> int:
        return int(len(body) * self._ratio.get(model, FIRST_GUESS))


def _completions(members: dict[str, Any]) -> int:
    """Return the completion tokens that are asked for; nothing asked is made to fit one token."""
    limits = ("max_completion_tokens", "max_tokens", "max_output_tokens")
    asked = next((members[name] for name in limits if members.get(name)), 0)
    choices = members.get("n") or 1
    prompts = members.get("prompt")
    many = len(prompts) if isinstance(prompts, list) and _all_prompts(prompts) else 1
    numbers = isinstance(asked, int) and isinstance(choices, int)
    return asked * choices * many if numbers else 0


def _all_prompts(prompts: list[Any]) -> bool:
    # And not one prompt as a list of token ids.
    return bool(prompts) and all(isinstance(prompt, str | list) for prompt in prompts)
