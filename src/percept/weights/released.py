"""Which released model a file without a word about it holds, told by keys and shapes; and if none, what is amiss."""

import math
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from percept.core.errors import PerceptError
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from percept.models.zoo import CONFIGS
from percept.weights.fit import POSITIONS, differences
from percept.weights.layouts import State


@lru_cache(maxsize=64)
def _without_values(config: ClipConfig) -> State:
    with torch.device("meta"):
        return CLIP(config).state_dict()


def _differing(state: State, config: ClipConfig) -> set[str]:
    """Return the keys that a file and a model do not share with the same shape; the bias of a head is left aside."""
    sides = [{key: value.shape for key, value in one.items()} for one in (state, _without_values(config))]
    return {key for key, _ in sides[0].items() ^ sides[1].items()} - {"vision.projection_bias"}


def _similar(state: State, config: ClipConfig) -> bool:
    """Compare the first layer and the number of blocks: what that leaves is worth being compared in full."""
    vision, patch = config.vision, state.get("vision.patch.weight")
    blocks = {key.split(".")[2] for key in state if key.startswith("vision.blocks.")}
    wanted = (vision.width, 3, vision.patch_size, vision.patch_size)
    return patch is not None and tuple(patch.shape) == wanted and len(blocks) == vision.layers


def find_released(
    state: State,
    layout: str,
    file: Path,
    spelled: Callable[[State], State],
    *,
    named: Collection[str] = (),
    any_size: bool = False,
) -> tuple[str, ClipConfig]:
    """Find the released model whose keys and shapes these are.

    Args:
        state: the weights of `file`, under our names.
        spelled: gives them the names and shapes they have in it.
        named: of twins the one with such a name is taken.
        any_size: the positions may have another grid.

    Raises:
        PerceptError: there is none; it is said in what the file differs from the nearest.
    """
    released = _released(state)
    aside = {POSITIONS} if any_size and POSITIONS in state else set()
    fitting = {
        name: config
        for name, config in released.items()
        if _similar(state, config) and _differing(state, config) <= aside
    }
    if not fitting:
        near = min(released, key=lambda name: (len(_differing(state, released[name])), name))
        raise PerceptError(_nearest(state, near, released[near], layout, file, spelled))
    own = next((name for name in fitting if name in named), min(fitting, key=len))
    return own, fitting[own]


def fitting_name(state: State) -> str | None:
    """Return the name of a released model with these keys and shapes, if there is one."""
    released = _released(state).items()
    whole = [name for name, config in released if _similar(state, config) and not _differing(state, config)]
    return min(whole, key=len) if whole else None


def _released(state: State) -> dict[str, ClipConfig]:
    """Return the released models, without text towers if the state has none."""
    has_text = any(key.startswith("text.") for key in state)
    return {name: config if has_text else replace(config, text=None) for name, config in CONFIGS.items()}


def _nearest(
    state: State, name: str, config: ClipConfig, layout: str, file: Path, spelled: Callable[[State], State]
) -> str:
    """Say in what a file differs from the released model that is nearest to it."""
    if _differing(state, config) == {POSITIONS} and (grid := stored_grid(config, state)) is not None:
        size = grid * config.vision.patch_size
        return (
            f"{file} is {name} for pictures of another size; give image_size={size} (--image-size {size}) to take its "
            "positions as they are stored, or another size to have them resized"
        )
    theirs = {key: value for key, value in state.items() if key != "vision.projection_bias"}
    lines = differences(_without_values(config), theirs, spelled)
    told = f"{file} is in the {layout} layout, but no released model has its shapes; nothing was loaded."
    if 2 * len(_differing(state, config)) > len(state):
        return f"{told} A model of your own opens from what percept wrote: its folder, or NAME.pt with NAME.pt.json beside it"
    return "\n".join([told, f"Against {name}, the nearest:", *lines])


def stored_grid(config: ClipConfig, state: State) -> int | None:
    """Return how many patches along a side the stored positions are for; None where they are for no square."""
    positions = state.get(POSITIONS)
    if positions is None or positions.dim() != 2:
        return None
    prefix = config.vision.prefix
    side = math.isqrt(max(0, len(positions) - prefix))
    return side if side and side**2 + prefix == len(positions) else None
