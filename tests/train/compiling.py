"""Train the small CLIP plainly, compiled, and compiled with an interruption: python -m tests.train.compiling FOLDER"""

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from percept.fast.compile import compiled_call
from percept.train import fit, meters, parallel
from tests.train.runs import SETTINGS, Config, Trial, experiment

COMPILED: list[str] = []


def made(*, compile: bool) -> Trial:
    settings = replace(SETTINGS, dtype="float32", log_every=4, compile=compile)
    return experiment(Config(settings=settings, drop_path=0.0))


def portable(**options: Any) -> Callable[..., Any]:
    """A backend that needs no compiler of the machine."""
    COMPILED.append("once")
    return compiled_call(backend="aot_eager")


def main(folder: Path) -> None:
    setattr(meters, "matmul_peak", lambda device, dtype: 1e12)  # noqa: B010
    setattr(parallel, "compiled_call", portable)  # noqa: B010
    setattr(parallel, "compiler", lambda device: "g++")  # noqa: B010
    fit(made(compile=False), folder / "plain")
    whole, part = made(compile=True), made(compile=True)
    fit(whole, folder / "whole")
    part.model.before = lambda call: signal.raise_signal(signal.SIGINT) if call == 3 else None
    fit(part, folder / "parts")
    fit(made(compile=True), folder / "parts")
    print(json.dumps({"calls": whole.model.calls, "compilations": len(COMPILED)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
