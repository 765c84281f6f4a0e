"""Damaged and hostile model files: each is refused with its reason, in a bounded time, and nothing is computed for it."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest
import torch

import percept
from percept.core.errors import PerceptError
from percept.core.io import load_tensors, save_tensors
from percept.models.manifest import MANIFEST, Manifest
from percept.weights.facts import FACTS
from percept.weights.files import read_tensors
from percept.weights.locate import PACKAGED
from percept.weights.open import open_model
from tests.infer import tiny

DEEP, LONG = "[" * 100_000, '{"model": ' + "9" * 6000 + "}"
pytestmark = pytest.mark.timeout(60)  # none of these inputs may hang

TEXTS = {"null": "null", "a list": "[]", "deep": DEEP, "long": LONG, "empty": "", "latin-1": "\xff", "text": "model"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny.folder(tmp_path / "model")


def refused(source: Path, words: str, **options: object) -> None:
    with pytest.raises(PerceptError, match=words):
        percept.load(source, **options)  # type: ignore[call-overload]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("file", ["config.json", "preprocess.json"])
def test_json_that_is_none_or_not_ours(folder: Path, file: str, text: str) -> None:
    (folder / file).write_text(TEXTS[text], encoding="latin-1")
    refused(folder, file)


@pytest.mark.parametrize("file", ["config.json", "preprocess.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("kind", ["folder", "loop", "device", "pipe"])
def test_files_that_are_something_else(folder: Path, file: str, kind: str) -> None:
    (folder / file).unlink()
    if kind == "folder":
        (folder / file).mkdir()
    elif kind == "pipe":
        os.mkfifo(folder / file)
    else:
        (folder / file).symlink_to("/dev/zero" if kind == "device" else folder / file)
    refused(folder, f"{file} is not a regular file")


@pytest.mark.parametrize("kind", ["device", "loop", "folder"])
def test_weights_that_are_something_else(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "weights.pt"
    place.mkdir() if kind == "folder" else place.symlink_to("/dev/zero" if kind == "device" else place)
    with pytest.raises(PerceptError, match=r"is not a regular file|holds no weights"):
        percept.load("nano", weights=place)
    with pytest.raises(PerceptError, match="there is no weight file aaa"):
        percept.load("nano", weights="a" * 5000)


def edited(folder: Path, file: str, place: tuple[str, ...], value: object) -> Path:
    data = inner = json.loads((folder / file).read_text())
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (folder / file).write_text(json.dumps(data))
    return folder


SIZES = [
    (("model", "vision", "width"), 10**9, "cannot be built"),
    (("model", "vision", "width"), 10**30, "cannot be built"),
    (("model", "text", "vocabulary"), 10**30, "cannot be built"),
    (("model", "vision", "image_size"), 10**9, "of a different shape: vision.positions"),
    (("model", "vision", "pool"), 3, "'pool' takes .*'attention'.*got 3"),
    (("model", "vision", "layers"), 10**7, "layers=10000000; it must be at most 512"),
    (("model", "text", "layers"), 10**30, "it must be at most 512"),
    (("model", "vision", "layers"), 500, "500 vision layers, but [0-9]+ tensors"),
    (("model", "text", "layers"), 500, "500 text layers, but [0-9]+ tensors"),
    (("model", "vision", "layers"), 4, "missing: vision.blocks.3"),
    (("model",), None, "config.json: ClipConfig must be an object with named fields, got None"),
]


@pytest.mark.parametrize(("place", "value", "words"), SIZES)
def test_configurations_that_no_file_can_fit(folder: Path, place: tuple[str, ...], value: object, words: str) -> None:
    refused(edited(folder, "config.json", place, value), words)


def test_an_image_size_far_beyond_the_models_is_refused(folder: Path) -> None:
    percept.load(edited(folder, "preprocess.json", ("size",), 64 * tiny.SIZE))
    refused(edited(folder, "preprocess.json", ("size",), 64 * tiny.SIZE + 1), "at most 1536")


def test_a_record_of_a_file_that_is_deep_counts_as_none(tmp_path: Path) -> None:
    state = load_tensors(tiny.folder(tmp_path / "model") / "model.safetensors")
    for text in (DEEP, LONG, "null"):
        save_tensors(tmp_path / "one.safetensors", state, {FACTS: text})
        refused(tmp_path / "one.safetensors", "no released model has its shapes")


def saved(tmp_path: Path, **changes: torch.Tensor) -> Path:
    state = load_tensors(PACKAGED / "nano" / "model.safetensors")
    torch.save({**state, **{key.replace("__", "."): value for key, value in changes.items()}}, tmp_path / "a.pt")
    return tmp_path / "a.pt"


def test_expanded_tensors_are_refused_before_anything_is_computed(tmp_path: Path) -> None:
    file = saved(tmp_path, vision__patch__weight=torch.zeros(1).expand(10**5, 10**5))
    with pytest.raises(PerceptError, match=r"\(expanded\): vision\.patch\.weight"):
        percept.load("nano", weights=file)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_logit_scale_that_is_not_a_number_is_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(PerceptError, match=f"the logit scale in .* is {value}"):
        percept.load("nano", weights=saved(tmp_path, log_scale=torch.tensor(value)))


def test_integer_buffers_are_named_for_what_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = percept.load("nano").identity
    ids, count = torch.arange(32)[None], torch.tensor(7)
    one = percept.load("nano", weights=saved(tmp_path, text__position_ids=ids, norm__num_batches_tracked=count))
    assert "2 integer buffers were ignored" in " ".join(capsys.readouterr().err.split())
    assert one.identity == whole
    for changes in ({"text__position_ids": ids.flip(1)}, {"mask": torch.ones(3, dtype=torch.bool)}, {"n": count}):
        with pytest.raises(PerceptError, match="holds tensors that are not weights") as caught:
            percept.load("nano", weights=saved(tmp_path, **changes))
        assert "quantised" not in str(caught.value)


def test_a_flipped_bit_in_a_pickled_file_never_ends_in_another_error(tmp_path: Path) -> None:
    torch.save(tiny.model().state_dict(), tmp_path / "whole.pt")
    data, draw = (tmp_path / "whole.pt").read_bytes(), random.Random(0)
    outcomes = set()
    for _ in range(300):
        damaged = bytearray(data)
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        (tmp_path / "damaged.pt").write_bytes(damaged)
        try:
            outcomes.add(bool(read_tensors(tmp_path / "damaged.pt")))
        except PerceptError:
            outcomes.add(False)
    assert outcomes == {True, False}


def test_errors_of_the_unpickler_of_any_kind_become_the_files_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pt")
    for kind in (IndexError, AttributeError, UnicodeDecodeError, MemoryError, AssertionError):
        error = kind.__new__(kind)

        def fail(*_: object, error: BaseException = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(torch, "load", fail)
        with pytest.raises(PerceptError, match=r"a\.pt is not a complete file of weights alone"):
            read_tensors(tmp_path / "a.pt")


# ---- exports


MANIFEST_DATA = {
    "name": "tiny", "weights": {}, "scale": 10.0, "size": [24, 24], "layers": False, "opset": 18,
    "graphs": [{"tower": "image", "dtype": "float32", "file": "image.onnx", "megabytes": 1.0,
                "inputs": {"image": ["n", 3, 24, 24]}, "outputs": {"vector": ["n", 20]}}],
}  # fmt: skip
GRAPH = MANIFEST_DATA["graphs"][0]
BAD = {
    "a scale of 0": ({"scale": 0.0}, "scale=0.0"),
    "a negative scale": ({"scale": -5.0}, "scale=-5.0"),
    "a scale that is not a number": ({"scale": float("nan")}, "scale=nan"),
    "no graphs": ({"graphs": []}, "lists the graphs"),
    "a size of 0": ({"size": [0, 0]}, "below 1 pixel"),
    "an unknown tower": ({"graphs": [{**GRAPH, "tower": "sound"}]}, "lists the graphs"),
    "a graph twice": ({"graphs": [GRAPH, GRAPH]}, "lists the graphs"),
    "a graph elsewhere": ({"graphs": [{**GRAPH, "file": "../image.onnx"}]}, "a file beside the manifest"),
    "two inputs": ({"graphs": [{**GRAPH, "inputs": {"a": [1], "b": [2]}}]}, "2 inputs"),
    "layers of another model": ({"layers": "yes"}, "'layers' takes bool"),
}


@pytest.mark.parametrize("fault", BAD)
def test_manifests_of_exports_are_checked(tmp_path: Path, fault: str) -> None:
    changes, words = BAD[fault]
    folder = shutil.copytree(tiny.folder(tmp_path / "own"), tmp_path / "export")
    (folder / MANIFEST).write_text(json.dumps({**MANIFEST_DATA, **changes}))
    refused(folder, words)


def test_a_sound_manifest_lists_its_types() -> None:
    from percept.core.config import from_dict

    assert from_dict(Manifest, MANIFEST_DATA).dtypes == ["float32"]


def test_what_an_export_lacks_is_named(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    folder = tiny.folder(tmp_path / "export")
    (folder / MANIFEST).write_text(json.dumps(MANIFEST_DATA))
    refused(folder, "lacks its file image.onnx")
    refused(folder, "Leave out image_size", image_size=32)
    refused(folder, "not on 'cuda'", device="cuda")
    (folder / "config.json").unlink()
    refused(folder, "lacks its config.json")
    with pytest.raises(PerceptError, match="holds exported graphs, not a model's weights"):
        open_model(folder)
