"""What names and paths mean: one function decides it, and nothing is opened or fetched for it."""

import json
from pathlib import Path

import pytest

import percept
from percept.core.errors import PerceptError
from percept.models import zoo
from percept.weights import hub
from percept.weights.layouts.percept import WEIGHTS
from percept.weights.locate import PACKAGED, locate
from tests.infer import tiny


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    for name in ("fetch_weights", "cached_file", "hub_reachable"):
        monkeypatch.setattr(hub, name, lambda *_, **__: pytest.fail("the hub was asked"))


def test_packaged_models_and_weights_for_them(tmp_path):
    own = locate("nano")
    assert (own.kind, own.path, own.like) == ("folder", PACKAGED / "nano" / WEIGHTS, None)
    given = locate("nano", tmp_path / "file.pt")
    assert (given.kind, given.name, given.path, given.like) == ("file", "nano", tmp_path / "file.pt", own.path)


def test_released_models_and_repositories():
    released = locate("PE-Core-T16-384@main")
    assert (released.kind, released.name, released.revision) == ("hub", "PE-Core-T16-384", "main")
    assert (released.repository, released.path) == ("facebook/PE-Core-T16-384", None)
    assert released.config == zoo.CONFIGS["PE-Core-T16-384"]
    assert locate("hf://facebook/PE-Core-T16-384").name == "PE-Core-T16-384"
    other = locate("hf://somebody/model@v1.0@cuda")
    assert (other.repository, other.revision, other.device) == ("somebody/model", "v1.0", "cuda")
    assert (other.name, other.config) == (None, None)


def test_folders_of_every_kind(tmp_path):
    folder = tiny.folder(tmp_path / "own")
    assert (locate(folder).kind, locate(folder).path) == ("folder", folder / WEIGHTS)
    assert locate(folder / WEIGHTS).kind == "file"
    (folder / "export.json").write_text("{}")
    assert (locate(folder).kind, locate(folder).path) == ("export", folder)
    method = tmp_path / "method"
    method.mkdir()
    (method / "config.json").write_text(json.dumps({"method": "coop", "config": {}}))
    assert (locate(method).kind, locate(method).path) == ("method", method)


def test_types_and_devices_behind_the_name(tmp_path):
    both = locate("nano@cuda:1@bfloat16")
    assert (both.source, both.dtype, both.device) == ("nano", "bfloat16", "cuda:1")
    assert (locate("nano").dtype, locate("nano").device) == (None, None)
    folder = tiny.folder(tmp_path / "a@float16")
    assert (locate(folder).dtype, locate(folder).path) == (None, folder / WEIGHTS)
    assert locate(f"{folder}@int8").dtype == "int8"
    assert locate(f"{folder}@int8").path == folder / WEIGHTS


MISTAKES = {
    "nano@bfloat61": "did you mean 'bfloat16'",
    "nano@latest": "unknown type or device 'latest'",
    "PE-Core-T16-384@flot32": "did you mean 'float32'",
    "nano@float32@bfloat16": "two types",
    "nano@cpu@cuda": "two devices",
    "@float32": "names no model",
    "": "names no model",
    "nanno": "'nano'",
    "nano\0": "unknown model",
    "a" * 5000: "unknown model",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_names_that_mean_nothing(text):
    with pytest.raises(PerceptError, match=MISTAKES[text]):
        locate(text)


def test_a_revision_belongs_to_the_hub(tmp_path):
    assert locate("PE-Core-T16-384", revision="v1").revision == "v1"
    for name in ("nano", str(tiny.folder(tmp_path / "own"))):
        with pytest.raises(PerceptError, match="nothing is fetched"):
            locate(name, revision="v1")


def test_a_folder_in_a_layout_that_is_not_read(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(PerceptError, match="in transformers' layout, which is not read"):
        locate(tmp_path)


def test_a_trained_method_is_opened_by_its_own_function(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"method": "coop"}')
    monkeypatch.setattr("percept.infer.load.OPENERS", {"method": f"{__name__}:open_fake"})
    opened = percept.load(f"{tmp_path}@bfloat16", device="cpu", batch=4)
    assert opened == {"folder": tmp_path, "device": "cpu", "dtype": "bfloat16", "batch": 4}
    with pytest.raises(PerceptError, match="holds a trained method, not a model's weights"):
        percept.load(tmp_path, train=True)


def open_fake(folder: Path, *, device: str, dtype: str | None, **options: object) -> dict[str, object]:
    return {"folder": folder, "device": device, "dtype": dtype, **options}
