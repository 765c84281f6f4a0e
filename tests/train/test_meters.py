"""Counting operations: what a sum by hand gives, and nothing of the run is disturbed."""

import pytest
import torch

from percept.core.machine import matmul_peak
from percept.methods.pretraining.contrastive import Contrastive
from percept.train.meters import Meter
from tests.models.small import clip
from tests.train.runs import RandomPairs

CPU = torch.device("cpu")


def linear_flops(tokens: int, width: int, layers: int) -> int:
    """Multiplications and additions of the linear layers of a transformer with an MLP of four times its width."""
    return layers * tokens * 2 * (3 + 1 + 4 + 4) * width**2


def counted(meter: Meter, size: int) -> None:
    task, batch = Contrastive(Contrastive.Config(), clip()), RandomPairs(size).batch(0)
    with meter.counting(batch):
        task(batch)


def test_operations_are_three_times_those_of_the_forward_products() -> None:
    meter = Meter(CPU, torch.float32)
    counted(meter, 4)
    (work,) = meter.work.values()
    patches, tokens, words = 16, 17, 10
    attention = 3 * 2 * 2 * tokens**2 * 16 + 2 * 2 * 2 * words**2 * 16
    embedding = patches * 2 * 48 * 16
    pool = (1 + tokens) * 3 * 2 * 16**2 + 2 * 2 * tokens * 16 + 2 * 16**2 + 2 * 2 * 4 * 16**2
    projections = 2 * 2 * 16 * 12
    expected = 3 * (
        linear_flops(tokens, 16, 3) + linear_flops(words, 16, 2) + attention + embedding + pool + projections
    )
    assert abs(work - expected) / expected < 0.01
    assert (meter.samples, meter.done) == (4, 4 * work)


def test_a_step_of_known_shapes_is_not_counted_again_and_a_reset_starts_over() -> None:
    meter = Meter(CPU, torch.float32)
    counted(meter, 4)
    (work,) = meter.work.values()
    counted(meter, 2)
    assert meter.samples == 6
    assert meter.done == pytest.approx(6 * work)
    assert meter.rates(world_size=2)["samples_per_second"] > meter.rates()["samples_per_second"] > 0
    meter.reset()
    assert (meter.samples, meter.done) == (0, 0)


def test_measuring_the_peak_does_not_move_the_random_state() -> None:
    before = torch.get_rng_state()
    assert matmul_peak.__wrapped__(CPU, torch.float32, size=64, seconds=0.001) > 1e6
    assert torch.equal(torch.get_rng_state(), before)
