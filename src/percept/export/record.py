"""The record of a comparison: what was compared, what was found, and everything needed to find it again."""

import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from percept.core import VERSION
from percept.core.config import to_dict
from percept.core.io import write_json
from percept.export.difference import Difference
from percept.infer.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """Result of a comparison of two sides."""

    a: dict[str, Any]
    b: dict[str, Any]
    inputs: dict[str, Any]
    tolerance: float
    differences: list[Difference]
    """In the order of the computation: images first, then texts."""
    findings: list[str]
    """Reasons why the two sides disagree, in words."""
    notes: list[str]
    """Parts that were not compared, and why."""
    top1: dict[str, int] | None
    """Number of images whose nearest text is the same on both sides (`same`), out of `of`."""
    seconds: float
    versions: dict[str, str] = field(default_factory=dict)
    command: str = ""
    """The command line that made it; empty for a call from Python."""

    @property
    def agrees(self) -> bool:
        """True if nothing departs."""
        return not self.findings

    @property
    def verdict(self) -> str:
        """Whether they agree, in words, and whether everything was compared."""
        if self.findings:
            return "they depart"
        stages = f"{len(self.differences)} {'stage' if len(self.differences) == 1 else 'stages'}"
        return f"they agree at {stages}, not all was compared" if self.notes else "they agree"

    @property
    def first_departure(self) -> str | None:
        """The first stage beyond the tolerance; None if there is none."""
        return next((stage.stage for stage in self.differences if not stage.within(self.tolerance)), None)

    def difference(self, stage: str) -> Difference | None:
        """Return the difference at a stage; None if it was not compared."""
        return next((difference for difference in self.differences if difference.stage == stage), None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for json."""
        summary = {"agrees": self.agrees, "verdict": self.verdict, "first_departure": self.first_departure}
        return {**summary, **asdict(self), "differences": [to_dict(difference) for difference in self.differences]}

    def save(self, path: Path | str) -> None:
        """Write the receipt as json."""
        write_json(path, self.to_dict())


def versions() -> dict[str, str]:
    """Return the versions of percept and of the libraries that compute."""
    known = {"percept": VERSION, "torch": torch.__version__, "python": platform.python_version()}
    try:
        import onnxruntime
    except ImportError:
        return known
    return {**known, "onnxruntime": onnxruntime.__version__}


def kind(encoder: Encoder) -> str:
    """Return the number type that an encoder computes in; int8 for a quantised export."""
    return str(encoder.setting).rpartition(" ")[2]


def facts(encoder: Encoder) -> dict[str, Any]:
    """Return what a receipt records of one side."""
    setting = encoder.setting
    return {
        **to_dict(encoder.identity),
        "device": str(setting.device),
        "dtype": kind(encoder),
        "backend": setting.backend,
    }
