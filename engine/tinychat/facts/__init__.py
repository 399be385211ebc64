"""What the model knows about sottovoce and about itself: each fact with many wordings."""

from __future__ import annotations

from engine.tinychat.facts.engine import ENGINE
from engine.tinychat.facts.evidence import CRYPTOGRAPHY
from engine.tinychat.facts.fact import Fact
from engine.tinychat.facts.itself import ITSELF
from engine.tinychat.facts.parties import PARTIES
from engine.tinychat.facts.project import ABOUT_THE_PROJECT
from engine.tinychat.facts.use import USE

__all__ = ["FACTS", "Fact"]

FACTS: tuple[Fact, ...] = ABOUT_THE_PROJECT + PARTIES + CRYPTOGRAPHY + ENGINE + USE + ITSELF
