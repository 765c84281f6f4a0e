"""A new layout is one file with a `Layout` and one line in the table: locate, open, write, convert and the hub follow."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import torch

import percept
from percept.cli import main
from percept.core.errors import PerceptError
from percept.core.io import read_json, same_tensors
from percept.weights.layout import Header, Layout, State
from percept.weights.layouts import LAYOUTS, pick_files
from percept.weights.locate import locate
from percept.weights.open import open_model
from tests.infer import tiny

CONFIG = "dotted_config.json"


class Dotted(Layout):
    """Our keys with a prefix, in upper case, and the mean in a configuration of its own."""

    name = "dotted"
    marks = ("NET.",)
    weight_files = ("net.safetensors",)
    config_files = (CONFIG,)
    written_file = "net.safetensors"

    def to_ours(self, state: State) -> State:
        return {key.removeprefix("NET.").lower(): value for key, value in state.items()}

    def to_theirs(self, state: State) -> State:
        return {"NET." + key.upper(): value for key, value in state.items()}

    def spelled(self, state: State, stored: Collection[str]) -> State:
        return self.to_theirs(state)

    def read_header(self, file: Path) -> Header:
        beside = file.with_name(CONFIG)
        mean = read_json(beside)["mean"] if beside.is_file() else None
        return Header(preprocess_changes={} if mean is None else {"mean": tuple(mean)})

    def write_header(self, header: Header) -> dict[str, Any]:
        assert header.preprocess is not None
        return {CONFIG: {"mean": list(header.preprocess.mean)}}


LAYOUT = Dotted()


@pytest.fixture(autouse=True)
def listed(monkeypatch):
    monkeypatch.setitem(LAYOUTS, "dotted", f"{__name__}:LAYOUT")


def test_it_is_written_located_opened_and_converted_back(tmp_path, capsys):
    model = str(tiny.folder(tmp_path / "own"))
    assert main(["convert", model, "--out", str(tmp_path / "there"), "--to", "dotted"]) == 0
    assert "equal to the bit" in capsys.readouterr().out
    assert {file.name for file in (tmp_path / "there").iterdir()} == {
        "net.safetensors",
        CONFIG,
        "tokenizer.json",
        "words.txt",
    }
    assert locate(tmp_path / "there").path == tmp_path / "there" / "net.safetensors"
    opened = open_model(tmp_path / "there")
    assert (opened.layout, opened.name) == ("dotted", "tiny")
    assert same_tensors(opened.model.state_dict(), open_model(model).model.state_dict())
    assert main(["convert", str(tmp_path / "there"), "--out", str(tmp_path / "back"), "--to", "percept"]) == 0
    encoders = [percept.load(folder, dtype="float32") for folder in (model, tmp_path / "there", tmp_path / "back")]
    assert len({encoder.identity for encoder in encoders}) == 1
    torch.testing.assert_close(encoders[1].text("a red cup"), encoders[0].text("a red cup"))
    assert main(["convert", str(tmp_path / "there"), "--out", str(tmp_path / "one.pt"), "--to", "dotted"]) == 0
    assert percept.load(tmp_path / "one.pt", dtype="float32").identity == encoders[0].identity


def test_its_configuration_and_its_names_are_used(tmp_path):
    model = str(tiny.folder(tmp_path / "own"))
    assert main(["convert", model, "--out", str(tmp_path / "there"), "--to", "dotted"]) == 0
    (tmp_path / "there" / CONFIG).write_text('{"mean": [0.1, 0.2, 0.3]}')
    assert percept.load(tmp_path / "there").preprocess.mean == (0.1, 0.2, 0.3)
    with pytest.raises(PerceptError, match=r"missing: NET\.TEXT\.BLOCKS\.10"):
        percept.load("PE-Core-T16-384", weights=tmp_path / "there")
    files = ["net.safetensors", CONFIG, "README.md"]
    assert pick_files(files, "any") == ["net.safetensors", CONFIG]


def test_its_name_is_offered(tmp_path, capsys):
    assert main(["convert", "nano", "--out", str(tmp_path / "there"), "--to", "doted"]) == 2
    assert "did you mean 'dotted'" in capsys.readouterr().err
