"""The guide to assistants keeps its word: its Python runs, here with a tiny model, and its commands exist."""

import re
import shlex

import pytest

import percept
from percept.cli import main
from percept.infer.asking import BadPrompt
from tests.front_door.test_readme import ROOT
from tests.infer import speaking

GUIDE = (ROOT / "docs" / "assistant.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
COMMANDS = [line for line in GUIDE.splitlines() if line.startswith("percept ")]


def test_the_python_of_the_guide_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    made = speaking.assistant()
    monkeypatch.setattr(made.answerer, "_stops", frozenset(range(20, 250)))  # a random model seldom ends by itself
    monkeypatch.setattr(percept, "assistant", lambda name: made)
    names: dict = {}
    for block in BLOCKS:
        exec(compile(block, "assistant.md", "exec"), names)
    kinds = [type(answer) for answer in names["answers"]]
    assert kinds == [str, BadPrompt, str]
    assert len(names["chat"].turns) == 6
    assert len(BLOCKS) == 6


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_guide_exists(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, verb, *rest = shlex.split(command)
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in rest if option.startswith("--"))
