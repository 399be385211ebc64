"""A draft model changes how many steps are taken, not what is drawn."""

import json
import math

import numpy as np
import pytest
import torch
import transformers

from engine.config import EngineConfig
from engine.digest import model_digest
from engine.errors import EngineError, ModelRefused
from engine.sampler import Row, adjust, probabilities
from engine.speculative_draft import draft_config
from engine.types import FinishReason, SamplingParams

FEW = tuple((token, 100.0) for token in range(5, 9))


@pytest.fixture
def drafted(local_engine, model_folder):
    """A function (draft's architecture, **config) -> an engine of the tiny llama with a draft."""

    def make(draft, **config):
        folders = {"model": model_folder("llama"), "draft": model_folder(draft)}
        return local_engine(speculation="draft", **folders, **config)

    return make


def acceptance(local):
    """Count what is proposed and accepted from here on: a list of (proposed, accepted)."""
    seen = []
    settle = local.engine._speculation.settle

    def noting(works):
        seen.extend(
            (work.proposed, work.sequence.length - work.start - 2)
            for work in works
            if work.proposed
        )
        settle(works)

    local.engine._speculation.settle = noting
    return seen


@pytest.mark.parametrize("fields", [{}, {"repetition_penalty": 1.3}, {"top_k": 1}])
def test_greedy_ids_are_the_same_whatever_the_draft_says(lab, local_engine, drafted, fields):
    fields = {"max_new_tokens": 40, "temperature": 0.0, **fields}
    expected = local_engine().generate(lab.prompt(20), **fields)
    for draft in ("llama", "qwen2"):
        local = drafted(draft)
        slot = local.submit(lab.prompt(20), **fields)
        steps = local.run()
        assert slot.ids(0, 40) == expected
        assert steps < 10 if draft == "llama" else steps <= 40
        local.assert_clean()


def test_a_draft_that_is_the_model_is_always_right(lab, drafted):
    """Also with everything that shapes a distribution applied to both, over several prompts."""
    local = drafted("llama", max_batch_tokens=30)
    seen = acceptance(local)
    fields = {
        "temperature": 1.5, "top_p": 0.95, "frequency_penalty": 0.4, "presence_penalty": 0.2,
        "repetition_penalty": 1.2, "min_tokens": 9, "eos_ids": (5,), "max_new_tokens": 40,
    }  # fmt: skip
    for seed in range(3):
        local.submit(lab.prompt(20 + 30 * seed, seed), seed=seed, logprobs=1, **fields)
    local.run()
    # The two compute the same rows in other company: 1e-6 may decide against a proposal.
    proposed, accepted = (sum(column) for column in zip(*seen, strict=True))
    assert proposed > 50
    assert accepted >= proposed * 0.9 - 15  # what stands behind a stop id was right, and unused
    local.assert_clean()


def expected_distribution(lab, prompt, params, depth):
    """Return {ids: probability} of the first `depth` ids, from the stock model's logits."""
    tree = {(): 1.0}
    for position in range(depth):
        deeper = {}
        for ids, mass in tree.items():
            history = np.array([*prompt, *ids])
            logits = lab.stock("llama", history.tolist())[-1].clone()
            row = Row(params, position, history, len(prompt))
            adjust(logits, row)
            for token, share in enumerate(probabilities(logits, row).tolist()):
                if share > 1e-9:
                    deeper[*ids, token] = mass * share
        tree = deeper
    return tree


def test_the_first_ids_are_distributed_as_the_model_says(lab, drafted):
    """Another model's proposals, through the whole engine; penalties and truncation on both."""
    prompt, count = lab.prompt(6), 1500
    params = {
        "temperature": 6.0, "top_p": 0.97, "frequency_penalty": 2.0, "presence_penalty": 1.0,
        "repetition_penalty": 1.02, "logit_bias": FEW, "max_new_tokens": 4,
    }  # fmt: skip
    expected = expected_distribution(lab, prompt, SamplingParams(**params), 3)
    assert len(expected) > 20
    local = drafted("qwen2")
    seen = acceptance(local)
    counts = dict.fromkeys(expected, 0)
    for start in range(0, count, 8):
        slots = [
            local.submit(prompt, seed=seed, **params)
            for seed in range(start, min(start + 8, count))
        ]
        local.run()
        for slot in slots:
            counts[tuple(slot.ids(0, 3))] += 1
            local.done(slot)
    proposed, accepted = (sum(column) for column in zip(*seen, strict=True))
    assert 0.2 < accepted / proposed < 0.95, "the rule is not put to the test"
    likely = [ids for ids, mass in expected.items() if mass * count >= 5]
    rare = 1 - sum(expected[ids] for ids in likely)
    cells = [(counts[ids], expected[ids] * count) for ids in likely]
    cells.append((count - sum(n for n, _ in cells), max(rare * count, 1e-9)))
    value = sum((n - mean) ** 2 / mean for n, mean in cells if mean > 1)
    freedom = len(cells) - 1
    part = 2 / (9 * freedom)  # the 0.1 % point, by Wilson and Hilferty's approximation
    assert value < freedom * (1 - part + 3.0902 * math.sqrt(part)) ** 3


def test_everything_at_once_leaves_nothing(lab, drafted):
    """Arrivals, groups, cancels, preemption, constrained neighbours; then the books balance."""
    generator = torch.Generator().manual_seed(4)

    def rand(n):
        return int(torch.randint(n, (1,), generator=generator))

    local = drafted(
        "qwen2", kv_blocks=14, max_sequences=5, max_batch_tokens=33, max_mixed_tokens=17
    )
    live = []
    for turn in range(80):
        if len(live) < 8:
            prompt = lab.prompt(1 + rand(60), turn // 3)
            fields = {"temperature": float(rand(2)), "logprobs": rand(3) - 1, "logit_bias": FEW}
            live.append(
                local.submit(
                    prompt, max_new_tokens=rand(40), seed=turn, group=turn // 3,
                    constrained=rand(8) == 0, **fields,
                )
            )  # fmt: skip
        local.engine.step()
        if live and rand(6) == 0:
            local.cancel(live.pop(rand(len(live))))
    for slot in live:
        local.cancel(slot)
    local.assert_clean()


def test_the_draft_follows_long_prompts_in_chunks_and_catches_up(lab, drafted, local_engine):
    local = drafted("llama", max_batch_tokens=24)
    sizes = []
    draft = local.engine._device.draft
    step = draft.step
    draft.step = lambda batch: (sizes.append(len(batch.rows)), step(batch))[1]
    slot = local.submit(lab.prompt(100), max_new_tokens=60)
    while slot.sampled < 4:
        local.engine.step()
    sequence = local.engine._entries[0].sequence
    sequence.pace.hits, sequence.pace.misses = 0.0, 1.0
    choose = [local.engine._speculation.proposer.propose]
    local.engine._speculation.proposer.propose = lambda *_: {}
    lag = sequence.drafted
    for _ in range(30):
        local.engine.step()
    assert sequence.drafted == lag < sequence.length - 25
    local.engine._speculation.proposer.propose = choose.pop()
    sequence.pace.hits = 5.0
    local.run()
    assert slot.ids(0, 60) == local_engine().generate(lab.prompt(100), max_new_tokens=60)
    assert max(sizes) <= 24
    local.assert_clean()


def test_a_draft_that_computes_nan_costs_time_only(lab, drafted, local_engine):
    local = drafted("llama")
    step = local.engine._device.draft.step

    def poisoned(batch):
        output = step(batch)
        output.logits.fill_(float("nan"))
        return output

    local.engine._device.draft.step = poisoned
    for fields in ({"temperature": 0.0}, {"temperature": 1.0, "logit_bias": FEW}):
        slot = local.submit(lab.prompt(20), max_new_tokens=20, seed=2, **fields)
        local.run()
        assert (slot.finish, slot.sampled) == (FinishReason.LENGTH, 20)
    assert local.slots[0].ids(0, 20) == local_engine().generate(lab.prompt(20), max_new_tokens=20)
    local.assert_clean()


def test_a_failing_draft_ends_the_sequences_of_its_step(lab, drafted):
    local = drafted("llama")
    slot = local.submit(lab.prompt(20), max_new_tokens=20)
    local.engine.step()
    step = local.engine._device.draft.step

    def broken(batch):
        step(batch)  # K and V are written when it fails
        raise RuntimeError

    local.engine._device.draft.step = broken
    local.engine.step()
    assert slot.finish is FinishReason.FAILED
    local.assert_clean()


def test_without_a_draft_or_with_another_vocabulary_it_is_refused(local_engine, tmp_path):
    with pytest.raises(EngineError, match="needs the folder"):
        local_engine(speculation="draft")
    with pytest.raises(EngineError):
        local_engine(speculation="none", draft=tmp_path)
    config = {"speculation": "draft", "model": tmp_path / "a", "draft": tmp_path / "b"}
    for name, ids in (("a", {"x": 0, "y": 1}), ("b", {"x": 1, "y": 0})):
        (tmp_path / name).mkdir()
        tokenizer = {"model": {"vocab": ids}, "added_tokens": []}
        (tmp_path / name / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelRefused, match="another vocabulary"):
        draft_config(EngineConfig(**config))
    (tmp_path / "b" / "tokenizer.json").write_text("{")
    with pytest.raises(ModelRefused, match="cannot be read"):
        draft_config(EngineConfig(**config))


def test_logits_of_another_width_are_refused(local_engine, model_folder, tmp_path):
    torch.manual_seed(2)
    config = transformers.LlamaConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        vocab_size=101, max_position_embeddings=64,
    )  # fmt: skip
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "narrow")
    with pytest.raises(ModelRefused, match="another width"):
        local_engine(
            speculation="draft",
            model=model_folder("llama"),
            draft=tmp_path / "narrow",
        )


def test_the_model_digest_depends_on_the_draft(model_folder):
    digests = {
        model_digest(EngineConfig(model=model_folder("llama"), speculation=how, draft=draft))
        for how, draft in (
            ("none", None),
            ("draft", model_folder("qwen2")),
            ("draft", model_folder("llama")),
        )
    }
    assert len(digests) == 3
