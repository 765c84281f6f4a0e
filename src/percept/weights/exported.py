"""Open a folder of exported graphs as a model whose towers onnxruntime runs."""

import math
from pathlib import Path

import torch
from torch import nn

from percept.core.errors import PerceptError, unknown_name
from percept.data.tokenizers import Tokenizer
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from percept.models.manifest import Manifest, read_manifest
from percept.models.onnx import Absent, OnnxText, OnnxVision, Session
from percept.weights.fingerprint import tokenizer_hash
from percept.weights.layouts.percept import LAYOUT, TOKENIZER, WEIGHTS
from percept.weights.open import Opened, empty_model


def open_export(folder: Path | str, dtype: str | None = None) -> tuple[Opened, str]:
    """Open an export folder; return the model, whose towers onnxruntime runs, and the number type of its graphs.

    Args:
        folder: written by `percept export onnx`.
        dtype: float32, float16 or int8, if the export holds it; its plain type if None.

    Raises:
        PerceptError: a file is missing or damaged, the export does not hold the type, or onnxruntime is not installed.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    chosen = manifest.dtypes[0] if dtype is None else dtype
    if chosen not in manifest.dtypes:
        raise unknown_name(f"type of the export {folder}", chosen, manifest.dtypes)
    header = LAYOUT.read_header(folder / WEIGHTS)
    if header.config is None or header.preprocess is None:
        raise PerceptError(f"the export {folder} lacks its config.json or preprocess.json; export the model again")
    tokenizer = Tokenizer.load(folder / TOKENIZER) if (folder / TOKENIZER).is_file() else None
    opened = Opened(
        name=manifest.name,
        model=_model(folder, manifest, header.config, chosen),
        preprocess=header.preprocess,
        tokenizer=tokenizer,
        tokenizer_hash=tokenizer_hash(tokenizer, header.config.text, header.tokenizer_hash),
        layout="onnx",
        hash_weights=lambda: _hashes(manifest, chosen),
    )
    return opened, chosen


def _hashes(manifest: Manifest, dtype: str) -> dict[str, str]:
    """Return the hashes of the exported model's weights; different ones for int8, whose vectors differ noticeably."""
    marks = {"vision.quantised": dtype, "text.quantised": dtype} if dtype == "int8" else {}
    return {**manifest.weights, **marks}


def _model(folder: Path, manifest: Manifest, config: ClipConfig, dtype: str) -> CLIP:
    """Return the pair of towers with both replaced by their graphs."""
    model = empty_model(config, str(folder))
    image, text = manifest.graph("image", dtype), manifest.graph("text", dtype)
    vision = Absent("image") if image is None else OnnxVision(Session(folder, manifest, image), manifest, config.vision)
    model.add_module("vision", vision)
    if config.text is not None:
        words = Absent("text") if text is None else OnnxText(Session(folder, manifest, text), config.text)
        model.add_module("text", words)
        model.log_scale = nn.Parameter(torch.tensor(math.log(manifest.scale)), requires_grad=False)
    return model.eval()
