"""Run models of timm and open_clip on request; started by encode.py in the environment that oracles.sh creates.

    .venv-oracles/bin/python benchmarks/oracle.py --check
    .venv-oracles/bin/python benchmarks/oracle.py timm PE-Core-B16-224 8 2 float32 bfloat16

The arguments are library, model, batch, threads and number types. The script prints a line of json when the models are ready.
For each input line, such as `timm bfloat16 5` for five passes, it prints the wall-clock and processor seconds of one pass. It
does not import percept, which is not installed in that environment.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

NAMES = {
    "PE-Core-T16-384": ("vit_pe_core_tiny_patch16_384", "PE-Core-T-16-384"),
    "PE-Core-S16-384": ("vit_pe_core_small_patch16_384", "PE-Core-S-16-384"),
    "PE-Core-B16-224": ("vit_pe_core_base_patch16_224", "PE-Core-B-16"),
    "PE-Core-L14-336": ("vit_pe_core_large_patch14_336", "PE-Core-L-14-336"),
    "PE-Core-G14-448": ("vit_pe_core_gigantic_patch14_448", "PE-Core-bigG-14-448"),
}
"""Name → names in timm and open_clip."""


def declare() -> torch.library.Library:
    """Declare the compiled operators of torchvision, without which its import fails on a CPU."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def timm_model(name: str) -> Any:
    return importlib.import_module("timm").create_model(NAMES[name][0]).eval()


def open_clip_model(name: str) -> Any:
    return importlib.import_module("open_clip").create_model(NAMES[name][1]).visual.eval()


LIBRARIES = {"timm": timm_model, "open_clip": open_clip_model}


@torch.inference_mode()
def burst(model: Callable[[torch.Tensor], Any], image: torch.Tensor, passes: int) -> dict[str, float]:
    """Return the mean wall-clock and processor seconds of one pass."""
    clock, processor = time.perf_counter(), time.process_time()
    for _ in range(passes):
        model(image)
    return {
        "clock": (time.perf_counter() - clock) / passes,
        "processor": (time.process_time() - processor) / passes,
    }


def serve(library: str, name: str, batch: int, dtypes: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the version of the library, then the times of each requested burst, until the input ends."""
    size = int(name.rsplit("-", 1)[1])
    models: dict[str, Any] = {dtype: LIBRARIES[library](name).to(getattr(torch, dtype)) for dtype in dtypes}
    image = torch.rand(batch, 3, size, size)
    images = {dtype: image.to(getattr(torch, dtype)) for dtype in dtypes}
    yield {"library": library, "version": importlib.import_module(library).__version__}
    for line in sys.stdin:
        _, dtype, passes = line.split()
        yield burst(models[dtype], images[dtype], int(passes))


def main() -> None:
    operators = declare()
    if sys.argv[1:] == ["--check"]:
        for name in LIBRARIES:
            print(name, importlib.import_module(name).__version__)
        del operators
        return
    library, name, batch, threads, *dtypes = sys.argv[1:]
    torch.set_num_threads(int(threads))
    try:
        for reply in serve(library, name, int(batch), dtypes):
            print(json.dumps(reply), flush=True)
    except Exception as error:
        print(json.dumps({"library": library, "error": f"{type(error).__name__}: {error}"[:200]}), flush=True)


if __name__ == "__main__":
    main()
