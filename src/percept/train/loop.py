"""The training loop: steps, guards, checkpoints, exact resume. It knows contracts and no method."""

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from percept.core.config import to_dict
from percept.core.contracts import Batch, Trainable
from percept.core.errors import PerceptError
from percept.core.io import write_json
from percept.core.machine import fast_dtype, keep_freed_memory, pick_device
from percept.core.report import notice
from percept.core.seed import derive
from percept.optim.groups import build_optimisers, decay_groups
from percept.optim.master import MasterWeights
from percept.optim.schedule import warmup_cosine
from percept.train.experiment import Experiment, Settings, Source
from percept.train.journal import announce, begin, forget_after, reassure, report
from percept.train.meters import Meter
from percept.train.state import CHECKPOINT, Progress, load_checkpoint, save_checkpoint

PATIENCE = 10
"""Steps in a row that may be left out before a run gives up."""


def fit(experiment: Experiment, folder: Path | str, *, minutes: float | None = None, replan: bool = False) -> Progress:
    """Train, or go on training, in `folder`; at the end `experiment.finish` writes the model there.

    Args:
        folder: holds metrics.jsonl, run.json, the checkpoint, and at the end the model.
        minutes: stop after so long with a checkpoint; the same call goes on later.
        replan: go on from the folder's checkpoint although the configuration is another one; the model tells both.

    Raises:
        PerceptError: the folder holds another run or something else, or the loss stays not finite.
    """
    folder, settings = _made(Path(folder)), experiment.settings
    keep_freed_memory()
    device = pick_device(settings.device)
    dtype, reason = _choose_dtype(settings.dtype, device)
    model = _prepared(experiment.model, device, dtype)
    optimiser = _build_optimiser(model, settings)
    config = to_dict(experiment.config)
    progress = load_checkpoint(folder, model, optimiser, config, replan=replan) or Progress()
    forget_after(folder, progress.step)
    write_json(folder / "run.json", config)
    announce(experiment, device, dtype, reason, progress)
    meter = Meter(device, dtype)
    run = _Run(model, optimiser, meter, progress, settings, folder, config, device, dtype, experiment.stages)
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    with _stopping() as asked, _prefetched(experiment.source, progress.step, settings.steps) as batches:
        done = run.through(batches, leave=lambda: asked() or time.monotonic() > deadline)
    if not done:
        notice(f"stopped at step {progress.step} of {settings.steps}; the same command goes on from there")
        return progress
    totals: dict[str, Any] = {"steps": progress.step, "samples": progress.samples, "skipped": progress.skipped}
    if progress.changes:
        totals["changes"] = progress.changes
    experiment.finish(folder, totals | {"seconds": round(progress.seconds, 1)})
    return progress


@dataclass
class _Run:
    """Everything that the steps of one run share."""

    model: nn.Module
    optimiser: MasterWeights
    meter: Meter
    progress: Progress
    settings: Settings
    folder: Path
    config: dict[str, Any]
    device: torch.device
    dtype: torch.dtype
    stages: Mapping[int, str]

    def through(self, batches: Iterator[Batch], *, leave: Callable[[], bool]) -> bool:
        """Take steps until the end (True) or until told to leave (False); a checkpoint stands either way."""
        progress, settings = self.progress, self.settings
        saved = started = time.monotonic()
        before, first, failures = progress.seconds, progress.step, 0
        self.meter.reset()
        for batch in batches:
            if progress.step in self.stages:
                begin(progress.step, self.stages[progress.step])
            batch = batch.to(self.device, self.dtype)
            scalars = _step(self.model, self.optimiser, batch, progress.step, settings)
            failures = 0 if scalars else failures + 1
            if failures == PATIENCE:
                raise self._given_up(failures)
            progress.step += 1
            progress.samples += len(batch)
            progress.skipped += scalars is None
            progress.seconds = before + time.monotonic() - started
            self.meter.count(self.model, batch)
            if progress.step == first + 1:
                reassure(progress.seconds - before, settings)
            last, leaving = progress.step == settings.steps, leave()
            if scalars and (progress.step % settings.log_every == 0 or last):
                report(self.folder, scalars | self.meter.rates(), progress, settings)
                self.meter.reset()
            due = leaving or last or time.monotonic() - saved > 60 * settings.checkpoint_every
            if due and not failures:  # within a streak of failures the checkpoint before it stays the last
                save_checkpoint(self.folder, self.model, self.optimiser, progress, self.config)
                saved = time.monotonic()
            if leaving and not last:
                return False
        if failures:
            raise self._given_up(failures)
        return True

    def _given_up(self, failures: int) -> PerceptError:
        sound = (
            f"the last checkpoint in {self.folder} is from before them" if (self.folder / CHECKPOINT).is_file() else ""
        )
        return PerceptError(
            f"loss or gradient was not finite in the last {failures} steps, up to step {self.progress.step}; "
            f"{sound or 'there is no checkpoint yet'}. Start again in another folder with a lower learning rate or clip"
        )


def _step(
    model: nn.Module, optimiser: MasterWeights, batch: Batch, step: int, settings: Settings
) -> dict[str, float] | None:
    """Take one step and return its scalars; None if loss or gradient was not finite and the step was left out."""
    factor = warmup_cosine(step, warmup=settings.warmup, hold=settings.hold, steps=settings.steps)
    rate = settings.learning_rate * factor
    torch.manual_seed(derive(settings.seed, "step", step))  # what is drawn in a step depends on its number alone
    values = cast(Trainable, model).training_step(batch)
    values["loss"].backward()
    norm = optimiser.collect()
    if not bool(torch.isfinite(values["loss"]) & torch.isfinite(norm)):
        optimiser.clear()
        notice(f"step {step}: loss {float(values['loss'].detach())}, gradient norm {float(norm)}; left out")
        return None
    optimiser.step(rate, norm=norm, clip=settings.clip)
    told = torch.stack([value.detach().to(norm) for value in (*values.values(), norm)]).tolist()  # one copy for all
    return dict(zip((*values, "gradient_norm"), told, strict=True)) | {"rate": rate}


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PerceptError(f"the folder {folder} cannot be made ({error.strerror}); give another one") from None
    others = [one for one in folder.iterdir() if not one.name.startswith(".")]
    if others and not any((folder / name).is_file() for name in ("run.json", CHECKPOINT)):
        raise PerceptError(f"{folder} is not empty and holds no run (no run.json); give a folder that is new or empty")
    return folder


def _choose_dtype(name: str, device: torch.device) -> tuple[torch.dtype, str]:
    if name == "auto":
        return fast_dtype(device)
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name], "as asked"


def _prepared(model: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Move the model; scalars such as the contrastive scale stay in float32."""
    model.to(device).train()
    for parameter in model.parameters():
        if parameter.dim() > 0:
            parameter.data = parameter.data.to(dtype)
    return model


def _build_optimiser(model: nn.Module, settings: Settings) -> MasterWeights:
    groups = decay_groups(model, settings.weight_decay)
    build = partial(build_optimisers, name=settings.optimiser, rate=settings.learning_rate, betas=settings.betas)
    return MasterWeights(groups, build)


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a wish to stop after the step, which the yielded function tells; a second one interrupts at once."""
    wish = False

    def ask(number: int, frame: Any) -> None:
        nonlocal wish
        if wish:
            raise KeyboardInterrupt
        wish = True
        notice("stopping after this step with a checkpoint; once more to stop at once")

    try:
        previous = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not in the main thread
        yield lambda: False
        return
    try:
        yield lambda: wish
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def _prefetched(source: Source, first: int, steps: int) -> Iterator[Iterator[Batch]]:
    """Prepare batches in a thread, two ahead."""
    with ThreadPoolExecutor(1) as pool:

        def batches() -> Iterator[Batch]:
            waiting = [pool.submit(source.batch, step) for step in range(first, min(first + 2, steps))]
            for step in range(first, steps):
                ready = waiting.pop(0).result()
                if step + 2 < steps:
                    waiting.append(pool.submit(source.batch, step + 2))
                yield ready

        try:
            yield batches()
        finally:
            pool.shutdown(cancel_futures=True)
