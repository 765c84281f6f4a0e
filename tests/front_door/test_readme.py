"""The README keeps its word: its Python prints what it shows, and its commands exist."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
import torch

from percept.cli import VERBS, main
from tests.golden.filling import checkpoint

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    for line in block.splitlines()
    if line.startswith("percept ")
]


def printed_by(code: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    return out.getvalue()


def numbers_apart(text: str) -> tuple[list[float], str]:
    """Split a text into its decimal numbers and the rest: the last digit may differ between machines."""
    pattern = r"-?\d+\.\d+"
    return [float(number) for number in re.findall(pattern, text)], re.sub(pattern, "#", text)


def test_there_are_three_snippets():
    assert len(SNIPPETS) == 3
    assert all(len(code.strip().splitlines()) <= 12 for code, _ in SNIPPETS)


@pytest.mark.parametrize("number", range(3))
def test_a_snippet_prints_what_the_readme_shows(number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    code, expected = SNIPPETS[number]
    monkeypatch.chdir(ROOT)
    if "PE-Core-T16-384.pt" in code:
        torch.save(checkpoint("PE-Core-T16-384"), tmp_path / "PE-Core-T16-384.pt")
        monkeypatch.chdir(tmp_path)
    found, words = numbers_apart(printed_by(code))
    wanted, expected_words = numbers_apart(expected)
    assert words.split() == expected_words.split()
    assert found == pytest.approx(wanted, abs=0.0101)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_exists(command: str, capsys: pytest.CaptureFixture[str]):
    _, verb, *rest = shlex.split(command)
    assert verb in VERBS
    nested = rest[:1] if verb in ("world", "eval", "train", "export", "data") else []
    assert main([verb, *nested, "--help"]) == 0
    options = [word for word in rest if word.startswith("--")]
    shown = capsys.readouterr().out
    assert all(option in shown for option in options)


def test_every_file_named_in_the_readme_is_there():
    named = re.findall(r"`((?:models|nn|losses|recipes|train|data|infer|eval|search)/[\w/]+\.py)`", README)
    assert named
    assert [name for name in named if not (ROOT / "src" / "percept" / name).is_file()] == []
