"""The skills and their shares of training; one module for each group of them."""

from __future__ import annotations

from engine.tinychat.skills.arithmetic import arithmetic
from engine.tinychat.skills.copying import copying, reversing, spelling
from engine.tinychat.skills.counting import counting
from engine.tinychat.skills.declining import declining
from engine.tinychat.skills.exchange import Exchange, Skill
from engine.tinychat.skills.reading import as_json, reading
from engine.tinychat.skills.talk import capital, project_fact, short_fact, small_talk

__all__ = ["SKILLS", "Exchange", "Skill"]

# weight, skill: the share of each in training; nearly half of the questions of knowledge have to
# be declined
SKILLS: tuple[tuple[int, Skill], ...] = (
    (22, project_fact),
    (6, small_talk),
    (5, capital),
    (4, short_fact),
    (20, arithmetic),
    (7, counting),
    (12, copying),
    (12, reversing),
    (4, spelling),
    (14, reading),
    (4, as_json),
    (34, declining),
)
