"""Open a folder of exported graphs as a model whose towers onnxruntime runs."""

import math
from pathlib import Path

import torch
from torch import nn

from percept.core.config import from_dict
from percept.core.errors import unknown_name
from percept.core.io import content_hash, read_json
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from percept.models.onnx import Absent, Manifest, OnnxText, OnnxVision, Session, read_manifest
from percept.weights.folder import CONFIG, PREPROCESS, TOKENIZER, Opened


def open_export(folder: Path | str, dtype: str | None = None) -> tuple[Opened, str]:
    """Open an export folder; return the model, whose towers onnxruntime runs, and the number type of its graphs.

    Args:
        folder: what `percept export onnx` wrote.
        dtype: float32, float16 or int8, whichever it holds; its plain one when None.

    Raises:
        PerceptError: a file is missing or damaged, it holds no such type, or onnxruntime is not installed.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    chosen = manifest.dtypes[0] if dtype is None else dtype
    if chosen not in manifest.dtypes:
        raise unknown_name(f"type of the export {folder}", chosen, manifest.dtypes)
    config = from_dict(ClipConfig, read_json(folder / CONFIG)["model"])
    tokenizer = Tokenizer.load(folder / TOKENIZER) if (folder / TOKENIZER).is_file() else None
    opened = Opened(
        name=manifest.name,
        model=_model(folder, manifest, config, chosen),
        preprocess=Preprocess.load(folder / PREPROCESS),
        tokenizer=tokenizer,
        fingerprint=_fingerprint(manifest, chosen),
        layout="onnx",
    )
    return opened, chosen


def _fingerprint(manifest: Manifest, dtype: str) -> str:
    """Return that of the exported model, another one for int8: those vectors are not comparable in every digit."""
    return content_hash(f"{manifest.fingerprint} int8".encode()) if dtype == "int8" else manifest.fingerprint


def _model(folder: Path, manifest: Manifest, config: ClipConfig, dtype: str) -> CLIP:
    """Return the pair of towers with both replaced by their graphs."""
    with torch.device("meta"):
        model = CLIP(config)
    image, text = manifest.graph("image", dtype), manifest.graph("text", dtype)
    vision = Absent("image") if image is None else OnnxVision(Session(folder, manifest, image), manifest, config.vision)
    model.add_module("vision", vision)
    if config.text is not None:
        words = Absent("text") if text is None else OnnxText(Session(folder, manifest, text), config.text)
        model.add_module("text", words)
        model.log_scale = nn.Parameter(torch.tensor(math.log(manifest.scale)), requires_grad=False)
    return model.eval()
