"""The layout of open_clip: a timm tower under `visual.trunk.`, a text tower under `text.`, and open_clip_config.json.

Keys: mlfoundations/open_clip, src/open_clip/model.py (CustomTextCLIP) and timm_model.py.
"""

from typing import Any

from torch import Tensor

from percept.core.errors import PerceptError
from percept.data.transforms import Preprocess
from percept.models.config import ClipConfig
from percept.weights.layouts.official import TEXT_NAMES
from percept.weights.layouts.timm import check_resize, from_timm, timm_name, to_timm
from percept.weights.rename import STRANGE, renamed

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
        PerceptError: a model without text, a tower that has no name in timm, by which open_clip builds it, or a way to
            resize that has no name there.
    """
    check_resize(preprocess, "open_clip")
    if config.text is None:
        raise PerceptError("open_clip's layout holds pairs of towers and this model has no text; write it --to timm")
    name = timm_name(config.vision)
    if name is None:
        raise PerceptError(
            "open_clip builds its vision tower by a name of timm, and there is none for one of these sizes; "
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
