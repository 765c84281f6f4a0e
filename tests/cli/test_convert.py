"""`percept convert`: from any layout to any other and back, with one sentence for every mistake."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import percept
from percept.cli import main
from percept.core.io import load_metadata, load_tensors, same_tensors, save_tensors
from percept.data.transforms import Preprocess
from percept.models import zoo
from percept.weights.files import write_tensors
from percept.weights.layouts import timm as timm_layout
from percept.weights.locate import PACKAGED
from percept.weights.open import open_model
from percept.weights.write import write_weights
from tests.infer import tiny


@pytest.fixture
def known(monkeypatch):
    """The tiny model as a released one that timm knows."""
    monkeypatch.setitem(zoo.CONFIGS, "PE-Tiny", tiny.config())
    monkeypatch.setitem(zoo.ZOO, "PE-Tiny", zoo.Entry(config=tiny.config(), repository="somebody/PE-Tiny"))
    monkeypatch.setitem(timm_layout.NAMES, "vit_tiny_one", "PE-Tiny")


@pytest.mark.usefixtures("known")
def test_around_the_layouts_and_back(model, tmp_path, capsys):
    chain = [
        ("open_clip", "a"),
        ("percept", "b"),
        ("official", "c.safetensors"),
        ("official", "d.pt"),
        ("official", "e"),
    ]
    source = model
    for layout, target in chain:
        assert main(["convert", source, "--out", str(tmp_path / target), "--to", layout]) == 0
        assert "equal to the bit" in capsys.readouterr().out
        source = str(tmp_path / target)
    before = open_model(model).model.state_dict()
    for _, target in chain:
        assert same_tensors(open_model(str(tmp_path / target)).model.state_dict(), before)
    assert {file.name for file in (tmp_path / "e").iterdir()} == {"tiny.pt", "tiny.pt.json"}
    identities = {percept.load(tmp_path / target).identity for _, target in chain}
    assert identities == {percept.load(model).identity}
    texts = percept.load(tmp_path / "b", dtype="float32").text("a red cup")
    torch.testing.assert_close(texts, tiny.encoder().text("a red cup"))  # the tokenizer went along


@pytest.mark.parametrize("target", ["folder", "own.pt", "own.safetensors"])
def test_a_model_that_is_none_of_the_released_ones_opens_again(model, tmp_path, capsys, target):
    own, target = shutil.copytree(model, tmp_path / "run"), str(tmp_path / target)
    Preprocess(size=tiny.SIZE, resize="crop").save(own / "preprocess.json")
    assert main(["convert", str(own), "--out", target, "--to", "official"]) == 0
    printed = capsys.readouterr().out
    assert "equal to the bit" in printed
    alone = Path(target).is_file()
    assert ("the tokenizer, for which a folder has a place" in " ".join(printed.split())) == alone
    beside = own / "tokenizer.json" if alone else None
    again, before = percept.load(target, dtype="float32", tokenizer=beside), percept.load(own, dtype="float32")
    assert (again.preprocess, again.identity.name) == (before.preprocess, before.identity.name)
    images = torch.randn(2, 3, 24, 24)
    torch.testing.assert_close(again.image(images), before.image(images))
    torch.testing.assert_close(again.text("a red cup"), before.text("a red cup"))
    assert percept.load(target, image_size=40, tokenizer=beside).preprocess == Preprocess(size=40, resize="crop")


def test_what_else_lies_beside_a_pickled_file_is_not_taken_for_its_facts(model, tmp_path, capsys):
    (tmp_path / "own.pt.json").write_text('{"model": {}}')
    assert main(["convert", model, "--out", str(tmp_path / "own.pt"), "--to", "official"]) == 2
    assert "own.pt.json, which belongs to it, exists already" in " ".join(capsys.readouterr().err.split())
    assert main(["convert", model, "--out", str(tmp_path / "other.pt"), "--to", "official"]) == 0
    (tmp_path / "other.pt").rename(tmp_path / "own.pt")
    for foreign in ('{"model": {}}', "[]", '{"percept": 1}', "not json"):
        (tmp_path / "own.pt.json").write_text(foreign)
        with pytest.raises(percept.PerceptError, match="no released model has its shapes"):
            open_model(str(tmp_path / "own.pt"))


@pytest.mark.usefixtures("known")
def test_timm_takes_the_vision_tower_and_says_what_it_leaves_out(model, tmp_path, capsys):
    assert main(["convert", model, "--out", str(tmp_path / "timm"), "--to", "timm"]) == 0
    text = sum(not key.startswith("vision.") for key in tiny.model().state_dict())
    assert f"{text} tensors of the text tower" in " ".join(capsys.readouterr().out.split())
    assert {file.name for file in (tmp_path / "timm").iterdir()} == {"config.json", "model.safetensors"}
    images = torch.randn(2, 3, 24, 24)
    encoder = percept.load(tmp_path / "timm", dtype="float32")
    torch.testing.assert_close(encoder.image(images), tiny.encoder().image(images))
    with pytest.raises(percept.PerceptError, match="no text tower"):
        encoder.text("a cup")


def test_positions_are_resized_when_asked(model, tmp_path):
    assert main(["convert", model, "--out", str(tmp_path / "large"), "--to", "percept", "--image-size", "40"]) == 0
    large = percept.load(tmp_path / "large", dtype="float32")
    assert large.preprocess.size == large.model.config.vision.image_size == 40
    images = torch.randn(2, 3, 40, 40)
    torch.testing.assert_close(large.image(images), tiny.encoder().image(images))
    asked = percept.load(model, dtype="float32", image_size=40)
    torch.testing.assert_close(asked.image(images), large.image(images))


def test_every_tensor_keeps_its_type(model, tmp_path):
    state = open_model(model).model.state_dict()
    mixed = {key: value.half() if "norm" not in key else value for key, value in state.items()}
    torch.save({"weights": mixed}, tmp_path / "mixed.pt")
    config = tmp_path / "out.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(zoo.CONFIGS, "PE-Tiny", tiny.config())
        assert main(["convert", str(tmp_path / "mixed.pt"), "--out", str(config), "--to", "official"]) == 0
        assert same_tensors(open_model(str(config)).model.state_dict(), mixed)
        encoder = percept.load(config)
    assert encoder.setting.dtype == torch.float32  # to compute with, all take the widest type
    assert {parameter.dtype for parameter in encoder.model.parameters()} == {torch.float32}


@pytest.mark.usefixtures("known")
def test_another_size_goes_through_a_layout_without_text(model, tmp_path):
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    assert main(["convert", model, "--out", first, "--to", "timm", "--image-size", "40"]) == 0
    assert main(["convert", first, "--out", second, "--to", "official"]) == 0
    images = torch.randn(2, 3, 40, 40)
    again = percept.load(second, dtype="float32")
    torch.testing.assert_close(again.image(images), tiny.encoder().image(images))
    assert again.preprocess.size == 40


def test_the_packaged_model_comes_back_from_its_weights_alone(tmp_path):
    assert main(["convert", "nano", "--out", str(tmp_path / "nano"), "--to", "official"]) == 0
    (tmp_path / "nano" / "nano.pt").rename(tmp_path / "alone.pt")
    arguments = [
        "convert",
        "nano",
        "--out",
        str(tmp_path / "again"),
        "--to",
        "percept",
        "--weights",
        str(tmp_path / "alone.pt"),
    ]
    assert main(arguments) == 0
    assert percept.load(tmp_path / "again").identity == percept.load("nano").identity


def test_what_is_no_number_keeps_its_bits(model, tmp_path):
    state = open_model(model).model.state_dict()
    state["vision.projection"][0, 0] = float("nan")
    torch.save(state, tmp_path / "nan.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(zoo.CONFIGS, "PE-Tiny", tiny.config())
        assert main(["convert", str(tmp_path / "nan.pt"), "--out", str(tmp_path / "out.pt"), "--to", "official"]) == 0
    assert same_tensors(open_model(str(tmp_path / "out.pt")).model.state_dict(), state)


def test_a_result_that_does_not_open_is_not_called_converted(model, tmp_path, capsys, monkeypatch):
    from percept.weights import facts

    monkeypatch.setattr(facts, "write_json", lambda *_: None)
    assert main(["convert", model, "--out", str(tmp_path / "out.pt"), "--to", "official"]) == 2
    captured = capsys.readouterr()
    assert "no released model has its shapes" in captured.err
    assert "equal to the bit" not in captured.out


EVIL = ("../../../tv/escaped", "..", ".hidden", "a/b", "a\\b", "", "a\nb", 5, None, ["a"])


@pytest.mark.parametrize("name", EVIL)
def test_a_name_that_would_leave_the_folder_is_refused(name, model, tmp_path, capsys):
    inner = tmp_path / "deep" / "inner"
    inner.mkdir(parents=True)
    for target in ("x.safetensors", "x.pt"):
        assert main(["convert", model, "--out", str(inner / target), "--to", "official"]) == 0
    state, facts = load_tensors(inner / "x.safetensors"), json.loads(load_metadata(inner / "x.safetensors")["percept"])
    save_tensors(inner / "x.safetensors", state, {"percept": json.dumps({**facts, "name": name})})
    beside = json.loads((inner / "x.pt.json").read_text())
    beside["percept"]["name"] = name
    (inner / "x.pt.json").write_text(json.dumps(beside))
    folder = shutil.copytree(model, inner / "folder")
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | {"name": name}))
    there = sorted(tmp_path.rglob("*"))
    for source in ("x.safetensors", "x.pt", "folder"):
        capsys.readouterr()
        assert main(["convert", str(inner / source), "--out", str(inner / "out"), "--to", "official"]) == 2
        assert "which is not a plain name" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(percept.PerceptError, match="which is not a plain name"):
        inspect.unwrap(write_weights)(  # without the type checks of the tests
            inner / "out", tiny.model().state_dict(), layout="official", name=name, config=tiny.config(),
            preprocess=Preprocess(size=24),
        )  # fmt: skip
    assert sorted(tmp_path.rglob("*")) == there


def test_names_of_files_and_folders_become_plain_ones(model, tmp_path):
    own = shutil.copytree(model, tmp_path / ".my model")
    header = json.loads((own / "config.json").read_text())
    del header["name"]
    (own / "config.json").write_text(json.dumps(header))
    assert main(["convert", str(own), "--out", str(tmp_path / "out"), "--to", "official"]) == 0
    assert (tmp_path / "out" / "my model.pt").is_file()
    assert percept.load(tmp_path / "out").identity.name == "my model"


def test_facts_beside_a_file_that_was_replaced_are_left_aside(model, tmp_path, capsys):
    file = tmp_path / "own.pt"
    assert main(["convert", model, "--out", str(file), "--to", "official"]) == 0
    other = {key: value + 1 for key, value in torch.load(file).items()}
    whole = (file.read_bytes(), (tmp_path / "own.pt.json").read_text())
    write_tensors(file, other)
    assert file.stat().st_size == len(whole[0])
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(zoo.CONFIGS, "PE-Tiny", tiny.config())
        assert open_model(str(file)).name == "PE-Tiny"
    assert "own.pt.json was written for a different own.pt" in " ".join(capsys.readouterr().err.split())
    facts = json.loads(whole[1])
    del facts["percept"]["file"]  # as percept wrote them before
    (tmp_path / "own.pt.json").write_text(json.dumps(facts))
    assert open_model(str(file)).name == "tiny"
    file.write_bytes(whole[0])
    (tmp_path / "own.pt.json").write_text(whole[1])
    assert open_model(str(file)).name == "tiny"
    assert "written for a different" not in capsys.readouterr().err


def test_a_conversion_of_the_packaged_model_makes_the_same_vectors(tmp_path):
    nano = percept.load("nano").identity
    for target in ("out.pt", "out.safetensors", "folder", "out.pth"):
        assert main(["convert", "nano", "--out", str(tmp_path / target), "--to", "official"]) == 0
        again = percept.load(tmp_path / target, dtype="float32")
        assert again.identity == nano
    words = PACKAGED / "nano" / "tokenizer.json"
    assert percept.load(tmp_path / "out.pt", tokenizer=words).identity == nano
    tiny.tokenizer().save(tmp_path / "tiny.json")
    assert percept.load(tmp_path / "out.pt", tokenizer=tmp_path / "tiny.json").identity != nano
    assert main(["convert", str(tmp_path / "out.pt"), "--out", str(tmp_path / "own"), "--to", "percept"]) == 0
    assert percept.load(tmp_path / "own").identity == nano
    Preprocess(size=96, resize="crop").save(tmp_path / "own" / "preprocess.json")
    assert percept.load(tmp_path / "own").identity != nano


MISTAKES = {
    "a layout that does not exist": (["MODEL", "--out", "out", "--to", "tim"], "did you mean 'timm'"),
    "a source that is not there": (
        ["nothing.pt", "--out", "out", "--to", "timm"],
        "there is no file or folder nothing.pt",
    ),
    "a file for open_clip": (["MODEL", "--out", "out.safetensors", "--to", "open_clip"], "give a folder"),
    "a file for percept": (["MODEL", "--out", "out.safetensors", "--to", "percept"], "is a folder"),
    "sizes that timm has no name for": (["MODEL", "--out", "out", "--to", "open_clip"], "none for one of these sizes"),
    "something is there": (["MODEL", "--out", "full", "--to", "percept"], "exists already"),
    "another model": (
        ["PE-Core-T16-384", "--out", "out", "--to", "percept", "--weights", "MODEL/model.safetensors"],
        "missing",
    ),
    "a size that leaves pixels over": (
        ["nano", "--out", "out", "--to", "official", "--image-size", "100"],
        "image_size=100 does not divide into patches of 8 pixels; give 96 or 104",
    ),
    "a revision of a local one": (
        ["nano", "--out", "out", "--to", "official", "--revision", "v1"],
        "nothing is fetched",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake, model, tmp_path, capsys, monkeypatch):
    arguments, words = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full", "file").touch()
    assert main(["convert", *[word.replace("MODEL", model) for word in arguments]]) == 2
    captured = capsys.readouterr()
    assert words in " ".join(captured.err.split())
    assert captured.out == ""
    assert not Path("out").exists()
    assert [file.name for file in Path("full").iterdir()] == ["file"]


def test_a_damaged_copy_is_not_called_equal(model, tmp_path, capsys, monkeypatch):
    from percept.weights import facts as writing

    whole = writing.write_tensors

    def damaged(path, state, facts=None):
        name = next(iter(state))
        whole(path, {**state, name: state[name] + 1}, facts)

    monkeypatch.setattr(writing, "write_tensors", damaged)
    assert main(["convert", model, "--out", str(tmp_path / "out.pt"), "--to", "official"]) == 2
    assert "does not read back" in capsys.readouterr().err


FULL = """
import resource, sys
from percept.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
for target in sys.argv[1:]:
    print(main(["convert", "nano", "--out", target, "--to", "official" if "." in target else "percept"]), file=sys.stderr)
"""


def test_a_disk_that_is_full_leaves_one_sentence_and_no_file(tmp_path):
    """A limit of 4 KiB for files stands for the full disk."""
    targets = ["n.pt", "n", "n.safetensors"]
    done = subprocess.run(
        [sys.executable, "-c", FULL, *targets], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={**os.environ, "COLUMNS": "1000"},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    *parts, rest = done.stderr.split("\n2\n")
    assert (len(parts), rest) == (len(targets), ""), done.stderr
    for target, printed in zip(targets, parts, strict=True):
        assert re.search(rf"{target}\b.* cannot be written.*file too large", printed, re.IGNORECASE)
    assert list(tmp_path.iterdir()) == []


def test_number_types_are_not_converted(model, tmp_path, capsys):
    assert main(["convert", f"{model}@bfloat16", "--out", str(tmp_path / "out"), "--to", "official"]) == 2
    assert "leave out the @TYPE" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
