"""From a model to a file or folder in any known layout."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.core.io import write_json
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.models.config import ClipConfig
from percept.weights.files import PICKLED, SUFFIXES, write_tensors
from percept.weights.fingerprint import words_hash
from percept.weights.layouts import find_layout
from percept.weights.layouts.open_clip import open_clip_config
from percept.weights.layouts.timm import timm_config
from percept.weights.naming import checked_name
from percept.weights.open import FACTS, OPEN_CLIP, TIMM, facts_file, file_facts


def write_weights(
    target: Path | str,
    state: dict[str, Tensor],
    *,
    layout: str,
    name: str,
    config: ClipConfig,
    preprocess: Preprocess,
    tokenizer: Tokenizer | None = None,
    words: str | None = None,
) -> Path:
    """Write weights under the names of a foreign layout and return the weight file.

    A target that ends as a weight file does becomes that file; any other becomes a folder, with the configuration that
    the layout's own library reads: NAME.pt (official); config.json, model.safetensors (timm); open_clip_config.json,
    open_clip_model.safetensors (open_clip). Which model it is, so that `percept.load` opens any, stands in a safetensors
    file itself and in NAME.pt.json beside a pickled one.

    Args:
        words: the `words_hash` of the tokenizer the model goes with, for a target that has no place for it; that of
            `tokenizer` when None.

    Raises:
        PerceptError: a name that is no file name, a model that the layout cannot hold, or a single file for open_clip, whose folder needs two.
    """
    target = Path(target)
    single = target.suffix in SUFFIXES
    facts = {"name": checked_name(name, "this"), "model": to_dict(config), "preprocess": to_dict(preprocess)}
    if told := words or words_hash(tokenizer, config.text):
        facts["tokenizer"] = told
    if layout == "open_clip" and single:
        raise PerceptError(f"open_clip reads a folder with {OPEN_CLIP}; give a folder instead of {target}")
    header: dict[str, dict] = {}
    if layout == "open_clip":
        header[OPEN_CLIP] = open_clip_config(config, preprocess)
    elif layout == "timm":
        header[TIMM] = timm_config(config.vision, preprocess)
        facts["model"]["text"] = None
        facts.pop("tokenizer", None)
    theirs = find_layout(layout).write(state)
    if single:
        _write(target, theirs, facts)
        return target
    target.mkdir(parents=True, exist_ok=True)
    for file, content in header.items():
        write_json(target / file, content)
    if tokenizer is not None and config.text is not None and layout != "timm":
        tokenizer.save(target / "tokenizer.json")
    names = {"open_clip": "open_clip_model.safetensors", "timm": "model.safetensors"}
    weights = target / names.get(layout, f"{name}.pt")
    _write(weights, theirs, facts)
    return weights


def _write(file: Path, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
    write_tensors(file, state, {FACTS: json.dumps(facts)})
    if file.suffix in PICKLED:  # which holds tensors alone
        write_json(facts_file(file), {FACTS: {**facts, "file": file_facts(file)}})
