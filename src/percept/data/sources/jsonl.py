"""Rows of json lines (one object per line) and of json lists, in files of any size."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.data.sources.fields import Fields
from percept.data.sources.index import Index, line_at, read_span
from percept.data.sources.lists import media_folder, rows_of_lists
from percept.data.sources.sample import BadSample, Sample, check_index
from percept.data.sources.scan import element_spans, line_spans

LARGEST_FIRST = 1 << 20
"""Bytes of a .json file that are looked at to tell json lines from one object."""


@dataclass(frozen=True, kw_only=True)
class JsonRows:
    """The objects of one file: one on each line, or the elements of a list."""

    name: str
    index: Index
    fields: Fields
    count: int

    @classmethod
    def open(cls, file: Path, name: str, fields: Fields) -> "JsonRows":
        """Find the rows of a file.

        Raises:
            PerceptError: it cannot be read, or holds one single object other than the lists of COCO and MSR-VTT.
        """
        if (lines := _lists_in(file)) is not None:
            if fields.root == file.absolute().parent:
                fields = replace(fields, root=media_folder(file, lines))
            file = lines
        index = Index.of(file, *(("elements", element_spans) if _is_list(file) else ("lines", line_spans)))
        return cls(name=name, index=index, fields=fields, count=len(index.arrays(name)["start"]))

    def __len__(self) -> int:
        return self.count

    def key(self, index: int) -> str:
        """Return the file and the number of the row, counted from 1."""
        return f"{self.name}:{index + 1}"

    def where(self, index: int) -> str:
        """Return the file and the line of the row, for messages; the number of the row in files that are lists."""
        if self.index.kind != "lines" or self.index.file.name != Path(self.name).name:
            return f"{self.name}, row {index + 1}"
        return line_at(self.name, self.index, index)

    def read(self, index: int) -> Sample:
        """Read a row.

        Raises:
            BadSample: it is not a json object, or a field of it has the wrong type.
        """
        check_index(self, index)
        key = self.key(index)
        spans = self.index.arrays(key)
        data = read_span(self.index.file, int(spans["start"][index]), int(spans["stop"][index]))
        return self.fields.sample(key, json_object(data, key))


def json_object(data: bytes, key: str) -> dict[str, Any]:
    """Return the json object that bytes hold.

    Raises:
        BadSample: they hold something else.
    """
    try:
        value = json.loads(data.removeprefix(b"\xef\xbb\xbf").decode())
    except UnicodeDecodeError:
        raise BadSample("not UTF-8", key) from None
    except (ValueError, RecursionError) as error:
        raise BadSample("not json", key, str(error)) from None
    if not isinstance(value, dict):
        raise BadSample("wrong type", key, f"a row is a json object, not {type(value).__name__}")
    return value


def _is_list(file: Path) -> bool:
    """True if a file begins with a list."""
    return _start(file).startswith(b"[")


def _lists_in(file: Path) -> Path | None:
    """Return the rows of a .json file with the lists of COCO or MSR-VTT; None for json lines and lists of objects.

    Raises:
        PerceptError: the file holds another object on several lines.
    """
    data = _start(file)
    if file.suffix.lower() != ".json" or not data.startswith(b"{"):
        return None
    try:
        first = json.loads(data.split(b"\n", 1)[0])
    except (ValueError, RecursionError):  # on several lines, or on one that is longer than what is looked at
        first = None
    if first is not None and not {"annotations", "sentences"} & first.keys():
        return None
    lines = rows_of_lists(file)
    if lines is None and first is None:
        check_json(file)
        raise PerceptError(
            f"{file} holds one json object on several lines. A source is a list of objects, one object on each line, or the lists of "
            "COCO or MSR-VTT."
        )
    return lines


def check_json(file: Path) -> None:
    """Check that a file holds one json value.

    Raises:
        PerceptError: the file is not valid json; the message gives the position.
    """
    try:
        json.loads(file.read_bytes())
    except RecursionError:
        raise PerceptError(f"{file} is nested too deeply to be read. Write one object on each line.") from None
    except ValueError as error:
        raise PerceptError(
            f"{file} is not valid json: {error}. It may be cut short; fetch or write it again."
        ) from None


def _start(file: Path) -> bytes:
    """Return the first bytes of a file, without a mark of their order and white space.

    Raises:
        PerceptError: it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            return opened.read(LARGEST_FIRST).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        raise PerceptError(
            f"{file} cannot be read: {(error.strerror or str(error)).lower()}. Check the path."
        ) from None
