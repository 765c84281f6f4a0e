"""Time models of timm and open_clip, each library in a separate process and environment (`oracles.sh`)."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from harness import Rate

from percept.core.errors import PerceptError
from percept.core.report import notice

ENVIRONMENT = Path(__file__).parents[1] / ".venv-oracles"
LIBRARIES = ("timm", "open_clip")


@dataclass(frozen=True)
class Other:
    """A model of another library in its own process."""

    library: str
    dtype: torch.dtype
    process: "subprocess.Popen[str]"

    def __call__(self, passes: int) -> Rate:
        """Run `passes` passes and return the seconds of one pass.

        Raises:
            PerceptError: the process has ended.
        """
        reply = answer(self.process, f"{self.library} {short(self.dtype)} {passes}")
        if reply is None or "error" in reply:
            raise PerceptError(f"{self.library} stopped: {(reply or {}).get('error', 'its process ended')}")
        return Rate(reply["clock"], reply["processor"])


def short(dtype: torch.dtype) -> str:
    """Return the name of a number type without its module."""
    return str(dtype).removeprefix("torch.")


def answer(process: "subprocess.Popen[str]", line: str | None = None) -> dict[str, Any] | None:
    """Send a line and return the next line of json; None if the process has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    if line is not None:
        try:
            print(line, file=process.stdin, flush=True)
        except BrokenPipeError:
            return None
    for reply in process.stdout:
        if reply.startswith("{"):
            return json.loads(reply)
    return None


@contextmanager
def others(name: str, batch: int, dtypes: list[torch.dtype], environment: Path) -> Iterator[dict[str, Other]]:
    """Start the model `name` of every library, and stop the processes at the end; a library that fails to start is reported."""
    python = environment / "bin" / "python"
    models: dict[str, Other] = {}
    with ExitStack() as stack:
        for library in LIBRARIES if python.is_file() else ():
            process, about = stack.enter_context(_started(python, library, name, batch, dtypes))
            if "error" in about:
                notice(f"{library} has no {name} that runs here: {about['error']}")
                continue
            models |= {
                f"{library} {about['version']} {short(dtype)}": Other(library, dtype, process) for dtype in dtypes
            }
        yield models


@contextmanager
def _started(
    python: Path, library: str, name: str, batch: int, dtypes: list[torch.dtype]
) -> "Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]":
    """Start one library; yield its process and its first reply, or the last line of its log if it ended."""
    command = [str(python), str(Path(__file__).with_name("oracle.py")), library, name, str(batch)]
    command += [str(torch.get_num_threads()), *map(short, dtypes)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    pipe = subprocess.PIPE
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True, env=environment)
        try:
            about = answer(process)
            if about is None:
                log.seek(0)
                about = {"error": (log.read().strip().splitlines() or ["the process ended without a message"])[-1]}
            yield process, about
        finally:
            process.kill()
            process.communicate()
