"""Peak memory and time of the contrastive loss, dense and in tiles, and of a batch whose activations are computed again.

    python benchmarks/loss_memory.py                # prints tables and writes loss_memory.json next to this file

Loss: forward and backward pass on random unit vectors, each case in a process of its own. The peak is the process's largest resident
memory (VmHWM of Linux), reset just before the loss, minus the memory resident then: the vectors themselves are not counted, their
gradients are. A dense case whose peak would exceed `limit` is not run: its peak and its seconds are those of the largest one
that was run, times the ratio of the numbers of logits, and are marked as computed. Seconds are those of the processor, so that other work on the
machine counts little. Times are also compared in one process, in turns.

Cache: a training step of nano's towers on a small batch, on a batch 16 times as large in one piece, and on that batch in 16 parts with
`recompute` (percept.methods.contrast.encode_parts). Needs Linux.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import tyro
from harness import Turns, facts, save, take_turns, timed

from percept.core.errors import PerceptError
from percept.core.io import read_json
from percept.core.report import table
from percept.losses.contrastive import info_nce
from percept.losses.tiled import info_nce_tiled

RESULTS = Path(__file__).with_suffix(".json")
SHARE, SLOWER = 1 / 16, 1.3
"""Goals: peak memory as a share of the dense form, and time as a multiple of it."""
SCALE = 50.0
CHILD = """
import gc, json, sys, time
import torch
from torch.nn import functional as F

def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))

def measured(job):
    gc.collect()
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")
    before, clock, processor = resident("VmRSS"), time.perf_counter(), time.process_time()
    value = job()
    seconds = {"clock": time.perf_counter() - clock, "seconds": time.process_time() - processor}
    print(json.dumps({"peak": resident("VmHWM") - before, "loss": value, **seconds}))
"""
LOSS = """
from percept.losses.contrastive import info_nce
from percept.losses.tiled import info_nce_tiled
form, batch, width, threads, scale = sys.argv[1], *map(int, sys.argv[2:5]), float(sys.argv[5])
torch.set_num_threads(threads)
loss = {"dense": info_nce, "tiled": info_nce_tiled}[form]
def vectors(rows):
    return F.normalize(torch.randn(rows, width), dim=-1).requires_grad_()
def step(image, text):
    value = loss(image, text, torch.tensor(scale, requires_grad=True))
    value.backward()
    return value.item()
step(vectors(256), vectors(256))
torch.manual_seed(0)
image, text = vectors(batch), vectors(batch)
measured(lambda: step(image, text))
"""
CACHE = """
from percept.data.batch import ImageText
from percept.methods.pretraining.contrastive import Contrastive
from percept.models.clip import CLIP
from percept.recipes.pe_nano import Config, clip_config
batch, parts, threads = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
config = Config()
def tokens(rows):
    ids = torch.randint(1, config.vocabulary - 2, (rows, config.context))
    ids[:, -1] = config.vocabulary - 1
    return ids
def step(task, rows):
    torch.manual_seed(0)
    size = config.vision.image_size
    loss = task(ImageText(image=torch.randn(rows, 3, size, size), tokens=tokens(rows)))["loss"]
    loss.backward()
    return loss.item()
torch.manual_seed(0)
each = (config.vision.image_size // config.vision.patch_size) ** 2
limit = None if parts == 1 else batch // parts * each
task = Contrastive(Contrastive.Config(micro_tokens=limit, recompute=parts > 1), CLIP(clip_config(config, config.vocabulary)))
step(task, 2)
measured(lambda: step(task, batch))
"""


def child(script: str, *arguments: object) -> dict[str, Any]:
    """Run a case in a new process and return its peak in bytes, its seconds and its loss."""
    command = [sys.executable, "-c", CHILD + script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PerceptError(f"a case failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def losses(
    sizes: list[int], width: int, threads: int, limit: float, known: dict[int, dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Yield the peak and the seconds of both forms at every size; `known` are rows measured before, by size."""
    largest: dict[str, Any] | None = None
    for batch in sizes:
        if batch in known:
            row = known[batch]
            if not row["dense is computed"]:
                largest = {"batch": batch, "peak": row["dense MB"] * 1e6, "seconds": row["dense s"]}
            yield row
            continue
        tiled = child(LOSS, "tiled", batch, width, threads, SCALE)
        factor = 1 if largest is None else (batch / largest["batch"]) ** 2
        if largest is None or largest["peak"] * factor <= limit * 2**30:
            dense = {"batch": batch, **child(LOSS, "dense", batch, width, threads, SCALE), "computed": False}
            largest = dense
        else:
            dense = {"peak": largest["peak"] * factor, "seconds": largest["seconds"] * factor, "computed": True}
        yield {
            "batch": batch, "tiled MB": round(tiled["peak"] / 1e6, 1), "dense MB": round(dense["peak"] / 1e6, 1),
            "share": round(tiled["peak"] / dense["peak"], 5), "tiled s": round(tiled["seconds"], 2),
            "tiled clock s": round(tiled["clock"], 2), "dense s": round(dense["seconds"], 2), "time ratio": round(tiled["seconds"] / dense["seconds"], 3),
            "dense is computed": dense["computed"], "loss": tiled["loss"], "dense loss": dense.get("loss"),
        }  # fmt: skip


def turns(sizes: tuple[int, ...], width: int, repeats: int) -> list[dict[str, Any]]:
    """Compare the times of both forms in one process."""
    rows = []
    for batch in sizes:
        vectors = [torch.nn.functional.normalize(torch.randn(batch, width), dim=-1) for _ in range(2)]

        def step(loss: Any, vectors: list[torch.Tensor] = vectors) -> None:
            given = [each.clone().requires_grad_() for each in (*vectors, torch.tensor(SCALE))]
            loss(*given).backward()

        jobs = {
            name: lambda passes, loss=loss, step=step: timed(lambda: step(loss), torch.device("cpu"), passes)
            for name, loss in (("dense", info_nce), ("tiled", info_nce_tiled))
        }
        times = take_turns(jobs, Turns(repeats))
        seconds = {name: [rate.processor for rate in each.passes] for name, each in times.items()}
        ratios = [ours / theirs for ours, theirs in zip(seconds["tiled"], seconds["dense"], strict=True)]
        rows.append({
            "batch": batch, "dense s": round(statistics.median(seconds["dense"]), 4),
            "tiled s": round(statistics.median(seconds["tiled"]), 4), "time ratio": round(statistics.median(ratios), 3),
            "lowest": round(min(ratios), 3), "highest": round(max(ratios), 3),
        })  # fmt: skip
    return rows


def cached(batch: int, parts: int, threads: int) -> list[dict[str, Any]]:
    """Measure a step on a batch, and on one `parts` times as large, in one piece and in parts with `recompute`."""
    cases = (
        ("small batch", batch, 1),
        ("large batch", parts * batch, 1),
        ("large batch in parts", parts * batch, parts),
    )
    rows = [{"case": name, "batch": size, **child(CACHE, size, count, threads)} for name, size, count in cases]
    for row in rows:
        row |= {
            "MB": round(row.pop("peak") / 1e6, 1),
            "seconds": round(row["seconds"], 2),
            "clock": round(row["clock"], 2),
        }
        row["times the small batch"] = round(row["MB"] / rows[0]["MB"], 3)
    return rows


def main(
    sizes: tuple[int, ...] = (4_096, 8_192, 16_384, 32_768, 65_536),
    in_turns: tuple[int, ...] = (1_024, 2_048, 4_096),
    width: int = 1_024,
    limit: float = 11.0,
    cache_batch: int = 16,
    threads: int = 1,
    repeats: int = 5,
    json_file: Path | None = RESULTS,
) -> None:
    """Measure both forms of the loss, and a batch in parts.

    Args:
        sizes: Batches whose peak memory is measured.
        in_turns: Batches whose times are compared in one process.
        width: Length of the vectors.
        limit: Largest memory of a case in GiB.
        cache_batch: Batch of which 16 make the large one.
        threads: Threads of a case.
        repeats: Turns of the comparison.
        json_file: Result file; the cases that it holds are not measured again. Delete it after changing an option.
    """
    if sys.platform != "linux":
        raise PerceptError("peak memory is read from /proc, which needs Linux.")
    torch.set_num_threads(threads)
    start = time.perf_counter()
    stored: Any = read_json(json_file) if json_file and json_file.is_file() else {}
    caches = stored.get("cache") or cached(cache_batch, 16, threads)
    compared = stored.get("turns") or turns(in_turns, width, repeats)
    known = {row["batch"]: row for row in stored.get("loss", [])}
    rows: list[dict[str, Any]] = []
    for row in losses(sorted(sizes), width, threads, limit, known):
        rows.append(row)
        content = facts(torch.device("cpu"), start) | {"goals": {"share": SHARE, "time ratio": SLOWER}}
        save(
            json_file, content | {"loss": rows, "turns": compared, "cache": caches}
        )  # what is measured stays if the run is interrupted
    columns = ("batch", "tiled MB", "dense MB", "share", "tiled s", "dense s", "time ratio", "dense is computed")
    table(f"Loss, width {width}, n = 1 each", columns, [tuple(str(row[name]) for name in columns) for row in rows])
    for title, part in ((f"Times in {repeats} turns", compared), ("A step of nano", caches)):
        table(title, list(part[0]), [tuple(map(str, row.values())) for row in part])


if __name__ == "__main__":
    tyro.cli(main)
