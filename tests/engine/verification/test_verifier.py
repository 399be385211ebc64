"""All checks together, over every kind of family: honest steps pass, every lie is found."""

import dataclasses

import pytest
from verified_models import FAMILIES, VOCAB, Plain, native_model, prompt, span, trusted

from engine.attention import Span
from engine.verification.attention.sketched import SketchedAttention
from engine.verification.model import weights
from engine.verification.plain_decoder import Hands, Op
from engine.verification.secrets import Secrets
from engine.verification.thresholds import BOUNDS
from engine.verification.transcript import Matrix, Product
from engine.verification.verifier import Verifier, Work


class Talk:
    """One sequence served by a device, checked step by step."""

    def __init__(self, name, device=None, **options):
        self.device = device or Plain(name)
        model = trusted(name)
        self.verifier = Verifier(
            model, SketchedAttention(model, Secrets(bytes)), secrets=Secrets(bytes), **options
        )
        self.length = 0

    def step(self, ids, logit_rows=None, embedded=None, start=None):
        """Run and check a step; the finding."""
        start = self.length if start is None else start
        rows = [len(ids) - 1] if logit_rows is None else logit_rows
        logits, told = self.device.step(ids, [span(start, len(ids))], rows)
        work = Work("a", start, ids if embedded is None else embedded, rows)
        self.length = start + len(ids)
        [finding] = self.verifier.check([work], told, logits)
        return finding


@pytest.mark.parametrize("mode", ["audit", "full"])
@pytest.mark.parametrize("name", FAMILIES)
def test_an_honest_device_passes(name, mode):
    talk = Talk(name, mode=mode, audit_rows=4)
    found = [talk.step(prompt(40)), talk.step(prompt(9, seed=5))]
    found += [talk.step(prompt(1, seed=seed)) for seed in range(3)]
    assert [finding.failed for finding in found] == [()] * 5
    assert all(finding.accepted and finding.checks for finding in found)


def bigger(tensor):
    """Tamper with one element of the last row, by three times what is usual there."""
    tensor = tensor.clone()
    row = tensor[-1].view(-1)
    row[3] += 3 * row.float().square().mean().sqrt() + 1e-3
    return tensor


_LIES = {
    Op.EMBEDDED: "attention_input",
    Op.ATTENTION_INPUT: "attention_input",
    Op.QKV: "qkv",
    Op.QUERIES: "queries",
    Op.KEYS: "keys",
    Op.VALUES: "values",
    Op.ATTENDED: "attention",
    Op.OUTPUT: "output",
    Op.MLP_INPUT: "mlp_input",
    Op.GATE_UP: "gate_up",
    Op.ACTIVATED: "activated",
    Op.DOWN: "down",
    Op.FINAL: "head",
    Op.LOGITS: "head",
}


@pytest.mark.parametrize("consistent", [True, False])
@pytest.mark.parametrize("op", _LIES)
def test_tampering_with_an_operation_is_found_there(op, consistent):
    if op in {Op.EMBEDDED, Op.LOGITS} and not consistent:
        return  # told and gone on with is the same
    layer = -1 if op in {Op.EMBEDDED, Op.FINAL, Op.LOGITS} else 1

    def touch(where, index, tensor):
        return bigger(tensor) if (where, index) == (op, layer) else tensor

    talk = Talk("qwen3", weights=lambda *at: weights(native_model("qwen3"), *at))
    assert talk.step(prompt(40)).accepted
    talk.device.hands = Hands(touch=touch) if consistent else Hands(tell=touch)
    finding = talk.step(prompt(1))
    assert not finding.accepted
    assert _LIES[op] in finding.failed


def test_what_a_lie_does_downstream_is_accepted_as_computed():
    """A tampered product fails; the products that follow from it are right, and pass."""

    def touch(where, index, tensor):
        return bigger(tensor) if (where, index) == (Op.GATE_UP, 1) else tensor

    talk = Talk("llama")
    talk.step(prompt(40))
    talk.device.hands = Hands(touch=touch)
    assert talk.step(prompt(1)).failed == ("gate_up",)


def test_a_product_of_another_width_is_not_read():
    talk = Talk("llama")
    logits, told = talk.device.step(prompt(20), [span(0, 20)], [19])
    opened, opening = told.open, told.open(range(20))
    down = opening.products[Matrix.DOWN]
    narrow = {**opening.products, Matrix.DOWN: Product(down.outputs[..., :-1], down.inputs)}
    told.open = lambda rows: dataclasses.replace(opened(rows), products=narrow)
    with pytest.raises(ValueError, match="not as wide as its sketch"):
        talk.verifier.check([Work("one", 0, prompt(20), [19])], told, logits)


def test_another_id_than_the_one_sent_is_found():
    talk = Talk("llama")
    ids = prompt(20)
    assert not talk.step(ids, embedded=(ids + 1) % VOCAB).accepted


def test_embeddings_may_be_handed_in():
    talk = Talk("gemma3_text")
    ids = prompt(20)
    assert talk.step(ids, embedded=trusted("gemma3_text").embeddings[ids].float()).accepted


def test_stale_keys_are_found():
    talk = Talk("llama")
    assert talk.step(prompt(40)).accepted
    talk.device.pool.keys[1][5] = talk.device.pool.keys[1][6]
    talk.device.pool.values[1][5] = talk.device.pool.values[1][6]
    assert "attention" in talk.step(prompt(1)).failed


def test_another_position_than_asked_is_found():
    talk = Talk("llama")
    assert talk.step(prompt(40)).accepted
    logits, told = talk.device.step(prompt(1), [span(41, 1)], [0])
    [finding] = talk.verifier.check([Work("a", 40, prompt(1), [0])], told, logits)
    assert {"queries", "keys"} <= set(finding.failed)


def test_audit_finds_a_tampered_prompt_as_often_as_it_opens_its_rows():
    def touch(op, index, tensor):
        if (op, index) != (Op.GATE_UP, 0) or len(tensor) < 40:
            return tensor
        tensor = tensor.clone()
        tensor[:8, 3] += 9  # 8 of 40 rows
        return tensor

    device = Plain("llama", hands=Hands(touch=touch))
    talk = Talk("llama", device, audit_rows=4)
    found = 0
    for number in range(60):
        logits, told = device.step(prompt(40), [span(0, 40)], [39])
        work = Work(number, 0, prompt(40), [39])
        [finding] = talk.verifier.check([work], told, logits)
        found += not finding.accepted
    expected = 1 - 0.8**4
    assert abs(found / 60 - expected) < 4 * (expected * (1 - expected) / 60) ** 0.5


def test_sequences_of_a_step_are_judged_apart():
    device = Plain("qwen2")
    ids = prompt(60)
    spans = [span(0, 40), Span([4], 0, 20)]
    logits, told = device.step(ids, spans, [39, 59])
    talk = Talk("qwen2", device)
    logits = logits.clone()
    logits[1, 7] += 1
    works = [Work("a", 0, ids[:40], [39]), Work("b", 0, ids[40:], [19])]
    found = talk.verifier.check(works, told, logits)
    assert [finding.failed for finding in found] == [(), ("head",)]


def test_proposed_rows_that_were_not_taken_are_forgotten():
    talk = Talk("llama")
    assert talk.step(prompt(30)).accepted
    assert talk.step(prompt(5), logit_rows=[0, 1, 2, 3, 4]).accepted
    assert talk.step(prompt(1, seed=8), start=32).accepted
    assert talk.step(prompt(1, seed=9)).accepted
    with pytest.raises(ValueError, match="goes on behind"):
        talk.step(prompt(1), start=50)


def test_a_group_begins_with_the_same_positions():
    talk = Talk("llama")
    assert talk.step(prompt(30)).accepted
    talk.verifier.copy("a", "b")
    talk.verifier.forget("a")
    logits, told = talk.device.step(prompt(1), [span(30, 1)], [0])
    assert talk.verifier.check([Work("b", 30, prompt(1), [0])], told, logits)[0].accepted
    talk.verifier.forget("b")
    with pytest.raises(ValueError, match="goes on behind"):
        talk.verifier.check([Work("b", 30, prompt(1), [0])], told, logits)


def test_a_false_alarm_is_settled_by_computing_the_row_again():
    strict = dataclasses.replace(BOUNDS, row=1e-3)
    assert not Talk("llama", thresholds=strict).step(prompt(30)).accepted
    by_weights = lambda *at: weights(native_model("llama"), *at)  # noqa: E731
    assert Talk("llama", thresholds=strict, weights=by_weights).step(prompt(30)).accepted


def test_the_mode_is_one_of_two():
    with pytest.raises(ValueError, match="audit, full"):
        Verifier(trusted("llama"), SketchedAttention(trusted("llama"), Secrets(bytes)), mode="none")
