"""Runs of the benchmarks of curation: one per seed, stored as soon as each ends, and compared in pairs."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import harness
import torch
from small_clip import paired

Scores = dict[str, dict[str, Any]]
"""Arm to its scores by name."""


def by_seed(
    file: Path | None,
    setup: Mapping[str, Any],
    seeds: Sequence[int],
    run: Callable[[int], Scores],
    summary: Callable[[Sequence[Scores]], dict[str, Any]],
) -> None:
    """Run the seeds that a result file with the same setup lacks, and write the file after each.

    The file holds the setup, the summary, and the seconds and scores of every seed.
    """
    start, runs = time.perf_counter(), stored_runs(file, setup)
    for seed in seeds:
        if str(seed) in runs:
            continue
        begin = time.perf_counter()
        scores = run(seed)
        runs[str(seed)] = {"seconds": round(time.perf_counter() - begin, 1), "arms": scores}
        result = {"setup": dict(setup), **summary([each["arms"] for each in runs.values()]), "runs": runs}
        harness.save(file, {**harness.facts(torch.device("cpu"), start), "result": result})


def stored_runs(file: Path | None, setup: Mapping[str, Any]) -> dict[str, Any]:
    """Return the runs of a result file by seed; none if the file does not exist or has another setup."""
    if file is None or not file.is_file():
        return {}
    result = json.loads(file.read_text())["result"]
    same = result.get("setup") == json.loads(json.dumps(dict(setup)))
    return dict(result["runs"]) if same else {}


def columns(runs: Sequence[Scores], arm: str, key: str) -> list[float]:
    """Return a score of an arm, one value per seed."""
    return [float(run[arm][key]) for run in runs]


def compared(runs: Sequence[Scores], first: str, second: str, key: str, margin: float = 0.0) -> dict[str, Any]:
    """Return the difference of two arms over the seeds, with its interval and the verdict on first >= second + margin."""
    if len(runs) < 2:
        return {"mean": round(columns(runs, first, key)[0] - columns(runs, second, key)[0], 4), "seeds": len(runs)}
    return judged(paired(columns(runs, first, key), columns(runs, second, key)), margin)


def judged(difference: dict[str, Any], margin: float = 0.0) -> dict[str, Any]:
    """Add the verdict: the interval is above the margin, below it, or on both sides.

    >>> judged({"mean": 0.05, "low": 0.01, "high": 0.09})["verdict"]
    'holds'
    """
    above, below = difference["low"] > margin, difference["high"] < margin
    return {**difference, "verdict": "holds" if above else "does not hold" if below else "within noise"}
