"""Peak memory of opening a perception language model, as a share of the weights in the type in which it is opened.

    python benchmarks/assistant_memory.py            # prints a table and writes assistant_memory.json next to this file

Random bfloat16 weights of the released shapes are written in every layout and opened in a separate process. The peak is the
process's largest resident memory (VmHWM of Linux, pages of the mapped file included), reset just before opening, minus the memory
resident then; it is read after every weight has been used once. Needs Linux, and disk for the weights.
"""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

import torch
import tyro
from torch import nn

from percept.core.errors import PerceptError
from percept.core.io import write_json
from percept.core.report import out, table
from percept.models.vlm import VLM
from percept.models.zoo import ASSISTANTS
from percept.weights.assistant import LAYOUTS
from percept.weights.assistant_files import write_assistant

RESULTS = Path(__file__).with_suffix(".json")
GOAL = 1.1
CHILD = """
import gc, json, sys, time
import torch
import percept
from percept.weights.assistant import open_vlm

folder, dtype = sys.argv[1:]

def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))

percept.load("nano").image(torch.zeros(1, 3, 96, 96))  # loads the libraries and their buffers first
gc.collect()
with open("/proc/self/clear_refs", "w") as clear:
    clear.write("5")
before, start = resident("VmRSS"), time.perf_counter()
model = open_vlm(folder, dtype=getattr(torch, dtype))
seconds = time.perf_counter() - start
used = sum(float(parameter.detach().view(-1)[::512].float().sum()) for parameter in model.parameters())
weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
print(json.dumps({"peak": resident("VmHWM") - before, "weights": weights, "seconds": seconds, "sum": used}))
"""


def made_up(name: str) -> VLM:
    """Return a model of random bfloat16 weights."""
    config = ASSISTANTS[name].config
    assert config is not None
    with torch.device("meta"):
        model = VLM(config).to(torch.bfloat16)
    torch.manual_seed(0)
    for parameter in model.to_empty(device="cpu").parameters():
        nn.init.uniform_(parameter, -1, 1)
    return model


def opened(folder: Path, dtype: str) -> dict[str, float]:
    """Open weights in a new process; return the peak and the size of the weights in bytes, and seconds."""
    command = [sys.executable, "-c", CHILD, str(folder), dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PerceptError(f"opening {folder} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def main(
    model: str = "Perception-LM-1B",
    dtypes: tuple[str, ...] = ("bfloat16",),
    layouts: tuple[str, ...] = tuple(LAYOUTS),
    folder: Path | None = None,
    json_file: Path = RESULTS,
) -> None:
    """Measure the memory that opening a perception language model takes.

    Args:
        model: Released model whose shapes are used.
        dtypes: Number types to open it in.
        layouts: Layouts to write and open it in.
        folder: Folder for temporary weight files. Default: that of the system.
        json_file: Result file.
    """
    if sys.platform != "linux":
        raise PerceptError("peak memory is read from /proc, which needs Linux.")
    rows, start = [], time.perf_counter()
    with TemporaryDirectory(dir=folder) as place:
        made = made_up(model)
        for layout in layouts:
            target = write_assistant(Path(place, layout), made.state_dict(), made.config, name=model, layout=layout)
            for dtype in dtypes:
                measured = opened(target, dtype)
                share = round(measured["peak"] / measured["weights"], 4)
                rows.append({"layout": layout, "dtype": dtype, **measured, "share": share})
            rmtree(target)
    write_json(json_file, {
        "command": f"python benchmarks/assistant_memory.py {' '.join(sys.argv[1:])}".strip(),
        "model": model, "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__, "seed": 0, "seconds": round(time.perf_counter() - start, 1), "goal": GOAL,
        "results": rows,
    })  # fmt: skip
    columns = ("layout", "type", "weights MB", "peak MB", "peak / weights", "seconds")
    table(f"Opening {model}, n = 1 each", columns, [
        (row["layout"], row["dtype"], row["weights"] / 1e6, row["peak"] / 1e6, row["share"], row["seconds"]) for row in rows
    ])  # fmt: skip
    worst = max(row["share"] for row in rows)
    out.print(f"goal: at most {GOAL} of the weights; largest here {worst:.3f}: {'met' if worst <= GOAL else 'MISSED'}")


if __name__ == "__main__":
    tyro.cli(main)
