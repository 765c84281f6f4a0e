"""Runs in a row, each of which begins with the model that the one before has written."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from percept.core import dist
from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.core.io import read_object
from percept.core.report import notice
from percept.train.experiment import Experiment
from percept.train.loop import fit
from percept.train.state import CONFIGURATION, MODEL, Progress, different


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Experiments in order. Creating one costs nothing."""

    name: str
    config: Any
    """The resolved configuration, a dataclass."""
    parts: tuple[tuple[str, Callable[[Path | None], Experiment]], ...]
    """(name, function) of each part; the function gets the folder of the model before, None for the first part."""


def fit_chain(
    chain: Chain, folder: Path | str, *, minutes: float | None = None, replan: bool = False
) -> tuple[Path, Progress, bool]:
    """Train, or resume training, each part in a folder of its own below `folder`; finished parts are left as they are.

    Args:
        folder: new, or one that a run of this chain has made.
        minutes: stop after this time with a checkpoint; the same call resumes later.
        replan: resume from checkpoints even if the configuration has changed; finished parts stay as they are.

    Returns:
        The folder of the last part, the progress of the part that this call worked on last, and whether all parts are finished.

    Raises:
        PerceptError: as `fit`, or a finished part has a different configuration and `replan` is False.
    """
    folder = Path(folder)
    names = [name for name, _ in chain.parts]
    others = [path.name for path in folder.iterdir() if path.name not in names] if folder.is_dir() else []
    if others and not any((folder / name).is_dir() for name in names):
        raise PerceptError(
            f"{folder} is not empty and holds no run of {chain.name}; give a folder that is new or empty"
        )
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    before: Path | None = None
    progress, finished = Progress(), True
    for name, build in chain.parts:
        place, experiment = folder / name, build(before)
        if (place / MODEL).is_file():
            if not replan:
                _check_finished(place, experiment)
        else:
            left = None if deadline is None else max(0.0, (deadline - time.monotonic()) / 60)
            if dist.launched_rank() == 0:
                notice(f"{chain.name}: {name}")
            progress = fit(experiment, place, minutes=left, replan=replan)
            finished = progress.step == experiment.settings.steps
            if not finished or progress.signal:
                finished = finished and name == names[-1]
                break
        before = place
    return folder / names[-1], progress, finished


def _check_finished(place: Path, experiment: Experiment) -> None:
    """Raise a PerceptError if a finished part had a different configuration; the path of `init` may be written differently."""
    stored = read_object(place / CONFIGURATION)
    changed = [name for name in different(stored, to_dict(experiment.config)) if name != "init"] if stored else []
    if changed:
        raise PerceptError(
            f"{place} holds a finished model that was trained with different values of {', '.join(changed)}. "
            "Use another folder, or delete it."
        )
