"""Sketched products: honest rounding passes, everything else is seen (reference: table 5.2)."""

import pytest
import torch

from engine.native import checks
from engine.native.weights import quantise
from engine.verification import linear
from engine.verification.linear import LinearCheck, Means, head_error, judge, residuals
from engine.verification.secrets import BOUND, Secrets
from engine.verification.sketch import WIDTH, Sketcher
from engine.verification.thresholds import BOUNDS
from engine.verification.transcript import Matrix, Product

ROWS = 256


def weights(outputs, inputs, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(outputs, inputs, generator=generator) / inputs**0.5).bfloat16()


def inputs_of(rows, width, *, outliers=True, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, width, generator=generator)
    if outliers:
        x[:, :4] *= 30
    return x.bfloat16()


def product(x, weight, bias=None):
    y = x.float() @ weight.float().T
    return y if bias is None else y + bias


def sketch_of(weight, bias=None, **fields):
    sketcher = Sketcher(Secrets(bytes), **fields)
    sketcher.observe(0, Matrix.QKV, weight, bias)
    return sketcher.sketches()[Matrix.QKV]


@pytest.mark.skipif(checks.available() is None, reason="compiled kernels: not here")
def test_the_library_judges_many_rows_as_torch_does_whoever_of_its_threads_has_them():
    """Enough rows that threads are begun, and a last piece that is not whole."""
    rows, width = 4200, 1024
    weight = weights(width, width)
    sketch, x = sketch_of(weight), inputs_of(rows, width)
    y = product(x, weight).bfloat16()
    y[7, 3], y[4199, 5] = torch.nan, y[4199, 5] + 9
    told = Product(y[None], x[None])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        shared = residuals(told, sketch)
        torch.set_num_threads(1)
        assert torch.equal(shared.nan_to_num(), residuals(told, sketch).nan_to_num())
    finally:
        torch.set_num_threads(threads)
    ours, plain = judge(shared, sketch.floor), linear._judged_by_torch(shared, sketch.floor, BOUNDS)
    assert torch.equal(ours.passed, plain.passed)
    assert (~ours.passed).nonzero().tolist() == [[0, 7], [0, 4199]]
    torch.testing.assert_close(ours.energy, plain.energy, equal_nan=True)


def test_layers_share_their_secrets_and_nothing_else():
    sketcher = Sketcher(Secrets(bytes))
    for layer in range(2):
        sketcher.observe(layer, Matrix.QKV, weights(64, 64, seed=layer), None)
    sketch = sketcher.sketches()[Matrix.QKV]
    assert sketch.secrets.shape == (32, WIDTH, 2)
    assert not torch.equal(*sketch.packed)


def judged(y, x, sketch):
    rows = Product(y.bfloat16()[None], x[None])
    return judge(residuals(rows, sketch), sketch.floor)


class Case:
    """One matrix, its sketch and honest rows."""

    def __init__(self, width):
        self.weight = weights(width, width)
        self.sketch = sketch_of(self.weight)
        self.x = inputs_of(ROWS, width)
        self.y = product(self.x, self.weight)

    def caught(self, y):
        """Return the share of rows that fail."""
        return 1 - judged(y, self.x, self.sketch).passed.float().mean().item()


@pytest.fixture(scope="module", params=[1024, 4096])
def case(request):
    return Case(request.param)


def test_honest_rounding_is_as_strong_as_the_literature_says(case):
    rows = Product(case.y.bfloat16()[None], case.x[None])
    found = residuals(rows, case.sketch)
    unit = 2**-8 * case.y.norm(dim=-1) * (BOUND * (BOUND + 1) / 3) ** 0.5
    z = found[0, :, :WIDTH] / unit[:, None]
    assert abs(z.square().mean().sqrt().item() - 0.4245) < 0.015
    assert abs(judge(found, case.sketch.floor).energy.mean().item() - 1) < 0.06
    assert case.caught(case.y) == 0


@pytest.mark.skipif(checks.available() is None, reason="compiled kernels: not here")
@pytest.mark.parametrize("rows", [1, 2, 3, 16, 17, 40, 77])
def test_the_library_finds_what_torch_finds(rows):
    weight, bias = weights(96, 192), torch.randn(96) * 40
    sketch = sketch_of(weight, bias)
    x = inputs_of(rows, 192)
    lying = torch.cat([x, product(x, weight, bias).bfloat16(), x], -1)[None]  # between others
    told = Product(lying[..., 192:288], lying[..., :192])
    compiled, plain = residuals(told, sketch), linear._by_torch(told, sketch)
    z = slice(0, WIDTH)
    assert (compiled - plain)[..., z].abs().max() < 0.01 * plain[..., z].square().mean().sqrt()
    torch.testing.assert_close(compiled[..., WIDTH:], plain[..., WIDTH:])


@pytest.mark.parametrize("size", [0.5, 1.0])
def test_a_single_element_is_caught(case, size):
    y = case.y.clone()
    row, column = torch.arange(ROWS), torch.arange(ROWS) * 3 % y.shape[1]
    y[row, column] += size * y.norm(dim=-1) / y.shape[1] ** 0.5
    assert case.caught(y) >= 0.99


@pytest.mark.parametrize(("noise", "least"), [(0.003, 0.2), (0.005, 0.9), (0.01, 0.998)])
def test_noise_on_a_row_is_caught(case, noise, least):
    error = torch.randn(case.y.shape, generator=torch.Generator().manual_seed(5))
    error *= noise * case.y.norm(dim=-1, keepdim=True) / error.norm(dim=-1, keepdim=True)
    assert case.caught(case.y + error) >= least


def to_steps(weight, bits, group=None):
    grouped = weight.float().view(len(weight), -1, group or weight.shape[1])
    scale = grouped.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    return ((grouped / scale).round() * scale).view_as(weight)


def pruned(weight):
    weight = weight.float()
    return weight * (weight.abs() > weight.abs().flatten().kthvalue(weight.numel() // 10).values)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda weight: to_steps(weight, 8),
        lambda weight: to_steps(weight, 6),
        lambda weight: to_steps(weight, 4, 128),
        lambda weight: weight.to(torch.float8_e4m3fn).float(),
        pruned,
    ],
    ids=["int8", "int6", "int4", "fp8", "pruned"],
)
def test_other_weights_are_caught_in_every_row(case, tamper):
    assert case.caught(product(case.x, tamper(case.weight))) == 1


def test_low_rank_changes_are_caught_by_rows_or_by_their_mean(case):
    generator = torch.Generator().manual_seed(9)
    change = torch.outer(
        torch.randn(case.weight.shape[0], generator=generator),
        torch.randn(case.weight.shape[1], generator=generator),
    )
    change *= case.weight.float().norm() / change.norm()
    x = inputs_of(ROWS, case.weight.shape[1], outliers=False, seed=2)
    for size, least in ((3e-3, 0.0), (1e-2, 0.5)):
        y = product(x, case.weight.float() + size * change)
        found = judged(y, x, case.sketch)
        assert 1 - found.passed.float().mean().item() >= least
        assert not Means(1).add(found.energy).any()


def test_noise_on_all_rows_is_caught_by_the_mean_of_a_matrix(case):
    rows = 1024
    x = inputs_of(rows, case.weight.shape[1], seed=3)
    y = product(x, case.weight)
    means = Means(1)
    assert means.add(judged(y, x, case.sketch).energy).all()
    error = torch.randn(y.shape, generator=torch.Generator().manual_seed(5))
    y += error * 0.0012 * y.norm(dim=-1, keepdim=True) / error.norm(dim=-1, keepdim=True)
    assert not means.add(judged(y, x, case.sketch).energy).any()


def test_equal_pairs_cancel_in_signs_and_not_in_integers():
    """The classic mistake, 5.2: signs alone miss half of all equal pairs a sum."""
    pairs, sums = 20_000, 8
    generator = torch.Generator().manual_seed(4)
    signs = torch.randint(0, 2, (2 * pairs, sums), generator=generator) * 2 - 1
    whole = Secrets(bytes).integers(b"pairs", 2 * pairs * WIDTH).view(2 * pairs, WIDTH).int()
    missed = {
        name: (drawn.view(pairs, 2, -1).sum(1) == 0).all(1).float().mean().item()
        for name, drawn in (("signs", signs), ("whole", whole))
    }
    assert abs(missed["signs"] - 2**-8) < 2e-3
    assert missed["whole"] == 0


def test_a_bias_and_an_activation_that_dwarfs_a_row_raise_no_alarm():
    weight, bias = weights(128, 128), torch.zeros(128)
    bias[7] = 3000.0
    sketch = sketch_of(weight, bias)
    x = inputs_of(4096, 128)
    found = judged(product(x, weight, bias), x, sketch)
    assert found.passed.all()
    assert found.energy.max() <= 3.1  # an even spread reaches three times its variance
    y = product(x, weight, bias).bfloat16()
    y[:, 7] += 32  # two steps of bfloat16 at 3,000
    assert not judged(y, x, sketch).passed.any()


def test_int8_weights_are_judged_with_inputs_rounded_as_the_device_rounds():
    weight = weights(128, 256)
    values, scales = quantise(weight)
    grouped = (values.float() - 128).view(128, -1, 64) * scales.float()[..., None]
    sketch = sketch_of(grouped.view(128, 256), int8=True)
    x = inputs_of(ROWS, 256)
    y = product(linear.rounded_to_8_bits(x), grouped.view(128, 256))
    assert judged(y, x, sketch).passed.all()
    assert not judged(product(x, weight), x, sketch).passed.any()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e20, 3e38])
def test_what_is_not_a_number_fails(value):
    weight = weights(64, 64)
    sketch, x = sketch_of(weight), inputs_of(5, 64)
    y = product(x, weight)
    y[2, 3] = value
    assert judged(y, x, sketch).passed.tolist() == [[True, True, False, True, True]]
    x[2, 3] = value
    assert not judged(product(x.nan_to_num(), weight), x, sketch).passed[0, 2]


def test_zeros_pass_where_they_are_right_and_only_there():
    weight = weights(64, 64)
    sketch = sketch_of(weight)
    x = torch.zeros(3, 64, dtype=torch.bfloat16)
    assert judged(torch.zeros(3, 64), x, sketch).passed.all()
    assert not judged(torch.zeros(3, 64), inputs_of(3, 64), sketch).passed.any()


def test_means_hold_a_chunk_and_a_matrix_to_their_limits():
    means = Means(2)
    energy = torch.ones(2, 70)
    energy[1, 32:64] = BOUNDS.rows + 0.01
    passed = means.add(energy)
    assert passed[0].all()
    assert (~passed[1]).nonzero().flatten().tolist() == list(range(32, 64))
    slow = Means(1)
    verdicts = [slow.add(torch.full((1, 1), 1.1)).item() for _ in range(1024)]
    assert verdicts == [True] * 1023 + [False]


def test_logits_are_held_to_float32():
    weight = weights(4000, 256)
    sketch = Sketcher(Secrets(bytes)).head(weight, None)
    final = inputs_of(64, 256)
    logits = product(final, weight)
    assert head_error(final, logits, sketch).max() < BOUNDS.head / 4
    assert head_error(final, logits.bfloat16().float(), sketch).min() > BOUNDS.head
    logits[torch.arange(64), torch.arange(64) * 50] += 0.02 * logits.std(-1)
    assert head_error(final, logits, sketch).min() > BOUNDS.head


def test_every_matrix_and_layer_is_judged_apart():
    sketcher = Sketcher(Secrets(bytes))
    shapes = {Matrix.QKV: (96, 64), Matrix.DOWN: (64, 128)}
    products = {}
    for matrix, (outputs, inputs) in shapes.items():
        of_layers = []
        for layer in range(3):
            weight = weights(outputs, inputs, seed=layer)
            sketcher.observe(layer, matrix, weight, None)
            x = inputs_of(6, inputs, seed=layer + 9)
            of_layers.append((product(x, weight).bfloat16(), x))
        products[matrix] = Product(*map(torch.stack, zip(*of_layers, strict=True)))
    assert LinearCheck(sketcher.sketches()).check(products).passed.all()
    products[Matrix.DOWN].outputs[1, 4, 5] += 3
    failed = ~LinearCheck(sketcher.sketches()).check(products).passed
    assert failed.nonzero().tolist() == [[3 + 1, 4]]


def honest_rows(rows):
    """Yield judged honest rows of changing data, 4,096 at a time."""
    weight = weights(1024, 1024)
    sketch = sketch_of(weight)
    for seed in range(rows // 4096):
        x = inputs_of(4096, 1024, outliers=bool(seed % 2), seed=seed)
        yield judged((x @ weight.T).float(), x, sketch)


MANY = [8192, pytest.param(3_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]


@pytest.mark.parametrize("rows", MANY)
def test_a_row_off_by_3_percent_never_passes(rows):
    """Whatever is added: a direction, an element, a pair; who adds it knows all but the secrets."""
    weight = weights(1024, 1024)
    sketch = sketch_of(weight)
    noise = torch.Generator().manual_seed(rows)
    for seed in range(rows // 4096):
        x = inputs_of(4096, 1024, outliers=bool(seed % 2), seed=seed)
        y = (x @ weight.T).float()
        error = torch.randn(y.shape, generator=noise)
        error[1::3] = torch.eye(1024)[torch.arange(len(error[1::3])) % 1024]
        error[2::3, 2:] = 0
        error *= 0.03 * y.norm(dim=-1, keepdim=True) / error.norm(dim=-1, keepdim=True)
        assert not judged(y + error, x, sketch).passed.any()


@pytest.mark.parametrize("rows", MANY)
def test_honest_rows_raise_no_alarm(rows):
    means = Means(1)
    for found in honest_rows(rows):
        assert found.passed.all()
        assert means.add(found.energy).all()
