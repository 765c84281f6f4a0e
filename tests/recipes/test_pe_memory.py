"""The estimate of memory against what the backward pass stores."""

from dataclasses import replace

import pytest
import torch

from percept.methods.pretraining.pe_finetune import Config, Finetuning, LabelledText
from percept.models.clip import CLIP
from percept.recipes.pe_memory import estimate
from percept.recipes.pe_sizes import SIZES
from percept.train import Placement, Settings
from percept.train.parallel import checkpoint_blocks, placed

PLACE, SIDE = Placement(device=torch.device("cpu")), 64


def measured(config: Config, settings: Settings) -> int:
    """Return the bytes that the forward pass keeps besides the weights, each tensor once."""
    clip = CLIP(SIZES["pico"].model)
    task = Finetuning(config, clip)
    if settings.checkpointing:
        checkpoint_blocks(task)
    placed(task, PLACE.device, torch.float32, shard=False)
    weights, kept = {each.data_ptr() for each in task.parameters()}, {}
    tokens = torch.randint(1, 500, (settings.batch, 64))
    tokens[:, -1] = 1535
    images = torch.randn(settings.batch, 3, SIDE, SIDE)
    batch = LabelledText(image=images, tokens=tokens, label=torch.arange(settings.batch))

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes(), tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        task(batch)["loss"]
    return sum(size for size, _ in kept.values())


def test_activations_are_within_a_factor_of_one_and_a_half() -> None:
    settings = Settings(steps=1, batch=8, device="cpu", dtype="float32")
    for batch in (8, 16):
        changed = replace(settings, batch=batch)
        need = estimate(CLIP(SIZES["pico"].model), changed, PLACE, Config(), side=SIDE)
        assert need.activations / 1.5 < measured(Config(), changed) < need.activations * 1.5


def test_what_saves_memory_lowers_the_estimate() -> None:
    clip, settings = CLIP(SIZES["pico"].model), Settings(steps=1, batch=64, device="cpu", dtype="float32")
    whole = estimate(clip, settings, PLACE, Config(), side=SIDE)
    parts = [
        estimate(clip, replace(settings, batch=batch), PLACE, Config(micro_tokens=640, recompute=True), side=SIDE)
        for batch in (64, 1_024)
    ]
    assert parts[0].activations == parts[1].activations < whole.activations / 6
    again = estimate(clip, replace(settings, checkpointing=True), PLACE, Config(), side=SIDE)
    assert again.activations < whole.activations / 2
    four = replace(PLACE, world_size=4)
    shared = estimate(clip, replace(settings, shard=True), four, Config(), side=SIDE)
    assert (4 * shared.weights, 4 * shared.optimiser) == (whole.weights, whole.optimiser)
    assert shared.activations == pytest.approx(whole.activations / 4)
    assert estimate(clip, settings, four, Config(), side=SIDE).weights == whole.weights
    lion = estimate(clip, replace(settings, optimiser="lion"), PLACE, Config(), side=SIDE)
    assert 2 * lion.optimiser == whole.optimiser
