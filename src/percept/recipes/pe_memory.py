"""An estimate of the memory that training an image-text model takes, from its shapes alone."""

from percept.methods.language.memory import STATES, Memory
from percept.models.clip import CLIP
from percept.models.config import VisionConfig
from percept.train.experiment import Settings


def estimate(clip: CLIP, settings: Settings, *, images: int, texts: int, side: int, frozen: int = 0) -> Memory:
    """Return the memory of a training step on one device, within about a factor of 1.5.

    Args:
        images: images that a process encodes in a step; the frames of all clips.
        texts: texts that a process encodes in a step.
        side: of the images in pixels.
        frozen: parameters of a teacher.
    """
    vision, text = clip.config.vision, clip.config.text
    assert isinstance(vision, VisionConfig)
    assert text is not None
    counts = [(each.numel(), each.requires_grad) for each in clip.parameters()]
    size = 2 if settings.dtype == "bfloat16" else 4
    trained = sum(count for count, learns in counts if learns)
    tokens = images * ((side // vision.patch_size) ** 2 + vision.prefix)
    numbers = vision.layers * tokens * _block(vision.width, vision.mlp_width)
    numbers += text.layers * texts * text.context * _block(text.width, 4 * text.width)
    return Memory(
        weights=size * (sum(count for count, _ in counts) + frozen),
        gradients=4 * trained,
        optimiser=((0 if size == 4 else 4) + 4 * STATES.get(settings.optimiser, 2)) * trained,
        activations=size * numbers,
    )


def _block(width: int, hidden: int) -> int:
    """Return the numbers that a block keeps for one token."""
    return 10 * width + 2 * hidden
