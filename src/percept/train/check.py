"""Rehearse a run: a few steps, every evaluation once, then a report; nothing is saved."""

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from percept.core import dist
from percept.core.report import notice
from percept.train import journal
from percept.train.doctor import Remark
from percept.train.experiment import Experiment
from percept.train.loop import joined, prepared
from percept.train.meters import peak_memory

STEPS = 20
"""Steps of a rehearsal: enough for the running medians of the doctor."""


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What a rehearsal has found."""

    remarks: tuple[Remark, ...]
    checked: frozenset[str]
    """Kinds of remarks that were looked for; the others need what this run does not have."""
    steps: int
    planned: int
    """Steps of the whole run."""
    seconds: float
    """Time of a step, after the first."""
    samples_per_second: float
    share_of_peak: float
    """Operations of the model as a share of the matrix-product peak of the device."""
    memory: int
    """Peak in bytes."""
    rate: float
    """Largest learning rate so far, as a share of the full one."""
    skipped: int
    """Steps left out because their loss or gradient was not finite."""

    def figures(self) -> list[tuple[str, str]]:
        """Return speed, memory and the time of the whole run, as printed."""
        return [
            ("seconds per step", f"{self.seconds:.3f}"),
            ("samples per second", f"{self.samples_per_second:,.0f}"),
            ("share of the matrix-product peak", f"{100 * self.share_of_peak:.0f} %"),
            ("peak memory", f"{self.memory / 2**30:.2f} GiB"),
            ("learning rate reached", f"{100 * self.rate:.0f} % of the full one"),
            ("steps left out", str(self.skipped)),
            (f"time of {self.planned:,} steps", f"about {in_words(self.planned * self.seconds)}, evaluations excluded"),
        ]


def in_words(seconds: float) -> str:
    """Return a duration in the unit that suits it.

    >>> in_words(8.0), in_words(600.0), in_words(9000.0)
    ('8 s', '10 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def rehearse(experiment: Experiment, steps: int = STEPS) -> Rehearsal:
    """Take the first steps of a run and call every evaluation once, in a temporary folder that is removed.

    Raises:
        PerceptError: what `fit` raises, except for its folder.
    """
    settings = replace(experiment.settings, log_every=1, keep_every=0, tensorboard=False)
    quiet = replace(experiment, settings=settings)
    device = joined(quiet)
    with TemporaryDirectory() as folder:
        run = prepared(quiet, Path(folder), device)
        journal.announce(quiet, run.task, device, run.dtype, run.reason, run.progress)
        run.train(until=steps)
        rows = dist.on_first(lambda: journal.rows(Path(folder)))
    if run.progress.signal:
        notice(f"stopped after {run.progress.step} steps")
    taken = [row for row in rows if "samples_per_second" in row]
    later = taken[1:] or taken
    counts = [now - before for before, now in pairwise([0, *(row["samples"] for row in taken)])]
    seconds = [count / row["samples_per_second"] for count, row in zip(counts[-len(later) :], later, strict=True)]
    typical = sorted(seconds)[len(seconds) // 2] if seconds else 0.0
    rates = sorted(row["samples_per_second"] for row in later)
    shares = sorted(row["share_of_peak"] for row in later)
    return Rehearsal(
        remarks=tuple(run.doctor.remarks),
        checked=frozenset(run.doctor.checked),
        steps=run.progress.step,
        planned=experiment.settings.steps,
        seconds=typical,
        samples_per_second=rates[len(rates) // 2] if rates else 0.0,
        share_of_peak=shares[len(shares) // 2] if shares else 0.0,
        memory=peak_memory(device),
        skipped=run.progress.skipped,
        rate=max((row["learning_rate"] for row in taken), default=0.0) / settings.learning_rate,
    )
