import torch

from engine.speculative_steps import measure


def test_steps_are_timed_from_one_row_on_and_leave_nothing(lab):
    loaded = lab.load("llama")
    device, pool = lab.device(loaded, blocks=8)
    rows = []
    step = device.step
    device.step = lambda batch: (rows.append(len(batch.rows)), step(batch))[1]
    time = [0.0]

    def clock():
        """A step costs a second and a hundredth a row."""
        time[0] += sum(1 + count / 100 for count in rows[-1:]) / 2
        return time[0]

    costs = measure(device, vocab_size=199, slots=128, block_size=16, clock=clock)
    assert rows[0] == max(rows) == 32
    assert len(rows) == 1 + 2 * 9  # no patience for more rounds
    assert costs.of(1) < costs.of(5) < costs.of(32) < costs.of(64)
    assert not any(bool(part.any()) for part in (*pool.keys, *pool.values, device._logits))


def test_a_pool_smaller_than_the_largest_step_is_timed_as_far_as_it_goes(lab):
    loaded = lab.load("llama")
    device, pool = lab.device(loaded, blocks=1)
    costs = measure(device, vocab_size=199, slots=16, block_size=16)
    assert costs.of(16) > 0
    assert not torch.cat([part.flatten() for part in (*pool.keys, *pool.values)]).any()
