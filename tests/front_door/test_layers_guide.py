"""The guide to layers keeps its word: its Python prints what it shows, and its commands exist."""

import re
import shlex

import pytest

from percept.cli import main
from tests.front_door.test_readme import ROOT, printed_by

GUIDE = (ROOT / "docs" / "layers.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", GUIDE, flags=re.DOTALL)
COMMANDS = [line.split("#")[0].strip() for line in GUIDE.splitlines() if line.startswith("percept ")]


@pytest.mark.parametrize("number", range(2))
def test_a_snippet_prints_what_the_guide_shows(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(SNIPPETS) == 2
    monkeypatch.chdir(ROOT)
    code, expected = SNIPPETS[number]
    assert printed_by(code) == expected


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_guide_exists(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, verb, *rest = shlex.split(command)
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in rest if option.startswith("--"))
