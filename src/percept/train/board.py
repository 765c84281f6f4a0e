"""The log of a run for TensorBoard, which is an optional library."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from percept.core.errors import missing_extra

Board: TypeAlias = Callable[[int, Mapping[str, float]], None]
"""Takes a step and its scalars."""
FOLDER = "tensorboard"


def open_board(folder: Path, step: int, *, wanted: bool) -> Board:
    """Return a function that writes scalars below `folder`; what was written after `step` is hidden. Without `wanted` it does nothing.

    Raises:
        PerceptError: tensorboard is not installed.
    """
    if not wanted:
        return lambda step, scalars: None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise missing_extra("tensorboard", "tensorboard", "settings.tensorboard") from None
    writer = SummaryWriter(str(folder / FOLDER), purge_step=step + 1)

    def write(step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return write
