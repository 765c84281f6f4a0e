"""The guide to dense tasks keeps its word: its Python prints what it shows, its commands exist, its numbers are the measured ones."""

import json
import re
import shlex

import pytest

from percept.cli import main
from tests.front_door.test_readme import ROOT, printed_by

GUIDE = (ROOT / "docs" / "dense.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", GUIDE, flags=re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for line in GUIDE.splitlines() if line.startswith("percept ")]


def test_the_snippet_prints_what_the_guide_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    ((code, expected),) = SNIPPETS
    assert printed_by(code) == expected


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_guide_exists(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, verb, *rest = shlex.split(command)
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in rest if option.startswith("--"))


def test_the_numbers_are_the_measured_ones() -> None:
    measured = json.loads((ROOT / "benchmarks" / "zeroshot_dense.json").read_text(encoding="utf-8"))
    for part in ("segmentation", "tracking", "matching", "objects"):
        for name, score in measured[part].items():
            if name != "whole image":
                low, high = (f"{100 * score[end]:.1f}" for end in ("low", "high"))
                assert f"{100 * score['value']:.1f}" in GUIDE, (part, name)
                assert f"{low} – {high}" in GUIDE, (part, name)


@pytest.mark.parametrize("name", ["fusioner", "fusioner_tokens"])
def test_the_numbers_of_fusioner_are_the_measured_ones(name: str) -> None:
    arms = json.loads((ROOT / "benchmarks" / f"{name}.json").read_text(encoding="utf-8"))["arms"]
    for arm in ("fusion", "linear", "no text", "zero-shot"):
        for part in ("seen", "unseen", "mosaic"):
            runs = ", ".join(f"{100 * value:.1f}" for value in arms[arm][part]["runs"])
            assert f"{100 * arms[arm][part]['mIoU']:.1f} ({runs})" in GUIDE


def test_the_numbers_of_the_towers_are_the_measured_ones() -> None:
    pairs = json.loads((ROOT / "benchmarks" / "fusioner_towers.json").read_text(encoding="utf-8"))["pairs"]
    for pair, arms in pairs.items():
        (row,) = (line for line in GUIDE.splitlines() if line.startswith(f"| {pair} |"))
        shown = [("fusion", "unseen"), ("linear", "unseen"), ("fusion", "mosaic"), ("linear", "mosaic")]
        for score in (*(arms[arm][part] for arm, part in shown), arms["fusion minus linear"]["unseen"]):
            ends = (score.get("mIoU", score.get("value")), min(score["runs"]), max(score["runs"]))
            value, low, high = (f"{100 * end:.1f}".replace("-", "−") for end in ends)
            assert f"{value} ({low} to {high})" in row
