"""What is written: the arguments that every unit of work needs, and formats."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from percept.world.noise import Noise

SIZE = 96
"""Usual side in pixels."""
UNITS = {"images": 250, "clips": 50, "questions": 250, "documents": 100, "rooms": 20}
"""Samples per unit of work, and per tar file."""
Lines: TypeAlias = Mapping[str, Sequence[str]]
"""Lines to append to files, by name of the file within the folder."""
INDEX = "metadata.jsonl"
"""File of a folder that says which of its images are rows, and their captions, as in Hugging Face's `imagefolder`."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Arguments of `write` that every unit of work needs."""

    folder: str
    count: int
    seed: int
    split: str
    style: str
    size: int | None
    frames: int
    noise: Noise | None
    languages: tuple[str, ...]

    @property
    def side(self) -> int:
        """Shorter side in pixels."""
        return SIZE if self.size is None else self.size

    @property
    def subset(self) -> str:
        """Name of the split in data sets that have only two: "train" or "val"."""
        return "train" if self.split == "train" else "val"

    def within(self, folder: Path) -> "Job":
        """Return the same job in a folder."""
        return replace(self, folder=str(folder))

    def put(self, name: str, data: bytes | str) -> str:
        """Write a file of the folder; return its name."""
        file = Path(self.folder, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.encode() if isinstance(data, str) else data)
        return name


@dataclass(frozen=True, kw_only=True)
class Format:
    """How samples are written."""

    write: str
    """Function, as module:name, that writes the samples of a job with these numbers, from 0, and returns the lines that the calling
    process appends to files in order."""
    finish: str | None = None
    """Function that makes files of the lines of all units of a job."""


def index_line(file: str, **fields: Any) -> str:
    """Return the line of an image in INDEX; `fields` hold its captions, and the paths of what belongs to it."""
    return json.dumps({"file_name": file, **fields}, ensure_ascii=False) + "\n"


def key_of(number: int) -> str:
    """Return the name of a sample.

    >>> key_of(7)
    '000007'
    """
    return f"{number:06d}"
