"""One fact: an answer, and the many wordings of the question.

A `Fact` that explains a term gets the general shells (`TERM_SHELLS`) on top of its own patterns
and those of `rephrased`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property

from engine.tinychat.facts.rephrased import REPHRASED
from engine.tinychat.grammar import expand, expand_all, kept_back, normalized
from engine.tinychat.part import Part

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
    "[give me|write|i need] [a definition|an explanation|a description|a summary] of {x}",
    "[how would you explain|how do you define|what can you tell me about] {x}",
    "[what sort of thing|what kind of thing] is {x}",
    "[i would like|i want] to [understand|know] what {x} is",
    "[have you heard of|do you know] {x}",
    "[what is meant by|what do you mean by|definition of|meaning of] {x}",
    "{x}[, what is that|: explain|, in short]",
    "{x}",
    "what [is|was] {x} again",
)
UNFAMILIAR_SHELLS = (
    "how would you describe {x}",
    "could you tell me what {x} is",
    "give me a short explanation of {x}",
)

_SHELL_SHARE = 0.35


@dataclass(frozen=True)
class Fact:
    """One answer and the questions it answers.

    `term` is a pattern for the subject of the general shells; empty means that they do not fit.
    `unfamiliar` patterns and `UNFAMILIAR_SHELLS` never reach training, nor does the tenth of the
    other wordings that `Part.HELD_OUT` names.
    """

    name: str
    answer: str
    patterns: tuple[str, ...]
    unfamiliar: tuple[str, ...]
    term: str = ""

    def _shells(self, shells: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(shell.replace("{x}", self.term) for shell in shells) if self.term else ()

    @cached_property
    def _own(self) -> tuple[str, ...]:
        return self.patterns + REPHRASED[self.name]

    @cached_property
    def _trained(self) -> tuple[str, ...]:
        return self._own + self._shells(TERM_SHELLS)

    @cached_property
    def _kept_back(self) -> frozenset[str]:
        """The wordings that training never sees, normalized."""
        unfamiliar = self.wordings(Part.UNFAMILIAR)
        return frozenset(map(normalized, (*unfamiliar, *kept_back(self._trained))))

    def wordings(self, part: Part) -> list[str]:
        """Return every wording of `part`."""
        if part is Part.UNFAMILIAR:
            patterns = self.unfamiliar + self._shells(UNFAMILIAR_SHELLS)
            return [text for pattern in patterns for text in expand_all(pattern)]
        if part is Part.HELD_OUT:
            return sorted(kept_back(self._trained))
        every = (text for pattern in self._trained for text in expand_all(pattern))
        return [text for text in every if normalized(text) not in self._kept_back]

    def question(self, rng: random.Random, part: Part) -> str:
        """Return one wording of `part`, from its own patterns or from a general shell."""
        if part is not Part.TRAINING:
            return rng.choice(self.wordings(part))
        shells = self._shells(TERM_SHELLS)
        group = shells if shells and rng.random() < _SHELL_SHARE else self._own
        while True:
            wording = expand(rng.choice(group), rng)
            if normalized(wording) not in self._kept_back:
                return wording
