"""Weights that are split over several files with an index."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import percept
from percept.core.errors import PerceptError
from percept.core.io import load_tensors, same_tensors, save_tensors
from percept.weights.layouts.percept import WEIGHTS
from percept.weights.locate import locate
from percept.weights.open import open_model
from percept.weights.write import write_weights
from tests.infer import tiny

INDEX = f"{WEIGHTS}.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def split(folder: Path, file: str = WEIGHTS) -> Path:
    """Replace a weight file by two and an index."""
    state = load_tensors(folder / file)
    table = {key: SHARDS[number % 2] for number, key in enumerate(sorted(state))}
    for shard in SHARDS:
        save_tensors(folder / shard, {key: state[key] for key, place in table.items() if place == shard})
    (folder / f"{file}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": table}))
    (folder / file).unlink()
    return folder


def test_they_are_the_model_they_were_split_from(tmp_path):
    whole, parts = tiny.folder(tmp_path / "whole"), split(tiny.folder(tmp_path / "parts"))
    assert locate(parts).path == parts / INDEX
    one, other = open_model(whole), open_model(parts)
    assert same_tensors(one.model.state_dict(), other.model.state_dict())
    assert one.image_identity == other.image_identity
    by_index = percept.load(parts / INDEX, dtype="float32")
    torch.testing.assert_close(by_index.text("a red cup"), tiny.encoder().text("a red cup"))
    given = percept.load("nano", weights=split(shutil.copytree(locate("nano").path.parent, tmp_path / "nano")))  # type: ignore[union-attr]
    assert given.identity == percept.load("nano").identity


def test_other_layouts_are_split_too(tmp_path):
    model = tiny.model()
    write_weights(
        tmp_path / "tiny.safetensors", model.state_dict(), layout="official", name="tiny", config=model.config,
        preprocess=tiny.encoder().preprocess,
    )  # fmt: skip
    split(tmp_path, "tiny.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(percept.models.zoo.CONFIGS, "PE-Tiny", model.config)
        opened = open_model(tmp_path)
    assert (opened.layout, opened.name) == ("official", "PE-Tiny")
    assert same_tensors(opened.model.state_dict(), model.state_dict())


def refused(folder: Path, words: str) -> None:
    with pytest.raises(PerceptError, match=words):
        percept.load(folder)


def test_what_is_missing_or_twice_is_named(tmp_path):
    folder = split(tiny.folder(tmp_path / "parts"))
    first, second = (load_tensors(folder / shard) for shard in SHARDS)
    key = next(iter(second))
    save_tensors(folder / SHARDS[0], {**first, key: second[key]})
    refused(folder, f"holds {key}, which another file of .* holds too")
    save_tensors(folder / SHARDS[0], first)
    save_tensors(folder / SHARDS[1], {name: value for name, value in second.items() if name != key})
    refused(folder, f"lack keys that it lists: {key}")
    (folder / SHARDS[1]).unlink()
    refused(folder, f"lists files that are not next to it: {SHARDS[1]}")


@pytest.mark.parametrize("place", ["../outside.safetensors", "/etc/passwd", "notes.txt", 5])
def test_an_index_leads_nowhere_else(place, tmp_path):
    folder = split(tiny.folder(tmp_path / "parts"))
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": place}}))
    refused(folder, "not weight files next to it|not an index of weight files")
    (folder / INDEX).write_text("[1]")
    refused(folder, "not an index of weight files")
