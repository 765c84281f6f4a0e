"""`percept world write` with its options, as typed."""

import json
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from percept.cli import main, world
from percept.world import SPLITS, STYLES
from percept.world.languages import LANGUAGES
from percept.world.noise import Noise
from percept.world.write import FORMATS


def test_options_are_those_of_the_world() -> None:
    assert get_args(world.What) == tuple(FORMATS)
    assert set(get_args(world.Format)) == {format for formats in FORMATS.values() for format in formats}
    assert get_args(world.Kind) == tuple(field.name for field in fields(Noise))
    assert get_args(world.Language) == LANGUAGES
    assert set(get_args(world.Split)) == set(SPLITS)
    assert set(get_args(world.Style)) == {*STYLES, "mixed"}


def test_noise_and_languages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--count", "4", "--format", "jsonl", "--size", "32", "--noise", "wrong", "0.5", "empty", "0.5"]
    assert main(["world", "write", "--out", str(tmp_path / "w"), *options, "--languages", "de", "fr"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "w/truth.jsonl").read_text().splitlines()]
    assert {line["noise"] for line in lines} <= {"wrong", "empty"}
    assert all(line["caption_de"] != line["caption_fr"] for line in lines)
    assert "written as jsonl" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["questions", "documents", "rooms"])
def test_the_default_format_of_each_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str) -> None:
    assert main(["world", "write", "--out", str(tmp_path / "w"), "--what", what, "--count", "2"]) == 0
    assert f"written as {next(iter(FORMATS[what]))}" in capsys.readouterr().out
    assert any((tmp_path / "w").iterdir())


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--noise", "wrong", "0.7", "empty", "0.7"], "add up to at most 1"),
        (["--what", "rooms", "--noise", "wrong", "0.1"], "noise has no effect on rooms, only on images"),
        (["--what", "documents", "--format", "coco"], "folder, plm"),
        (
            ["--format", "davis"],
            "davis is a format of clips, not of images. Choose --what clips, or a format of images",
        ),
        (["--frames", "16"], "frames has no effect on images, only on clips"),
    ],
)
def test_options_without_effect_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    assert main(["world", "write", "--out", str(tmp_path / "w"), *arguments]) == 2
    assert reason in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "w").exists()
