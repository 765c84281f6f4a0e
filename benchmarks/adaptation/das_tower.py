"""DAS in the image tower of an encoder, few-shot: accuracy, FLOPs and latency against adapters in every block, LoRA, and skipping without a search.

    PYTHONPATH=benchmarks PERCEPT_CACHE=... python benchmarks/adaptation/das_tower.py --models nano,runs/upgrade/small-0,runs/upgrade/small-1 \\
        --json-file benchmarks/adaptation/das_tower.json

Test beds of `beds` that pass the gate of an encoder x seeds; base classes are trained on. A third of the blocks is skipped: two of six in nano, one of
four in the small encoders. All arms have equal epochs, and adapters and LoRA about the trainable count of DAS. Runs are lines of --runs, so the command
goes on where it was interrupted; --arms limits it to some. FLOPs are those of the blocks, for one image. --report --runs ONE OTHER judges runs of two
processes.
"""

import argparse
import itertools
import time
from functools import partial
from typing import Any

import numpy as np
import torch
from beds import about
from claims import Claim
from family import passed, report
from harness import Rate, Turns, save, take_turns, timed
from recorded import files_of, parser_of, records_of

import percept
from percept.core.report import out
from percept.methods.adaptation.bench import Arm, Case, build, run_all
from percept.methods.adaptation.das import DAS
from percept.methods.adaptation.lora import LoRA
from percept.methods.adaptation.skipping import Bottleneck
from percept.train.meters import operations

EPOCHS = {"epochs": 12}
NAMES = ("zero-shot", "das", "adapters", "skip last", "skip first", "skip random 1", "skip random 2", "lora")
CLAIMS = (
    Claim(row="S56", words="DAS loses at most 1 point to adapters in every block", arm="das", than="adapters", score="base", margin=-0.01),
    Claim(row="S56", words="DAS loses at most 1 point to LoRA", arm="das", than="lora", score="base", margin=-0.01),
    *(
        Claim(row="S56", words=f"DAS is above {name} without a search", arm="das", than=name, score="base")
        for name in ("skip last", "skip first", "skip random 1", "skip random 2")
    ),
)  # fmt: skip


def arms_of(encoder: Any) -> list[Arm]:
    """Return the arms for a tower: hidden widths are shares of its width, and adapters and LoRA train about as many values as DAS."""
    vision = encoder.model.config.vision
    width, layers = vision.width, vision.layers
    skip, hidden, replacement = max(1, round(layers / 3)), width // 8, 3 * width // 8
    each = [sum(Bottleneck.sizes(width, size).values()) for size in range(width)]
    total = 2 * (layers - skip) * each[hidden] + skip * each[replacement]
    equal = min(range(1, width), key=lambda size: abs(2 * layers * each[size] - total))
    rank = max(1, round(total / (layers * 6 * width)))
    sizes = DAS.Config(skip=skip, hidden=hidden, replacement=replacement, search=6, every=1, reward="standardised")
    first, last = tuple(range(skip)), tuple(range(layers - skip, layers))
    others = [some for some in itertools.combinations(range(layers), skip) if some not in (first, last)]
    np.random.default_rng(0).shuffle(others)
    fixed = {"skip last": last, "skip first": first} | {f"skip random {number + 1}": tuple(map(int, some)) for number, some in enumerate(others[:2])}  # fmt: skip
    return [
        Arm(method="zero-shot"),
        Arm(method="das", config=sizes, training=EPOCHS),
        Arm(method="das", label="adapters", config=DAS.Config(skip=0, hidden=equal), training=EPOCHS),
        *(
            Arm(method="das", label=name, config=DAS.Config(chosen=some, hidden=hidden, replacement=replacement), training=EPOCHS)
            for name, some in fixed.items()
        ),
        Arm(method="lora", config=LoRA.Config(rank=rank, alpha=float(rank)), training=EPOCHS),
    ]  # fmt: skip


@torch.no_grad()
def _timed(method: Any, image: torch.Tensor, passes: int) -> Rate:
    return timed(lambda: method.clip.encode_image(image), torch.device("cpu"), passes)


def costs(encoder: Any, seen: Any) -> dict[str, Any]:
    """Return trainable values, FLOPs of an image and the speed of arms against the tower as it is and against adapters in every block."""
    size = encoder.preprocess.size
    shots, image, found, jobs = (
        seen.shots(seen.data.drawn(1, 1), "base", crops=0),
        torch.randn(4, 3, size, size),
        {},
        {},
    )
    plain = build(Arm(method="das", config=DAS.Config(skip=0, hidden=0)), encoder, shots, 1).eval()
    methods = {"plain": plain} | {
        arm.name: build(arm, encoder, shots, 1).eval()
        for arm in arms_of(encoder)
        if arm.name in ("adapters", "skip last")
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


def options_of() -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--models", default="nano", help="encoders, separated by commas")
    parser.add_argument("--sets", default="colours,histology,x-ray")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--arms", default="", help="names of arms, separated by commas; default: all")
    return parser.parse_args()


def main() -> None:
    """Run, print and write the comparison."""
    options, start = options_of(), time.perf_counter()
    torch.set_num_threads(options.threads)
    files, measured = files_of(options.runs, "das_tower.jsonl"), {}
    cases = [Case(shots=options.shots, seed=seed) for seed in range(1, options.seeds + 1)]
    for model in () if options.report else options.models.split(","):
        encoder = percept.load(model, dtype="float32", device="cpu")
        sets = [seen for name in options.sets.split(",") if (seen := passed(encoder, name)) is not None]
        arms = [arm for arm in arms_of(encoder) if not options.arms or arm.name in options.arms.split(",")]
        run_all(arms, sets, cases, files[0], told=out.print)
        if sets:
            measured[encoder.name] = costs(encoder, sets[0])
    records = records_of(files)
    kept = ("label", "foundation", "data", "seed", "shots", "steps", "seconds", "trainable", "scores")
    result = report(records, CLAIMS, [Arm(method="das", label=name) for name in NAMES])
    rows = [{name: each[name] for name in kept} for each in records]
    save(options.json_file, {**about(start), **result, "costs": measured, "records": rows})


if __name__ == "__main__":
    main()
