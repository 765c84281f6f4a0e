"""`percept adapt` on a person's own folder, as a user runs it: what it prints, saves and refuses."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import percept
from percept.cli import main
from percept.core.errors import PerceptError
from percept.methods.adaptation.measure import Answers, scores_of
from percept.methods.adaptation.own import open_own

CLASSES = ("cat", "car", "tree", "house")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawings of four classes, six of each."""
    from dataclasses import replace

    from percept.world import render, sample_scene

    folder = tmp_path_factory.mktemp("own") / "photos"
    for place, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(6):
            scene = sample_scene(10 * place + number, things=(1, 1))
            scene = replace(scene, things=(replace(scene.things[0], category=name),), words=())
            Image.fromarray(render(scene, truth=False).image).save(folder / name / f"{number}.png")
    return folder


def run(*arguments: object) -> int:
    return main(["adapt", *map(str, arguments)])


def test_a_method_is_trained_measured_and_saved(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine"
    assert (
        run(
            "coop",
            "--data",
            photos,
            "--shots",
            3,
            "--epochs",
            2,
            "--save",
            out,
            "--out",
            tmp_path / "rows.json",
            "--device",
            "cpu",
        )
        == 0
    )
    shown = capsys.readouterr()
    assert "24 different images to train on in 4 classes: car 6, cat 6, house 6, tree 6; 0 copies" in shown.err
    assert "harmonic mean" in shown.out
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert {(row["method"], row["score"]) for row in rows} >= {
        ("coop", "new"),
        ("zero-shot", "base"),
        ("coop", "harmonic"),
        ("coop", "all"),
    }
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    model: Any = percept.load(out, device="cpu")
    assert model.classes == tuple(sorted(CLASSES))
    assert model.class_logits([photos / "cat" / "0.png"]).shape == (1, 4)


def test_methods_are_compared(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "--compare",
        "linear-probe,tip-adapter",
        "--data",
        photos,
        "--shots",
        2,
        "--epochs",
        1,
        "--device",
        "cpu",
    )
    assert run(*arguments) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("zero-shot", "linear-probe", "tip-adapter"))
    assert run(*arguments, "--out", "-") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]  # nothing else is printed
    assert {row["method"] for row in rows} == {"zero-shot", "linear-probe", "tip-adapter"}


def test_an_image_on_both_sides_is_refused(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test = tmp_path / "test"
    for name in CLASSES:
        (test / name).mkdir(parents=True)
        Image.fromarray(np.random.default_rng(1).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(
            test / name / f"{name}.png"
        )
        shutil.copy(photos / "cat" / "0.png", test / name / "copy.png") if name == "cat" else None
    assert run("coop", "--data", photos, "--test", test, "--shots", 2) == 2
    assert "1 test image is a training image too" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("coop", "--shots", 7), "fewer than 7 different images"),
        (("coop", "--shots", 6), "no image left to test on"),
        (("coop", "--shots", 0), "--shots must be at least 1"),
        (("coop", "--epochs", -1), "--epochs must be at least 0"),
        (("coop", "--page", "x.txt"), ".html"),
        (("copp",), "did you mean 'coop'"),
        ((), "give one method"),
        (("coop", "--compare", "all"), "give one method"),
        (("zero-shot", "--save", "x"), "trains nothing"),
        (("coop", "--out", "x"), "use --save x"),
        (("coop", "--template", "a photo"), "has no {}"),
    ],
)
def test_a_mistake_is_explained(
    photos: Path, arguments: tuple[object, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, "--data", photos) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_one_class_and_long_names_are_refused(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(photos / "cat", tmp_path / "one" / "cat")
    assert run("coop", "--data", tmp_path / "one") == 2
    assert "two or more classes" in capsys.readouterr().err
    for number in range(2):
        shutil.copytree(photos / CLASSES[number], tmp_path / "long" / f"{'very old ' * 20}{number}")
    assert run("coop", "--data", tmp_path / "long", "--shots", 2) == 2
    assert "tokens" in capsys.readouterr().err


def test_a_page_shows_scores_confusion_and_the_worst_images(photos: Path, tmp_path: Path) -> None:
    folder, page = tmp_path / "photos", tmp_path / "page.html"
    for name in CLASSES:
        shutil.copytree(photos / name, folder / ("<b>cat" if name == "cat" else name))
    shutil.copy(photos / "cat" / "0.png", folder / "car" / "same.png")
    rows = tmp_path / "rows.json"
    assert (
        run(
            "tip-adapter",
            "--data",
            folder,
            "--shots",
            2,
            "--epochs",
            1,
            "--page",
            page,
            "--out",
            rows,
            "--device",
            "cpu",
        )
        == 0
    )
    text = page.read_text(encoding="utf-8")
    assert "<b>cat" not in text
    assert "&lt;b&gt;cat" in text
    assert all(
        words in text for words in ("harmonic mean", "Mistakes of tip-adapter", "equal images are in different classes")
    )
    assert "<script" not in text
    assert "http" not in text
    found = {
        (row["method"], row["score"]): row for row in json.loads(rows.read_text())["rows"] if row["split"] == "all"
    }
    score = found["tip-adapter", "all"]
    counts = [int(number or 0) for number in re.findall(r"<td style=[^>]*>(\d*)</td>", text)]
    assert len(counts) == len(CLASSES) ** 2
    assert sum(counts) == score["n"]
    assert sum(counts[:: len(CLASSES) + 1]) == round(score["value"] * score["n"])
    sure = [int(number) for number in re.findall(r"class=wrong>.*?, (\d+) %<", text)]
    assert len(sure) == score["n"] - round(score["value"] * score["n"])
    assert sure == sorted(sure, reverse=True)
    assert text.count("data:image/jpeg") == len(sure)


def test_what_was_found_in_the_folder_is_said(photos: Path, tmp_path: Path) -> None:
    for name in CLASSES:
        shutil.copytree(photos / name, tmp_path / name)
    shutil.copy(photos / "cat" / "0.png", tmp_path / "cat" / "copy.png")
    shutil.copy(photos / "tree" / "0.png", tmp_path / "car" / "same.png")
    shutil.copy(photos / "tree" / "1.png", tmp_path / "loose.png")
    (tmp_path / "empty").mkdir()
    own = open_own(tmp_path)
    assert own.counts == {"car": 6, "cat": 6, "house": 6, "tree": 5}
    assert own.copies == 1
    assert own.per_class == "car 6, cat 6, house 6, tree 5"
    assert own.remarks == (
        f"ignored: {tmp_path / 'empty'}, a folder without images",
        f"ignored: 1 files of {tmp_path} that are in no folder",
        f"left out, because equal images are in different classes: {tmp_path / 'car' / 'same.png'}, {tmp_path / 'tree' / '0.png'}",
    )


def test_names_that_differ_in_capitals_only_are_refused(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "cat", tmp_path / "cat")
    shutil.copytree(photos / "car", tmp_path / "Cat")
    with pytest.raises(PerceptError, match="two classes are called 'cat'"):
        open_own(tmp_path)


def test_the_harmonic_mean_of_faultless_answers_has_an_interval() -> None:
    right = np.arange(2)[:, None].repeat(10, axis=1)
    answers = {
        part: Answers(rows=np.arange(10), truth=right[place], guess=right[place], sure=np.ones(10))
        for place, part in enumerate(("base", "new"))
    }
    score = scores_of(answers)["harmonic"]
    assert score.low == pytest.approx(scores_of(answers)["base"].low)
    assert score.high == score.value == 1
