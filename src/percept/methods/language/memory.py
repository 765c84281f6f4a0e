"""An estimate of the memory that training a perception language model takes, from its shapes alone."""

from dataclasses import dataclass

from percept.models.vlm import VLM
from percept.train.experiment import Settings

ANSWERS = 0.3
"""Usual share of a conversation's tokens that are predicted."""
STATES = {"adamw": 2, "lamb": 2, "muon": 1, "lion": 1, "adafactor": 0}
"""Numbers that an optimiser keeps for each parameter."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes by purpose."""

    weights: int
    gradients: int
    optimiser: int
    """States of the optimiser, and float32 copies of weights in other types."""
    activations: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.optimiser + self.activations

    def __str__(self) -> str:
        unit, name = (2**30, "GiB") if self.total >= 2**30 else (2**20, "MiB")
        parts = ("weights", "gradients", "optimiser", "activations")
        listed = ", ".join(f"{part} {getattr(self, part) / unit:.2f}" for part in parts)
        return f"{self.total / unit:.2f} {name} besides the program itself: {listed}"


def estimate(model: VLM, settings: Settings, *, tokens: int, checkpointing: bool, shards: int = 1) -> Memory:
    """Return the memory of a training step on one device, within about a factor of 1.5.

    Args:
        tokens: tokens that are processed at once, assumed to be mostly visual, the most expensive case.
        checkpointing: activations of blocks are recomputed.
        shards: devices among which weights, gradients and states are split.
    """
    parameters = list(model.parameters())
    size = (
        4
        if settings.dtype == "float32"
        else min(2 if settings.dtype == "bfloat16" else 4, parameters[0].element_size())
    )
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    masters = 0 if size == 4 else 4
    return Memory(
        weights=size * sum(parameter.numel() for parameter in parameters) // shards,
        gradients=4 * trained // shards,
        optimiser=(masters + 4 * STATES.get(settings.optimiser, 2)) * trained // shards,
        activations=_activations(model, tokens, size, checkpointing),
    )


def _activations(model: VLM, tokens: int, size: int, checkpointing: bool) -> int:
    decoder, vision = model.config.decoder, model.config.vision
    heads = decoder.heads * decoder.head_width
    keys = 2 * decoder.kv_heads * decoder.head_width
    block = 6 * decoder.width + 4 * heads + 2 * keys + 4 * decoder.hidden
    total = stored(decoder.layers, block, decoder.width, checkpointing) * tokens
    if any(parameter.requires_grad for parameter in model.vision.parameters()):
        patches = tokens // max(1, model.config.tile_tokens) * vision.grid**2
        hidden = getattr(vision, "hidden", None) or 4 * vision.width
        total += stored(vision.layers, 14 * vision.width + 2 * hidden, vision.width, checkpointing) * patches
    logits = int(ANSWERS * tokens) * decoder.vocabulary * (size + 8)
    return size * total + logits


def stored(layers: int, block: int, width: int, checkpointing: bool) -> int:
    """Return the numbers kept for one token by a stack: all of a block, or its input alone and one block being recomputed."""
    return layers * width + block if checkpointing else layers * block
