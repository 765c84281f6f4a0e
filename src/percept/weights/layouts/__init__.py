"""Which layout a file is in, told by its keys, and the way from and to each."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from torch import Tensor

from percept.core.errors import PerceptError, unknown_name
from percept.models.config import ClipConfig
from percept.weights.layouts.official import from_official, published_name
from percept.weights.layouts.open_clip import from_open_clip, to_open_clip
from percept.weights.layouts.timm import from_timm, to_timm

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A way to name the weights of a model."""

    marks: tuple[str, ...]
    """Beginnings of keys that only files of this layout have."""
    read: Callable[[State], State]
    """Their names to ours."""
    write: Callable[[State], State]
    """Our names to theirs."""


def _read_official(state: State) -> State:
    return from_official(state, has_text=any(key.startswith("visual.") for key in state))


def _write_official(state: State) -> State:
    if "vision.projection_bias" in state:
        raise PerceptError(
            "the published layout has no place for the bias of this model's projection; write it --to timm, open_clip "
            "or percept"
        )
    has_text = any(key.startswith("text.") for key in state)
    return {published_name(key, has_text): value for key, value in state.items()}


def _read_timm(state: State) -> State:
    return {f"vision.{key}": value for key, value in from_timm(state).items()}


def _write_timm(state: State) -> State:
    return to_timm({key.removeprefix("vision."): value for key, value in state.items() if key.startswith("vision.")})


LAYOUTS: dict[str, Layout] = {  # in this order, so that marks of a later one may begin those of an earlier one
    "open_clip": Layout(marks=("visual.trunk.",), read=from_open_clip, write=to_open_clip),
    "percept": Layout(marks=("vision.blocks.", "vision.patch."), read=dict, write=dict),
    "official": Layout(
        marks=("visual.transformer.", "transformer.resblocks.", "visual.conv1.", "conv1."),
        read=_read_official,
        write=_write_official,
    ),
    "timm": Layout(marks=("blocks.", "patch_embed."), read=_read_timm, write=_write_timm),
}


TRANSFORMERS = ("vision_model.", "text_model.", "timm_model.", "vision_tower.", "model.vision_tower.")
"""Beginnings of keys in the layouts of the transformers library."""


def find_layout(name: str) -> Layout:
    """Return a layout by its name.

    Raises:
        PerceptError: no such layout; the nearest ones are suggested.
    """
    if name not in LAYOUTS:
        raise unknown_name("layout", name, LAYOUTS)
    return LAYOUTS[name]


def recognise(keys: Collection[str], *, source: str) -> str:
    """Return the name of the layout that a file with these keys is in.

    Raises:
        PerceptError: none that is known; it is said what the keys are and what they could be.
    """
    for name, layout in LAYOUTS.items():
        if any(key.startswith(layout.marks) for key in keys):
            return name
    if any(key.startswith("master.") for key in keys):
        raise PerceptError(
            f"{source} is the checkpoint of a training run that is not finished; repeat its percept train command to go on"
        )
    if any(key.startswith(TRANSFORMERS) for key in keys):
        raise not_read(source)
    shown = ", ".join(sorted(keys)[:4])
    known = "; ".join(f"{name} ({' or '.join(layout.marks[:2])}...)" for name, layout in LAYOUTS.items())
    raise PerceptError(
        f"{source} is in no layout that is known here: its {len(keys)} keys are {shown}... It could be one of: {known}"
    )


def not_read(source: str) -> PerceptError:
    """Build the error for weights that the transformers library wrote."""
    return PerceptError(
        f"{source} is in transformers' layout, which is not read here; take the model as it was published (NAME.pt), or "
        "in the layout of timm or open_clip"
    )


def spelling(layout: str, stored: Collection[str]) -> Callable[[State], State]:
    """Return what gives some of our tensors the names and shapes of a file in this layout whose keys are `stored`."""
    if layout == "official":
        prefixed = any(key.startswith("visual.") for key in stored)
        return lambda some: {published_name(key, prefixed): value for key, value in some.items()}
    write = LAYOUTS[layout].write
    return lambda some: {  # without the bias of zeros that goes with every projection
        key: value
        for key, value in write(some).items()
        if "vision.projection_bias" in some or not key.endswith("head.bias")
    }


def fit(state: State, config: ClipConfig) -> State:
    """Leave the text tower out of a state where the model has none."""
    if config.text is not None:
        return state
    return {key: value for key, value in state.items() if not key.startswith("text.") and key != "log_scale"}
