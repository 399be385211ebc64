"""The rule of acceptance gives the model's own distribution, whatever the draft believes."""

import math

import pytest
import torch

from engine.sampler import invert
from engine.speculative_rule import settle

DRAWS = 1_000_000
VOCAB = 6
GENERATOR = torch.Generator()


def chi_square_limit(freedom):
    """The 0.1 % point, by Wilson and Hilferty's approximation."""
    part = 2 / (9 * freedom)
    return freedom * (1 - part + 3.0902 * math.sqrt(part)) ** 3


def distribution(*shape, zeros):
    """Random distributions over the last dimension, some entries of them zero."""
    weights = torch.rand(shape, generator=GENERATOR) ** 2
    if zeros:
        weights *= torch.rand(shape, generator=GENERATOR) > 0.35
        weights[..., 0] += 0.01
    return weights / weights.sum(-1, keepdim=True)


def uniform_draws():
    return torch.rand(DRAWS, generator=GENERATOR, dtype=torch.float64)


def statistic(counts, expected):
    seen = expected > 0
    assert not counts[~seen].any(), "an id was drawn that the model never draws"
    return ((counts - expected)[seen] ** 2 / expected[seen]).sum().item(), int(seen.sum()) - 1


@pytest.mark.parametrize("seed", range(4))
def test_the_first_two_ids_are_distributed_as_without_speculation(seed):
    """Two proposals a round, and after a rejection a new round at the position that is left.

    As in the engine, a position's uniforms are the same in whichever round it is looked at.
    """
    GENERATOR.manual_seed(seed)
    zeros = seed % 2 == 1
    p1, q1 = distribution(1, VOCAB, zeros=zeros), distribution(1, VOCAB, zeros=zeros)
    p2, q2 = (distribution(VOCAB, VOCAB, zeros=zeros) for _ in range(2))
    propose, accept, residual = ([uniform_draws() for _ in range(2)] for _ in range(3))

    def one(p, q, at):
        proposed = invert(q, propose[at])
        return proposed, settle(p, q, proposed, accept[at], residual[at])

    proposed, first = one(p1.expand(DRAWS, -1), q1.expand(DRAWS, -1), 0)
    _, after_proposal = one(p2[proposed], q2[proposed], 1)
    _, new_round = one(p2[first], q2[first], 1)
    second = torch.where(first == proposed, after_proposal, new_round)

    counts = (first * VOCAB + second).bincount(minlength=VOCAB**2).double()
    exact = (p1[0, :, None].double() * p2.double()).flatten() * DRAWS
    value, freedom = statistic(counts, exact)
    assert value < chi_square_limit(freedom)
    direct = invert(p1.expand(DRAWS, -1), uniform_draws())
    direct = direct * VOCAB + invert(p2[direct], uniform_draws())
    others = direct.bincount(minlength=VOCAB**2).double()
    both = counts + others
    assert ((counts - others)[both > 0] ** 2 / both[both > 0]).sum() < chi_square_limit(freedom)


def test_a_wrong_rule_would_be_noticed():
    """The same test refuses to take the draft's ids for the model's."""
    GENERATOR.manual_seed(9)
    p, q = distribution(1, VOCAB, zeros=False), distribution(1, VOCAB, zeros=False)
    counts = invert(q.expand(DRAWS, -1), uniform_draws()).bincount(minlength=VOCAB).double()
    value, freedom = statistic(counts, p[0].double() * DRAWS)
    assert value > chi_square_limit(freedom)


def test_acceptance_is_what_the_two_have_in_common():
    GENERATOR.manual_seed(5)
    p, q = (distribution(1, VOCAB, zeros=False).expand(100_000, -1) for _ in range(2))
    proposed = invert(q, uniform_draws()[:100_000])
    ids = settle(p, q, proposed, uniform_draws()[:100_000], uniform_draws()[:100_000])
    # A residual draw is never the id just rejected: (p - q)+ is zero there.
    share = (ids == proposed).double().mean().item()
    assert share == pytest.approx(torch.minimum(p[0], q[0]).sum().item(), abs=0.01)


def test_equal_distributions_reject_nothing():
    GENERATOR.manual_seed(6)
    p = distribution(2000, VOCAB, zeros=True)
    proposed = invert(p, uniform_draws()[:2000])
    ones = torch.full((2000,), 1 - 2**-53, dtype=torch.float64)
    assert torch.equal(settle(p, p, proposed, ones, ones), proposed)


def test_certain_distributions_compare_ids():
    p, q = torch.eye(3)[[0, 1, 2]], torch.eye(3)[[0, 2, 2]]
    half = torch.full((3,), 0.5, dtype=torch.float64)
    assert settle(p, q, torch.tensor([0, 2, 2]), half, half).tolist() == [0, 1, 2]
