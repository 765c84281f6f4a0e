"""The toy PerceptionLM of the goldens: transformers' class, its state filled by its own keys, run in float32."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from percept.core.io import save_tensors, write_json
from tests.golden.filling import FOLDER, image, weight

MANIFEST = json.loads((FOLDER / "manifests" / "plm_hf.json").read_text())
CONFIG, PIXELS = MANIFEST["config"], MANIFEST["config"]["tile_pixels"]
TILES = {"one": 1, "tiles": 5}
EOS = 319
EMBEDDING, HEAD = "model.language_model.embed_tokens.weight", "lm_head.weight"


def state(*, head: bool = True) -> dict[str, Tensor]:
    """The state under the keys of transformers; with or without the copy of the embedding."""
    filled = {key: weight(key, tuple(shape)) for key, shape in MANIFEST["keys"].items() if key != HEAD}
    return filled | ({HEAD: filled[EMBEDDING].clone()} if head else {})


def config(**changes: Any) -> dict[str, Any]:
    """The config.json of transformers."""
    return {
        "model_type": "perception_lm", "vision_config": {**CONFIG["vision"], "model_type": "timm_wrapper"},
        "text_config": CONFIG["text"], "vision_use_cls_token": CONFIG["vision_use_cls_token"],
        "projector_pooling_ratio": CONFIG["projector_pooling_ratio"], "image_token_id": CONFIG["image_token_id"],
        "tie_word_embeddings": CONFIG["tie_word_embeddings"], **changes,
    }  # fmt: skip


def folder(path: Path, *, head: bool = True) -> Path:
    """A folder as transformers writes it, without a tokenizer."""
    save_tensors(path / "model.safetensors", state(head=head), {"format": "pt"})
    write_json(path / "config.json", config())
    return path


def tiles(case: str) -> Tensor:
    return image(40 + TILES[case], 1, TILES[case], 3, PIXELS, PIXELS)[0]


def reference(key: str) -> Tensor:
    with np.load(FOLDER / "plm_outputs.npz") as stored:
        return torch.from_numpy(stored[key])
