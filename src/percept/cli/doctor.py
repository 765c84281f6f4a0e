"""`percept doctor`: what this machine can do, what is missing, and how to get it."""

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    import torch

OPTIONAL: dict[str, tuple[str, str]] = {
    "pyarrow": ("data", "percept encode --out vectors.parquet"),
    "scikit-learn": ("eval", "percept eval digits"),
    "onnxruntime": ("export", "percept export onnx, and models it wrote"),
    "onnxscript": ("export", "percept export onnx"),
    "av": ("video", "video files: encoder.video, percept encode, percept classify"),
}
"""Library: (extra that installs it, what needs it)."""


def doctor(seconds: float = 0.5) -> int:
    """Measure this machine and list what is installed, with a remedy for what is not.

    Args:
        seconds: How long to measure each matrix-product peak.
    """
    if not 0 < seconds <= 60:
        raise PerceptError(f"--seconds {seconds} measures nothing; use more than 0 and at most 60")
    import torch

    from percept.core.machine import fast_dtype, pick_device

    device = pick_device()
    table("Machine", ("what", "found"), [*_software(), *_hardware(device), *_disk()])
    dtype, reason = fast_dtype(device)
    types = (torch.float32, torch.bfloat16)
    table("Matrix-product peak", ("number type", "GFLOP/s", "note"),
          [_peak(device, one, seconds, reason if one == dtype else "") for one in types])  # fmt: skip
    table("Models in the package", ("model", "state"), _packaged())
    table("Optional libraries", ("library", "state", "needed for"), [_library(name) for name in OPTIONAL])
    return 0


def _software() -> list[tuple[str, str]]:
    import torch

    import percept

    return [
        ("percept", f"{percept.__version__} in {Path(percept.__file__).parent}"),
        ("python", f"{platform.python_version()} ({sys.executable})"),
        ("system", f"{platform.system()} {platform.machine()}"),
        ("torch", torch.__version__),
    ]


def _hardware(device: "torch.device") -> list[tuple[str, str]]:
    import torch

    from percept.core.machine import device_name

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = torch.get_num_threads()
    remedy = "" if threads >= cores else " (fewer than cores: is OMP_NUM_THREADS set?)"
    return [
        ("device", f"{device.type}: {device_name(device)}"),
        ("cores", str(cores)),
        ("torch threads", f"{threads}{remedy}"),
    ]


def _disk() -> list[tuple[str, str]]:
    from huggingface_hub.constants import HF_HUB_CACHE

    from percept.infer.hub import hub_allowed

    cache = Path(HF_HUB_CACHE)
    used = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file() and not file.is_symlink())
    home = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(home).free
    rows = [("weights cache", f"{cache}: {used / 1e9:.2f} GB used, {free / 1e9:.0f} GB free")]
    if not hub_allowed():
        rows.append(("hub", "HF_HUB_OFFLINE is set: official weights must be in the cache or given with --weights"))
    return rows


def _peak(device: "torch.device", dtype: "torch.dtype", seconds: float, why: str) -> tuple[str, float, str]:
    from percept.core.machine import matmul_peak

    speed = matmul_peak(device, dtype, seconds=seconds) / 1e9
    return str(dtype).removeprefix("torch."), round(speed, 1), f"used by default: {why}" if why else ""


def _packaged() -> list[tuple[str, str]]:
    from percept.infer.load import open_packaged
    from percept.models.zoo import PACKAGED

    rows = []
    for name in PACKAGED:
        try:
            rows.append((name, f"opens, weights {open_packaged(name).fingerprint[:8]}"))
        except PerceptError as error:
            rows.append((name, str(error)))
    return rows


def _library(name: str) -> tuple[str, str, str]:
    extra, purpose = OPTIONAL[name]
    try:
        return name, version(name), purpose
    except PackageNotFoundError:
        return name, f"missing: pip install 'percept-models[{extra}]'", purpose


COMMAND = doctor
