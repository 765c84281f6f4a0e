"""Counting operations: what a sum by hand gives, and nothing of the run is disturbed."""

import torch

from percept.core.machine import matmul_peak
from percept.train.meters import Meter
from tests.models.small import clip
from tests.train.runs import RandomPairs

CPU = torch.device("cpu")


def linear_flops(tokens: int, width: int, layers: int) -> int:
    """Multiplications and additions of the linear layers of a transformer with an MLP of four times its width."""
    return layers * tokens * 2 * (3 + 1 + 4 + 4) * width**2


def test_operations_are_three_times_those_of_the_forward_products() -> None:
    meter, model, batch = Meter(CPU, torch.float32), clip(), RandomPairs(4).batch(0)
    meter.count(model, batch)
    (counted,) = meter.work.values()
    patches, tokens, words = 16, 17, 10
    attention = 3 * 2 * 2 * tokens**2 * 16 + 2 * 2 * 2 * words**2 * 16
    embedding = patches * 2 * 48 * 16
    pool = (1 + tokens) * 3 * 2 * 16**2 + 2 * 2 * tokens * 16 + 2 * 16**2 + 2 * 2 * 4 * 16**2
    projections = 2 * 2 * 16 * 12
    expected = 3 * (
        linear_flops(tokens, 16, 3) + linear_flops(words, 16, 2) + attention + embedding + pool + projections
    )
    assert abs(counted - expected) / expected < 0.01
    assert (meter.samples, meter.done) == (4, 4 * counted)


def test_a_new_shape_is_counted_anew_and_a_reset_starts_over() -> None:
    meter, model, batch = Meter(CPU, torch.float32), clip(), RandomPairs(4).batch(0)
    meter.count(model, batch)
    meter.count(model, RandomPairs(2).batch(1))
    assert len(meter.work) == 1
    assert meter.samples == 6
    rates = meter.rates()
    assert rates["samples_per_second"] > 0
    meter.reset()
    assert (meter.samples, meter.done) == (0, 0)


def test_measuring_the_peak_does_not_move_the_random_state() -> None:
    before = torch.get_rng_state()
    assert matmul_peak.__wrapped__(CPU, torch.float32, size=64, seconds=0.001) > 1e6
    assert torch.equal(torch.get_rng_state(), before)
