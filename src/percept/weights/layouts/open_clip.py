"""The layout of open_clip: a timm tower under `visual.trunk.`, a text tower under `text.`, and open_clip_config.json.

Keys: mlfoundations/open_clip, src/open_clip/model.py (CustomTextCLIP) and timm_model.py.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import Tensor

from percept.core.errors import PerceptError, unknown_name
from percept.core.io import read_object
from percept.data.transforms import Preprocess
from percept.models.config import ClipConfig
from percept.weights.layout import Header, Layout, State
from percept.weights.layouts.official import TEXT_NAMES
from percept.weights.layouts.timm import (
    check_resize,
    from_timm,
    normalisation,
    timm_name,
    to_timm,
    without_zero_bias,
)
from percept.weights.rename import STRANGE, renamed

OPEN_CLIP = "open_clip_config.json"
TRUNK, TEXTS = "visual.trunk.", "text."
RESIZES = {"squash": "squash", "shortest": "crop", "longest": "pad"}
"""open_clip's resize_mode: ours."""


def from_open_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of an open_clip model to ours."""
    trunk = {key.removeprefix(TRUNK): value for key, value in state.items() if key.startswith(TRUNK)}
    ours = {f"vision.{key}": value for key, value in from_timm(trunk).items()}
    return ours | renamed({key: value for key, value in state.items() if not key.startswith(TRUNK)}, _our_name)


def _our_name(key: str) -> str:
    if key == "logit_scale":
        return "log_scale"
    return TEXTS + TEXT_NAMES.ours(key.removeprefix(TEXTS)) if key.startswith(TEXTS) else STRANGE + key


def to_open_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename our keys to open_clip's."""
    vision = {key.removeprefix("vision."): value for key, value in state.items() if key.startswith("vision.")}
    theirs = {TRUNK + key: value for key, value in to_timm(vision).items()}
    for key, value in state.items():
        if key == "log_scale":
            theirs["logit_scale"] = value
        elif key.startswith(TEXTS):
            theirs[TEXTS + TEXT_NAMES.theirs(key.removeprefix(TEXTS))] = value
        elif not key.startswith("vision."):
            theirs[key.removeprefix(STRANGE)] = value
    return theirs


def open_clip_config(config: ClipConfig, preprocess: Preprocess) -> dict[str, Any]:
    """Return the open_clip_config.json with which open_clip builds this model.

    Raises:
        PerceptError: a model without text, a tower without a name in timm, by which open_clip builds it, or a resize mode
            that has no name there.
    """
    check_resize(preprocess, "open_clip")
    if config.text is None:
        raise PerceptError(
            "the open_clip layout holds pairs of towers and this model has no text tower; write it --to timm"
        )
    name = timm_name(config.vision)
    if name is None:
        raise PerceptError(
            "open_clip builds its vision tower by a name in timm, and there is none for one of these sizes; "
            "write it --to timm (vision only), --to official or --to percept"
        )
    text = config.text
    return {
        "model_cfg": {
            "embed_dim": text.output_dim,
            "vision_cfg": {
                "image_size": config.vision.image_size,
                "timm_model_name": name,
                "timm_model_pretrained": False,
                "timm_pool": "map",
                "timm_proj": None,
            },
            "text_cfg": {
                "context_length": text.context,
                "vocab_size": text.vocabulary,
                "width": text.width,
                "heads": text.heads,
                "layers": text.layers,
            },
            "custom_text": True,
        },
        "preprocess_cfg": {
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "interpolation": "bilinear",
            "resize_mode": next(theirs for theirs, ours in RESIZES.items() if ours == preprocess.resize),
        },
    }


class OpenClip(Layout):
    """A timm tower and a text tower; weights and configuration are separate files."""

    name = "open_clip"
    marks = (TRUNK,)
    weight_files = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
    config_files = (OPEN_CLIP,)
    written_file = "open_clip_model.safetensors"
    takes_file = False

    def to_ours(self, state: State) -> State:
        """Rename the keys; see `from_open_clip`."""
        return from_open_clip(state)

    def to_theirs(self, state: State) -> State:
        """Rename the keys; see `to_open_clip`."""
        return to_open_clip(state)

    def spelled(self, state: State, stored: Collection[str]) -> State:
        """Return some of our tensors as open_clip has them, without a bias that we do not have."""
        return without_zero_bias(to_open_clip(state), state)

    def read_header(self, file: Path) -> Header:
        """Return mean, standard deviation and resize mode in open_clip_config.json.

        Raises:
            PerceptError: the file is damaged, or the resize mode is unknown.
        """
        config_file = file.with_name(OPEN_CLIP)
        facts = read_object(config_file)
        chosen = facts.get("preprocess_cfg", facts)
        chosen = chosen if isinstance(chosen, dict) else {}
        changes = normalisation(chosen)
        if mode := chosen.get("resize_mode"):
            if mode not in RESIZES:
                raise unknown_name(f"resize_mode in {config_file}", str(mode), RESIZES)
            changes["resize"] = RESIZES[mode]
        return Header(preprocess_changes=changes)

    def write_header(self, header: Header) -> dict[str, Any]:
        """Return open_clip_config.json; see `open_clip_config`."""
        assert header.config is not None
        assert header.preprocess is not None
        return {OPEN_CLIP: open_clip_config(header.config, header.preprocess)}


LAYOUT = OpenClip()
