"""The everyday verbs as a user runs them: teach, classify with its outputs, explain, dupes, undo, eval folder, cache, encode to a pipe."""

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from percept.cli import main
from tests.data.video.films import film

GUIDE = (Path(__file__).parents[2] / "docs" / "everyday.md").read_text(encoding="utf-8")


def test_the_commands_of_the_guide_exist(capsys):
    lines = re.findall(r"^(?:\$ )?percept ([^#|\n]*)", GUIDE, flags=re.MULTILINE)
    commands = [shlex.split(line) for line in lines if not line.startswith("classify --none-below auto calls")]
    assert {words[0] for words in commands} >= {"classify", "teach", "explain", "eval", "dupes", "encode", "cache"}
    shown: dict[str, str] = {}
    for verb, *rest in commands:
        nested = ["folder"] if verb == "eval" else []
        if verb not in shown:
            assert main([verb, *nested, "--help"]) == 0
            shown[verb] = capsys.readouterr().out
        assert all(option in shown[verb] for option in rest if option.startswith("--"))


@pytest.fixture
def classes(tmp_path, monkeypatch) -> Path:
    """Two classes of five images."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("percept.eval.teach.FOLDS", 2)
    monkeypatch.setattr("percept.eval.teach_fit.DECAYS", (0.1,))
    monkeypatch.setattr("percept.eval.teach_fit.SHARES", (1.0, 0.0))
    for number, (name, colour) in enumerate({"red_thing": (220, 30, 30), "blue": (30, 60, 220)}.items()):
        (tmp_path / "data" / name).mkdir(parents=True)
        for place in range(5):
            rng = np.random.default_rng(10 * number + place)
            pixels = np.clip(np.array(colour) + rng.integers(-70, 71, (24, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{place}.png")
    return tmp_path / "data"


def test_labels_are_taught_used_and_explained(model, classes, tmp_path, capsys):
    mine = tmp_path / "mine"
    assert main(["teach", str(classes), "--out", str(mine), "--model", model, "--above", "0.99999"]) == 0
    printed = capsys.readouterr()
    for words in ("2 labels from 10 images; 10 held out in 2 parts", "linear probe", "zero-shot", "95 % interval"):
        assert words in printed.out
    assert f"percept classify PATHS --labels {mine}" in "".join(printed.err.split("\n"))
    out = tmp_path / "rows.csv"
    assert main(["classify", str(classes), "--labels", str(mine), "--out", str(out)]) == 0  # the model is remembered
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "start", "stop", "label", "probability", "score", "guesses"]
    right = sum(row["label"] == Path(row["path"]).parent.name.replace("_", " ") for row in rows)
    assert right >= 9
    assert main(["classify", str(classes), "--labels", str(mine), "--model", "nano"]) == 2
    assert "taught on" in capsys.readouterr().err
    image = str(classes / "blue/0.png")
    drawn = ["--out", str(tmp_path / "e.png"), "--no-check"]
    assert main(["explain", image, "--labels", str(mine), *drawn]) == 0
    assert "red thing" in capsys.readouterr().out
    assert main(["teach", str(classes), "--out", str(classes), "--model", model]) == 2
    assert "holds something else" in capsys.readouterr().err


def test_files_are_sorted_and_restored(model, classes, tmp_path, capsys):
    before = sorted(path.relative_to(classes) for path in classes.rglob("*.png"))
    options = ["--labels", "red thing,cat", "--model", model, "--sort", str(tmp_path / "sorted"), "--place", "move"]
    assert main(["classify", str(classes), *options, "--dry-run"]) == 0
    assert "nothing was done" in capsys.readouterr().out
    assert not (tmp_path / "sorted").exists()
    undo = tmp_path / "undo.jsonl"
    assert main(["classify", str(classes), *options, "--undo-list", str(undo), "--none-below", "0.999"]) == 0
    assert "10 files moved" in capsys.readouterr().out
    assert not list(classes.rglob("*.png"))
    assert len(list((tmp_path / "sorted").rglob("*.png"))) == 10  # names that occur twice have numbers
    assert main(["undo", str(undo)]) == 0
    assert "10 files restored" in capsys.readouterr().out
    assert sorted(path.relative_to(classes) for path in classes.rglob("*.png")) == before
    assert main(["undo", str(undo)]) == 0
    assert "nothing to undo" in capsys.readouterr().err
    assert main(["classify", str(classes), "--labels", "cat", "--model", model, "--place", "copy"]) == 2
    assert "need a folder" in capsys.readouterr().err
    assert main(["classify", str(classes), *options, "--undo-list", str(undo)]) == 2
    assert "not overwritten" in capsys.readouterr().err


def test_videos_in_spans_a_sheet_and_a_pipe(model, classes, tmp_path, capsys):
    film(classes / "walk.mp4", 12)
    sheet = tmp_path / "sheet.png"
    arguments = ["classify", str(classes), "--labels", "cat,dog", "--model", model, "--every", "0.2", "--top", "1"]
    assert main([*arguments, "--sheet", str(sheet)]) == 0
    assert "walk.mp4, neighbouring parts of one label joined" in capsys.readouterr().out
    with Image.open(sheet) as drawn:
        assert drawn.width > 300
    assert main([*arguments, "--out", "-", "--none-below", "auto"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]  # nothing else is printed
    spans = [row for row in rows if row["path"].endswith("walk.mp4")]
    assert len(spans) > 1
    assert spans[0]["start"] == 0
    assert spans[0]["stop"] == pytest.approx(0.2)
    assert all(row["start"] is None for row in rows if row not in spans)
    assert len(rows) == 10 + len(spans)


def test_an_image_that_is_read_is_not_overwritten(model, classes, tmp_path, capsys):
    image = classes / "blue/0.png"
    before = image.read_bytes()
    index = ["--index", str(tmp_path / "index")]
    assert main(["index", str(classes), *index, "--model", model]) == 0
    for arguments in (
        ["classify", str(classes), "--labels", "cat,dog", "--sheet", str(image), "--model", model],
        ["classify", *index, "--labels", "cat,dog", "--sheet", str(image), "--model", model],
        ["explain", str(image), "--labels", "cat,dog", "--no-check", "--out", str(image), "--model", model],
        ["heatmap", str(image), "a cat", "--out", str(image), "--model", model],
        ["segment", str(image), "--labels", "cat,dog", "--out", str(image), "--model", model],
        ["match", str(image), str(image), "--out", str(image), "--model", model],
        ["features", str(image), "--pca", str(image), "--model", model],
    ):
        capsys.readouterr()
        assert main(arguments) == 2
        assert "would be overwritten" in capsys.readouterr().err.replace("\n", " ")
    assert image.read_bytes() == before


def test_one_label_and_a_folder_that_does_not_exist(model, classes, capsys):
    assert main(["classify", str(classes), "--labels", "cat", "--model", model]) == 0
    assert "a single label always has 100 %" in capsys.readouterr().err.replace("\n", " ")
    assert main(["classify", str(classes), "--labels", "labels/mine", "--model", model]) == 2
    assert "holds no labels" in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("options", "words"),
    [(["--none-below", "x"], "from 0 to 1, or auto"), (["--every", "0"], "above 0"), (["--sheet", "x.jpg"], ".png")],
)
def test_mistakes(model, classes, capsys, options, words):
    assert main(["classify", str(classes), "--labels", "cat", "--model", model, *options]) == 2
    assert words in capsys.readouterr().err


def test_copies_are_found_and_put_aside(model, classes, tmp_path, capsys):
    (classes / "copy.png").write_bytes((classes / "blue/0.png").read_bytes())
    out, page = tmp_path / "d.jsonl", tmp_path / "d.html"
    arguments = ["dupes", str(classes), "--model", model, "--above", "0.9999999", "--keep", "first"]
    assert main([*arguments, "--out", str(out), "--page", str(page), "--move-to", str(tmp_path / "copies")]) == 0
    assert "1 group among 11 files: 1 copy" in capsys.readouterr().out
    keep, copy = (json.loads(line) for line in out.read_text().splitlines())
    assert (keep["keep"], copy["keep"], copy["exact"], copy["group"]) == (True, False, True, 1)
    assert not Path(copy["path"]).exists()
    assert (tmp_path / "copies" / Path(copy["path"]).name).exists()
    assert "data:image/jpeg" in page.read_text()
    assert main(["undo", str(next((tmp_path / "copies").glob("undo-*.jsonl")))]) == 0
    assert Path(copy["path"]).exists()
    assert main([*arguments, "--keep", "best"]) == 2
    assert "unknown rule" in capsys.readouterr().err


def test_weights_that_cannot_be_fetched_are_reported_before_any_image_is_read(model, classes, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["eval", "folder", str(classes), "--model", model, "--model", "hf://nobody/absent"]) == 2
    error = capsys.readouterr().err
    assert "nobody/absent" in error
    assert "reads them" not in error


def test_models_are_compared_on_a_folder(model, classes, tmp_path, capsys):
    out = tmp_path / "rows.json"
    arguments = ["eval", "folder", str(classes), "--model", model, "--model", f"{model}@bfloat16", "--shots", "1"]
    assert main([*arguments, "--out", str(out)]) == 0
    assert "1 shot" in capsys.readouterr().out
    written = json.loads(out.read_text())
    rows, models = written["rows"], written["about"]["models"]
    assert [each["name"] for each in models] == [model, f"{model}@bfloat16"]
    assert all(each["seconds"] >= 0 and "hash" in each["preprocessing"] and len(each["image"]) == 32 for each in models)
    assert [row["task"] for row in rows] == ["zero-shot", "1 shot"] * 2
    assert rows[0]["than"] is None
    assert rows[2]["than"] == model
    assert rows[2]["difference"] == pytest.approx(rows[2]["right"] - rows[0]["right"])
    for wrong, words in ((["--shots", "x"], "--shots must be"), (["--model", model], "given twice")):
        assert main([*arguments, *wrong]) == 2
        assert words in capsys.readouterr().err


def test_vectors_go_into_a_pipe(model, pictures, capsys):
    assert main(["encode", str(pictures), "--out", "-", "--model", model]) == 0
    printed = capsys.readouterr()
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert [list(row) for row in rows] == [["path", "vector"]] * 3
    assert "2 files left out" in printed.err


def test_cache_lists_and_cleans(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "none"))
    (tmp_path / "world/images").mkdir(parents=True)
    (tmp_path / "world/images/x").write_bytes(b"x" * 2_000_000)
    assert main(["cache"]) == 0
    assert "world/images" in capsys.readouterr().out
    assert main(["cache", "--clean", "world/*", "--dry-run"]) == 0
    assert (tmp_path / "world/images").is_dir()
    assert main(["cache", "--clean", "world/images"]) == 0
    assert "removed world/images, 2.0 MB" in capsys.readouterr().err
    assert not (tmp_path / "world/images").exists()
    assert main(["cache", "--clean", "world/images"]) == 2
    assert main(["cache", "--dry-run"]) == 2
