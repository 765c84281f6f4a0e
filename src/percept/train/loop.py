"""The training loop: steps, guards, checkpoints, exact resume, in one process or several. It knows no method."""

import errno
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from percept.core import dist
from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.core.io import write_json
from percept.core.leftovers import remove_leftovers
from percept.core.machine import keep_freed_memory
from percept.core.report import notice
from percept.core.seed import derive, seed_everything
from percept.data.batch import Batch
from percept.data.source import Source, prefetched
from percept.optim.build import build_optimisers
from percept.optim.master import MasterWeights
from percept.optim.rules import freeze, parameter_groups
from percept.optim.schedule import warmup_cosine
from percept.train import journal
from percept.train.experiment import Experiment, Placement
from percept.train.meters import Meter
from percept.train.parallel import gathered, local_device, placed, training_dtype, unsharded, without_values
from percept.train.shards import INDEX
from percept.train.signals import stopping
from percept.train.state import CHECKPOINT, Checkpoint, Progress

PATIENCE = 10
"""Consecutive steps that may be left out before a run gives up."""
RUN = ("run.json", CHECKPOINT, INDEX)
"""Files of which a run folder holds at least one."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def fit(experiment: Experiment, folder: Path | str, *, minutes: float | None = None, replan: bool = False) -> Progress:
    """Train, or resume training, in `folder`; at the end `experiment.save` writes the model there.

    Started by `torchrun`, all its processes train one model: each takes its share of every batch.

    Args:
        folder: holds metrics.jsonl, run.json, the checkpoint, and at the end the model.
        minutes: stop after this time with a checkpoint; the same call resumes later.
        replan: resume from the folder's checkpoint even if the configuration has changed; both are recorded with the
            model.

    Raises:
        PerceptError: the folder holds a different run or something else, the disk is full, or the loss stays not finite.
    """
    folder, settings = Path(folder), experiment.settings
    keep_freed_memory()
    device = local_device(settings.device)
    dist.join(device, required=settings.shard)
    if settings.batch % dist.world_size():
        raise PerceptError(
            f"a batch of {settings.batch} samples does not divide into {dist.world_size()} equal shares. "
            "Change settings.batch or the number of processes."
        )
    dist.on_first(lambda: _make(folder))
    run, source, placement = _prepared(experiment, folder, device)
    try:
        return _finished(run, source, placement, minutes=minutes, replan=replan)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise run.out_of_space(error) from None


def _make(folder: Path) -> None:
    """Create the run folder, or check that it holds a run, and remove what a killed process left in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PerceptError(f"the folder {folder} cannot be made ({error.strerror}); give a different one") from None
    others = [path for path in folder.iterdir() if not path.name.startswith(".")]
    if others and not any((folder / name).is_file() for name in RUN):
        raise PerceptError(f"{folder} is not empty and holds no run (no run.json); give a folder that is new or empty")
    remove_leftovers(folder)


def _prepared(experiment: Experiment, folder: Path, device: torch.device) -> tuple["_Run", Source, Placement]:
    """Build source, task and optimiser."""
    settings = experiment.settings
    placement = Placement(device=device, rank=dist.rank(), world_size=dist.world_size())
    source = experiment.source(placement)
    seed_everything(settings.seed)
    task = experiment.task(placement)
    freeze(task, experiment.rules)
    dtype, reason = training_dtype(settings.dtype, device, task)
    whole = without_values(task) if settings.shard else None
    task = placed(task, device, dtype, shard=settings.shard)
    groups = parameter_groups(
        task,
        experiment.rules,
        rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        decay_all=settings.decay_all,
    )
    named = partial(build_optimisers, name=settings.optimiser, betas=settings.betas)
    optimiser = MasterWeights(groups, experiment.optimiser or named)
    checkpoint = Checkpoint(
        folder=folder, task=task, optimiser=optimiser, config=to_dict(experiment.config), shard=settings.shard
    )
    run = _Run(experiment, folder, task, optimiser, checkpoint, Progress(), device, dtype, reason, whole)
    return run, source, placement


def _finished(run: "_Run", source: Source, placement: Placement, *, minutes: float | None, replan: bool) -> Progress:
    """Resume, train, and write the model if the run reaches its end."""
    experiment, settings = run.experiment, run.experiment.settings
    run.progress = run.checkpoint.load(replan=replan) or run.progress
    progress = run.progress
    run.saved = progress.step
    dist.on_first(lambda: run.open_log())
    journal.announce(experiment, run.task, run.device, run.dtype, run.reason, progress)
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    shares = prefetched(source, progress.step, settings.steps, rank=placement.rank, world_size=placement.world_size)
    with stopping() as stop, shares as batches:
        done = run.through(batches, stop=stop, deadline=deadline)
    if not done:
        if dist.rank() == 0:
            notice(f"stopped at step {progress.step} of {settings.steps}; the same command resumes there")
        return progress
    task = run.task if run.whole is None else gathered(run.task, run.whole)
    dist.on_first(lambda: experiment.save(run.folder, task, progress.totals()))
    return progress


@dataclass
class _Run:
    """Everything that the steps of one run share."""

    experiment: Experiment
    folder: Path
    task: nn.Module
    optimiser: MasterWeights
    checkpoint: Checkpoint
    progress: Progress
    device: torch.device
    dtype: torch.dtype
    reason: str
    whole: nn.Module | None
    """The task without its values, to save the model of a sharded run."""
    saved: int = 0
    """Step of the last checkpoint; 0 before the first."""

    def open_log(self) -> None:
        """Remove log lines after the checkpoint, and write the configuration."""
        journal.forget_after(self.folder, self.progress.step)
        write_json(self.folder / "run.json", self.checkpoint.config)

    def through(self, batches: Iterator[Batch], *, stop: Callable[[], bool], deadline: float) -> bool:
        """Take steps until the end (True), or until a signal or the deadline (False); a checkpoint stands either way.

        Rank 0 looks at the clock, and a signal may reach any process; all of them take the same decision after each step.
        """
        progress, settings, stages = self.progress, self.experiment.settings, self.experiment.stages
        meter = Meter(self.device, self.dtype)
        checked = started = time.monotonic()
        before, first, failures = progress.seconds, progress.step, 0
        for batch in batches:
            if progress.step in stages:
                journal.begin(progress.step, stages[progress.step])
            scalars = self._step(batch.to(self.device, self.dtype), meter)
            failures = 0 if scalars else failures + 1
            if failures == PATIENCE:
                raise self._given_up(failures)
            progress.step += 1
            progress.samples += len(batch) * dist.world_size()
            progress.skipped += scalars is None
            progress.seconds = before + time.monotonic() - started
            if progress.step == first + 1:
                journal.reassure(progress.seconds - before, settings)
            last, now, clock = progress.step == settings.steps, time.monotonic(), dist.rank() == 0
            leaving, due = dist.any_true(
                stop() or (clock and now > deadline), clock and now - checked > 60 * settings.checkpoint_every
            )
            if scalars and (progress.step % settings.log_every == 0 or last):
                rates = meter.rates(dist.world_size())
                shown = ("loss", *getattr(self.task, "shown", ()))
                journal.report(self.folder, scalars | rates, progress, settings, shown)
                meter.reset()
            self._call_back(last)
            if (leaving or due or last) and not failures:  # a checkpoint within a streak of failures would keep them
                self._save()
                checked = time.monotonic()
            if leaving and not last:
                return False
        if failures:
            raise self._given_up(failures)
        return True

    def _step(self, batch: Batch, meter: Meter) -> dict[str, float] | None:
        """Take one step and return its scalars; None if loss or gradient was not finite and the step was left out."""
        settings, step = self.experiment.settings, self.progress.step
        factor = warmup_cosine(
            step, warmup=settings.warmup, hold=settings.hold, steps=settings.steps, floor=settings.floor
        )
        names = ("step", step) if dist.rank() == 0 else ("step", step, dist.rank())
        torch.manual_seed(derive(settings.seed, *names))  # what is drawn in a step depends on its number alone
        with meter.counting(batch):
            values: dict[str, Tensor] = self.task(batch)
        values["loss"].backward()
        norm = self.optimiser.collect()
        figures = dist.mean(torch.stack([value.detach().to(norm) for value in values.values()]))
        scalars = dict(zip(values, figures.tolist(), strict=True)) | {"gradient_norm": float(norm)}
        if not (math.isfinite(scalars["loss"]) and math.isfinite(scalars["gradient_norm"])):
            self.optimiser.clear()
            if dist.rank() == 0:
                notice(f"step {step}: loss {scalars['loss']}, gradient norm {scalars['gradient_norm']}; left out")
            return None
        self.optimiser.step(factor, norm=norm, clip=settings.clip)
        return scalars | {"rate": settings.learning_rate * factor}

    def _call_back(self, last: bool) -> None:
        """Call evaluations and callbacks that are due, without a lasting effect on training."""
        for every in self.experiment.every:
            if self.progress.step % every.steps and not last:
                continue
            modes = [(module, module.training) for module in self.task.modules()]
            with unsharded(self.task):
                scalars = every.call(self.task, self.progress.step)
            for module, mode in modes:
                module.training = mode
            if scalars:
                journal.record(self.folder, self.progress.step, {}, scalars)

    def _save(self) -> None:
        try:
            self.checkpoint.save(self.progress)
        except (PerceptError, OSError) as error:
            raise self.out_of_space(error) from None
        self.saved = self.progress.step

    def out_of_space(self, error: Exception) -> PerceptError:
        """Return the error for a file that could not be written, with what stands and what to do."""
        reason = f"{error.filename} cannot be written: {error.strerror}" if isinstance(error, OSError) else str(error)
        stands = (
            f"the last checkpoint, step {self.saved}, stands"
            if self.checkpoint.present
            else "there is no checkpoint yet"
        )
        return PerceptError(f"{reason}; {stands}. Free some space and run the same command again.")

    def _given_up(self, failures: int) -> PerceptError:
        sound = f"the last checkpoint in {self.folder} is from before them" if self.checkpoint.present else ""
        return PerceptError(
            f"loss or gradient was not finite in the last {failures} steps, up to step {self.progress.step}; "
            f"{sound or 'there is no checkpoint yet'}. Start again in another folder with a lower learning rate or clip"
        )
