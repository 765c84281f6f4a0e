"""Measure what the worker process of plm/nano, which draws images and clips, gains over a thread of the training process.

    python benchmarks/question_workers.py                 # prints a table and writes question_workers.json next to this file

Both ways take turns: some steps (forward and backward pass) on the mix of stage 3, whose batches are drawn while the steps run. The batches are equal.
"""

import os
import statistics
import sys
import time
from pathlib import Path

import torch
import tyro

import percept
from percept.core.io import write_json
from percept.core.machine import device_name, keep_freed_memory
from percept.core.report import table
from percept.data.source import prefetched
from percept.methods.language import plm
from percept.recipes.plm_nano import Config
from percept.train.parallel import placed
from percept.world.conversations import QuestionSource

RESULTS = Path(__file__).with_suffix(".json")


def seconds(task: torch.nn.Module, source: QuestionSource, first: int, steps: int) -> float:
    """Return the seconds of a step, without the wait for the first batch."""
    with prefetched(source, first, first + steps + 1) as batches:
        task(next(batches))["loss"].backward()
        start = time.perf_counter()
        for batch in batches:
            task(batch)["loss"].backward()
        spent = time.perf_counter() - start
    task.zero_grad()
    return spent / steps


def main(model: str = "plm-nano", images: int = 24, steps: int = 4, turns: int = 3, json_file: Path = RESULTS) -> None:
    """Measure both ways.

    Args:
        model: Assistant that is trained.
        images: Images and clips of a batch.
        steps: Steps of a turn.
        turns: Turns of both ways.
        json_file: Result file.
    """
    keep_freed_memory()
    config = Config()
    assistant = percept.assistant(model, device="cpu", dtype="bfloat16")
    task = placed(
        plm.PLM(config.method, assistant.model.requires_grad_(True)),
        torch.device("cpu"), torch.bfloat16, shard=False,
    )  # fmt: skip
    thread, process = (
        QuestionSource(config.stage3.data, assistant.processor, batch=images, limit=config.limit, workers=workers)
        for workers in (0, 1)
    )
    seconds(task, process, 0, 1)  # starts the worker process
    found = [[seconds(task, each, turn * (steps + 3), steps) for each in (thread, process)] for turn in range(turns)]
    ratios = [alone / helped for alone, helped in found]
    result = {
        "seconds with a thread": statistics.median(alone for alone, _ in found),
        "seconds with a process": statistics.median(helped for _, helped in found),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
    }
    table(f"a step of {model}, {images} images and clips", tuple(result), [list(result.values())])
    about = {
        "command": " ".join(["python", *sys.argv]),
        "torch": torch.__version__,
        "machine": device_name(torch.device("cpu")),
    }
    write_json(
        json_file, {**about, "threads": torch.get_num_threads(), "load": os.getloadavg()[0], "n": turns, **result}
    )
    assert process.ahead is not None
    process.ahead.close()


if __name__ == "__main__":
    tyro.cli(main)
