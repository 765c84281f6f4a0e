"""Logits of transformers' Llama (scaled positions, own output layer) and Qwen2 (biases, tied), filled by their own keys."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from percept.core.io import save_tensors, write_json
from percept.models.lm import Decoder
from percept.weights.assistant import open_decoder
from tests.golden.filling import FOLDER, weight

MANIFEST = json.loads((FOLDER / "manifests" / "decoders_hf.json").read_text())
EVERY = 4
"""Stored are the logits of every fourth position."""


@pytest.fixture(params=MANIFEST)
def decoder(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Decoder]:
    config, keys = MANIFEST[request.param]["config"], MANIFEST[request.param]["keys"]
    state = {key: weight(key, tuple(shape)) for key, shape in keys.items()}
    if config["tie_word_embeddings"]:
        state["lm_head.weight"] = state["model.embed_tokens.weight"].clone()
    save_tensors(tmp_path / "model.safetensors", state)
    write_json(tmp_path / "config.json", config)
    return request.param, open_decoder(tmp_path)


@torch.no_grad()
def test_logits(decoder: tuple[str, Decoder]) -> None:
    name, model = decoder
    with np.load(FOLDER / "decoder_outputs.npz") as stored:
        ids, expected = (torch.from_numpy(stored[f"{name}/{part}"]) for part in ("ids", "logits"))
    found = model.logits(model(ids).tokens[:, ::EVERY])
    assert float((found - expected).abs().max()) <= 1e-4
    assert float((found - expected).mean().abs()) <= 1e-6
    cache = model.new_cache(2, ids.shape[1])
    steps = [model(part, cache=cache).tokens for part in ids.split([33, *[1] * (ids.shape[1] - 33)], dim=1)]
    cached = model.logits(torch.cat(steps, dim=1)[:, ::EVERY])
    assert float((cached - expected).abs().max()) <= 1e-4
