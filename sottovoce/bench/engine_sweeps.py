"""The cases that are no comparison of engines: stalls, latencies, and what options cost or gain."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from engine import speculative_bench
from sottovoce.bench import engine_latency as latency
from sottovoce.bench.engine_cases import Cases
from sottovoce.bench.engine_field import BF16, INT8
from sottovoce.bench.engine_grammar import Grammar
from sottovoce.bench.engine_ours import held_bytes, read_bytes
from sottovoce.bench.engine_rounds import Prompts, Run, in_turns, ratio_line
from sottovoce.bench.line import Line, line

_GIGA, _TERA = 1e9, 1e12
_FREE, _MASKED = "free", "masked"


def stall(cases: Cases) -> Iterator[Line]:
    """The longest gap of a running stream while a prompt arrives, in chunks' times."""
    sizes, engine = cases.sizes, cases.field.ours(BF16)
    chunked = latency.in_chunks(engine)
    (stream,), (prompt,) = cases.prompts(1, sizes.context), cases.prompts(1, sizes.arriving)
    latency.stall(engine, chunked, stream, prompt)  # to warm both
    measured = [latency.stall(engine, chunked, stream, prompt) for _ in range(sizes.rounds)]
    gaps, chunks = [each.gap for each in measured], [each.chunk for each in measured]
    chunk = engine.config.max_mixed_tokens
    where = f"{cases.where}, a prompt of {sizes.arriving} in chunks of {chunk}"
    yield ratio_line(f"stall @ {where}", gaps, chunks)
    yield line(f"sweep stall @ {where}", "ms", gaps)
    yield line(f"sweep chunk @ {where}", "ms", chunks)


def mixed_load(cases: Cases) -> Iterator[Line]:
    """Time to the first id and between ids, while prompts keep arriving."""
    sizes = cases.sizes
    prompts = cases.prompts(sizes.requests, sizes.load_prompt)
    where = f"{cases.where}, {sizes.clients} clients, {sizes.load_prompt} + {sizes.count} tokens"
    for name in (BF16, INT8):
        found = latency.mixed_load(cases.field.ours(name), sizes.clients, prompts, sizes.count)
        yield line(f"sweep time to first token {name} @ {where}", "ms", found.first)
        yield line(f"sweep inter-token latency {name} @ {where}", "ms", found.between)
        yield line(f"sweep longest inter-token latency {name} @ {where}", "ms", found.longest)


def grammar(cases: Cases) -> Iterator[Line]:
    """What masks of a JSON schema cost, in per cent of the rate without."""
    sizes, engine = cases.sizes, cases.field.ours(BF16)
    made = Grammar(cases.field.setting.folder, engine.geometry.vocab_size)
    for batch in (each for each in sizes.batches if each <= 8):
        prompts = cases.prompts(batch, sizes.context)
        ways = {kind: partial(_masked, made, cases, prompts, kind) for kind in (_FREE, _MASKED)}
        for way in ways.values():
            way()
        rates = in_turns(ways, sizes.rounds)
        pairs = zip(rates[_MASKED], rates[_FREE], strict=True)
        costs = [100 * (1 - masked / free) for masked, free in pairs]
        yield line(f"sweep grammar overhead @ {cases.where}, b{batch}, JSON schema", "%", costs)


def _masked(made: Grammar, cases: Cases, prompts: Prompts, kind: str) -> Run:
    engine, count = cases.field.ours(BF16), cases.sizes.count
    return made.decode(engine, prompts, count, constrained=kind == _MASKED)


def speculation(cases: Cases) -> Iterator[Line]:
    """What n-grams of the request gain where its text repeats itself, and cost elsewhere."""
    engine, count = cases.field.ours(BF16), cases.sizes.repetitive
    requests = {
        "repetitive text": speculative_bench.repetitive(forced=True, count=count),
        "unrelated text": speculative_bench.unrelated(count=count),
    }
    for text, request in requests.items():
        found = speculative_bench.compare(
            engine.config, engine.loaded, request, rounds=cases.sizes.rounds
        )
        rates = [[count / run.seconds for run in runs] for runs in (found.speculative, found.plain)]
        case = f"n-gram speculation @ {cases.where}, b1, {text}, {found.steps:.2f}x fewer steps"
        yield ratio_line(f"sweep {case}", *rates)


def weights(cases: Cases) -> Iterator[Line]:
    """Bytes of weights that a step of one row reads, and bytes held."""
    for name in (BF16, INT8):
        loaded = cases.field.ours(name).loaded
        for what, size in (("read", read_bytes(loaded)), ("held", held_bytes(loaded))):
            yield line(f"sweep weights {what} {name} @ {cases.where}", "bytes", [size])


def roofline(cases: Cases) -> Iterator[Line]:
    """What the machine can do at most."""
    sizes, threads = cases.sizes, cases.field.setting.threads
    read = [cases.bandwidth.measure() / _GIGA for _ in range(sizes.rounds)]
    multiplied = [cases.matmul.measure() / _TERA for _ in range(sizes.rounds)]
    where = f"{threads} threads"
    yield line(f"sweep read bandwidth @ {where}, {sizes.buffer >> 20} MiB", "GB/s", read)
    yield line(f"sweep matmul rate bf16 @ {where}", "TFLOP/s", multiplied)
