"""Resize learned positions to the grid of a different image size."""

import math
from dataclasses import replace

from percept.core.errors import PerceptError
from percept.models.config import ClipConfig
from percept.nn.posembed import resize_positions
from percept.weights.fit import POSITIONS
from percept.weights.layout import State


def sized_config(config: ClipConfig, size: int | None) -> ClipConfig:
    """Return a configuration for images of `size` pixels; the same one if None.

    Raises:
        PerceptError: a size below one patch, or one that does not divide into patches.
    """
    if size is None:
        return config
    vision = replace(config.vision, image_size=size)
    if size % vision.patch_size:
        near = size // vision.patch_size * vision.patch_size
        raise PerceptError(
            f"image_size={size} does not divide into patches of {vision.patch_size} pixels; give {near} or "
            f"{near + vision.patch_size}"
        )
    return replace(config, vision=vision)


def sized_state(config: ClipConfig, state: State) -> State:
    """Return a state whose positions have the grid of a configuration.

    Bilinear, corners not aligned, in float32, as the published converter does; a stored grid is taken to be square.
    """
    side = stored_grid(config, state)
    if side is None:
        return state
    grid = config.vision.image_size // config.vision.patch_size
    prefix = config.vision.prefix
    resized = resize_positions(state[POSITIONS], (side, side), (grid, grid), prefix=prefix)
    return {**state, POSITIONS: resized}


def stored_grid(config: ClipConfig, state: State) -> int | None:
    """Return the patches along a side that the stored positions are for; None if their number is not a square."""
    positions = state.get(POSITIONS)
    if positions is None or positions.dim() != 2:
        return None
    prefix = config.vision.prefix
    side = math.isqrt(max(0, len(positions) - prefix))
    return side if side and side**2 + prefix == len(positions) else None
