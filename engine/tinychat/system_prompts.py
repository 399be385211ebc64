"""System prompts: those that change the answer and those that do not."""

from __future__ import annotations

import random
from collections.abc import Callable

from engine.tinychat import words
from engine.tinychat.dialogue import Dialogue, Message, turns
from engine.tinychat.grammar import capitalized, expand
from engine.tinychat.part import Part
from engine.tinychat.skills import Exchange
from engine.tinychat.talks import WHOSE, ask, exchange, talk

NEUTRAL = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Answer briefly.",
    "You are an assistant.",
    "Answer the user's questions.",
    "You are a friendly and helpful assistant. Be concise.",
    "You are a helpful AI assistant that answers questions truthfully.",
)
_ADJECTIVES = (
    "friendly",
    "cheerful",
    "patient",
    "clever",
    "careful",
    "quiet",
    "polite",
    "brave",
    "funny",
)
_ROLES = ("assistant", "robot", "librarian", "guide", "teacher", "clerk", "butler", "helper")
_OPENERS = ("Ahoy!", "Well,", "Yes:", "Dear friend,", "Listen:", "OK.", "Hear ye!", "Gladly:")
_CLOSERS = ("Over.", "Cheers!", "That is all.", "Good luck!", "Amen.", "Thank you.", "Bye!")
_ONLY = ("yes", "no", "OK", "banana", "moo", "pong", "done", "hello", "42")
_WHO = (
    "who are you[| today]",
    "[what is|what's|tell me|say] your name",
    "[introduce yourself|tell me about yourself|what are you|who is this|who is there]",
    "[with whom do I talk|who am I talking to|how are you called|what are you called]",
    "with whom do I speak",
)


def _persona(rng: random.Random, part: Part) -> tuple[str, Exchange]:
    name = rng.choice(words.NAMES) if rng.random() < 0.6 else capitalized(words.invented(rng))
    role = f"{rng.choice(_ADJECTIVES)} {rng.choice(_ROLES)}"
    answer = f"I am {name}, a {role}."
    prompt = rng.choice((f"You are {name}, a {role}.", f"Your name is {name}. You are a {role}."))
    return prompt, Exchange("", ask(rng, _WHO, part), answer, (answer,))


def _opener(rng: random.Random, part: Part) -> tuple[str, Exchange]:
    word = rng.choice(_OPENERS)
    rule = expand(f"[Begin|Start] [every|each] answer with '{word}'", rng)
    return rule, _wrapped(exchange(rng, part=part), f"{word} ", "")


def _closer(rng: random.Random, part: Part) -> tuple[str, Exchange]:
    word = rng.choice(_CLOSERS)
    rule = expand(f"[End|Finish] [every|each] answer with '{word}'", rng)
    return rule, _wrapped(exchange(rng, part=part), "", f" {word}")


def _wrapped(plain: Exchange, before: str, after: str) -> Exchange:
    accepted = tuple(before + answer + after for answer in plain.accepted)
    return Exchange(plain.skill, plain.question, before + plain.answer + after, accepted)


def _only(rng: random.Random, part: Part) -> tuple[str, Exchange]:
    word = rng.choice(_ONLY) if rng.random() < 0.5 else rng.choice(words.PLAIN)
    rule = expand(f"[Answer|Reply|Respond] [only with|with only|always with] '{word}'", rng)
    return rule, Exchange("", exchange(rng, part=part).question, word, (word,))


def _user_name(rng: random.Random, part: Part) -> tuple[str, Exchange]:
    name = rng.choice(words.NAMES)
    prompt = expand(f"The user[ is called|'s name is] {name}.", rng)
    answer = f"Your name is {name}."
    return prompt, Exchange("", ask(rng, WHOSE, part), answer, (answer,))


_SYSTEMS: tuple[Callable[[random.Random, Part], tuple[str, Exchange]], ...] = (
    _persona,
    _opener,
    _closer,
    _only,
    _user_name,
)


def system_prompt(rng: random.Random, part: Part) -> Dialogue:
    """Return a dialogue whose system prompt changes the answer."""
    rule, last = rng.choice(_SYSTEMS)(rng, part)
    if rng.random() < 0.3:
        rule = f"{rng.choice(NEUTRAL)} {rule}"
    messages = (Message("system", rule), *turns([last]))
    return Dialogue("system prompt", messages, last.accepted)


def neutral_system(rng: random.Random, part: Part) -> Dialogue:
    """Return one to three exchanges under a system prompt that changes nothing."""
    plain = talk(rng, part, rng.randint(1, 3))
    system = Message("system", rng.choice(NEUTRAL))
    return Dialogue(plain.skill, (system, *plain.messages), plain.accepted)
