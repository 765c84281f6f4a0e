"""The training loop: steps, guards, checkpoints, exact resume, in one process or several. It knows no method."""

import errno
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import nn

from percept.core import dist
from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.core.io import write_json
from percept.core.leftovers import remove_leftovers
from percept.core.machine import keep_freed_memory
from percept.core.report import notice
from percept.core.seed import seed_everything
from percept.data.batch import Batch
from percept.data.source import Source, prefetched
from percept.optim.build import build_optimisers
from percept.optim.master import MasterWeights
from percept.optim.rules import freeze, parameter_groups
from percept.train import journal
from percept.train.board import Board, open_board
from percept.train.doctor import Doctor
from percept.train.experiment import Every, Experiment, Placement
from percept.train.meters import Meter
from percept.train.parallel import (
    checkpoint_blocks,
    compile_blocks,
    gathered,
    local_device,
    placed,
    training_dtype,
    unsharded,
    without_values,
)
from percept.train.shards import INDEX
from percept.train.signals import SIGNALS, stopping
from percept.train.state import CHECKPOINT, CONFIGURATION, Checkpoint, Progress
from percept.train.step import Stepper, check_batch, check_parts

PATIENCE = 10
"""Consecutive steps that may be left out before a run gives up."""
RUN = (CONFIGURATION, CHECKPOINT, INDEX)
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

    Returns:
        Where the run stands; `signal` is set if Ctrl-C or SIGTERM stopped it.

    Raises:
        PerceptError: the folder holds a different run or something else, the disk is full, or the loss stays not finite.
    """
    folder = Path(folder)
    device = joined(experiment)
    dist.on_first(lambda: _make(folder))
    run = prepared(experiment, folder, device)
    try:
        return _finished(run, minutes=minutes, replan=replan)
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise run.out_of_space(error) from None


def joined(experiment: Experiment) -> torch.device:
    """Prepare this process, join the other processes of the run, and return the device."""
    keep_freed_memory()
    device = local_device(experiment.settings.device)
    dist.join(device, required=experiment.settings.shard)
    check_batch(experiment.settings, dist.world_size())
    return device


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


def prepared(experiment: Experiment, folder: Path, device: torch.device) -> "Run":
    """Build source, task and optimiser."""
    settings = experiment.settings
    placement = Placement(device=device, rank=dist.rank(), world_size=dist.world_size())
    source = experiment.source(placement)
    seed_everything(settings.seed)
    task = experiment.task(placement)
    check_parts(task, settings)
    freeze(task, experiment.rules)
    dtype, reason = training_dtype(settings.dtype, device, task)
    if settings.checkpointing:
        checkpoint_blocks(task)
    if settings.compile:
        compile_blocks(task, device, shard=settings.shard)
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
        folder=folder, task=task, optimiser=optimiser, config=to_dict(experiment.config), shard=settings.shard,
        keep=settings.keep, keep_every=settings.keep_every, data=getattr(source, "identity", ""),
    )  # fmt: skip
    return Run(experiment, folder, source, task, optimiser, checkpoint, Progress(), device, dtype, reason, whole)


def _finished(run: "Run", *, minutes: float | None, replan: bool) -> Progress:
    """Resume, train, and write the model if the run reaches its end."""
    experiment, settings = run.experiment, run.experiment.settings
    run.progress = run.checkpoint.load(replan=replan) or run.progress
    progress = run.progress
    run.saved = progress.step
    dist.on_first(lambda: run.open_log())
    journal.announce(experiment, run.task, run.device, run.dtype, run.reason, progress)
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    if not run.train(deadline=deadline):
        if dist.rank() == 0:
            there = "there" if run.saved == progress.step else f"at step {run.saved}"
            notice(f"stopped at step {progress.step} of {settings.steps}; the same command resumes {there}")
        return progress
    task = run.task if run.whole is None else gathered(run.task, run.whole)
    dist.on_first(lambda: experiment.save(run.folder, task, progress.totals()))
    return progress


@dataclass
class Run:
    """Everything that the steps of one run share."""

    experiment: Experiment
    folder: Path
    source: Source
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
    doctor: Doctor = field(default_factory=Doctor)
    board: Board = lambda step, scalars: None

    def open_log(self) -> None:
        """Remove log lines after the checkpoint, and write the configuration."""
        journal.forget_after(self.folder, self.progress.step)
        write_json(self.folder / CONFIGURATION, self.checkpoint.config)
        self.board = open_board(self.folder, self.progress.step, wanted=self.experiment.settings.tensorboard)

    def train(self, *, deadline: float = math.inf, until: int | None = None) -> bool:
        """Take steps until the end (True), or until a signal, the deadline or the step `until` (False).

        A checkpoint stands either way, unless `until` is given, which saves nothing.
        """
        settings, progress = self.experiment.settings, self.progress
        self.meter = Meter(self.device, self.dtype)
        self.stepper = Stepper(task=self.task, optimiser=self.optimiser, settings=settings, meter=self.meter)
        self.doctor.before |= journal.before_training(self.folder)
        if not progress.step:
            self._call_back(every for every in self.experiment.every if every.preserve)
        shares = prefetched(self.source, progress.step, settings.steps, rank=dist.rank(), world_size=dist.world_size())
        with stopping() as stop, shares as batches:
            return self._through(batches, stop=stop, deadline=deadline, until=until)

    def _through(
        self, batches: Iterator[Batch], *, stop: Callable[[], int], deadline: float, until: int | None
    ) -> bool:
        """Take steps. Rank 0 looks at the clock, and a signal may reach any process; all take the same decision after a step."""
        progress, settings = self.progress, self.experiment.settings
        end = settings.steps if until is None else min(until, settings.steps)
        checked = started = time.monotonic()
        before, first, failures = progress.seconds, progress.step, 0
        for batch in self._waited_for(batches):
            self._begin_stage()
            scalars = self.stepper.take(progress.step, batch)
            failures = 0 if scalars else failures + 1
            self._advance(batch, scalars is None, seconds=before + time.monotonic() - started)
            last, now, clock = progress.step == end, time.monotonic(), dist.rank() == 0
            unusable = failures and last and until is None and not self._sound(progress.step - failures)
            if failures == PATIENCE or unusable:
                raise self._given_up(failures)
            if progress.step == first + 1:
                journal.reassure(progress.seconds - before, settings)
            received, due = stop(), now - checked > 60 * settings.checkpoint_every
            *signals, late, due = dist.any_true(
                *(received == each for each in SIGNALS), clock and now > deadline, clock and due
            )
            if scalars:
                self._log(batch, scalars, first=progress.step == first + 1, last=last)
            self._call_back(every for every in self.experiment.every if progress.step % every.steps == 0 or last)
            leaving = late or any(signals)
            due = due or bool(settings.keep_every and progress.step % settings.keep_every == 0)
            if until is None and (last or (not failures and (leaving or due))):  # a checkpoint would keep failures
                self._save()
                checked = time.monotonic()
            if any(signals):
                progress.signal = int(SIGNALS[signals.index(True)])
            if (leaving and not last) or (last and until is not None):
                return False
        if failures and dist.rank() == 0:
            notice(f"the last {failures} steps of the run were left out; the model is that of step {end - failures}")
        return True

    def _sound(self, step: int) -> bool:
        """Return True if the loss of step `step`, counted from 1, is finite with the present weights; False for step 0."""
        if not step:
            return False
        batch = self.source.batch(step - 1, rank=dist.rank(), world_size=dist.world_size())
        return self.stepper.finite(batch.to(self.device, self.dtype))

    def _waited_for(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield batches on the device; measure how long each was waited for. Starting the source is not waiting."""
        self.startup = 0.0
        begun = False
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            waited = time.perf_counter() - start
            self.meter.waited += waited
            self.startup = self.startup if begun else waited
            begun = True
            yield batch.to(self.device, self.dtype)

    def _begin_stage(self) -> None:
        if self.progress.step in self.experiment.stages:
            journal.begin(self.progress.step, self.experiment.stages[self.progress.step])
            self.doctor.begin_stage()

    def _advance(self, batch: Batch, skipped: bool, *, seconds: float) -> None:
        progress = self.progress
        progress.step += 1
        progress.samples += len(batch) * dist.world_size()
        progress.skipped += skipped
        progress.seconds = seconds
        progress.operations += self.meter.take() * dist.world_size()

    def _log(self, batch: Batch, scalars: dict[str, float], *, first: bool, last: bool) -> None:
        """Let the doctor look at a step, and write a line of the log where one is due."""
        settings, step = self.experiment.settings, self.progress.step
        due = step % settings.log_every == 0 or last
        remarks = self.doctor.step(scalars)
        if due or first:
            remarks += self.doctor.batch(batch, scalars)
        if due:
            rates = self.meter.rates(dist.world_size())
            remarks += self.doctor.time(self.meter.waited - self.startup, self.meter.seconds - self.startup)
            shown = ("loss", *getattr(self.task, "shown", ()))
            journal.report(self.folder, scalars | rates, self.progress, settings, shown)
            self.board(step, scalars | rates)
            self.meter.reset()
            self.startup = 0.0
        journal.warn(self.folder, step, remarks)

    def _call_back(self, due: Iterable[Every]) -> None:
        """Call evaluations and callbacks that are due, without a lasting effect on training."""
        for every in due:
            modes = [(module, module.training) for module in self.task.modules()]
            with unsharded(self.task):
                scalars = every.call(self.task, self.progress.step)
            for module, mode in modes:
                module.training = mode
            if scalars:
                journal.record(self.folder, self.progress.step, {}, scalars)
                self.board(self.progress.step, scalars)
            if scalars and every.preserve:
                journal.warn(self.folder, self.progress.step, self.doctor.abilities(scalars, samples=every.samples))

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
        """Return the error for a loss that stays not finite: which steps, the last good state, and what to do."""
        step = self.progress.step
        present = self.checkpoint.present
        stands = f"{self.folder} holds the checkpoint of step {self.saved}, from before them" if present else ""
        remedy = "Resume it with --replan and" if present else "Start again with"
        return PerceptError(
            f"loss or gradient was not finite in the last {failures} steps, {step - failures + 1} to {step}; "
            f"{stands or 'there is no checkpoint yet'}. {remedy} a lower learning rate or clip."
        )
