"""Peak memory of opening a model, as a share of the weights in the type in which it is opened.

    python benchmarks/load_memory.py                 # prints a table and writes load_memory.json next to this file

Random weights of the released shapes are written in float32 in every layout and opened in a separate process, in float32 and in
bfloat16. The peak is the process's largest resident memory (VmHWM of Linux, pages of the mapped file included), reset just before
opening, minus the memory resident then; it is read after every weight has been used once. The straightforward way (torch.load
without mapping into a model built with values, then a cast) is measured in the same way. Needs Linux.
"""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import tyro

from percept.core.errors import PerceptError
from percept.core.io import write_json
from percept.core.report import out, table
from percept.data.transforms import Preprocess
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from percept.models.zoo import find
from percept.weights.write import write_weights

RESULTS = Path(__file__).with_suffix(".json")
GOAL = 1.1
FORMS = {"official .pt": ("official", "model.pt"), "safetensors": ("official", "model.safetensors")}
FORMS |= {"timm": ("timm", "timm"), "open_clip": ("open_clip", "open_clip")}
PLAIN = "plain torch.load"
CHILD = """
import gc, json, sys, time
import torch
import percept
from percept.infer.load import load
from percept.models.clip import CLIP
from percept.weights.layouts.official import from_official
from percept.models.zoo import find

name, file, dtype, plain = sys.argv[1:]

def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))

def open_plainly():
    config = find(name).config
    model = CLIP(config)
    model.load_state_dict(from_official(torch.load(file, weights_only=True), has_text=config.text is not None))
    return model.to(getattr(torch, dtype))

load("nano").image(torch.zeros(1, 3, 96, 96))  # loads the libraries and their buffers first
gc.collect()
with open("/proc/self/clear_refs", "w") as clear:
    clear.write("5")
before, start = resident("VmRSS"), time.perf_counter()
model = open_plainly() if plain == "1" else load(name, weights=file, dtype=dtype).model
seconds = time.perf_counter() - start
used = sum(float(parameter.detach().double().sum()) if parameter.dim() == 0 else float(parameter.detach().sum())
           for parameter in model.parameters())
weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
print(json.dumps({"peak": resident("VmHWM") - before, "weights": weights, "seconds": seconds, "sum": used}))
"""


def made_up(config: ClipConfig, layout: str, file: Path, name: str) -> None:
    """Write a model of random weights."""
    torch.manual_seed(0)
    model = CLIP(config)
    size = config.vision.image_size
    write_weights(file, model.state_dict(), layout=layout, name=name, config=config, preprocess=Preprocess(size=size))


def opened(name: str, file: Path, dtype: str, plain: bool) -> dict[str, float]:
    """Open weights in a new process; return the peak and the size of the weights in bytes, and seconds."""
    command = [sys.executable, "-c", CHILD, name, str(file), dtype, str(int(plain))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PerceptError(f"opening {file} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def main(
    model: str = "PE-Core-L14-336",
    dtypes: tuple[str, ...] = ("float32", "bfloat16"),
    folder: Path | None = None,
    json_file: Path = RESULTS,
) -> None:
    """Measure the memory that opening a model takes.

    Args:
        model: Released model whose shapes are used.
        dtypes: Number types to open it in.
        folder: Folder for temporary weight files. Default: that of the system.
        json_file: Result file.
    """
    if sys.platform != "linux":
        raise PerceptError("peak memory is read from /proc, which needs Linux.")
    config = find(model).config
    if config is None:
        raise PerceptError(f"{model} is a packaged model. Give the name of a released model.")
    rows, start = [], time.perf_counter()
    with TemporaryDirectory(dir=folder) as place:
        for form, (layout, file) in FORMS.items():
            if layout == "open_clip" and config.text is None:
                continue
            made_up(config, layout, Path(place, file), model)
            ways = [(form, False)] + ([(PLAIN, True)] if form == "official .pt" else [])
            for dtype in dtypes:
                for way, plain in ways:
                    measured = opened(model, Path(place, file), dtype, plain)
                    share = measured["peak"] / measured["weights"]
                    rows.append({"way": way, "dtype": dtype, **measured, "share": round(share, 4)})
    write_json(json_file, {
        "command": f"python benchmarks/load_memory.py {' '.join(sys.argv[1:])}".strip(),
        "model": model, "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__, "seed": 0, "seconds": round(time.perf_counter() - start, 1), "goal": GOAL,
        "results": rows,
    })  # fmt: skip
    columns = ("way", "type", "weights MB", "peak MB", "peak / weights", "seconds")
    table(f"Opening {model}, n = 1 each", columns, [
        (row["way"], row["dtype"], row["weights"] / 1e6, row["peak"] / 1e6, row["share"], row["seconds"]) for row in rows
    ])  # fmt: skip
    worst = max(row["share"] for row in rows if row["way"] != PLAIN)
    out.print(f"goal: at most {GOAL} of the weights; largest here {worst:.3f}: {'met' if worst <= GOAL else 'MISSED'}")


if __name__ == "__main__":
    tyro.cli(main)
