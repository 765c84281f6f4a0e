"""`percept adapt` on a person's own folder, as a user runs it: what it prints, saves and refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import percept
from percept.cli import main

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
    assert "24 different images to train on in 4 classes, 6 to 6 of each" in shown.err
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
    assert "1 test images are training images too" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("coop", "--shots", 7), "fewer than 7 different images"),
        (("coop", "--shots", 6), "no image left to test on"),
        (("coop", "--shots", 0), "--shots must be at least 1"),
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
