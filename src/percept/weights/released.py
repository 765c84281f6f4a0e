"""Identify a weight file without a record by its keys and shapes, or report the nearest mismatch."""

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
from percept.weights.layout import State
from percept.weights.resize import stored_grid


@lru_cache(maxsize=64)
def _without_values(config: ClipConfig) -> State:
    with torch.device("meta"):
        return CLIP(config).state_dict()


def _differing(state: State, config: ClipConfig) -> set[str]:
    """Return the keys that a file and a model do not share with the same shape, apart from the bias of a head."""
    sides = [{key: value.shape for key, value in side.items()} for side in (state, _without_values(config))]
    return {key for key, _ in sides[0].items() ^ sides[1].items()} - {"vision.projection_bias"}


def _similar(state: State, config: ClipConfig) -> bool:
    """Compare the first layer and the number of blocks; models that pass are worth comparing in full."""
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
    """Find the released model with these keys and shapes.

    Args:
        state: the weights of `file`, under our names.
        spelled: gives them the names and shapes that they have in the file.
        named: of models with equal shapes, one with such a name is preferred.
        any_size: the positions may have a different grid.

    Raises:
        PerceptError: there is none; the differences from the nearest one are listed.
    """
    released = _released(state)
    ignored = {POSITIONS} if any_size and POSITIONS in state else set()
    fitting = {
        name: config
        for name, config in released.items()
        if _similar(state, config) and _differing(state, config) <= ignored
    }
    if not fitting:
        near = min(released, key=lambda name: (len(_differing(state, released[name])), name))
        raise PerceptError(_nearest(state, near, released[near], layout, file, spelled))
    name = next((name for name in fitting if name in named), min(fitting, key=len))
    return name, fitting[name]


def fitting_name(state: State) -> str | None:
    """Return the name of a released model with these keys and shapes, if there is one."""
    released = _released(state).items()
    fitting = [name for name, config in released if _similar(state, config) and not _differing(state, config)]
    return min(fitting, key=len) if fitting else None


def _released(state: State) -> dict[str, ClipConfig]:
    """Return the released models, without text towers if the state has none."""
    has_text = any(key.startswith("text.") for key in state)
    return {name: config if has_text else replace(config, text=None) for name, config in CONFIGS.items()}


def _nearest(
    state: State, name: str, config: ClipConfig, layout: str, file: Path, spelled: Callable[[State], State]
) -> str:
    """Return a message with the differences between a file and the nearest released model."""
    if _differing(state, config) == {POSITIONS} and (grid := stored_grid(config, state)) is not None:
        size = grid * config.vision.patch_size
        return (
            f"{file} is {name} for images of a different size; give image_size={size} (--image-size {size}) to use its "
            "positions as they are stored, or any other size to resize them"
        )
    theirs = {key: value for key, value in state.items() if key != "vision.projection_bias"}
    lines = differences(_without_values(config), theirs, spelled)
    message = f"{file} is in the {layout} layout, but no released model has its shapes; nothing was loaded."
    if 2 * len(_differing(state, config)) > len(state):
        return f"{message} Open a model of your own from its folder, or from NAME.pt with NAME.pt.json next to it"
    return "\n".join([message, f"Against {name}, the nearest:", *lines])
