"""DAS in the image tower of nano, few-shot: accuracy, FLOPs and latency against adapters in every block, LoRA, and skipping without a search.

    PYTHONPATH=benchmarks PERCEPT_CACHE=... python benchmarks/adaptation/das_tower.py --json-file benchmarks/adaptation/das_tower.json

Test beds of `beds` x seeds; base classes are trained on. All arms have equal epochs, and adapters and LoRA about the trainable count of DAS. Runs are
lines of --runs, so the command goes on where it was interrupted; --arms limits it to some. FLOPs are those of the blocks, for one image.
"""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from beds import BEDS, about, home, seen_by
from claims import Claim
from family import report
from harness import Rate, Turns, save, take_turns, timed

import percept
from percept.core.report import out
from percept.methods.adaptation.bench import Arm, Case, build, read_records, run_all
from percept.methods.adaptation.das import DAS
from percept.methods.adaptation.lora import LoRA
from percept.train.meters import operations

EPOCHS = {"epochs": 12}
SEARCHED = DAS.Config(skip=2, search=6, every=1, reward="standardised")
ARMS = (
    Arm(method="zero-shot"),
    Arm(method="das", config=SEARCHED, training=EPOCHS),
    Arm(method="das", label="adapters", config=DAS.Config(skip=0, hidden=37), training=EPOCHS),
    Arm(method="das", label="skip last", config=DAS.Config(chosen=(4, 5)), training=EPOCHS),
    Arm(method="das", label="skip first", config=DAS.Config(chosen=(0, 1)), training=EPOCHS),
    Arm(method="das", label="skip random 1", config=DAS.Config(chosen=(1, 4)), training=EPOCHS),
    Arm(method="das", label="skip random 2", config=DAS.Config(chosen=(0, 3)), training=EPOCHS),
    Arm(method="lora", config=LoRA.Config(rank=26, alpha=26), training=EPOCHS),
)
"""Random pairs of blocks were drawn once. Hidden width 37 and rank 26 come nearest to the trainable count of DAS, 237,504 values."""
CLAIMS = (
    Claim(row="S56", words="DAS loses no more than adapters in every block", arm="das", than="adapters", score="base"),
    Claim(row="S56", words="DAS is above LoRA", arm="das", than="lora", score="base"),
    Claim(row="S56", words="DAS is above skipping the last two", arm="das", than="skip last", score="base"),
    Claim(row="S56", words="DAS is above skipping the first two", arm="das", than="skip first", score="base"),
    Claim(row="S56", words="DAS is above two random blocks", arm="das", than="skip random 1", score="base"),
    Claim(row="S56", words="DAS is above two other random blocks", arm="das", than="skip random 2", score="base"),
)


@torch.no_grad()
def _timed(method: Any, image: torch.Tensor, passes: int) -> Rate:
    return timed(lambda: method.clip.encode_image(image), torch.device("cpu"), passes)


def costs(encoder: Any, seen: Any) -> dict[str, Any]:
    """Return trainable values, FLOPs of an image and the speed of arms against the tower as it is and against adapters in every block."""
    shots, image, found, jobs = seen.shots(seen.data.drawn(1, 1), "base", crops=0), torch.randn(4, 3, 96, 96), {}, {}
    plain = build(Arm(method="das", config=DAS.Config(skip=0, hidden=0)), encoder, shots, 1).eval()
    methods = {"plain": plain} | {
        arm.name: build(arm, encoder, shots, 1).eval() for arm in ARMS if arm.name in ("adapters", "skip last")
    }
    for name, method in methods.items():
        with torch.no_grad():
            work = operations(partial(method.clip.encode_image, image)) // len(image)
        found[name] = {"trainable": sum(method.trainable().values()), "FLOPs": work}
        jobs[name] = partial(_timed, method, image)
    times = take_turns(jobs, Turns(7))
    for name in found:
        found[name] |= {
            "FLOPs saved against adapters": round(1 - found[name]["FLOPs"] / found["adapters"]["FLOPs"], 4),
            "times as fast as adapters": times[name].speedup_over(times["adapters"]),
        }
    return found


def main() -> None:
    """Run, print and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default="colours,histology,x-ray")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--arms", default="", help="names of arms, separated by commas; default: all")
    parser.add_argument("--runs", type=Path, help="json-lines file of the runs; default: das_tower.jsonl in the cache")
    parser.add_argument("--json-file", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    start, file = time.perf_counter(), options.runs or home() / "das_tower.jsonl"
    encoder = percept.load("nano", dtype="float32", device="cpu")
    sets = [seen_by(encoder, data) for name in options.sets.split(",") if (data := BEDS[name]()) is not None]
    arms = [arm for arm in ARMS if not options.arms or arm.name in options.arms.split(",")]
    cases = [Case(shots=options.shots, seed=seed) for seed in range(1, options.seeds + 1)]
    run_all(arms, sets, cases, file, told=out.print)
    records = read_records(file)
    result = report(records, CLAIMS, arms)
    kept = ("label", "foundation", "data", "seed", "shots", "steps", "seconds", "trainable", "scores")
    save(
        options.json_file,
        {
            **about(start),
            **result,
            "costs": costs(encoder, sets[0]),
            "records": [{name: each[name] for name in kept} for each in records],
        },
    )


if __name__ == "__main__":
    main()
