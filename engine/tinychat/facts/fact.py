"""One fact: an answer, and the many wordings of the question.

A `Fact` that explains a term gets the general shells (`TERM_SHELLS`) on top of its own patterns.
`held_out` patterns and `HELD_OUT_SHELLS` are for evaluation only and never reach training.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from engine.tinychat.grammar import expand, expand_all

TERM_SHELLS = (
    "what [is|exactly is] {x}",
    "what's {x}",
    "[explain|define|describe] {x}[| to me| briefly]",
    "[tell me|say something|talk] about {x}",
    "[can|could|would] you [explain|describe] {x}",
    "i [do not|don't] [understand|know] {x}",
    "what does {x} mean",
    "what do you know about {x}",
    "[help me understand|i want to know about|teach me about] {x}",
    "{x}",
    "what [is|was] {x} again",
)
HELD_OUT_SHELLS = (
    "how would you describe {x}",
    "could you tell me what {x} is",
    "give me a short explanation of {x}",
)


@dataclass(frozen=True)
class Fact:
    """One answer and the questions it answers.

    `term` is a pattern for the subject of the general shells; empty means that they do not fit.
    """

    name: str
    answer: str
    patterns: tuple[str, ...]
    held_out: tuple[str, ...]
    term: str = ""

    def _shells(self, shells: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(shell.replace("{x}", self.term) for shell in shells) if self.term else ()

    def wordings(self, *, held_out: bool) -> list[str]:
        """Return every wording of this fact, for training or for evaluation."""
        return [text for pattern in self._all(held_out=held_out) for text in expand_all(pattern)]

    def _all(self, *, held_out: bool) -> tuple[str, ...]:
        if held_out:
            return self.held_out + self._shells(HELD_OUT_SHELLS)
        return self.patterns + self._shells(TERM_SHELLS)

    def question(self, rng: random.Random, *, held_out: bool) -> str:
        """Return one wording; own patterns and general shells are equally likely as groups."""
        own = self.held_out if held_out else self.patterns
        shells = self._shells(HELD_OUT_SHELLS if held_out else TERM_SHELLS)
        group = shells if shells and (not own or rng.random() < 0.5) else own
        return expand(rng.choice(group), rng)
