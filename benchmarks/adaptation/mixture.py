"""Does a mixture of prompts know styles apart? A set of which every class has two styles, and what the router does with them.

    PYTHONPATH=benchmarks PERCEPT_CACHE=... python benchmarks/adaptation/mixture.py --json-file benchmarks/adaptation/mixture.json

Half of the images of every class show it from near, half from far, all of them badly. The mixture, its ablations and single prompts are trained on the base
classes; reported are accuracies, bits of information that the experts of an image give about its style, and how evenly experts are used. The set
has to pass the gate of `beds.py`. Intervals: 95 %, a bootstrap over foundation and seed; those of the bits of a run are over test images.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from beds import KINDS, about, drawn_set, gate, seen_by, styled
from claims import ARMS, CLAIMS
from family import CROPS, STEPS
from family_report import judged
from harness import save
from recorded import RESAMPLES, claim, files_of, parser_of, records_of

import percept
from percept.core.report import notice, out, table
from percept.eval.statistics import Score
from percept.methods.adaptation.bench import Arm, Case, Run, averages, run_all
from percept.methods.adaptation.contract import Views
from percept.methods.adaptation.few import LabelledSet, Seen
from percept.methods.adaptation.mocoop import MoCoOp

NAMES = (
    "zero-shot",
    "coop",
    "coop:24",
    "mocoop",
    "mocoop:uniform",
    "mocoop:random",
    "mocoop:no gating",
    "mocoop:no texts",
)
STYLE_GROUPS = (("a large {}.",), ("a picture of a large {}.",), ("a small {}.",), ("a picture of a small {}.",))
"""Templates of the mixtures: two groups for each style, because two experts are used for an image."""
LEAST_BITS = 0.2
"""Of information about the style that a learned router is claimed to give."""


def two_styles() -> LabelledSet:
    """Return the set; the style of an image is the parity of its number."""

    near, far = (styled("viewpoint", variant, hard=True) for variant in ("near", "far"))
    return drawn_set("near-far", KINDS, lambda kind, number, rng: (near, far)[number % 2](kind, number, rng))


def passed(encoder: Any) -> Seen | None:
    """Return the set with its vectors if it passes the gate of an encoder."""
    data = two_styles()
    row = gate(encoder, data)
    if not row["passes"]:
        notice(f"{encoder.name} is left out: its zero-shot {row['zero-shot']:.1%} does not pass the gate")
    return seen_by(encoder, data) if row["passes"] else None


def with_groups(arm: Arm) -> Arm:
    """Return an arm whose mixture has templates for both styles."""
    if arm.method != "mocoop":
        return arm
    config = MoCoOp.Config() if arm.config is None else arm.config
    return replace(arm, config=replace(config, groups=STYLE_GROUPS))


def information(weights: np.ndarray, style: np.ndarray) -> float:
    """Return the mutual information of expert and style in bits; weights [n, g] are probabilities of the experts of each image.

    >>> information(np.eye(2)[[0, 1, 0, 1]], np.array([0, 1, 0, 1]))
    1.0
    """
    joint = np.stack([weights[style == each].sum(axis=0) for each in np.unique(style)]) / len(style)
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    return float((joint[joint > 0] * np.log2(joint[joint > 0] / apart[joint > 0])).sum())


@torch.no_grad()
def routing(result: Run, seen: Seen, case: Case) -> Iterable[Score]:
    """Return what the router of a mixture tells about styles, and how many experts are used in effect."""
    method = result.method
    if not isinstance(method, MoCoOp):
        return []
    rows = seen.data.test
    nothing = torch.zeros(len(rows), dtype=torch.int64)
    weights = method.routes(Views(label=nothing, row=nothing, vector=seen.vectors[rows])).numpy().astype(float)
    used = weights.mean(axis=0)
    count = float(np.exp(-(used[used > 0] * np.log(used[used > 0])).sum()))
    return [bits_of(weights, rows % 2), Score(name="experts", value=count, unit="", n=len(rows), low=count, high=count)]


def bits_of(weights: np.ndarray, style: np.ndarray) -> Score:
    """Return the information of a router with a bootstrap interval over images."""
    rng, count = np.random.default_rng(0), len(style)
    draws = [rng.integers(count, size=count) for _ in range(RESAMPLES)]
    low, high = np.quantile([information(weights[each], style[each]) for each in draws], (0.025, 0.975))
    value = information(weights, style)
    return Score(name="bits", value=value, unit="", n=count, low=float(low), high=float(high))


def report(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Print and return the means, the claims of the mixture, and the information of the router."""
    means = {name: averages(records, name) for name in NAMES}
    columns = ("base", "new", "harmonic", "all", "bits", "experts")
    table(
        "two styles in every class, means",
        ("arm", *columns),
        [(name, *(f"{each[c]:.3f}" if c in each else "-" for c in columns)) for name, each in means.items()],
    )
    rows = judged(records, [each for each in CLAIMS if each.row == "S42" and each.setting == "base-new"])
    bits = [record["scores"]["bits"] for record in records if record["label"] == "mocoop"]
    if bits:
        words = f"the router gives more than {LEAST_BITS} bits about the style"
        rows.append(
            claim(words, [each[0] for each in bits], margin=LEAST_BITS) | {"runs, with intervals over images": bits}
        )
    for row in rows:
        out.print(
            f"{row['claim']}: {row.get('difference', row.get('value', ''))} {row.get('interval', '')} {row['verdict']}",
            soft_wrap=True,
        )
    return {"means": means, "claims": rows}


def main() -> None:
    """Run, print and write the comparison."""
    parser = parser_of(__doc__)
    parser.add_argument("--models", default="nano", help="encoders, separated by commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS, help="of every arm, nearly; 0: the epochs of each paper")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    start, files = time.perf_counter(), files_of(options.runs, "mixture.jsonl")
    arms = [with_groups(arm) for arm in ARMS if arm.name in NAMES]
    models = () if options.report else options.models.split(",")
    sets = (seen for model in models if (seen := passed(percept.load(model, dtype="float32"))))
    cases = [Case(shots=16, seed=seed, crops=CROPS, steps=options.steps) for seed in range(1, options.seeds + 1)]
    run_all(arms, sets, cases, files[0], told=out.print, more=routing)
    records = records_of(files)
    save(options.json_file, {**about(start), **report(records), "records": records})


if __name__ == "__main__":
    main()
