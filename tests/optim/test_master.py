"""Master weights: tiny steps add up, float32 passes through, and a checkpoint is exact."""

import pytest
import torch
from torch import Tensor, nn

from percept.core.io import load_tensors, same_tensors, save_tensors
from percept.optim.master import MasterWeights


def wrapped(model: nn.Module, rate: float = 1e-3) -> MasterWeights:
    groups = [{"params": list(model.parameters()), "weight_decay": 0.1}]
    return MasterWeights(groups, lambda wide: [torch.optim.AdamW(wide, lr=rate)])


def train(model: nn.Module, optimiser: MasterWeights, steps: range, *, rate: float = 1e-3, clip: float = 1e9) -> None:
    for step in steps:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        model(x.to(next(model.parameters()).dtype)).float().square().mean().backward()
        optimiser.step(rate, norm=optimiser.collect(), clip=clip)


def test_steps_too_small_for_bfloat16_add_up() -> None:
    plain, mastered = (nn.Parameter(torch.ones(3).bfloat16()) for _ in range(2))
    direct = torch.optim.SGD([plain], lr=1e-3)
    optimiser = MasterWeights([{"params": [mastered]}], lambda wide: [torch.optim.SGD(wide, lr=1e-3)])
    for _ in range(100):
        for parameter in (plain, mastered):
            parameter.grad = torch.ones_like(parameter)
        direct.step()
        optimiser.step(1e-3, norm=optimiser.collect(), clip=1e9)
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
        optimiser = MasterWeights([{"params": [parameter]}], lambda wide: [torch.optim.SGD(wide, lr=1.0)])
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
    restored.restore(load_tensors(tmp_path / "state.safetensors"))
    train(again, restored, range(3, 6))
    assert same_tensors(dict(again.state_dict()), dict(model.state_dict()))
    assert same_tensors(restored.tensors(), optimiser.tensors())


def test_groups_keep_their_settings_and_the_model_keeps_its_type() -> None:
    model = nn.Linear(4, 3).bfloat16()
    before: Tensor = model.bias.detach().clone()
    groups = [{"params": [model.weight], "weight_decay": 0.5}, {"params": [model.bias], "weight_decay": 0.0}]
    optimiser = MasterWeights(groups, lambda wide: [torch.optim.AdamW(wide, lr=0.1)])
    assert [group["weight_decay"] for group in optimiser.optimisers[0].param_groups] == [0.5, 0.0]
    model.weight.grad, model.bias.grad = torch.zeros(3, 4).bfloat16(), torch.zeros(3).bfloat16()
    optimiser.step(0.1, norm=optimiser.collect(), clip=1.0)
    assert model.weight.dtype == torch.bfloat16
    assert torch.equal(model.bias, before)  # no gradient and no decay: nothing moves


def test_two_optimisers_share_the_masters_and_a_checkpoint(tmp_path) -> None:
    def build(wide):
        return [torch.optim.Muon(wide[:1], lr=0.1), torch.optim.SGD(wide[1:], lr=0.1, momentum=0.9)]

    def made() -> tuple[nn.Linear, MasterWeights]:
        layer = nn.Linear(4, 3).bfloat16()
        layer.load_state_dict(start)
        return layer, MasterWeights([{"params": [layer.weight]}, {"params": [layer.bias]}], build)

    start = nn.Linear(4, 3).bfloat16().state_dict()
    layer, optimiser = made()
    train(layer, optimiser, range(3), rate=0.01)
    assert not torch.equal(layer.weight, start["weight"])
    assert not torch.equal(layer.bias, start["bias"])
    save_tensors(tmp_path / "state.safetensors", optimiser.tensors())
    train(layer, optimiser, range(3, 6), rate=0.01)
    again, restored = made()
    restored.restore(load_tensors(tmp_path / "state.safetensors"))
    train(again, restored, range(3, 6), rate=0.01)
    assert same_tensors(dict(again.state_dict()), dict(layer.state_dict()))
