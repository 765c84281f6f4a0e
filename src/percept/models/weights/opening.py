"""From a weight file or a folder in any known layout to our names, our configuration and what else lies there."""

import json
import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from percept.core.config import from_dict
from percept.core.errors import PerceptError, unknown_name
from percept.core.io import read_json
from percept.core.report import notice
from percept.data.transforms import Preprocess
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from percept.models.weights.files import PICKLED, SUFFIXES, read_facts, read_tensors
from percept.models.weights.layouts import LAYOUTS, fit, recognise
from percept.models.weights.open_clip import RESIZES
from percept.models.zoo import CONFIGS
from percept.nn.posembed import resize_positions

OPEN_CLIP, TIMM, OWN = "open_clip_config.json", "config.json", "preprocess.json"
"""The file that tells the layout of a folder."""
POSITIONS = "vision.positions"
FACTS = "percept"
"""Under this key our safetensors files, and the json beside our pickled ones, say which model they hold."""
BESIDE = ("tokenizer.json", "metrics.json")
"""Files that may belong to a model in any layout."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights under our names, and what the file or folder says about them."""

    name: str
    config: ClipConfig
    state: dict[str, Tensor]
    layout: str
    file: Path
    preprocess: Preprocess


def pick_files(files: Collection[str], name: str) -> list[str]:
    """Return the files that a model consists of, weights first, among those of a folder or a hub repository.

    Args:
        name: of the model: NAME.pt and NAME.safetensors count as its weights.

    Raises:
        PerceptError: no file of weights, or several and none is the model's.
    """
    options = (
        (OWN, ("model.safetensors",), (TIMM, OWN)),
        (OPEN_CLIP, ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"), (OPEN_CLIP,)),
        ("", (f"{name}.safetensors", f"{name}.pt"), ()),
        (TIMM, ("model.safetensors", "pytorch_model.bin"), (TIMM,)),
    )
    for sign, weights, configs in options:
        found = [one for one in weights if one in files]
        if found and (not sign or sign in files):
            return _with_those_beside(found[0], configs, files)
    rest = sorted(file for file in files if "/" not in file and file.endswith(SUFFIXES))
    if len(rest) == 1:
        return _with_those_beside(rest[0], (), files)
    what = f"holds several weight files: {', '.join(rest)}" if rest else f"holds no weights ({', '.join(SUFFIXES)})"
    raise PerceptError(f"{name} {what}; give the one file that is meant")


def _with_those_beside(weights: str, configs: Collection[str], files: Collection[str]) -> list[str]:
    extras = (*configs, facts_file(Path(weights)).name, *BESIDE)
    return [weights, *(extra for extra in extras if extra in files)]


def facts_file(file: Path) -> Path:
    """Return where it is said which model a pickled file holds, if we wrote it."""
    return file.with_name(f"{file.name}.json")


def open_weights(
    path: Path | str, *, config: ClipConfig | None = None, name: str | None = None, image_size: int | None = None
) -> Weights:
    """Read weights in any known layout.

    Args:
        path: a weight file, or the folder of an open_clip, timm or published model.
        config: the model they are for; otherwise the file says it, or its shapes do where a released model has them.
        name: of the model; otherwise found with the configuration.
        image_size: side in pixels of the square whose grid the positions are resized to; as stored when None.

    Raises:
        PerceptError: no weights, an unknown layout, or no configuration that is known to fit.
    """
    path = Path(path)
    files = sorted(file.name for file in path.iterdir()) if path.is_dir() else []
    file = path / pick_files(files, name or path.name)[0] if path.is_dir() else path
    stored = read_tensors(file)
    layout = recognise(stored, source=str(file))
    state = LAYOUTS[layout].read(stored)
    facts = _facts(file) if config is None else {}
    found = facts.get("name")
    if config is None and facts:
        config = from_dict(ClipConfig, facts["model"])
    if config is None:
        found, config = _released(state, layout, file)
    config, state = _fitted(state, config, layout, file)
    config, state = with_image_size(config, state, image_size)
    stored_as = facts.get("preprocess")
    if stored_as is not None and image_size is not None:
        stored_as = {**stored_as, "size": image_size}
    preprocess = _preprocess(file, layout, config.vision.image_size, stored_as)
    return Weights(
        name=name or found or _stem(file), config=config, state=state, layout=layout, file=file, preprocess=preprocess
    )


def with_image_size(
    config: ClipConfig, state: dict[str, Tensor], size: int | None
) -> tuple[ClipConfig, dict[str, Tensor]]:
    """Return a configuration of another picture size and, where the stored positions have another grid, resize them.

    Bilinear, corners not aligned, in float32, as the published converter does; a stored grid is taken to be square.

    Raises:
        PerceptError: a size below one patch.
    """
    if size is None:
        return config, state
    vision = replace(config.vision, image_size=size)
    positions = state.get(POSITIONS)
    if positions is not None and positions.dim() == 2:
        prefix = int(vision.class_token)
        old = math.isqrt(max(0, len(positions) - prefix))
        if old**2 + prefix == len(positions) and old > 0:
            resized = resize_positions(positions, (old, old), (vision.grid, vision.grid), prefix=prefix)
            state = {**state, POSITIONS: resized}
    return replace(config, vision=vision), state


def _facts(file: Path) -> dict[str, Any]:
    beside = facts_file(file)
    try:
        if file.suffix in PICKLED:
            facts = json.loads(beside.read_text(encoding="utf-8"))[FACTS] if beside.is_file() else {}
        else:
            facts = json.loads(read_facts(file).get(FACTS, "{}"))
    except (ValueError, KeyError, TypeError):  # not ours
        return {}
    return facts if isinstance(facts, dict) and isinstance(facts.get("model"), dict) else {}


def _fitted(
    state: dict[str, Tensor], config: ClipConfig, layout: str, file: Path
) -> tuple[ClipConfig, dict[str, Tensor]]:
    """Adapt the configuration to what timm's layout leaves out (text) or adds (a bias)."""
    if layout == "timm" and config.text is not None:
        notice(f"{file} holds a vision tower only, so this model cannot read texts")
        config = replace(config, text=None)
    if "vision.projection_bias" in state and config.vision.output_dim is not None:
        config = replace(config, vision=replace(config.vision, output_bias=True))
    return config, fit(state, config)


@lru_cache(maxsize=64)
def _shapes(config: ClipConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {key: value.shape for key, value in CLIP(config).state_dict().items()}


def _similar(state: dict[str, Tensor], config: ClipConfig) -> bool:
    """Compare the first layer and the number of blocks: what that leaves is worth being compared in full."""
    vision, patch = config.vision, state.get("vision.patch.weight")
    blocks = {key.split(".")[2] for key in state if key.startswith("vision.blocks.")}
    wanted = (vision.width, 3, vision.patch_size, vision.patch_size)
    return patch is not None and tuple(patch.shape) == wanted and len(blocks) == vision.layers


def _released(state: dict[str, Tensor], layout: str, file: Path) -> tuple[str, ClipConfig]:
    """Find the released model whose keys and shapes these are; of twins the one that the file is named after."""
    theirs = {key: value.shape for key, value in state.items() if key != "vision.projection_bias"}
    has_text = any(key.startswith("text.") for key in theirs)
    released = {name: config if has_text else replace(config, text=None) for name, config in CONFIGS.items()}
    fitting = {
        name: config for name, config in released.items() if _similar(state, config) and _shapes(config) == theirs
    }
    if not fitting:
        near = [(len(_shapes(config).items() ^ theirs.items()), name) for name, config in released.items()]
        raise PerceptError(
            f"{file} is in the {layout} layout, but no released model has its shapes (the nearest, {min(near)[1]}, differs "
            f"in {min(near)[0]} entries). Say which model it is, with the name first and this file as its weights, and the "
            "differences are listed; or give the folder that percept wrote"
        )
    own = next((name for name in fitting if name in (_stem(file), file.parent.name)), min(fitting, key=len))
    return own, fitting[own]


def _stem(file: Path) -> str:
    generic = {"model", "pytorch_model", "open_clip_model", "open_clip_pytorch_model"}
    return file.resolve().parent.name if file.stem in generic else file.stem


def _preprocess(file: Path, layout: str, size: int, stored: Any) -> Preprocess:
    """Return the published preprocessing with what the folder's own configuration changes in it, or as we `stored` it."""
    beside = file.with_name(OPEN_CLIP if layout == "open_clip" else TIMM)
    if layout not in ("open_clip", "timm") or not beside.is_file():
        return Preprocess(size=size) if stored is None else from_dict(Preprocess, stored)
    facts = read_json(beside)
    facts = facts.get("preprocess_cfg" if layout == "open_clip" else "pretrained_cfg", facts)
    changes: dict[str, Any] = {key: tuple(map(float, facts[key])) for key in ("mean", "std") if facts.get(key)}
    if layout == "open_clip" and (mode := facts.get("resize_mode")):
        if mode not in RESIZES:
            raise unknown_name(f"resize_mode in {beside}", mode, RESIZES)
        changes["resize"] = RESIZES[mode]
    return Preprocess(size=size, **changes)
