"""An estimate of the memory that training an image-text model takes, from its shapes alone."""

from typing import Any

from percept.methods.language.memory import STATES, Memory, stored
from percept.models.clip import CLIP
from percept.models.config import VisionConfig
from percept.train.experiment import Placement, Settings


def estimate(
    clip: CLIP, settings: Settings, place: Placement, method: Any, *, side: int, frames: int = 1, frozen: int = 0
) -> Memory:
    """Return the memory of a training step in one process, activations within about a factor of 1.5.

    Args:
        method: has `micro_tokens` and `recompute`.
        side: of the images in pixels.
        frames: images of a sample.
        frozen: parameters of a teacher.
    """
    counts = [(each.numel(), each.requires_grad) for each in clip.parameters()]
    size, shards = 2 if settings.dtype == "bfloat16" else 4, place.world_size if settings.shard else 1
    trained = sum(count for count, learns in counts if learns)
    samples = -(-settings.batch // place.world_size)
    return Memory(
        weights=size * (sum(count for count, _ in counts) + frozen) // shards,
        gradients=4 * trained // shards,
        optimiser=((0 if size == 4 else 4) + 4 * STATES.get(settings.optimiser, 2)) * trained // shards,
        activations=size * _activations(clip, settings, method, side=side, images=frames * samples, texts=samples),
    )


def _activations(clip: CLIP, settings: Settings, method: Any, *, side: int, images: int, texts: int) -> int:
    """Return the numbers that are stored for the backward pass; with `recompute` those of one part of one tower."""
    vision, text = clip.config.vision, clip.config.text
    assert isinstance(vision, VisionConfig)
    assert text is not None
    towers = (
        (images * ((side // vision.patch_size) ** 2 + vision.prefix), vision.layers, vision.width, vision.mlp_width),
        (texts * text.context, text.layers, text.width, 4 * text.width),
    )
    numbers = [
        min(tokens, method.micro_tokens if method.recompute else tokens)
        * stored(layers, 10 * width + 2 * hidden, width, settings.checkpointing)
        for tokens, layers, width, hidden in towers
    ]
    return max(numbers) if method.recompute else sum(numbers)
