"""Capabilities of the machine: device, fast number type, matrix-product peak, memory and cores."""

import ctypes
import os
import platform
import shutil
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch

from percept.core.errors import PerceptError, unknown_name

DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str = "auto") -> torch.device:
    """Return the named device; "auto" selects the best available one of cuda, mps and cpu, in this order.

    Raises:
        PerceptError: the device is unknown or not available here.
    """
    if name != "auto":
        return _present(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _present(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise unknown_name("device", name, DEVICES) from None
    try:
        torch.empty(0, device=device)
        if device.type == "meta":
            raise RuntimeError("its tensors have no memory")
    except (RuntimeError, AssertionError, ImportError) as error:
        absent = isinstance(error, NotImplementedError)  # its message lists every backend of torch
        reason = "this torch does not support it" if absent else (str(error).splitlines() or [""])[0]
        raise PerceptError(
            f"device {name!r} cannot be used here ({reason}); 'auto' selects the best available one"
        ) from None
    return device


def has_amx() -> bool:
    """True if the processor multiplies bfloat16 matrices in tiles (AMX)."""
    return _has("amx_tile")


def _has(capability: str) -> bool:
    """True if torch reports a capability of the processor; an older torch reports none."""
    return bool(getattr(torch.cpu, "get_capabilities", dict)().get(capability, False))


def fast_dtype(device: torch.device) -> tuple[torch.dtype, str]:
    """Return the fastest safe number type on `device`, and the reason."""
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "the GPU computes bfloat16 natively"
        return torch.float32, "the GPU has no bfloat16"
    if device.type == "cpu":
        if has_amx():
            return torch.bfloat16, "the CPU has AMX bfloat16 tiles"
        if _has("avx512_bf16"):
            return torch.bfloat16, "the CPU has AVX512-BF16"
    return torch.float32, f"{device.type} has no fast bfloat16"


def mixed_precision(device: torch.device, *, enabled: bool = True) -> AbstractContextManager[object]:
    """Return a context in which matrix products compute in `fast_dtype`; weights and their gradients keep their type.

    Nothing changes if `enabled` is false or the fast type is float32.
    """
    dtype, _ = fast_dtype(device)
    return torch.autocast(device.type, dtype) if enabled and dtype != torch.float32 else nullcontext()


def compiler(device: torch.device) -> str | None:
    """Return the compiler that `torch.compile` uses on `device`, or None if it is not installed."""
    if device.type == "cuda":  # Triton compiles a launcher in C
        compilers = (shutil.which(name) for name in (os.environ.get("CC", ""), "gcc", "clang"))
        return "triton" if find_spec("triton") and any(compilers) else None
    return shutil.which(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++"))


def device_name(device: torch.device) -> str:
    """Return the model name of the processor or GPU, or the architecture if the name is unknown."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def peak_side(device: torch.device) -> int:
    """Return the side of square matrices whose product reaches the peak of a device."""
    return 8192 if device.type == "cuda" else 2048


@lru_cache
def matmul_peak(device: torch.device, dtype: torch.dtype, size: int | None = None, seconds: float = 0.5) -> float:
    """Measure the matrix-product peak in floating-point operations per second, with a size³ product (`peak_side` if None)."""
    size = size or peak_side(device)
    generator = torch.Generator(device).manual_seed(0)  # keeps the global random state
    left = torch.randn(size, size, device=device, generator=generator).to(dtype)
    right = torch.randn(size, size, device=device, generator=generator).to(dtype)
    best, spent = float("inf"), 0.0
    torch.mm(left, right)
    while spent < seconds:
        start = time.perf_counter()
        torch.mm(left, right)
        wait(device)
        took = time.perf_counter() - start
        best, spent = min(best, took), spent + took
    return 2 * size**3 / best


def total_memory() -> int:
    """Return the memory in bytes that this process may use: the machine's or its container's; 0 if unknown."""
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = Path(file).read_text().strip() if Path(file).is_file() else ""
        memory = min(memory, int(text)) if text.isdigit() else memory
    return memory


def usable_cores() -> float:
    """Return the number of processor cores this process may use, limited by its affinity and its container."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = cpu_quota()
    return cores if quota is None else min(cores, quota)


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the core seconds per second that the container may use, or None if it has no limit."""
    second, first = root / "cpu.max", root / "cpu"
    files = [second] if second.is_file() else [first / "cpu.cfs_quota_us", first / "cpu.cfs_period_us"]
    try:
        numbers = [word for file in files for word in file.read_text().split()]
        quota, period = (int(word) for word in numbers)
    except (OSError, ValueError):  # no container, or "max"
        return None
    return quota / period if quota > 0 and period > 0 else None


def wait(device: torch.device) -> None:
    """Wait until the device has finished its queued work."""
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()


def keep_freed_memory() -> None:
    """Make the C library keep freed memory for the next tensor instead of returning it to the system.

    Otherwise large tensors get newly zeroed pages in every step, a fifth of the time of training on a CPU. Does nothing
    if the C library is not glibc.
    """
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # constants of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 256 * 2**20)
