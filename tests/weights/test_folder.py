"""A model folder: what is saved is what is opened, to the bit; what does not fit is listed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from percept.core.errors import PerceptError
from percept.core.io import load_tensors, same_tensors, save_tensors
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.models.clip import CLIP
from percept.weights.folder import CONFIG, PREPROCESS, WEIGHTS, save_folder
from percept.weights.open import open_model
from tests.models.small import clip


def saved(folder: Path, model: CLIP, **options: object) -> Path:
    words = Tokenizer.train(["a red cup"], vocab_size=300, context=10)
    save_folder(folder, model, name="small", preprocess=Preprocess(size=16), tokenizer=words, **options)  # type: ignore[arg-type]
    return folder


def test_the_round_trip_is_exact(tmp_path: Path) -> None:
    model = clip(layer_scale=0.1, hidden=20)
    saved(tmp_path, model, provenance={"seed": 3}, metrics={"top-1": 0.5})
    opened = open_model(tmp_path)
    assert same_tensors(opened.model.state_dict(), model.state_dict())
    assert opened.model.config == model.config
    assert (opened.name, opened.provenance, opened.metrics) == ("small", {"seed": 3}, {"top-1": 0.5})
    assert opened.preprocess == Preprocess(size=16)
    assert opened.tokenizer is not None
    assert opened.tokenizer(["a red cup"]).shape == (1, 10)
    assert not opened.model.training
    assert all(parameter.requires_grad for parameter in opened.model.parameters())


def test_stored_in_16_bits_scalars_stay_in_32(tmp_path: Path) -> None:
    model = clip()
    opened = open_model(saved(tmp_path, model, dtype=torch.bfloat16))
    types = {name: parameter.dtype for name, parameter in opened.model.named_parameters()}
    assert types.pop("log_scale") == torch.float32
    assert set(types.values()) == {torch.bfloat16}
    torch.testing.assert_close(opened.model.vision.patch.weight, model.vision.patch.weight.bfloat16())


def test_the_fingerprint_follows_the_weights(tmp_path: Path) -> None:
    model = clip()
    first = open_model(saved(tmp_path / "a", model)).image_identity
    assert open_model(saved(tmp_path / "b", model)).image_identity == first
    with torch.no_grad():
        model.get_parameter("vision.positions").add_(1e-3)
    assert open_model(saved(tmp_path / "c", model)).image_identity != first


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS, PREPROCESS])
def test_a_missing_file_is_named(tmp_path: Path, file: str) -> None:
    saved(tmp_path, clip())
    (tmp_path / file).unlink()
    with pytest.raises(PerceptError, match=f"has no {file}"):
        open_model(tmp_path)


def test_truncated_weights(tmp_path: Path) -> None:
    saved(tmp_path, clip())
    data = (tmp_path / WEIGHTS).read_bytes()
    for length in (0, 5, len(data) // 2, len(data) - 1):
        (tmp_path / WEIGHTS).write_bytes(data[:length])
        with pytest.raises(PerceptError, match="not a complete"):
            open_model(tmp_path)


def test_what_does_not_fit_is_listed_and_nothing_is_loaded(tmp_path: Path) -> None:
    saved(tmp_path, clip())
    state = load_tensors(tmp_path / WEIGHTS)
    del state["vision.patch.weight"]
    state["log_scale"] = torch.zeros(2)
    state |= {f"stranger.{number}": torch.zeros(1) for number in range(10)}
    save_tensors(tmp_path / WEIGHTS, state)
    with pytest.raises(PerceptError) as caught:
        open_model(tmp_path)
    text = str(caught.value)
    assert "missing: vision.patch.weight" in text
    assert "unexpected: stranger.0" in text
    assert "and 2 more" in text
    assert "log_scale [2] instead of []" in text
    assert WEIGHTS in text


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda header: header["model"]["vision"].update(widht=3), "'width'"),
        (lambda header: header["model"]["vision"].pop("width"), "needs the field 'width'"),
        (lambda header: header.pop("model"), "no entry 'model'"),
        (lambda header: header["model"]["vision"].update(width=32), "of a different shape"),
    ],
)
def test_a_configuration_that_was_tampered_with(tmp_path: Path, change: Callable[[dict], Any], hint: str) -> None:
    saved(tmp_path, clip())
    header = json.loads((tmp_path / CONFIG).read_text())
    change(header)
    (tmp_path / CONFIG).write_text(json.dumps(header))
    with pytest.raises(PerceptError, match=hint):
        open_model(tmp_path)
