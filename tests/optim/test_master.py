"""Master weights: tiny steps add up, float32 passes through, and a checkpoint is exact."""

import pytest
import torch
from torch import Tensor, nn

from percept.core.io import load_tensors, same_tensors, save_tensors
from percept.optim.master import MasterWeights


def wrapped(model: nn.Module, rate: float = 1e-3) -> MasterWeights:
    names, parameters = zip(*model.named_parameters(), strict=True)
    groups = [{"params": list(parameters), "names": list(names), "weight_decay": 0.1}]
    return MasterWeights(groups, lambda wide: [torch.optim.AdamW(wide, lr=rate)])


def restore(optimiser: MasterWeights, stored: dict[str, Tensor]) -> None:
    values = {key.removeprefix("master."): value for key, value in stored.items() if key.startswith("master.")}
    optimiser.restore(values, stored, skip=frozenset())


def train(model: nn.Module, optimiser: MasterWeights, steps: range, *, clip: float = 1e9) -> None:
    for step in steps:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        model(x.to(next(model.parameters()).dtype)).float().square().mean().backward()
        optimiser.step(1.0, norm=optimiser.collect(), clip=clip)


def test_steps_too_small_for_bfloat16_add_up() -> None:
    plain, mastered = (nn.Parameter(torch.ones(3).bfloat16()) for _ in range(2))
    direct = torch.optim.SGD([plain], lr=1e-3)
    optimiser = MasterWeights([{"params": [mastered], "names": ["w"]}], lambda wide: [torch.optim.SGD(wide, lr=1e-3)])
    for _ in range(100):
        for parameter in (plain, mastered):
            parameter.grad = torch.ones_like(parameter)
        direct.step()
        optimiser.step(1.0, norm=optimiser.collect(), clip=1e9)
    assert torch.equal(plain, torch.ones(3).bfloat16())  # 1 - 0.001 rounds back to 1
    torch.testing.assert_close(mastered.float(), torch.full((3,), 0.9), atol=0.003, rtol=0)


def test_float32_parameters_take_the_very_steps_of_plain_adamw() -> None:
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    optimiser, plain = wrapped(ours), torch.optim.AdamW(theirs.parameters(), lr=1e-3, weight_decay=0.1)
    for step in range(5):
        train(ours, optimiser, range(step, step + 1), clip=0.1)
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        plain.zero_grad()
        theirs(x).square().mean().backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)
        plain.step()
    assert same_tensors(dict(ours.state_dict()), dict(theirs.state_dict()))


def test_the_norm_is_of_all_gradients_and_clips_them() -> None:
    model = nn.Linear(4, 3).bfloat16()
    optimiser = wrapped(model)
    model.weight.grad = torch.full((3, 4), 2.0).bfloat16()
    model.bias.grad = torch.full((3,), 4.0).bfloat16()
    norm = optimiser.collect()
    assert float(norm) == pytest.approx((12 * 4 + 3 * 16) ** 0.5)
    assert model.weight.grad is None
    optimiser.clear()
    assert float(optimiser.collect()) == 0


def test_clipping_scales_the_step_down() -> None:
    moved = []
    for clip in (1e9, 0.5):
        parameter = nn.Parameter(torch.zeros(4))
        optimiser = MasterWeights(
            [{"params": [parameter], "names": ["w"]}], lambda wide: [torch.optim.SGD(wide, lr=1.0)]
        )
        parameter.grad = torch.full((4,), 1.0)
        optimiser.step(1.0, norm=optimiser.collect(), clip=clip)
        moved.append(float(parameter.detach().norm()))
    assert moved == pytest.approx([2.0, 0.5])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_checkpoint_through_a_file_is_exact(dtype: torch.dtype, tmp_path) -> None:
    model = nn.Linear(4, 3).to(dtype)
    optimiser = wrapped(model)
    train(model, optimiser, range(3))
    save_tensors(tmp_path / "state.safetensors", optimiser.tensors())
    train(model, optimiser, range(3, 6))

    again = nn.Linear(4, 3).to(dtype)
    restored = wrapped(again)
    restore(restored, load_tensors(tmp_path / "state.safetensors"))
    train(again, restored, range(3, 6))
    assert same_tensors(dict(again.state_dict()), dict(model.state_dict()))
    assert same_tensors(restored.tensors(), optimiser.tensors())


def test_groups_keep_their_settings_and_the_model_keeps_its_type() -> None:
    model = nn.Linear(4, 3).bfloat16()
    before: Tensor = model.bias.detach().clone()
    groups = [
        {"params": [model.weight], "names": ["weight"], "weight_decay": 0.5},
        {"params": [model.bias], "names": ["bias"], "weight_decay": 0.0},
    ]
    optimiser = MasterWeights(groups, lambda wide: [torch.optim.AdamW(wide, lr=0.1)])
    assert [group["weight_decay"] for group in optimiser.optimisers[0].param_groups] == [0.5, 0.0]
    model.weight.grad, model.bias.grad = torch.zeros(3, 4).bfloat16(), torch.zeros(3).bfloat16()
    optimiser.step(1.0, norm=optimiser.collect(), clip=1.0)
    assert model.weight.dtype == torch.bfloat16
    assert torch.equal(model.bias, before)  # no gradient and no decay: nothing moves


def test_two_optimisers_share_the_masters_and_a_checkpoint(tmp_path) -> None:
    def build(wide):
        return [torch.optim.Muon(wide[:1], lr=0.01), torch.optim.SGD(wide[1:], lr=0.01, momentum=0.9)]

    def made() -> tuple[nn.Linear, MasterWeights]:
        layer = nn.Linear(4, 3).bfloat16()
        layer.load_state_dict(start)
        groups = [{"params": [layer.weight], "names": ["weight"]}, {"params": [layer.bias], "names": ["bias"]}]
        return layer, MasterWeights(groups, build)

    start = nn.Linear(4, 3).bfloat16().state_dict()
    layer, optimiser = made()
    train(layer, optimiser, range(3))
    assert not torch.equal(layer.weight, start["weight"])
    assert not torch.equal(layer.bias, start["bias"])
    save_tensors(tmp_path / "state.safetensors", optimiser.tensors())
    train(layer, optimiser, range(3, 6))
    again, restored = made()
    restore(restored, load_tensors(tmp_path / "state.safetensors"))
    train(again, restored, range(3, 6))
    assert same_tensors(dict(again.state_dict()), dict(layer.state_dict()))


def test_each_group_has_a_rate_of_its_own_which_the_schedule_multiplies() -> None:
    slow, fast = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    groups = [
        {"params": [slow], "names": ["slow"], "lr": 1e-3},
        {"params": [fast], "names": ["fast"], "lr": 1e-1},
    ]
    optimiser = MasterWeights(groups, lambda wide: [torch.optim.SGD(wide)])
    for factor in (1.0, 0.5):
        slow.grad, fast.grad = torch.ones(1), torch.ones(1)
        optimiser.step(factor, norm=optimiser.collect(), clip=1e9)
    assert float(slow.detach()) == pytest.approx(-1.5e-3)
    assert float(fast.detach()) == pytest.approx(-1.5e-1)


def test_state_in_python_numbers_is_stored_and_names_and_settings_are_described() -> None:
    class Counting(torch.optim.SGD):
        def step(self, closure=None):
            for group in self.param_groups:
                for parameter in group["params"]:
                    self.state[parameter]["turns"] = self.state[parameter].get("turns", 0) + 1
            return super().step(closure)

    def made() -> MasterWeights:
        groups = [{"params": [nn.Parameter(torch.zeros(2))], "names": ["w"], "weight_decay": 0.5}]
        return MasterWeights(groups, lambda wide: [Counting(wide, lr=0.25)])

    optimiser, again = made(), made()
    for _ in range(3):
        ((_, parameter),) = optimiser.pairs.values()
        parameter.grad = torch.ones(2)
        optimiser.step(1.0, norm=optimiser.collect(), clip=1.0)
    restore(again, optimiser.tensors())
    ((_, parameter),) = again.pairs.values()
    assert again.optimisers[0].state[parameter] == {"turns": 3}
    described = optimiser.description()["w"]
    assert (described["class"], described["lr"], described["weight_decay"]) == ("Counting", 0.25, 0.5)


@pytest.mark.parametrize("shape", [(3,), (2,)])
def test_groups_of_one_parameter_each_have_their_own_rates(shape: tuple[int, ...]) -> None:
    first, second = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(shape))
    groups = [
        {"params": [first], "names": ["first"], "lr": 0.1},
        {"params": [second], "names": ["second"], "lr": 0.2},
    ]
    optimiser = MasterWeights(groups, lambda wide: [torch.optim.SGD(wide)])
    for parameter in (first, second):
        parameter.grad = torch.ones_like(parameter)
    optimiser.step(0.5, norm=optimiser.collect(), clip=1e9)
    assert {name: facts["lr"] for name, facts in optimiser.description().items()} == {"first": 0.1, "second": 0.2}
    torch.testing.assert_close((first[0].item(), second[0].item()), (-0.05, -0.1))
