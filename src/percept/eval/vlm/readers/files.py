"""Rows of json, json lines and Parquet files, and the images and videos that they name."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from percept.core.errors import PerceptError, missing_extra
from percept.core.io import reasons
from percept.eval.vlm.item import Version

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Files of a task."""

    data: Path
    """File with the questions or captions."""
    media: Path
    """Folder of the images or videos."""
    version: Version = "fixed"
    frames: int = 32
    """Frames that the model sees of a video with regions."""


def read_data(path: Path) -> Any:
    """Return the content of a json file of any size.

    Raises:
        PerceptError: it cannot be read, or is not json.
    """
    _check(path)
    with reasons(path):
        return json.loads(path.read_bytes())


def rows_of(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a name and the fields of each row of a .jsonl, .json (a list, an object with a list in `data`, or lines) or .parquet file.

    Raises:
        PerceptError: it cannot be read, or a row is not a json object.
    """
    _check(path)
    if path.suffix == ".parquet":
        rows = _parquet(path)
    elif path.suffix == ".jsonl" or _has_lines(path):
        rows = _lines(path)
    else:
        value = read_data(path)
        rows = iter(value if isinstance(value, list) else field({"data": value.get("data")}, "data", list, str(path)))
    for number, row in enumerate(rows, start=1):
        name = f"{path.name}:{number}"
        if not isinstance(row, Mapping):
            raise PerceptError(f"{name} is {type(row).__name__}, not a json object. Check the file.")
        yield name, row


def _has_lines(path: Path) -> bool:
    """Return True if the first line is a json object alone, as in the files of POPE, which end in .json."""
    with path.open("rb") as file:
        first, second = file.readline(), file.readline()
    try:
        return bool(second.strip()) and isinstance(json.loads(first), dict)
    except ValueError:
        return False


def _lines(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise PerceptError(f"line {number} of {path} is not json: {error}. Check the file.") from None


def _parquet(path: Path) -> Iterator[Any]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise missing_extra("pyarrow", "data", "reading Parquet files") from None
    with reasons(path):
        for batch in parquet.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()


def _check(path: Path) -> None:
    if not path.is_file():
        raise PerceptError(f"there is no file {path}. Give the file of the task with --data.")


def field(row: Mapping[str, Any], name: str, kind: type[Value], where: str) -> Value:
    """Return a field of a row.

    Raises:
        PerceptError: it is missing or has a different type.
    """
    value = row.get(name)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)  # type: ignore[return-value]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        found = "is missing" if name not in row or value is None else f"is {str(value)[:60]!r}"
        raise PerceptError(f"{where}: the field {name!r} {found}. It should be a {kind.__name__}; check the layout.")
    return value


def texts(row: Mapping[str, Any], name: str, where: str) -> list[str]:
    """Return a field that is a text, or a list of texts or of objects with a text in `answer`.

    Raises:
        PerceptError: it is something else, or empty.
    """
    value = row.get(name)
    entries = value if isinstance(value, list) else [value]
    found = [entry.get("answer") if isinstance(entry, Mapping) else entry for entry in entries]
    if not found or not all(isinstance(entry, str) for entry in found):
        raise PerceptError(f"{where}: the field {name!r} has no answers. It should be a text or a list of texts.")
    return list(map(str, found))


def media_file(place: Place, where: str, names: Sequence[str], kind: str = "image") -> Path:
    """Return the first of several possible files of an image or video.

    Raises:
        PerceptError: there is none of them; the message says which was looked for.
    """
    for name in names:
        path = place.media / name
        if path.is_file():
            return path
    listed = " or ".join(str(place.media / name) for name in names)
    raise PerceptError(f"{where}: the {kind} {listed} is missing. Give the folder of the {kind}s with --media.")


def counted(rows: Sequence[Value], one: Callable[[Value], Any]) -> dict[Any, list[Value]]:
    """Return rows by the value of a function, in order."""
    result: dict[Any, list[Value]] = {}
    for row in rows:
        result.setdefault(one(row), []).append(row)
    return result
