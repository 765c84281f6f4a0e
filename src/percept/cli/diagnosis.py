"""The checks of `percept doctor`: one function per subject, yielding findings, some with a problem and its remedy."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from percept.core.errors import PerceptError

if TYPE_CHECKING:
    import torch

HUB_SECONDS = 2.0
"""Longest time to wait for the hub."""
BUSY = 1.2
"""Runnable processes per core above which the machine counts as busy."""
ROOM = 5e9
"""Bytes on disk of the largest released weights."""
OPTIONAL: dict[str, tuple[str, str]] = {
    "pyarrow": ("data", "percept encode --out vectors.parquet"),
    "scikit-learn": ("eval", "percept eval digits"),
    "onnxruntime": ("export", "percept export onnx, and models it wrote"),
    "onnxscript": ("export", "percept export onnx"),
    "av": ("video", "video files: encoder.video, percept encode, percept classify"),
}
"""Library: (extra that installs it, features that need it)."""


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    value: str
    problem: str = ""
    """Empty if there is none."""
    remedy: str = ""


def software() -> Iterator[Finding]:
    """Yield the versions."""
    import torch

    import percept

    yield Finding("percept", f"{percept.__version__} in {Path(percept.__file__).parent}")
    yield Finding("python", f"{platform.python_version()} ({sys.executable})")
    yield Finding("system", f"{platform.system()} {platform.machine()}")
    yield Finding("torch", torch.__version__)


def devices(device: "torch.device") -> Iterator[Finding]:
    """Yield the available devices, the one that is used, and the number type chosen for it."""
    import torch

    from percept.core.machine import device_name, fast_dtype

    yield Finding("device", f"{device.type}: {device_name(device)}")
    dtype, reason = fast_dtype(device)
    yield Finding("number type", f"{str(dtype).removeprefix('torch.')}: {reason}")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        yield Finding("GPU", ", ".join(names))
    elif torch.backends.mps.is_available():
        yield Finding("GPU", "Apple, by mps")
    elif shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists():
        problem = "there is an NVIDIA GPU, but this torch cannot use it"
        yield Finding("GPU", "present, not used", problem, "install a torch with CUDA: https://pytorch.org/get-started")
    else:
        yield Finding("GPU", "none; not needed")


def threads() -> Iterator[Finding]:
    """Compare the number of threads with the available cores."""
    import torch

    from percept.core.machine import cpu_quota, usable_cores

    quota, cores, used = cpu_quota(), usable_cores(), torch.get_num_threads()
    limit = "" if quota is None else f" (the container permits {quota:g} of {os.cpu_count()})"
    yield Finding("cores", f"{cores:g}{limit}")
    problem = remedy = ""
    if used < int(cores):
        problem = f"torch uses {used} of {int(cores)} cores"
        remedy = "unset OMP_NUM_THREADS and MKL_NUM_THREADS, or set them to the number of cores"
    elif used > max(1, cores):
        problem = f"torch starts {used} threads for {cores:g} cores; they wait for each other"
        remedy = f"set OMP_NUM_THREADS={max(1, int(cores))}"
    yield Finding("torch threads", str(used), problem, remedy)
    if hasattr(os, "getloadavg"):
        load = os.getloadavg()[0]
        problem = f"other processes use the cores (load {load:.1f} on {cores:g} cores), so measured speeds are too low"
        yield Finding(
            "load", f"{load:.1f}", problem if load > BUSY * cores else "", "wait until they are done, or stop them"
        )


def products() -> Iterator[Finding]:
    """Yield how linear layers are computed on the CPU, and whether `torch.compile` would work."""
    import torch

    from percept.core.machine import compiler
    from percept.fast.linear import direct

    names = [str(dtype).removeprefix("torch.") for dtype in (torch.float32, torch.bfloat16) if direct(dtype)]
    products = f"oneDNN directly, weights packed: {', '.join(names)}" if names else "as torch computes them"
    yield Finding("products on the CPU", products)
    yield Finding(
        "C++ compiler", f"{compiler(torch.device('cpu')) or 'none'} (only --compile needs one, compile=True in Python)"
    )


def video() -> Iterator[Finding]:
    """Yield the video decoder."""
    try:
        av = import_module("av")
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError)
        problem = "video files cannot be read" + ("" if missing else f": PyAV does not load ({error})")
        yield Finding("video decoder", "none", problem, "pip install 'percept-models[video]'")
        return
    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    ffmpeg = getattr(av, "ffmpeg_version_info", "of unknown version")
    yield Finding("video decoder", f"PyAV {av.__version__}, FFmpeg {ffmpeg}, libavcodec {codec}")


def hub() -> Iterator[Finding]:
    """Yield whether weights can be fetched; waits at most `HUB_SECONDS`."""
    from percept.weights.hub import hub_allowed, hub_reachable

    if not hub_allowed():
        yield Finding(
            "hub", "not contacted, HF_HUB_OFFLINE is set: weights must be in the cache, or given with --weights"
        )
    elif hub_reachable(HUB_SECONDS):
        yield Finding("hub", "answers")
    else:
        problem = f"the Hugging Face hub does not answer within {HUB_SECONDS:g} seconds, so official weights cannot be fetched"
        remedy = "check network and proxy (HTTPS_PROXY, HF_ENDPOINT), or use nano or local weights"
        yield Finding("hub", "does not answer", problem, remedy)


def caches() -> Iterator[Finding]:
    """Yield the caches of weights and generated images, their sizes, and the free space."""
    from huggingface_hub.constants import HF_HUB_CACHE

    from percept.world.cache import cache_home

    yield _folder("weights cache", Path(HF_HUB_CACHE), "HF_HOME")
    yield _folder("generated images", cache_home(), "PERCEPT_CACHE")


def _folder(what: str, folder: Path, variable: str) -> Finding:
    used = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    home = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(home).free
    value = f"{folder}: {used / 1e9:.2f} GB used, {free / 1e9:.0f} GB free"
    remedy = f"set {variable} to a different folder"
    if not (home.is_dir() and os.access(home, os.W_OK | os.X_OK)):
        return Finding(what, value, f"{home} cannot be written to", remedy)
    if free < ROOM:
        return Finding(what, value, f"only {free / 1e9:.1f} GB are free at {home}", f"free some space, or {remedy}")
    return Finding(what, value)


def peaks(device: "torch.device", seconds: float) -> Iterator[Finding]:
    """Measure the matrix-product peak of both number types."""
    import torch

    from percept.core.machine import fast_dtype, matmul_peak

    chosen = fast_dtype(device)[0]
    types = (torch.float32, torch.bfloat16)
    speeds = {dtype: matmul_peak(device, dtype, seconds=seconds) / 1e9 for dtype in types}
    for dtype, speed in speeds.items():
        name, problem = str(dtype).removeprefix("torch."), ""
        if dtype == chosen and speed < 0.9 * max(speeds.values()):
            problem = f"{name} is chosen here, but the other type was faster when measured"
        value = f"{speed:,.1f} GFLOP/s{', used by default' if dtype == chosen else ''}"
        yield Finding(
            name, value, problem, "run it again on an idle machine; then use the faster type: --dtype, dtype= in Python"
        )


def packaged() -> Iterator[Finding]:
    """Open the models that ship with percept."""
    import percept
    from percept.infer import load
    from percept.models.zoo import ASSISTANTS, PACKAGED

    def encoder(name: str) -> str:
        return f"opens, image identity {load.open_packaged(name).image_identity[:8]}"

    def assistant(name: str) -> str:
        return f"opens, context of {percept.assistant(name).model.config.decoder.context:,} tokens"

    assistants = [name for name, entry in ASSISTANTS.items() if entry.config is None]
    for name, opened in [*((name, encoder) for name in PACKAGED), *((name, assistant) for name in assistants)]:
        try:
            yield Finding(name, opened(name))
        except PerceptError as error:
            yield Finding(name, "does not open", str(error), "install percept again")


def libraries() -> Iterator[Finding]:
    """Yield the optional libraries."""
    for name, (extra, purpose) in OPTIONAL.items():
        try:
            yield Finding(name, f"{version(name)}, for {purpose}")
        except PackageNotFoundError:
            remedy = f"pip install 'percept-models[{extra}]'"
            yield Finding(name, f"missing, for {purpose}", f"{name} is missing: {purpose}", remedy)
