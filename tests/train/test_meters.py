"""Counting operations: what a sum by hand gives, and nothing of the run is disturbed."""

from dataclasses import dataclass

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from percept.core.machine import matmul_peak
from percept.data.batch import Batch
from percept.methods.language.plm import PLM
from percept.methods.pretraining.contrastive import Contrastive
from percept.train.meters import Meter, peak_memory
from percept.train.parallel import checkpoint_blocks
from tests.models.small import clip
from tests.train.runs import RandomPairs

CPU = torch.device("cpu")


def linear_flops(tokens: int, width: int, layers: int) -> int:
    """Multiplications and additions of the linear layers of a transformer with an MLP of four times its width."""
    return layers * tokens * 2 * (3 + 1 + 4 + 4) * width**2


def counted(meter: Meter, size: int, *, frozen: str | None = None, recompute: bool = False) -> float:
    task, batch = Contrastive(Contrastive.Config(), clip().train()), RandomPairs(size).batch(0)
    if frozen is not None:
        task.get_submodule(frozen).requires_grad_(False)
    if recompute:
        checkpoint_blocks(task)
    meter.train(task, batch)
    return list(meter.work.values())[-1]


def test_operations_are_three_times_those_of_the_forward_products() -> None:
    """Except for the gradient of the images, which nothing needs."""
    meter = Meter(CPU, torch.float32)
    work = counted(meter, 4)
    patches, tokens, words = 16, 17, 10
    attention = 3 * 2 * 2 * tokens**2 * 16 + 2 * 2 * 2 * words**2 * 16
    embedding = patches * 2 * 48 * 16
    pool = (1 + tokens) * 3 * 2 * 16**2 + 2 * 2 * tokens * 16 + 2 * 16**2 + 2 * 2 * 4 * 16**2
    projections = 2 * 2 * 16 * 12
    products = linear_flops(tokens, 16, 3) + linear_flops(words, 16, 2) + attention + pool + projections
    expected = 3 * products + 2 * embedding
    assert abs(work - expected) / expected < 0.01
    assert (meter.samples, meter.done) == (4, 4 * work)


def test_recomputed_activations_do_not_count() -> None:
    plain, recomputed = (counted(Meter(CPU, torch.float32), 4, recompute=each) for each in (False, True))
    assert plain < recomputed < 1.03 * plain  # up to twice the forward pass, which the gradient of the images completes


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows(Batch):
    x: Float[Tensor, "b w"]


class Two(nn.Module):
    """Layers from 8 to 6 and from 6 to 4 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 6), nn.Linear(6, 4)

    def forward(self, batch: Rows) -> dict[str, Tensor]:
        return {"loss": self.second(self.first(batch.x)).square().mean()}


@pytest.mark.parametrize(
    ("frozen", "expected"),
    [
        (None, 2 * (2 * 48 + 3 * 24)),  # no gradient of the inputs
        ("first", 2 * (48 + 2 * 24)),  # the backward pass ends at the second layer
        ("second", 2 * (2 * 48 + 2 * 24)),  # it has a gradient of its inputs, but not of its weights
    ],
)
def test_the_backward_pass_counts_for_what_is_trained(frozen: str | None, expected: int) -> None:
    task, meter = Two(), Meter(CPU, torch.float32)
    if frozen:
        task.get_submodule(frozen).requires_grad_(False)
    meter.train(task, Rows(x=torch.randn(5, 8)))
    assert list(meter.work.values()) == [expected]
    assert meter.take() == 5 * expected
    assert meter.take() == 0


def test_a_step_of_known_shapes_is_not_counted_again_and_a_reset_starts_over() -> None:
    meter = Meter(CPU, torch.float32)
    work = counted(meter, 4)
    counted(meter, 2)
    assert meter.samples == 6
    assert meter.done == pytest.approx(6 * work)
    assert meter.rates(world_size=2)["samples_per_second"] > meter.rates()["samples_per_second"] > 0
    meter.reset()
    assert (meter.samples, meter.done) == (0, 0)


def test_memory_is_that_of_the_process() -> None:
    before = peak_memory(CPU)
    block = torch.ones(64, 2**20)
    assert 2**26 < before <= peak_memory(CPU)
    assert peak_memory(CPU) >= block.nbytes


def test_measuring_the_peak_does_not_move_the_random_state() -> None:
    before = torch.get_rng_state()
    assert matmul_peak.__wrapped__(CPU, torch.float32, size=64, seconds=0.001) > 1e6
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["contrastive", "plm"])
def test_a_counted_step_has_the_gradients_of_any_other_to_the_last_bit(name: str) -> None:
    task, batch = (
        PLM.tiny() if name == "plm" else (Contrastive(Contrastive.Config(), clip().train()), RandomPairs(4).batch(0))
    )
    gradients = []
    for counts in (True, False):
        task.zero_grad()
        meter = Meter(CPU, torch.float32)
        if not counts:
            meter.train(task, batch)
            task.zero_grad()
        meter.train(task, batch)
        gradients.append({key: value.grad for key, value in task.named_parameters() if value.grad is not None})
    for key, value in gradients[0].items():
        assert torch.equal(value, gradients[1][key]), key


def test_a_step_of_new_shapes_within_an_interval_is_taken_to_cost_in_proportion_to_its_data() -> None:
    class Long(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 6)

        def forward(self, batch: Rows) -> dict[str, Tensor]:
            return {"loss": self.layer(batch.x.view(-1, 8)).square().mean()}

    task, meter = Long(), Meter(CPU, torch.float32)
    meter.train(task, Rows(x=torch.randn(5, 8)))
    each = meter.done
    meter.train(task, Rows(x=torch.randn(5, 24)))
    assert meter.done == pytest.approx(each + 3 * each)
    assert len(meter.work) == 1
    meter.reset()
    meter.train(task, Rows(x=torch.randn(5, 24)))
    assert meter.done == pytest.approx(3 * each)
    assert len(meter.work) == 2
