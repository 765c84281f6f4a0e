"""Features of several layers of a tower in one pass: streamed, reduced on the device, and within a memory limit."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.eval.probes.probe import Setup
from percept.infer.dense import run
from percept.infer.encoder import Encoder
from percept.infer.images import prepared
from percept.models.towers import VisionOut

PASS_BYTES = 1 << 30
"""Largest size of the hidden states of a batch, all layers together."""
Reduce: TypeAlias = Callable[[Float[Tensor, "b n w"], int, tuple[int, int]], Tensor]
"""Takes the tokens of a layer, the number of tokens before the patches, and the grid; returns what is kept, one row per image."""
Row: TypeAlias = dict[int, Tensor]
"""What is kept of one image, by layer."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Size of the model's input, to which every image is squashed."""

    grid: tuple[int, int]
    """Patches down and across."""
    patch: int
    """Side of a patch in pixels."""
    width: int
    """Channels of a token."""
    prefix: int
    """Tokens before the patches."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.grid[0] * self.patch, self.grid[1] * self.patch

    @property
    def patches(self) -> int:
        """Patches of an image."""
        return self.grid[0] * self.grid[1]


class OnPatches:
    """What probes on maps of patches share. They train a head, and judge samples as they come, unless they say otherwise."""

    trains, whole = True, False

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def reduce(self, tokens: Float[Tensor, "b n w"], prefix: int, grid: tuple[int, int]) -> Float[Tensor, "b w y x"]:
        """Return maps of patches."""
        return patches(tokens, prefix, grid)


def squashing(encoder: Encoder) -> Encoder:
    """Return the encoder with images squashed to its size, so that labels are easily brought to the same frame."""
    return encoder if encoder.preprocess.resize == "squash" else encoder.resizing("squash")


def frame_of(encoder: Encoder) -> Frame:
    """Return the frame of an encoder that squashes images."""
    height, width = encoder.preprocess.shape
    config = encoder.model.config.vision
    return Frame(
        grid=(height // encoder.patch, width // encoder.patch), patch=encoder.patch, width=config.width, prefix=config.prefix
    )  # fmt: skip


def each_layer(encoder: Encoder, images: Iterable[Any], layers: Sequence[int], reduce: Reduce) -> Iterator[Row]:
    """Yield what is kept of each image, in order; the tower runs once on each.

    Args:
        encoder: any encoder.
        images: as for `Encoder.image`; may be a generator of any length.
        layers: blocks, counted from 0.
        reduce: applied on the device to the tokens of a layer in float32; its result is moved to the CPU.

    Raises:
        PerceptError: an image cannot be read, or a layer computes values that are not finite.
    """

    def step(group: list[Tensor]) -> list[Row]:
        return [row for out in run(encoder.model.vision, group, layers) for row in _rows(out, layers, reduce)]

    runner = replace(encoder.runner, batch=min(encoder.setting.batch, _batch(encoder, len(layers))))
    for _, row in runner.run(prepared(images, encoder.preprocess, encoder.patch), step):
        yield row


def _rows(out: VisionOut, layers: Sequence[int], reduce: Reduce) -> list[Row]:
    kept: dict[int, Tensor] = {}
    for layer in layers:
        states = reduce(out.hidden[layer].float(), out.prefix, out.grid).cpu()
        if not states.isfinite().all():
            raise PerceptError(f"layer {layer} computed NaN or infinite values. Try --dtype float32.")
        kept[layer] = states
    return [{layer: states[row].clone() for layer, states in kept.items()} for row in range(len(out.tokens))]


def _batch(encoder: Encoder, layers: int) -> int:
    """Return how many images run together so that their hidden states fit into `PASS_BYTES`."""
    frame = frame_of(encoder)
    each = (frame.patches + frame.prefix) * frame.width * 4 * layers
    return max(1, PASS_BYTES // each)


def patches(tokens: Float[Tensor, "b n w"], prefix: int, grid: tuple[int, int]) -> Float[Tensor, "b w y x"]:
    """Return the patch tokens as maps."""
    return tokens[:, prefix:].transpose(1, 2).unflatten(-1, grid)


def pooled(tokens: Float[Tensor, "b n w"], prefix: int, grid: tuple[int, int]) -> Float[Tensor, "b d"]:
    """Return the mean of the patches, after the class token where the model has one."""
    mean = tokens[:, prefix:].mean(dim=1)
    return torch.cat([tokens[:, 0], mean], dim=1) if prefix else mean
