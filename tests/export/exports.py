"""Exports made as a user makes them, in a process of their own: shape checks of the tests cannot look at symbolic sizes."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "import sys; from percept.cli import main; sys.exit(main(sys.argv[1:]))"


def export(model: Path | str, folder: Path, *options: str, first: str = "") -> str:
    """Run `percept export onnx` with warnings as errors and return what it printed; `first` is Python to run before."""
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{first}\n{PROGRAM}", "export", "onnx", str(model), "--out", str(folder), *options],
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return done.stdout + done.stderr
