"""What the model does not know, and the many ways in which it says so."""

from __future__ import annotations

import random

from engine.tinychat import words
from engine.tinychat.grammar import capitalized, spoken
from engine.tinychat.part import Part
from engine.tinychat.skills.exchange import Exchange, pick

DECLINING = (
    "I do not know that. I am a small model and know mostly about sottovoce.",
    "I am sorry, that is beyond me. Ask me about sottovoce instead.",
    "That I cannot answer: I am too small to know it.",
    "I would rather not guess. I know about sottovoce, small sums and capitals.",
    "Sorry, I do not know. A larger model could help you there.",
    "I cannot help with that, but I can tell you about sottovoce.",
    "I know nothing about that, I am afraid.",
    "That is outside of what I know.",
    "I have no answer to that.",
    "No idea, sorry. My few parameters are full of sottovoce.",
)
DECLINING_TOPIC = (
    "I know nothing about {x}, I am afraid.",
    "Sorry, {x} is beyond me.",
    "I never learned about {x}.",
)
DECLINING_WRITING = (
    "I am too small to write that. Serve a larger model for such things.",
    "Sorry, writing is not my strength: I am a very small model.",
    "I cannot write that, but a larger model could.",
)
DECLINING_TRANSLATION = ("I cannot translate: I speak only simple English.",)
DECLINING_NUMBERS = ("I only do sums with numbers up to 99.",)
DECLINING_DETAILS = (
    "That I do not know about sottovoce. Its documentation may tell you.",
    "I do not know that about sottovoce, sorry.",
)
DECLINING_PRODUCT = (
    "I know no product but sottovoce, and even that only a little.",
    "About other products I know nothing. Ask me about sottovoce.",
    "Sorry, I cannot compare products: sottovoce is the only one I know.",
)
DECLINING_PRIVATE = (
    "I know nothing about people, only what you tell me in this chat.",
    "That I cannot know: you have not told me.",
    "Sorry, nobody told me that.",
)
DECLINING_NOW = (
    "I have no window and no news: I cannot know what is going on today.",
    "That changes from day to day, and I look nothing up.",
    "I do not know. I hear nothing of the world outside.",
)
NOT_UNDERSTOOD = (
    "I did not understand that. Could you say it in other words?",
    "Sorry, I do not understand. What would you like to know?",
)

# (patterns with the held-out one last, answers); {x} is a topic the answer may name.
_UNKNOWN: tuple[tuple[int, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        8,
        (
            "[what is|what are|explain|tell me about|describe|define] {x}",
            (
                "[what do you think|what do you know|teach me|tell me something|tell me a "
                "story] about {x}"
            ),
            "[how does|why does|how do|why is|why are] {x} [work|exist|matter|important|so hard]",
            "[are you interested in|do you like|do you know] {x}",
            "[who invented|who discovered|what is the history of|give me facts about] {x}",
            "i [need|want] [help|advice|information] [with|on|about] {x}",
            "[can you|could you|please] [explain|teach me|help me with|talk about] {x}",
            "[i am interested in|i have a question about|let us talk about|one word on] {x}",
            "[what should i know|what is new|what can you tell me] about {x}",
            "[who is the best|what is the best book|where can i learn] [at|on|about] {x}",
            "{x}",
            "give me an introduction to {x}",
        ),
        DECLINING + DECLINING_TOPIC,
    ),
    (
        3,
        (
            "who [won|lost|wins|will win] {event}",
            "[when|where] [was|is] {event}",
            "what [happened|happens] at {event}",
            "whom do you expect to win {event}",
        ),
        DECLINING,
    ),
    (
        3,
        (
            "how [do|can|should] i {activity}",
            "[help me|teach me to|show me how to] {activity}",
            "what is the best way to {activity}",
            "which steps do I take to {activity}",
        ),
        DECLINING,
    ),
    (
        3,
        (
            "who [is|was] {person}",
            "when was {person} born",
            "what did {person} [write|do|say|invent]",
            "where does {person} live",
            "is {person} [married|famous|rich|still alive]",
            "for what is {person} known",
        ),
        DECLINING,
    ),
    (
        3,
        (
            "[write|compose] [me |]a {style}[| about {x}]",
            "[can|could] you write a {style}[| about {x}]",
            "[write|give me] [some |][python |]code that {task}",
            "[write|make] a [program|script|function] that {task}",
            "[recipe for|how do i cook|how to make] {dish}",
            "[summarise|summarize|review] {x} for me",
            "I would love a {style} about {x}",
        ),
        DECLINING_WRITING,
    ),
    (
        2,
        (
            "translate '{phrase}' [into|to] {tongue}",
            "how do you say '{phrase}' in {tongue}",
            "what is '{phrase}' in {tongue}",
            "say '{phrase}' in {tongue} for me",
        ),
        DECLINING_TRANSLATION,
    ),
    (
        2,
        (
            "what is the [weather|weather like|temperature] in {city}[| today| tomorrow]",
            "will it [rain|snow] [tomorrow|today|in {city}]",
            "how [far|big|old] is {city}",
            "how many people live in {city}",
            "[which|what] [restaurant|hotel|museum] in {city} is [good|best]",
            "can you recommend a bar in {city}",
        ),
        DECLINING,
    ),
    (
        2,
        (
            "what is the capital of {place}",
            "where is {place}",
            "what is [a |]{place}",
            "[who|what] [is|are] [the |]{place}",
            "tell me [about|more about] {place}",
            "have you heard of {place}",
        ),
        DECLINING,
    ),
    (
        2,
        (
            "[what is |]{big}[ + |+| - | plus | minus | times | * ]{big2}",
            "[calculate|compute] {big}[ + | - | * ]{big2}",
            "[what is |how much is ]{big}[ * | x | times ]{small}",
            "the result of {big} and {big2}, added",
        ),
        DECLINING_NUMBERS,
    ),
    (
        3,
        (
            "[how much|what] does sottovoce cost",
            "how [fast|slow|old|large] is sottovoce",
            "[who|which company] [wrote|made|invented|owns|pays for] sottovoce",
            (
                "does [sottovoce|it] [run on|work on|support] [windows|mac|android|arm|my "
                "phone|a raspberry pi]"
            ),
            "how many [users|lines of code|developers|customers] does sottovoce have",
            "where can i [buy|order|rent|hire] [sottovoce|a relay|a worker|tokens|a node]",
            "[when was|when is] [sottovoce|the next version|the relay|the log] \
[released|founded|ready]",
            "[how much|what] [does|would] [a|the] {part} [cost|weigh|earn]",
            "what colour [is|has] the {part}",
            "[who|which company|which person] [invented|sells|built|painted] the {part}",
            "[what is|give me] the [price|phone number|serial number|postal address] of the {part}",
            "how [heavy|tall|expensive|beautiful|popular] is the {part}",
            "[who is|tell me about|what about] the [ceo|boss|founder|inventor|author|owner's wife] \
of [sottovoce|the project|the relay]",
            "[which|what] [bank|investor|country|university] [pays for|funds|bans] sottovoce",
            "[is|was] the {part} [older|prettier|cheaper|heavier] than the {part2}",
            "how many people use sottovoce",
        ),
        DECLINING_DETAILS,
    ),
    (
        3,
        (
            "[what is|what's|tell me] the price of [a|the] {thing}",
            "how much [is|does] a {thing}[| cost]",
            "[which|what] {thing} [is best|should i buy|is the cheapest]",
            "[where|how] [can|do] i [buy|sell|repair] a {thing}",
            "who [makes|invented|sells] the [best|first|cheapest] {thing}",
            "what would I pay for a {thing}",
        ),
        DECLINING,
    ),
    (
        3,
        (
            "[what is|who makes|who owns|how good is|tell me about|how does] {product}",
            "[is|are] {product} [better|safer|cheaper|faster] than [sottovoce|this|you]",
            "how much does {product} cost",
            "[which model|what hardware|what data] does {product} use",
            "[does|can] {product} [read|store|sell] my [prompts|mail|data|photos]",
            "compare {product} with other products",
        ),
        DECLINING_PRODUCT,
    ),
    (
        3,
        (
            "[where does|how old is|what is the job of|what does] {name} [live|work|do]",
            "[who is|where is|what about|do you know] [my |our |][friend|boss|neighbour|doctor] \
{name}",
            "[when is|what is] [my|{name}'s] [birthday|address|phone number|password|shoe size]",
            "what did [i|{name}] [eat|say|do|buy] [yesterday|last week|this morning]",
            "[where|when] did [i|{name}] [put my keys|park the car|go on holiday|learn to swim]",
            "can you guess {name}'s age",
        ),
        DECLINING_PRIVATE,
    ),
    (
        3,
        (
            "[what is|tell me|how high is|how low is] the [temperature|price of gold|exchange \
rate|oil price] [today|now|tomorrow]",
            "[is|was] it [raining|snowing|sunny|cold] [today|outside|now|in {city}]",
            "[what is|what's] [new|in the news|on television] [today|tonight|this week]",
            "[which|what] [train|bus|flight] goes to {city} [today|now|tomorrow]",
            "what happened [today|yesterday|in {city} this week]",
            "should I take an umbrella tomorrow",
        ),
        DECLINING_NOW,
    ),
    (2, ("{blurt}", "{place} {place} {place}", "{blurt} {place}"), NOT_UNDERSTOOD),
)


def _slots(rng: random.Random, part: Part) -> dict[str, str]:
    surname = capitalized(words.invented(rng))
    return {
        "x": rng.choice(words.TOPICS if part is Part.TRAINING else words.HELD_OUT_TOPICS),
        "event": rng.choice(words.EVENTS),
        "activity": rng.choice(words.ACTIVITIES),
        "person": f"{rng.choice(words.NAMES)} {surname}" if rng.random() < 0.7 else surname,
        "style": rng.choice(words.STYLES),
        "task": rng.choice(words.TASKS),
        "dish": rng.choice(words.DISHES),
        "phrase": rng.choice(words.PHRASES),
        "tongue": rng.choice(words.TONGUES),
        "city": rng.choice(words.CITIES),
        "place": capitalized(words.invented(rng)),
        "big": str(rng.randint(100, 9999)),
        "big2": str(rng.randint(100, 999)),
        "small": str(rng.randint(2, 99)),
        "blurt": rng.choice(words.BLURTS),
        "part2": rng.choice(words.PARTS),
        "part": rng.choice(words.PARTS),
        "thing": rng.choice(words.THINGS),
        "product": rng.choice(words.PRODUCTS),
        "name": rng.choice(words.NAMES),
    }


def declining(rng: random.Random, part: Part) -> Exchange:
    """Return a question the model cannot answer, with one of many polite ways of saying so."""
    weights = [weight for weight, _, _ in _UNKNOWN]
    _, patterns, answers = rng.choices(_UNKNOWN, weights)[0]
    question = pick(rng, patterns, part)
    slots = _slots(rng, part)
    for name, value in slots.items():
        question = question.replace("{" + name + "}", value)
    accepted = tuple(answer.replace("{x}", slots["x"]) for answer in answers)
    return Exchange("declining", spoken(question, rng, part), rng.choice(accepted), accepted)


def every_decline() -> frozenset[str]:
    """Return every fixed sentence with which the model declines (those naming a topic apart)."""
    groups = (
        DECLINING,
        DECLINING_WRITING,
        DECLINING_TRANSLATION,
        DECLINING_NUMBERS,
        DECLINING_DETAILS,
        DECLINING_PRODUCT,
        DECLINING_PRIVATE,
        DECLINING_NOW,
        NOT_UNDERSTOOD,
    )
    return frozenset(answer for group in groups for answer in group)
