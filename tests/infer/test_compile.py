"""Compiling: its tests, in a process without shape checks, and what is refused."""

import subprocess
import sys
from pathlib import Path

import pytest

import percept
from percept.core.errors import PerceptError
from tests.infer import tiny

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("which", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_compiling(which) -> None:
    file = str(Path(__file__).with_name("compiling.py"))
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", "-m", which, file]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_compiler_or_for_an_export_it_is_refused(tmp_path, exported, monkeypatch) -> None:
    with pytest.raises(PerceptError, match="Leave out compile=True"):
        percept.load(exported.folder, compile=True)
    monkeypatch.setattr("percept.infer.load.compiler", lambda device: None)
    with pytest.raises(PerceptError, match=r"needs a C\+\+ compiler"):
        percept.load(tiny.folder(tmp_path / "model"), device="cpu", compile=True)
