"""What a run says: a line at its start, a line per report on the terminal and the same as json in metrics.jsonl."""

import json
from pathlib import Path

import torch

from percept.core.io import append_json_line, replacing
from percept.core.report import err
from percept.train.experiment import Experiment, Settings
from percept.train.state import Progress

METRICS = "metrics.jsonl"
SHOWN = ("loss", "batch_accuracy", "scale")
"""Scalars on the terminal, where a method reports them; the file has all."""


def announce(experiment: Experiment, device: torch.device, dtype: torch.dtype, reason: str, progress: Progress) -> None:
    """Say what is about to run, on what, and why in this number type."""
    count = sum(parameter.numel() for parameter in experiment.model.parameters())
    settings = experiment.settings
    err.print(
        f"{experiment.name}: {count / 1e6:.2f} M parameters on {device}, "
        f"{str(dtype).removeprefix('torch.')} weights ({reason}), {settings.steps} steps of {settings.batch}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads"
        + (f"; going on from step {progress.step}" if progress.step else "")
    )


def begin(step: int, stage: str) -> None:
    """Say which stage begins, and that the losses of two stages do not compare."""
    err.print(
        f"from step {step} on: {stage}" + ("; the loss starts anew, it does not compare with before" if step else "")
    )


def reassure(seconds: float, settings: Settings) -> None:
    """Say after the first step how long it took, for the first report may be minutes away."""
    err.print(f"the first step took {seconds:.1f} s; a line every {settings.log_every} steps from here")


def report(folder: Path, scalars: dict[str, float], progress: Progress, settings: Settings) -> None:
    """Append one line to metrics.jsonl and print its main figures."""
    line = {"step": progress.step, "samples": progress.samples, "seconds": round(progress.seconds, 2)}
    append_json_line(folder / METRICS, line | {name: float(f"{value:.6g}") for name, value in scalars.items()})
    shown = " ".join(f"{name} {scalars[name]:.3f}" for name in SHOWN if name in scalars)
    left = progress.seconds / max(1, progress.step) * (settings.steps - progress.step)
    err.print(
        f"step {progress.step}/{settings.steps}  {shown}  {scalars['samples_per_second']:.0f} samples/s  "
        f"{100 * scalars['share_of_peak']:.0f} % of peak  about {left / 60:.0f} min left"
    )


def forget_after(folder: Path, step: int) -> None:
    """Drop the lines of metrics.jsonl behind `step`: a run that goes on from there writes them again."""
    path = folder / METRICS
    if not path.is_file():
        return
    kept = [line for line in path.read_text(encoding="utf-8").splitlines() if 0 < _step_of(line) <= step]
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _step_of(line: str) -> int:
    """Return the step of a line; 0 for one that was cut off when the process was killed."""
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return 0
