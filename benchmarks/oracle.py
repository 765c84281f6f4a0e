"""How fast the models of timm and open_clip are: run by encode.py inside the environment that oracles.sh makes.

    .venv-oracles/bin/python benchmarks/oracle.py --check
    .venv-oracles/bin/python benchmarks/oracle.py PE-Core-B16-224 8 3 12 bfloat16 2

The arguments are model, batch, least turns, seconds to take turns for, type, threads.

Prints one line of json for each library. Imports nothing of percept, whose libraries are not in that environment.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

NAMES = {
    "PE-Core-T16-384": ("vit_pe_core_tiny_patch16_384", "PE-Core-T-16-384"),
    "PE-Core-S16-384": ("vit_pe_core_small_patch16_384", "PE-Core-S-16-384"),
    "PE-Core-B16-224": ("vit_pe_core_base_patch16_224", "PE-Core-B-16"),
    "PE-Core-L14-336": ("vit_pe_core_large_patch14_336", "PE-Core-L-14-336"),
    "PE-Core-G14-448": ("vit_pe_core_gigantic_patch14_448", "PE-Core-bigG-14-448"),
}
"""Ours, timm's, open_clip's."""
BURST, MOST, TURNS = 0.4, 1000, 100
"""As in encode.py."""


def declare() -> torch.library.Library:
    """Declare the operators that torchvision expects to have compiled; without them importing it fails on a CPU."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def timm_model(name: str) -> Callable[[torch.Tensor], Any]:
    return importlib.import_module("timm").create_model(NAMES[name][0]).eval()


def open_clip_model(name: str) -> Callable[[torch.Tensor], Any]:
    return importlib.import_module("open_clip").create_model(NAMES[name][1]).visual.eval()


LIBRARIES = {"timm": timm_model, "open_clip": open_clip_model}


@torch.inference_mode()
def measure(model: Any, size: int, batch: int, repeats: int, span: float, dtype: torch.dtype) -> dict[str, list[float]]:
    """Return seconds of the clock and of the processor for one batch, the mean of each burst."""
    model, image = model.to(dtype), torch.rand(batch, 3, size, size).to(dtype)
    found: dict[str, list[float]] = {"clock": [], "processor": []}
    begun = time.perf_counter()
    model(image)
    passes = max(1, min(MOST, round(BURST / (time.perf_counter() - begun))))
    while len(found["clock"]) < repeats or (time.perf_counter() - begun < span and len(found["clock"]) < TURNS):
        start = time.perf_counter(), time.process_time()
        for _ in range(passes):
            model(image)
        found["clock"].append((time.perf_counter() - start[0]) / passes)
        found["processor"].append((time.process_time() - start[1]) / passes)
    return found


def main() -> None:
    kept = declare()
    if sys.argv[1:] == ["--check"]:
        for name in LIBRARIES:
            print(name, importlib.import_module(name).__version__)
        del kept
        return
    name, batch, repeats, span, dtype, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    size = int(name.rsplit("-", 1)[1])
    for library, make in LIBRARIES.items():
        try:
            found = measure(make(name), size, int(batch), int(repeats), float(span), getattr(torch, dtype))
            version = importlib.import_module(library).__version__
            print(json.dumps({"library": library, "version": version, **found}), flush=True)
        except Exception as error:
            print(json.dumps({"library": library, "error": f"{type(error).__name__}: {error}"[:200]}), flush=True)


if __name__ == "__main__":
    main()
