"""Ablations: runs that differ in one thing, each with several seeds, in a folder that resumes after any interruption."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from percept.core import dist
from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.core.io import read_object, write_json
from percept.core.report import notice
from percept.train.experiment import Experiment
from percept.train.loop import fit
from percept.train.state import CONFIGURATION, Progress, different

IDENTITY, SCORES = "ablation.json", "scores.json"
"""Files of the ablation's folder and of a finished run's folder."""
RUNS = "runs"
"""Folder of the runs: RUNS/POINT/seed-N."""


class Measured(Protocol):
    """What the harness needs of a score; `percept.eval.statistics.Score` has it."""

    @property
    def value(self) -> float: ...  # noqa: D102
    @property
    def unit(self) -> str: ...  # noqa: D102
    @property
    def better(self) -> str: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Experiments to compare. Creating one costs nothing."""

    name: str
    points: Mapping[str, Callable[[int], Experiment]]
    """Point: a function from a seed to its experiment. Differences are reported to the first point."""
    evaluate: Callable[[Path], Mapping[str, Measured]]
    """Measures the finished model in the folder of a run: scores by name, the same names for every point."""

    def __post_init__(self) -> None:
        if not self.points:
            raise PerceptError(f"the ablation {self.name} has no points. Give at least one.")
        if bad := [name for name in self.points if not re.fullmatch(r"[\w+-][\w.+-]*", name)]:
            raise PerceptError(
                f"the point {bad[0]!r} cannot be the name of a folder. Use letters, digits, '_', '.', '+' and '-'."
            )


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run and its scores."""

    point: str
    seed: int
    scores: Mapping[str, Mapping[str, Any]]
    """Score: {"value", "unit", "better"}."""
    cost: Mapping[str, int | float]
    """steps, samples, operations (floating-point operations of training), seconds, evaluation_seconds."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an ablation's folder holds after a call."""

    runs: tuple[Run, ...]
    """Finished runs, seed by seed in the order of the points."""
    planned: int
    """Number of runs of the whole ablation."""
    signal: int = 0
    """Signal that stopped the last run; 0 if none did."""

    @property
    def finished(self) -> bool:
        """True if every run is finished."""
        return len(self.runs) == self.planned


def run_ablation(
    ablation: Ablation,
    folder: Path | str,
    *,
    seeds: int = 3,
    minutes: float | None = None,
    after: Callable[[tuple[Run, ...]], None] = lambda runs: None,
) -> Outcome:
    """Train and measure every point with every seed; runs that are finished are left as they are.

    All points of one seed come before the next seed, so that an unfinished ablation compares what it can. A later call with
    more seeds adds runs.

    Args:
        folder: new, or that of this ablation.
        seeds: each point is trained with the seeds 0 to `seeds` - 1.
        minutes: stop after this time with a checkpoint; the same call resumes later.
        after: called on rank 0 with all finished runs, after each of them.

    Raises:
        PerceptError: `seeds` is not positive; the folder holds something else, or runs of a different configuration.
    """
    folder = Path(folder)
    if seeds < 1:
        raise PerceptError(f"seeds must be at least 1, got {seeds}. An interval needs at least 2.")
    if dist.launched_rank() == 0:
        _claim(folder, ablation.name)
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    runs: list[Run] = []
    for point, seed, experiment in _plan(ablation, seeds):
        left = None if deadline is None else max(0.0, (deadline - time.monotonic()) / 60)
        run, progress = _run(ablation, point, seed, experiment, folder, minutes=left)
        runs += [] if run is None else [run]
        if run is not None and dist.launched_rank() == 0:
            after(tuple(runs))
        if run is None or progress.signal:
            return Outcome(runs=tuple(runs), planned=seeds * len(ablation.points), signal=progress.signal)
    return Outcome(runs=tuple(runs), planned=len(runs))


def _claim(folder: Path, name: str) -> None:
    """Write the name of the ablation into a new folder, or check that the folder is its own."""
    if folder.exists() and not folder.is_dir():
        raise PerceptError(f"{folder} is a file. Give a folder that is new or empty.")
    owner = read_object(folder / IDENTITY).get("name")
    if owner is None and folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise PerceptError(f"{folder} is not empty and holds no ablation. Give a folder that is new or empty.")
    if owner not in (None, name):
        raise PerceptError(f"{folder} holds the ablation {owner!r}, not {name!r}. Give a different folder.")
    try:
        write_json(folder / IDENTITY, {"name": name})
    except OSError as error:
        raise PerceptError(f"{folder} cannot be written: {error.strerror}. Give a different folder.") from None


def _plan(ablation: Ablation, seeds: int) -> Iterator[tuple[str, int, Experiment]]:
    for seed in range(seeds):
        for point, build in ablation.points.items():
            experiment = build(seed)
            if experiment.settings.seed != seed:
                raise PerceptError(
                    f"the point {point} of {ablation.name} ignores the seed {seed}. Its function must set settings.seed."
                )
            yield point, seed, experiment


def _run(
    ablation: Ablation, point: str, seed: int, experiment: Experiment, folder: Path, *, minutes: float | None
) -> tuple[Run | None, Progress]:
    """Finish and measure one run, or read what it has left; None in place of a run that was stopped."""
    place = folder / RUNS / point / f"seed-{seed}"
    stored = read_object(place / SCORES)
    if stored:
        _check_same(place, experiment)
        return Run(point=point, seed=seed, scores=stored["scores"], cost=stored["cost"]), Progress()
    if dist.launched_rank() == 0:
        notice(f"{ablation.name}: {point}, seed {seed}")
    progress = fit(experiment, place, minutes=minutes)
    if progress.step < experiment.settings.steps:
        return None, progress
    found = dist.on_first(lambda: _measure(ablation, place, progress))
    return Run(point=point, seed=seed, **found), progress


def _measure(ablation: Ablation, place: Path, progress: Progress) -> dict[str, Any]:
    """Evaluate a finished run and store the scores; they are written last, so a run with scores is complete."""
    start = time.monotonic()
    measured = ablation.evaluate(place)
    scores = {
        name: {"value": float(score.value), "unit": score.unit, "better": score.better}
        for name, score in measured.items()
    }
    cost = {
        "steps": progress.step,
        "samples": progress.samples,
        "operations": progress.operations,
        "seconds": round(progress.seconds, 2),
        "evaluation_seconds": round(time.monotonic() - start, 2),
    }
    found = {"scores": scores, "cost": cost}
    write_json(place / SCORES, found)
    return found


def _check_same(place: Path, experiment: Experiment) -> None:
    """Raise a PerceptError if the finished run in `place` had a different configuration."""
    if changed := different(read_object(place / CONFIGURATION), to_dict(experiment.config)):
        raise PerceptError(
            f"{place} holds a finished run with different values of {', '.join(changed)}. Use another folder, or delete it."
        )
