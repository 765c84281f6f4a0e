"""The log of a run: lines on the terminal, and the same figures as json in metrics.jsonl. Only rank 0 writes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from percept.core import dist
from percept.core.io import append_json_line, replacing
from percept.core.report import err, notice
from percept.train.doctor import Remark
from percept.train.experiment import Experiment, Settings
from percept.train.state import Progress

METRICS, REMARKS = "metrics.jsonl", "doctor.jsonl"


def announce(
    experiment: Experiment, task: nn.Module, device: torch.device, dtype: torch.dtype, reason: str, progress: Progress
) -> None:
    """Print what is about to run, on which device, and why in this number type."""
    count = sum(parameter.numel() for parameter in task.parameters())
    trained = sum(parameter.numel() for parameter in task.parameters() if parameter.requires_grad)
    settings, processes = experiment.settings, dist.world_size()
    some = f"{trained / 1e6:.2f} M" if trained >= 1e5 else f"{trained:,}"
    say(
        f"{experiment.name}: {count / 1e6:.2f} M parameters"
        + (f", {some} of them trained," if trained < count else "")
        + f" on {device}"
        + (f" in {processes} processes" if processes > 1 else "")
        + f", {str(dtype).removeprefix('torch.')} weights ({reason}), {settings.steps} steps of {settings.batch}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads"
        + (f"; resuming at step {progress.step}" if progress.step else "")
    )
    warn_of_warmup(settings)


def warn_of_warmup(settings: Settings) -> None:
    """Report a warmup that is longer than the run."""
    if settings.warmup > settings.steps and dist.rank() == 0:
        share = 100 * settings.steps / settings.warmup
        notice(
            f"warmup={settings.warmup} is more than the {settings.steps} steps of the run, so the learning rate reaches only {share:.0f} % of "
            f"{settings.learning_rate:g}. Give a shorter warmup."
        )


def say(line: str) -> None:
    """Print a line about the run, on rank 0."""
    if dist.rank() == 0:
        err.print(line)


def begin(step: int, stage: str) -> None:
    """Print which stage begins."""
    say(f"from step {step} on: {stage}" + ("; its losses do not compare with those before" if step else ""))


def reassure(seconds: float, settings: Settings) -> None:
    """Print how long the first step took, since the first report may be minutes away."""
    say(f"the first step took {seconds:.1f} s; a line every {settings.log_every} steps from here")


def report(
    folder: Path, scalars: Mapping[str, float], progress: Progress, settings: Settings, shown: Sequence[str]
) -> None:
    """Append one line to metrics.jsonl and print its main figures.

    Args:
        shown: scalars to print, where they are present; the file has all of them.
    """
    if dist.rank() != 0:
        return
    timing = {"samples": progress.samples, "seconds": round(progress.seconds, 2)}
    record(folder, progress.step, timing, scalars)
    figures = " ".join(f"{name} {scalars[name]:.3f}" for name in shown if name in scalars)
    left = progress.seconds / max(1, progress.step) * (settings.steps - progress.step)
    err.print(
        f"step {progress.step}/{settings.steps}  {figures}  {scalars['samples_per_second']:.0f} samples/s  "
        f"{100 * scalars['share_of_peak']:.0f} % of peak  about {left / 60:.0f} min left"
    )


def warn(folder: Path, step: int, remarks: Sequence[Remark]) -> None:
    """Print remarks of the training doctor and append them to doctor.jsonl, on rank 0."""
    for remark in remarks if dist.rank() == 0 else ():
        notice(f"step {step}: {remark.kind}: {remark.message}")
        append_json_line(folder / REMARKS, {"step": step, "kind": remark.kind, "message": remark.message})


def record(folder: Path, step: int, exact: Mapping[str, int | float], scalars: Mapping[str, float]) -> None:
    """Append one line to metrics.jsonl, scalars rounded to six digits, on rank 0."""
    if dist.rank() == 0:
        rounded = {name: float(f"{value:.6g}") for name, value in scalars.items()}
        append_json_line(folder / METRICS, {"step": step, **exact, **rounded})


def forget_after(folder: Path, step: int) -> None:
    """Remove the lines of metrics.jsonl after `step`: a run that resumes there writes them again."""
    path = folder / METRICS
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines() if step else []
    kept = [line for line in lines if 0 <= _step_of(line) <= step]
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def rows(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl, without one that was cut off; none if there is no file."""
    path = folder / METRICS
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines if _step_of(line) >= 0]


def before_training(folder: Path) -> dict[str, float]:
    """Return the scalars that were recorded before the first step."""
    early = [row for row in rows(folder) if row["step"] == 0]
    return {name: value for row in early for name, value in row.items() if name != "step"}


def _step_of(line: str) -> int:
    """Return the step of a line; -1 for one that was cut off when the process was killed."""
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return -1
