"""From a weight file or a folder in any known layout to our names, our configuration and what else lies there."""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from percept.core.config import from_dict
from percept.core.errors import PerceptError, unknown_name
from percept.core.io import content_hash, read_json
from percept.core.report import notice
from percept.data.transforms import Preprocess
from percept.models.config import ClipConfig
from percept.nn.posembed import resize_positions
from percept.weights.files import SUFFIXES, is_safetensors, read_facts, read_tensors
from percept.weights.fit import POSITIONS
from percept.weights.layouts import LAYOUTS, State, fit, recognise, spelling
from percept.weights.layouts.open_clip import RESIZES
from percept.weights.naming import checked_name, plain_name
from percept.weights.released import find_released, stored_grid

OPEN_CLIP, TIMM, OWN = "open_clip_config.json", "config.json", "preprocess.json"
"""The file that tells the layout of a folder."""
FACTS = "percept"
"""Under this key our safetensors files, and the json beside our pickled ones, say which model they hold."""
END = 1 << 20
"""Bytes at either end of a pickled file by which it is known again; the last hold a checksum of every tensor."""
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
    words: str | None = None
    """The `words_hash` of the tokenizer that the model had, where the file says it."""
    spelled: Callable[[State], State]
    """From our names and shapes to those of the file, for messages."""


def pick_files(files: Collection[str], name: str, *, place: str | None = None) -> list[str]:
    """Return the files that a model consists of, weights first, among those of a folder or a hub repository.

    Args:
        name: of the model: NAME.pt and NAME.safetensors count as its weights.
        place: the folder or repository, for the message; `name` when None.

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
    raise PerceptError(f"{place or name} {what}; give the one file that is meant")


def _with_those_beside(weights: str, configs: Collection[str], files: Collection[str]) -> list[str]:
    extras = (*configs, facts_file(Path(weights)).name, *BESIDE)
    return [weights, *(extra for extra in extras if extra in files)]


def facts_file(file: Path) -> Path:
    """Return where it is said which model a pickled file holds, if we wrote it."""
    return file.with_name(f"{file.name}.json")


def file_facts(file: Path) -> dict[str, Any]:
    """Return by what a pickled file is told from one that took its place: its length, and a hash of both ends."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        ends = opened.read(END)
        opened.seek(max(0, size - END))
        ends += opened.read(END)
    return {"bytes": size, "ends": content_hash(ends)}


def open_weights(
    path: Path | str,
    *,
    config: ClipConfig | None = None,
    name: str | None = None,
    image_size: int | None = None,
    preprocess: Preprocess | None = None,
) -> Weights:
    """Read weights in any known layout.

    Args:
        path: a weight file, or the folder of an open_clip, timm or published model.
        config: the model they are for; otherwise the file says it, or its shapes do where a released model has them.
        name: of the model; otherwise found with the configuration.
        image_size: side in pixels of the square whose grid the positions are resized to; as stored when None.
        preprocess: how its pictures are brought to size, unless the file says it; as published when None.

    Raises:
        PerceptError: no weights, an unknown layout, or no configuration that is known to fit.
    """
    path = Path(path)
    files = sorted(file.name for file in path.iterdir()) if path.is_dir() else []
    file = path / pick_files(files, name or path.name, place=str(path))[0] if path.is_dir() else path
    stored = read_tensors(file)
    layout = recognise(stored, source=str(file))
    spelled = spelling(layout, stored)
    state = LAYOUTS[layout].read(stored)
    facts, found = _facts(file), None
    if config is None and facts:
        config = from_dict(ClipConfig, facts["model"])
        found = checked_name(facts["name"], str(file)) if "name" in facts else None
    elif config is None:
        found, config = find_released(
            state, layout, file, spelled, named=(_stem(file), file.parent.name), any_size=image_size is not None
        )
    config, state = _fitted(state, config, file)
    config, state = with_image_size(config, state, image_size)
    if "preprocess" in facts:
        preprocess = from_dict(Preprocess, facts["preprocess"])
    elif layout == "percept" and (beside := file.with_name(OWN)).is_file():
        preprocess = Preprocess.load(beside)
    changes = _resizing(file, layout) | ({} if image_size is None else {"size": image_size})
    return Weights(
        name=name or found or _stem(file), config=config, state=state, layout=layout, file=file,
        preprocess=replace(preprocess or Preprocess(size=config.vision.image_size), **changes), spelled=spelled,
        words=facts.get("tokenizer") if isinstance(facts.get("tokenizer"), str) else None,
    )  # fmt: skip


def with_image_size(
    config: ClipConfig, state: dict[str, Tensor], size: int | None
) -> tuple[ClipConfig, dict[str, Tensor]]:
    """Return a configuration of another picture size and, where the stored positions have another grid, resize them.

    Bilinear, corners not aligned, in float32, as the published converter does; a stored grid is taken to be square.

    Raises:
        PerceptError: a size below one patch, or one that does not divide into patches.
    """
    if size is None:
        return config, state
    vision = replace(config.vision, image_size=size)
    if size % vision.patch_size:
        near = vision.grid * vision.patch_size
        raise PerceptError(
            f"image_size={size} does not divide into patches of {vision.patch_size} pixels; give {near} or "
            f"{near + vision.patch_size}"
        )
    if (old := stored_grid(config, state)) is not None:
        prefix = vision.prefix
        resized = resize_positions(state[POSITIONS], (old, old), (vision.grid, vision.grid), prefix=prefix)
        state = {**state, POSITIONS: resized}
    return replace(config, vision=vision), state


def _facts(file: Path) -> dict[str, Any]:
    beside = facts_file(file)
    try:
        if is_safetensors(file):
            facts = json.loads(read_facts(file).get(FACTS, "{}"))
        else:
            facts = json.loads(beside.read_text(encoding="utf-8"))[FACTS] if beside.is_file() else {}
    except (ValueError, KeyError, TypeError):  # not ours
        return {}
    if not (isinstance(facts, dict) and isinstance(facts.get("model"), dict)):
        return {}
    if "file" in facts and facts["file"] != file_facts(file):
        notice(
            f"{beside} was written for another {file.name}, so what it says is left aside; remove it, or put that back"
        )
        return {}
    return facts


def _fitted(state: State, config: ClipConfig, file: Path) -> tuple[ClipConfig, State]:
    """Adapt the configuration to what a file leaves out as a whole (text) or timm adds (a bias)."""
    if config.text is not None and not any(key.startswith("text.") for key in state):
        notice(f"{file} holds a vision tower only, so this model cannot read texts")
        config = replace(config, text=None)
    if "vision.projection_bias" in state and config.vision.output_dim is not None:
        config = replace(config, vision=replace(config.vision, output_bias=True))
    return config, fit(state, config)


def _stem(file: Path) -> str:
    generic = {"model", "pytorch_model", "open_clip_model", "open_clip_pytorch_model"}
    return plain_name(file.resolve().parent.name if file.stem in generic else file.stem)


def _resizing(file: Path, layout: str) -> dict[str, Any]:
    """Return what the configuration that lies beside a file of another library changes in the preprocessing."""
    beside = file.with_name(OPEN_CLIP if layout == "open_clip" else TIMM)
    if layout not in ("open_clip", "timm") or not beside.is_file():
        return {}
    facts = read_json(beside)
    facts = facts.get("preprocess_cfg" if layout == "open_clip" else "pretrained_cfg", facts)
    changes: dict[str, Any] = {key: tuple(map(float, facts[key])) for key in ("mean", "std") if facts.get(key)}
    if layout == "open_clip" and (mode := facts.get("resize_mode")):
        if mode not in RESIZES:
            raise unknown_name(f"resize_mode in {beside}", mode, RESIZES)
        changes["resize"] = RESIZES[mode]
    return changes
