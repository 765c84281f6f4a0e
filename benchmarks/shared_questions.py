"""Compare a training step in which questions about an image or clip share its tokens with one in which every question repeats them.

    python benchmarks/shared_questions.py            # prints a table and writes shared_questions.json next to this file

The batch is one of `plm/nano`'s third stage. In both ways the tower sees each image once, and the loss is the same (checked). The figures are
processor seconds of forward and backward pass, in turns; the ratio compares both ways within a turn.
"""

import os
import statistics
import sys
import time
from pathlib import Path
from unittest import mock

import torch
import tyro

import percept
from percept.core.errors import PerceptError
from percept.core.io import write_json
from percept.core.machine import device_name
from percept.core.report import table
from percept.data.chat.batch import ChatBatch
from percept.methods.language import plm
from percept.recipes.plm_nano import Config
from percept.world.conversations import QuestionSource

RESULTS = Path(__file__).with_suffix(".json")


def step(task: plm.PLM, batch: ChatBatch, *, shared: bool) -> tuple[float, float]:
    """Return the processor seconds of a step and its loss."""
    apart = mock.patch.object(plm, "common_beginnings", lambda batch, visual: [0] * len(batch))
    task.zero_grad()
    start = time.process_time()
    if shared:
        loss = task(batch)["loss"]
    else:
        with apart:
            loss = task(batch)["loss"]
    loss.backward()
    return time.process_time() - start, float(loss.detach())


def main(model: str = "plm-nano", images: int = 16, repeats: int = 5, json_file: Path = RESULTS) -> None:
    """Measure both ways.

    Args:
        model: Assistant that is trained.
        images: Images and clips of the batch.
        repeats: Turns.
        json_file: Result file.
    """
    config = Config()
    assistant = percept.assistant(model, device="cpu", dtype="bfloat16")
    source = QuestionSource(config.stage3.data, assistant.processor, batch=images, limit=config.limit)
    task = plm.PLM(config.method, assistant.model.requires_grad_(True))
    task.vlm.vision.requires_grad_(False)
    batch = source.batch(0)
    turns = [[step(task, batch, shared=shared) for shared in (True, False)] for _ in range(repeats + 1)][1:]
    losses = [[loss for _, loss in turn] for turn in turns]
    if abs(losses[0][0] - losses[0][1]) > 0.02 * losses[0][1]:
        raise PerceptError(f"both ways have different losses: {losses[0]}")
    ratios = [apart[0] / shared[0] for shared, apart in turns]
    result = {
        "rows": len(batch),
        "tokens": int(batch.lengths.sum()),
        "tokens once": plm.packed(
            batch.sorted_by_length(), task.vlm.placeholders(batch.sorted_by_length().ids)
        ).ids.numel(),
        "seconds shared": statistics.median(turn[0][0] for turn in turns),
        "seconds apart": statistics.median(turn[1][0] for turn in turns),
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
    }
    table(f"a step of {model}, {images} images", tuple(result), [list(result.values())])
    about = {
        "command": " ".join(["python", *sys.argv]),
        "torch": torch.__version__,
        "machine": device_name(torch.device("cpu")),
    }
    write_json(
        json_file, {**about, "threads": torch.get_num_threads(), "load": os.getloadavg()[0], "n": repeats, **result}
    )


if __name__ == "__main__":
    tyro.cli(main)
