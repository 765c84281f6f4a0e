"""Convert the number type of mapped weights without holding both copies: the peak memory is that of the result."""

import ctypes
import mmap
import sys
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from percept.core.report import notice

M = TypeVar("M", bound=nn.Module)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
"""Number types that a model can compute in."""
CHUNK = 1 << 22
"""Numbers converted at a time."""
DROP = 4
"""MADV_DONTNEED on Linux: unmodified pages of a private mapping are read from the file again when they are needed."""


def stored_type(state: dict[str, Tensor], *, source: str) -> torch.dtype:
    """Return the number type of a state; for a mixed one the type that holds all of them, with a notice."""
    counts: dict[torch.dtype, int] = {}
    for tensor in state.values():
        if tensor.dim():
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + 1
    dtypes = list(counts) or [torch.float32]
    widest = dtypes[0]
    for dtype in dtypes[1:]:
        widest = torch.promote_types(widest, dtype)
    if len(dtypes) > 1:
        kinds = ", ".join(f"{count} in {_short(dtype)}" for dtype, count in counts.items())
        notice(f"{source} mixes number types ({kinds}); all are read as {_short(widest)}")
    return widest


def cast(state: dict[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Convert tensors to a number type, except scalars, or leave them as they are if None; `state` is emptied.

    A mapped tensor is converted in parts whose pages are released at once, so that the stored copy is never in memory as
    a whole.
    """
    result = {}
    for name in list(state):
        tensor = state.pop(name)
        change = dtype is not None and dtype != tensor.dtype and tensor.dim()
        result[name] = _converted(tensor, dtype or tensor.dtype) if change else tensor
    return result


def trainable(model: M, dtype: torch.dtype = torch.float32) -> M:
    """Give an opened model weights of its own that training may change, and return it; the file is never written to."""
    with torch.inference_mode(False):  # tensors of inference mode cannot be trained
        copies = {name: value.detach().to(dtype, copy=True) for name, value in model.state_dict().items()}
        model.load_state_dict(copies, assign=True)
        return model.requires_grad_(True)


@torch.no_grad()
def average_with(tuned: nn.Module, start: nn.Module, share: float | int) -> None:
    """Replace weights by (1 - share) of the start's and `share` of the tuned ones, in float32 arithmetic (WiSE-FT, arXiv:2109.01903)."""
    if share == 1:
        return
    before = start.state_dict()
    for name, value in tuned.state_dict().items():
        mixed = torch.lerp(before[name].float().to(value.device), value.float(), share)
        value.copy_(mixed)


@torch.no_grad()
def _converted(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    result = torch.empty(tensor.shape, dtype=dtype)
    if not tensor.is_contiguous():
        return result.copy_(tensor)
    mapped = is_mapped(tensor)
    for old, new in zip(tensor.view(-1).split(CHUNK), result.view(-1).split(CHUNK), strict=True):
        new.copy_(old)
        if mapped:
            _release(old)
    return result


def is_mapped(tensor: Tensor) -> bool:
    """True if a tensor is in a file that is mapped into memory; False on systems that do not report it."""
    if not sys.platform.startswith("linux"):
        return False
    start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            span, _, _, _, inode, *_ = line.split(maxsplit=5)
            low, high = (int(edge, 16) for edge in span.split("-"))
            if low <= start and end <= high:
                return inode != "0"
    return False


def release(tensor: Tensor) -> None:
    """Release the pages of a mapped, contiguous tensor that has been read; they are read again when they are needed."""
    if tensor.is_contiguous() and is_mapped(tensor):
        _release(tensor)


def _release(part: Tensor) -> None:
    """Release the pages that a part of a file mapping covers completely."""
    start = -(-part.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    end = (part.data_ptr() + part.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > start:
        _libc().madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), DROP)


@cache
def _libc() -> Any:
    return ctypes.CDLL(None)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
