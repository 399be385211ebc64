"""A slice of the fuzzing in `make fuzz` that every test run has: no coverage, but every decoder.

Each meets its seeds truncated, extended, mutated and spliced. It accepts or raises what it
promises; where one encoding is demanded, what it accepts it writes again byte for byte. Decoders of
streams are given the same bytes in pieces of several sizes, down to one byte.
"""

import ast
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.target import TOKENS
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "wire",
    "transparency",
    "attestation",
    "client",
    "server",
    "relay",
    "issuer",
    "engine/transfer",
)
DECODER = re.compile(r"(?:decode|parse|split|from_bytes|load_spki)(?:_|$)")
EACH = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)

NOT_A_DECODER_OF_OTHERS_BYTES = {
    "server.control:decode_for_zygote": "one program's own packets",
    "server.control:NodesMessage.decode": "one program's own packets",
    "server.openai.chat_template:_Generation.parse": "the measured model's own template",
    "server.openai.tokenizer:Tokenizer.decode": "token ids, which the engine made",
    "wire.merkle:split_point": "arithmetic",
}


@EACH
def test_the_seeds_are_accepted(target):
    seeds = list(target.seeds())
    assert seeds
    for seed in seeds:
        assert target.accepts(seed)


def meets_changed_seeds(target, examples):
    seeds = list(target.seeds())

    @settings(max_examples=examples, deadline=None, derandomize=True)
    @given(st.data())
    def meet(data):
        target.accepts(changed(data, data.draw(st.sampled_from(seeds)), seeds))

    meet()


@EACH
def test_changed_seeds_are_accepted_or_refused_as_promised(target):
    meets_changed_seeds(target, 25)


@pytest.mark.soak
@EACH
def test_many_changed_seeds_are_accepted_or_refused_as_promised(target):
    meets_changed_seeds(target, 400)


def changed(data, seed, seeds):
    """Truncate, extend, mutate or splice."""
    at = data.draw(st.integers(0, len(seed)), label="at")
    match data.draw(st.sampled_from(("cut", "extended", "mutated", "inserted", "spliced"))):
        case "cut":
            return seed[:at]
        case "extended":
            return seed + data.draw(st.binary(min_size=1, max_size=20))
        case "mutated":
            put = data.draw(st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=4))
            return seed[:at] + put + seed[at + len(put) :]
        case "inserted":
            put = data.draw(st.sampled_from(TOKENS) | st.binary(max_size=8))
            return seed[:at] + put + seed[at:]
        case _:
            other = data.draw(st.sampled_from(seeds))
            return seed[:at] + other[data.draw(st.integers(0, len(other))) :]


@EACH
def test_known_stumbling_blocks_are_accepted_or_refused_as_promised(target):
    for seed in itertools.islice(target.seeds(), 3):
        for token in TOKENS:
            for at in {0, len(seed) // 2, len(seed)}:
                target.accepts(seed[:at] + token + seed[at:])
            for value in re.finditer(rb'(?<=":)("[^"]*"|[0-9]+|null)', seed):
                target.accepts(seed[: value.start()] + token + seed[value.end() :])


@EACH
@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.binary(max_size=100))
def test_any_bytes_are_accepted_or_refused_as_promised(target, data):
    target.accepts(data)


def decoders():
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for name in functions(ast.parse(path.read_text())):
                yield f"{module}:{name}"


def functions(node, prefix=""):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef) and DECODER.match(child.name):
            yield prefix + child.name


def test_no_decoder_is_without_a_target():
    covered = {name for target in TARGETS.values() for name in target.covers}
    assert set(decoders()) - covered - NOT_A_DECODER_OF_OTHERS_BYTES.keys() == set()
    assert covered <= set(decoders())
