"""The training loop: steps, guards, logs, checkpoints, exact resume. It knows contracts and no method."""

import math
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from percept.core.config import to_dict
from percept.core.contracts import Batch, Trainable
from percept.core.errors import PerceptError
from percept.core.io import append_json_line, write_json
from percept.core.machine import fast_dtype, keep_freed_memory, pick_device
from percept.core.report import err, notice
from percept.optim.groups import decay_groups
from percept.optim.master import MasterWeights
from percept.optim.schedule import warmup_cosine
from percept.train.experiment import Experiment, Settings, Source
from percept.train.meters import Meter
from percept.train.state import Progress, load_checkpoint, save_checkpoint

PATIENCE = 10
"""Steps in a row that may be left out before a run gives up."""


def fit(experiment: Experiment, folder: Path | str, *, minutes: float | None = None) -> Progress:
    """Train, or go on training, in `folder`; at the end `experiment.finish` writes the model there.

    Args:
        folder: holds metrics.jsonl, config.json of the run, the checkpoint, and at the end the model.
        minutes: stop after so long with a checkpoint; the same call goes on later.

    Raises:
        PerceptError: the folder holds another run, or the loss stays not finite.
    """
    folder, settings = Path(folder), experiment.settings
    folder.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    device = pick_device(settings.device)
    dtype, reason = _choose_dtype(settings.dtype, device)
    model = _prepared(experiment.model, device, dtype)
    optimiser = _build_optimiser(model, settings)
    config = to_dict(experiment.config)
    progress = load_checkpoint(folder, optimiser, config)
    write_json(folder / "run.json", config)
    _announce(experiment, device, dtype, reason, progress)
    meter = Meter(device, dtype)
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    with _stopping() as stop, _prefetched(experiment.source, progress.step, settings.steps) as batches:
        done = _run(model, optimiser, batches, meter, progress, settings, folder, config, deadline, stop, dtype)
    if not done:
        notice(f"stopped at step {progress.step} of {settings.steps}; the same command goes on from there")
        return progress
    experiment.finish(
        folder, {"steps": progress.step, "samples": progress.samples, "seconds": round(progress.seconds, 1)}
    )
    return progress


def _run(
    model: nn.Module,
    optimiser: MasterWeights,
    batches: Iterator[Batch],
    meter: Meter,
    progress: Progress,
    settings: Settings,
    folder: Path,
    config: dict[str, Any],
    deadline: float,
    stop: list[bool],
    dtype: torch.dtype,
) -> bool:
    """Take steps until the end (True) or until told to stop (False); leaves a checkpoint either way."""
    device = next(model.parameters()).device
    saved = started = time.monotonic()
    before, failures = progress.seconds, 0
    meter.reset()
    for batch in batches:
        batch = batch.to(device, dtype)
        scalars = _step(model, optimiser, batch, progress.step, settings)
        failures = 0 if scalars else failures + 1
        progress.skipped += scalars is None
        if failures == PATIENCE:
            raise PerceptError(
                f"the loss was not finite in {PATIENCE} steps in a row up to step {progress.step}; "
                f"the last checkpoint in {folder} is sound: lower the learning rate or the clip and start again"
            )
        progress.step += 1
        progress.samples += len(batch)
        progress.seconds = before + time.monotonic() - started
        meter.count(model, batch)
        if scalars and (progress.step % settings.log_every == 0 or progress.step == settings.steps):
            _log(folder, scalars | meter.rates(), progress, settings)
            meter.reset()
        leaving = stop[0] or time.monotonic() > deadline
        if leaving or progress.step == settings.steps or time.monotonic() - saved > 60 * settings.checkpoint_every:
            save_checkpoint(folder, optimiser, progress, config)
            saved = time.monotonic()
        if leaving and progress.step < settings.steps:
            return False
    return True


def _step(
    model: nn.Module, optimiser: MasterWeights, batch: Batch, step: int, settings: Settings
) -> dict[str, float] | None:
    """Take one step and return its scalars; None if loss or gradient was not finite and the step was left out."""
    rate = settings.learning_rate * warmup_cosine(step, warmup=settings.warmup, steps=settings.steps)
    values = cast(Trainable, model).training_step(batch)
    values["loss"].backward()
    norm = optimiser.collect()
    if not bool(torch.isfinite(values["loss"]) & torch.isfinite(norm)):
        optimiser.clear()
        notice(f"step {step}: loss {float(values['loss'])}, gradient norm {float(norm)}; left out")
        return None
    optimiser.step(rate, norm=norm, clip=settings.clip)
    return {name: float(value.detach()) for name, value in values.items()} | {
        "gradient_norm": float(norm),
        "rate": rate,
    }


def _choose_dtype(name: str, device: torch.device) -> tuple[torch.dtype, str]:
    if name == "auto":
        return fast_dtype(device)
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if name not in known:
        raise PerceptError(f"dtype {name!r} is not possible in training; use auto, float32 or bfloat16")
    return known[name], "as asked"


def _prepared(model: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Move the model; scalars such as the contrastive scale stay in float32."""
    model.to(device).train()
    for parameter in model.parameters():
        if parameter.dim() > 0:
            parameter.data = parameter.data.to(dtype)
    return model


def _build_optimiser(model: nn.Module, settings: Settings) -> MasterWeights:
    groups = decay_groups(model, settings.weight_decay)
    return MasterWeights(groups, lambda wide: torch.optim.AdamW(wide, lr=settings.learning_rate, betas=settings.betas))


@contextmanager
def _stopping() -> Iterator[list[bool]]:
    """Turn the first Ctrl-C into a wish to stop after the step; a second one interrupts at once."""
    wish = [False]

    def ask(number: int, frame: Any) -> None:
        if wish[0]:
            raise KeyboardInterrupt
        wish[0] = True
        notice("stopping after this step with a checkpoint; once more to stop at once")

    try:
        previous = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not in the main thread
        yield wish
        return
    try:
        yield wish
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


def _announce(
    experiment: Experiment, device: torch.device, dtype: torch.dtype, reason: str, progress: Progress
) -> None:
    count = sum(parameter.numel() for parameter in experiment.model.parameters())
    settings = experiment.settings
    err.print(
        f"{experiment.name}: {count / 1e6:.2f} M parameters on {device}, {str(dtype).removeprefix('torch.')} weights ({reason}), "
        f"{settings.steps} steps of {settings.batch}, torch {torch.__version__}, {torch.get_num_threads()} threads"
        + (f"; going on from step {progress.step}" if progress.step else "")
    )


def _log(folder: Path, scalars: dict[str, float], progress: Progress, settings: Settings) -> None:
    line = {"step": progress.step, "samples": progress.samples, "seconds": round(progress.seconds, 2)}
    append_json_line(folder / "metrics.jsonl", line | {name: float(f"{value:.6g}") for name, value in scalars.items()})
    shown = " ".join(f"{name} {scalars[name]:.3f}" for name in ("loss", "batch_accuracy", "scale") if name in scalars)
    left = progress.seconds / max(1, progress.step) * (settings.steps - progress.step)
    err.print(
        f"step {progress.step}/{settings.steps}  {shown}  {scalars['samples_per_second']:.0f} samples/s  "
        f"{100 * scalars['share_of_peak']:.0f} % of peak  about {left / 60:.0f} min left"
    )
