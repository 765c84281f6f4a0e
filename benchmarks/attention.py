"""Compare two forms of attention for bfloat16 inference on a CPU, by length: the fused kernel and two matrix products.

    python benchmarks/attention.py                   # prints a table and writes attention.json next to this file

`percept.fast.attention` uses the fused kernel above a number of tokens that depends on AMX. The shapes are those of the released
towers and of `nano`, and lengths around multiples of the kernel's blocks, where it is slower. Both forms take turns, and
each is timed from rotated queries, keys and strided values to merged heads. The figures are medians of wall-clock time and
of the ratio within a turn.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import tyro
from torch import Tensor
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.core.io import write_json
from percept.core.machine import device_name, has_amx
from percept.core.report import out, table, track
from percept.fast import attention

RESULTS = Path(__file__).with_suffix(".json")
SHAPES = (
    (8, 12, 50), (8, 12, 144), (8, 12, 145), (64, 4, 145), (8, 12, 193), (1, 12, 197), (8, 12, 197), (8, 12, 256),
    (8, 12, 257), (8, 12, 384), (8, 12, 401), (8, 12, 512), (8, 3, 577), (8, 6, 577), (4, 16, 577), (2, 16, 1024), (2, 16, 1025),
    (1, 12, 2304),
)  # fmt: skip
"""Images, heads and tokens; heads have 64 channels."""
BURST = 0.05
"""Least duration of a turn in seconds."""


def inputs(batch: int, heads: int, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries and keys in the layout of a rotated tensor, and values in the layout of the projection."""
    q, k = torch.randn(2, batch, heads, tokens, 64).bfloat16()
    v = torch.randn(batch, tokens, 3, heads, 64).bfloat16()[:, :, 2].transpose(1, 2)
    return q, k, v


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute attention with the fused kernel of PyTorch."""
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)


def products(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute attention with two matrix products and a softmax, as for short sequences."""
    return attention.attend_in_parts(q, k, v, None).transpose(1, 2).flatten(-2)


def seconds(job: Callable[[], Tensor]) -> float:
    """Return the mean seconds of a burst."""
    start, count = time.perf_counter(), 0
    while not count or time.perf_counter() - start < BURST:
        job()
        count += 1
    return (time.perf_counter() - start) / count


@torch.inference_mode()
def measure(shape: tuple[int, int, int], turns: int) -> dict[str, float | int]:
    """Time both forms in turns."""
    q, k, v = inputs(*shape)
    torch.testing.assert_close(fused(q, k, v), products(q, k, v), atol=0.05, rtol=0.05)
    pairs = [(seconds(lambda: fused(q, k, v)), seconds(lambda: products(q, k, v))) for _ in range(turns)]
    return {
        **dict(zip(("images", "heads", "tokens"), shape, strict=True)),
        "fused ms": round(1000 * statistics.median(kernel for kernel, _ in pairs), 3),
        "products ms": round(1000 * statistics.median(product for _, product in pairs), 3),
        "fused is faster by": round(statistics.median(product / kernel for kernel, product in pairs), 3),
    }


def main(turns: int = 15, json_file: Path = RESULTS) -> None:
    """Measure both forms for all shapes.

    Args:
        turns: Number of turns, each with both forms.
        json_file: Result file.
    """
    if turns < 1:
        raise PerceptError(f"turns must be at least 1, got {turns}.")
    start = time.perf_counter()
    rows = [measure(shape, turns) for shape in track(SHAPES, "shapes", len(SHAPES))]
    long = attention.LONG_WITH_AMX if has_amx() else attention.VERY_LONG
    wrong = [row for row in rows if (row["tokens"] > long) != (row["fused is faster by"] > 1)]
    table("attention in bfloat16, heads of 64", tuple(rows[0]), [tuple(map(str, row.values())) for row in rows])
    out.print(
        f"the fused kernel is used above {long} tokens; for {len(wrong)} of {len(rows)} shapes the slower form is used"
    )
    about = {
        "command": " ".join(["python", "benchmarks/attention.py", *sys.argv[1:]]), "torch": torch.__version__,
        "machine": device_name(torch.device("cpu")), "amx": has_amx(), "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2), "turns": turns, "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip
    write_json(json_file, about | {"fused above": long, "results": rows})
    out.print(f"written: {json_file}", soft_wrap=True)


if __name__ == "__main__":
    tyro.cli(main)
