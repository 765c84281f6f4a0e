"""The estimate of memory against what a step really keeps."""

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from percept.data.chat.batch import ChatBatch
from percept.methods.language.memory import estimate
from percept.methods.language.plm import PLM, Config
from percept.models.config import VisionConfig
from percept.models.language import DecoderConfig, VLMConfig
from percept.models.vlm import VLM
from percept.train.experiment import Settings


def step() -> tuple[int, int]:
    """Return the bytes that the backward pass needs, and their estimate, for a batch of images mostly."""
    vision = VisionConfig(
        image_size=48, patch_size=8, width=64, layers=4, heads=4, pool="none", output_dim=None, norm_post=False
    )
    decoder = DecoderConfig(vocabulary=300, width=96, layers=4, heads=4, kv_heads=2, hidden=256, context=512, tied=True)
    task = PLM(
        Config(),
        VLM(VLMConfig(vision=vision, decoder=decoder, image_token=3, stop_ids=(1,))),
    )
    ids = torch.randint(4, 300, (8, 40))
    ids[:, :27] = 3
    learned = torch.arange(40).expand(8, -1) >= 28
    batch = ChatBatch(
        ids=ids, learned=learned, lengths=torch.full((8,), 40), tile_counts=torch.full((8,), 3),
        tiles=torch.randint(0, 256, (24, 3, 48, 48), dtype=torch.uint8),
    )  # fmt: skip
    known = {parameter.untyped_storage().data_ptr() for parameter in task.parameters()}
    sizes: dict[int, int] = {}

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = storage.nbytes()
        return value

    with saved_tensors_hooks(pack, lambda value: value):
        loss = task(batch)["loss"]
    need = estimate(task.vlm, Settings(steps=1, batch=8, dtype="float32"), tokens=ids.numel(), checkpointing=False)
    del loss
    return sum(sizes.values()), need.activations


def test_the_estimate_is_within_a_factor_of_one_and_a_half() -> None:
    kept, estimated = step()
    assert 1 / 1.5 < estimated / kept < 1.5


def test_frozen_parts_need_no_gradients() -> None:
    task, _ = PLM.tiny()
    settings = Settings(steps=1, batch=1, dtype="float32")
    whole = estimate(task.vlm, settings, tokens=100, checkpointing=False)
    task.vlm.vision.requires_grad_(False)
    part = estimate(task.vlm, settings, tokens=100, checkpointing=True)
    assert part.weights == whole.weights
    assert part.gradients < whole.gradients
    assert part.activations < whole.activations
    assert "weights" in str(part)
