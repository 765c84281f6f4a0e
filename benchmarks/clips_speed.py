"""Measure how many frames of generated clips one core renders per second, and how much drawing each object once per clip saves.

    python benchmarks/clips_speed.py                 # prints a table and writes clips_speed.json next to this file

Every case plans clips that no other pass has planned. "drawn anew" renders the same kind of clips, with ground truth, but draws
the background and all objects again for every frame, as if frames were images. The target is 60 frames per core second at 96 pixels.
"""

import itertools
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from harness import Rate, Turns, facts, save, take_turns, timed

from percept.core.report import out, table
from percept.world.clips import generate_clip, plan_clip
from percept.world.clips.language import long_caption
from percept.world.clips.render import Studio

TARGET = 60
"""Frames per core second at 96 pixels."""
RESULTS = Path(__file__).with_suffix(".json")


def bare(seed: int, frames: int, size: int) -> None:
    """Generate a clip with a caption, without ground truth."""
    clip = generate_clip(seed, frames=frames, size=size, truth=False)
    long_caption(clip.plan, random.Random(seed))


def with_truth(seed: int, frames: int, size: int) -> None:
    """Generate a clip with a caption and boxes, ids, visible shares and depth per frame."""
    clip = generate_clip(seed, frames=frames, size=size)
    long_caption(clip.plan, random.Random(seed))


def with_texts(seed: int, frames: int, size: int) -> None:
    """Generate a clip with its ground truth, and its record with all texts and questions."""
    generate_clip(seed, frames=frames, size=size).record()


def drawn_anew(seed: int, frames: int, size: int) -> None:
    """Plan a clip and draw the background and the objects of each frame again."""
    plan = plan_clip(seed, frames=frames)
    pixels, ids = np.empty((frames, size, size, 3), np.uint8), np.zeros((frames, size, size), np.uint8)
    visible = np.zeros((frames, len(plan.tracks)), np.float32)
    for frame in range(frames):
        Studio(plan, plan.shot_at(frame).place, size).compose(frame, pixels, ids, visible)


CASES: dict[str, Callable[[int, int, int], None]] = {
    "frames and caption": bare,
    "with ground truth": with_truth,
    "with record": with_texts,
    "drawn anew": drawn_anew,
}


def job(make: Callable[[int, int, int], None], first: int, frames: int, size: int) -> Callable[[int], Rate]:
    """Return a function that times a number of passes, each of which generates a new clip."""
    seeds = itertools.count(first)
    return lambda passes: timed(lambda: make(next(seeds), frames, size), torch.device("cpu"), passes)


def main(turns: int = 15, frames: int = 32, size: int = 96, json_file: Path | None = RESULTS) -> None:
    """Measure all cases in turns.

    Args:
        turns: Number of turns of every case.
        frames: Frames of a clip.
        size: Side of the frames in pixels.
        json_file: Result file; None writes nothing.
    """
    start = time.perf_counter()
    jobs = {name: job(make, 100_000 * index, frames, size) for index, (name, make) in enumerate(CASES.items())}
    times = take_turns(jobs, Turns(turns))
    rows: list[dict[str, Any]] = []
    for name, each in times.items():
        summary = each.summary()
        rows.append(
            {
                "case": name,
                "frames per core second": round(frames / summary["processor s"], 1),
                "faster than drawn anew by": each.speedup_over(times["drawn anew"]),
                **summary,
            }
        )
    columns = ("case", "frames per core second", "faster than drawn anew by")
    table(f"Clips of {frames} frames of {size} pixels", columns, [[row[column] for column in columns] for row in rows])
    reached = rows[1]["frames per core second"]
    out.print(f"target {TARGET} per core second: {'reached' if reached >= TARGET else 'missed'} ({reached:.0f})")
    save(json_file, {**facts(torch.device("cpu"), start), "frames": frames, "size": size, "results": rows})


if __name__ == "__main__":
    tyro.cli(main)
