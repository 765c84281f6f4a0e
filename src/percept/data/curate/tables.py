"""Read json lines, csv, tsv and parquet in chunks of rows whose keys, captions and images have fixed names."""

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError, missing_extra
from percept.data.curate.documents import is_document, rows_of

CHUNK_ROWS, CHUNK_BYTES = 8192, 64 << 20
"""A chunk ends at this number of rows, or when the images inside its rows take this many bytes."""
KEY, TEXTS, IMAGE = "key", "captions", "image"
"""Names of the columns that every chunk has: a string, a list of strings, and a path, the bytes of a file or null."""
KEY_NAMES = ("key", "__key__", "id", "uid", "uuid", "image_id")
TEXT_NAMES = ("captions", "caption", "texts", "text", "txt", "alt_text", "short_caption", "title")
IMAGE_NAMES = (
    "image",
    "images",
    "image_path",
    "path",
    "filename",
    "file",
    "file_name",
    "filepath",
    "jpg",
    "png",
    "url",
)
SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
EXAMPLES = 5
"""Bad rows that a report names, per reason."""

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of the columns of the source; by default the first that exists of the usual names."""

    key: str | None = None
    """Column with a unique name of each row. Default: the row's number."""
    text: str | None = None
    """Column with a caption or a list of captions."""
    image: str | None = None
    """Column with the path of an image, relative to the source's folder, or the bytes of its file."""


@dataclass
class BadRows:
    """Rows that could not be read, counted by reason, with a few examples."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, where: str) -> None:
        """Count one row."""
        self.counts[reason] += 1
        listed = self.examples.setdefault(reason, [])
        if len(listed) < EXAMPLES:
            listed.append(where)


class BadRowError(Exception):
    """A row cannot be used; the message is the reason."""


def arrow() -> Any:
    """Import pyarrow with its parquet module.

    Raises:
        PerceptError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise missing_extra("pyarrow", "data", "curating data") from None
    return pyarrow


def source_files(source: Path) -> list[Path]:
    """Return the files of a source: the file itself, or all files of known kinds in a folder, sorted by name.

    Raises:
        PerceptError: there are none.
    """
    if source.is_dir():
        files = sorted(path for path in source.iterdir() if path.suffix.lower() in SUFFIXES)
    elif source.is_file():
        files = [source]
    else:
        raise PerceptError(f"there is no file or folder {source}.")
    if not files or files[0].suffix.lower() not in SUFFIXES:
        raise PerceptError(f"{source} holds no rows that can be read. Give a file or folder of {' '.join(SUFFIXES)}.")
    return files


def read_chunks(files: list[Path], columns: Columns, out: Path, bad: BadRows) -> Iterator[Any]:
    """Yield Arrow tables of at most `CHUNK_ROWS` rows; bad rows are left out and counted.

    Args:
        files: files of the source, in order.
        columns: where keys, captions and images are.
        out: folder of the result; relative paths of images are made relative to it.
        bad: receives the rows that cannot be used.
    """
    rows: list[Record] = []
    size = number = 0
    for file in files:
        read = READERS[file.suffix.lower()](file, bad)
        for group in read:
            names: Columns | None = None
            for where, record in group:
                names = names or resolve(columns, record, file)
                try:
                    rows.append(normalised(record, names, number, file.parent, out))
                except BadRowError as error:
                    bad.add(str(error), where)
                number += 1
                size += len(rows[-1][IMAGE]) if rows and isinstance(rows[-1][IMAGE], bytes) else 0
                if len(rows) >= CHUNK_ROWS or size >= CHUNK_BYTES:
                    yield as_table(rows)
                    rows, size = [], 0
    if rows:
        yield as_table(rows)


def resolve(columns: Columns, record: Mapping[str, Any], file: Path) -> Columns:
    """Return the names of the columns of a file.

    Raises:
        PerceptError: a column that was named, or every usual caption column, does not exist.
    """
    known = ", ".join(map(str, record))

    def pick(chosen: str | None, usual: tuple[str, ...], what: str) -> str | None:
        if chosen is not None and chosen not in record:
            raise PerceptError(f"{file} has no column {chosen!r} for the {what}. It has: {known}.")
        return chosen or next((name for name in usual if name in record), None)

    text = pick(columns.text, TEXT_NAMES, "caption")
    if text is None:
        raise PerceptError(f"{file} has no caption column among its columns {known}. Name it with --text.")
    return Columns(key=pick(columns.key, KEY_NAMES, "key"), text=text, image=pick(columns.image, IMAGE_NAMES, "image"))


def normalised(record: Mapping[str, Any], names: Columns, number: int, folder: Path, out: Path) -> Record:
    """Return a row with the columns KEY, TEXTS and IMAGE, and all other columns unchanged.

    Raises:
        BadRowError: the captions are not texts, or the image is neither a path nor bytes.
    """
    assert names.text is not None
    key = record.get(names.key) if names.key else None
    image = record.get(names.image) if names.image else None
    if isinstance(image, list) and len(image) == 1:
        image = image[0]
    if isinstance(image, dict):  # a Hugging Face image: {"bytes": ..., "path": ...}
        image = image.get("bytes") or image.get("path")
    if not isinstance(image, str | bytes | None):
        raise BadRowError(f"the image is neither a path nor bytes but {type(image).__name__}")
    row: Record = {
        KEY: f"{number:09d}" if key is None else str(key),
        TEXTS: texts_of(record.get(names.text)),
        IMAGE: relative(image, folder, out) if isinstance(image, str) else image,
    }
    used = {names.key, names.text, names.image}
    return row | {name: value for name, value in record.items() if name not in used and name not in row}


def texts_of(value: Any) -> list[str]:
    """Return the captions in a value: a text or a list of texts.

    Raises:
        BadRowError: it is neither, or there is no text.
    """
    texts = [value] if isinstance(value, str) else value
    if texts is None or texts == [] or texts == [""]:
        raise BadRowError("there is no caption")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadRowError("the caption is neither a text nor a list of texts")
    return texts


def relative(image: str, folder: Path, out: Path) -> str:
    """Return the path of an image for a reader in the folder `out`; absolute paths and addresses stay."""
    if "://" in image or os.path.isabs(image):
        return image
    return os.path.relpath(folder / image, out).replace(os.sep, "/")


def as_table(rows: list[Record]) -> Any:
    """Return an Arrow table; a column whose values differ in type becomes json."""
    pa = arrow()
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({str(name): _column([row.get(name) for row in rows], name) for name in names})


def _column(values: list[Any], name: str) -> Any:
    pa = arrow()
    if name == TEXTS:
        return pa.array(values, pa.list_(pa.string()))
    kinds = {type(value) for value in values if value is not None}
    if bytes in kinds and len(kinds) > 1:
        raise PerceptError(f"column {name!r} has both bytes and other values. Use one kind for all rows.")
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return pa.array([json.dumps(value, ensure_ascii=False, sort_keys=True) for value in values])


Group = Iterator[tuple[str, Record]]
"""Rows of one file with their places, for messages."""


def _json_lines(file: Path, bad: BadRows) -> Iterator[Group]:
    def rows() -> Group:
        with file.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                where = f"{file.name}:{number}"
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    if line.strip():
                        bad.add("the line is not json", where)
                    continue
                if isinstance(record, dict):
                    yield from _pages(where, record)
                else:
                    bad.add("the line is not a json object", where)

    yield rows()


def _pages(where: str, record: Record) -> Group:
    """Yield the row itself, or the rows of an interleaved document."""
    if is_document(record):
        yield from ((f"{where}#{number}", row) for number, row in enumerate(rows_of(record, where)))
    else:
        yield where, record


def _delimited(delimiter: str) -> Callable[[Path, BadRows], Iterator[Group]]:
    def read(file: Path, bad: BadRows) -> Iterator[Group]:
        def rows() -> Group:
            csv.field_size_limit(1 << 28)
            with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
                reader = csv.reader((line.replace("\0", "") for line in stream), delimiter=delimiter)
                names = next(reader, [])
                for values in reader:
                    where = f"{file.name}:{reader.line_num}"
                    if len(values) == len(names):
                        yield where, dict(zip(names, values, strict=True))
                    elif values:
                        bad.add("the row has a wrong number of fields", where)

        yield rows()

    return read


def _parquet(file: Path, bad: BadRows) -> Iterator[Group]:
    from percept.core.io import reasons

    def rows() -> Group:
        first = 0
        with reasons(file):
            stored = arrow().parquet.ParquetFile(file)
        for batch in stored.iter_batches(batch_size=1024):
            for number, record in enumerate(batch.to_pylist(), start=first):
                yield from _pages(f"{file.name}:{number}", record)
            first += len(batch)

    yield rows()


READERS: dict[str, Callable[[Path, BadRows], Iterator[Group]]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _delimited(","),
    ".tsv": _delimited("\t"),
    ".parquet": _parquet,
}
