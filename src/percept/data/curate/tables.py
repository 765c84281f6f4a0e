"""Read json lines, csv, tsv and parquet in chunks of rows whose keys, captions and images have fixed names."""

import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError, missing_extra
from percept.core.io import reasons
from percept.data.curate.documents import is_document, rows_of
from percept.data.sources.sample import BadSample
from percept.data.sources.tables import Table

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
CAPTION = "caption"
"""Column of the result with the first caption; a list of all is written as well where a row has several."""
RESULT = (KEY, TEXTS, IMAGE, CAPTION)
LOOK = 1000
"""Rows of a file that are read before it is refused for columns that none of them has."""
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
        inside = (path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
        files = sorted(path for path in inside if path.suffix.lower() in SUFFIXES)
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
        seen: dict[str, None] = {}
        for place, (where, record) in enumerate(READERS[file.suffix.lower()](file, bad)):
            if place < LOOK:
                seen |= dict.fromkeys(map(str, record))
            if place == LOOK - 1:
                check_columns(columns, seen, file)
            try:
                rows.append(normalised(record, resolve(columns, tuple(record)), number, file.parent, out))
                size += len(rows[-1][IMAGE]) if isinstance(rows[-1][IMAGE], bytes) else 0
            except BadRowError as error:
                bad.add(str(error), where)
            number += 1
            if len(rows) >= CHUNK_ROWS or size >= CHUNK_BYTES:
                yield as_table(rows)
                rows, size = [], 0
        if seen:
            check_columns(columns, seen, file)
    if rows:
        yield as_table(rows)


def check_columns(columns: Columns, known: Collection[str], file: Path) -> None:
    """Check that a file has the columns that were named, and one with captions.

    Raises:
        PerceptError: it has not.
    """
    for what, chosen in (("caption", columns.text), ("key", columns.key), ("image", columns.image)):
        if chosen is not None and chosen not in known:
            raise PerceptError(f"{file} has no column {chosen!r} for the {what}. It has: {', '.join(known)}.")
    if columns.text is None and not any(name in known for name in TEXT_NAMES):
        raise PerceptError(f"{file} has no caption column among its columns {', '.join(known)}. Name it with --text.")


@lru_cache
def resolve(columns: Columns, present: tuple[str, ...]) -> Columns:
    """Return the names of the columns of a row; those of json lines may differ from row to row.

    >>> resolve(Columns(), ("url", "text")).text
    'text'
    """

    def pick(chosen: str | None, usual: tuple[str, ...]) -> str | None:
        return next((name for name in (usual if chosen is None else (chosen,)) if name in present), None)

    return Columns(
        key=pick(columns.key, KEY_NAMES), text=pick(columns.text, TEXT_NAMES), image=pick(columns.image, IMAGE_NAMES)
    )


def normalised(record: Mapping[str, Any], names: Columns, number: int, folder: Path, out: Path) -> Record:
    """Return a row with the columns KEY, TEXTS and IMAGE, and all other columns unchanged.

    A column that is not used and has the name of one of the result gets the name `source_NAME`.

    Raises:
        BadRowError: there is no caption, it is not a text, or the image is neither a path nor bytes.
    """
    if names.text is None:
        raise BadRowError("there is no caption")
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
    rest = {name: value for name, value in record.items() if name not in used}
    return row | {f"source_{name}" if name in RESULT else name: value for name, value in rest.items()}


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
        array = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        array = None
    if array is None or _has_empty_struct(array.type):  # which parquet cannot hold
        array = pa.array([json.dumps(value, ensure_ascii=False, sort_keys=True, default=str) for value in values])
    return array


def _has_empty_struct(kind: Any) -> bool:
    inner = [kind.field(number).type for number in range(kind.num_fields)]
    return (str(kind).startswith("struct") and not inner) or any(map(_has_empty_struct, inner))


Located = Iterator[tuple[str, Record]]
"""Rows of one file with their places, for messages."""


def _json_lines(file: Path, bad: BadRows) -> Located:
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
                yield from _pages(where, whole_letters(record) if b"\\ud" in line.lower() else record)
            else:
                bad.add("the line is not a json object", where)


def whole_letters(value: Any) -> Any:
    """Return a json value in which halves of surrogate pairs, which no file can hold, are replaced by U+FFFD.

    >>> whole_letters({"caption": ["a \\ud83d cup"]})["caption"][0] == "a \\ufffd cup"
    True
    """
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {whole_letters(name): whole_letters(each) for name, each in value.items()}
    return [whole_letters(each) for each in value] if isinstance(value, list) else value


def _pages(where: str, record: Record) -> Located:
    """Yield the row itself, or the rows of an interleaved document."""
    if is_document(record):
        yield from ((f"{where}#{number}", row) for number, row in enumerate(rows_of(record, where)))
    else:
        yield where, record


def _table(file: Path, bad: BadRows) -> Located:
    table = Table.open(file, file.name)
    spans = table.index.arrays(file.name)
    with file.open("rb") as stream:
        for number, (start, stop) in enumerate(zip(spans["start"][1:], spans["stop"][1:], strict=True), start=1):
            where = f"{file.name}:{number}"
            stream.seek(start)
            try:
                yield where, table.record(stream.read(stop - start), where)
            except BadSample as error:
                bad.add(f"the row cannot be read: {error.reason}", where)


def _parquet(file: Path, bad: BadRows) -> Located:
    first = 0
    with reasons(file):
        stored = arrow().parquet.ParquetFile(file)
        batches = stored.iter_batches(batch_size=1024)
    while True:
        with reasons(file):
            batch = next(batches, None)
        if batch is None:
            return
        for number, record in enumerate(_records(batch, file.name, first, bad), start=first):
            if record is not None:
                yield from _pages(f"{file.name}:{number}", record)
        first += len(batch)


def _records(batch: Any, name: str, first: int, bad: BadRows) -> list[Record | None]:
    """Return the rows of a batch; None for those with a value that cannot be decoded, such as a time beyond the year 9999."""
    try:
        return batch.to_pylist()
    except (ValueError, OverflowError):
        pass
    records: list[Record | None] = []
    for number in range(len(batch)):
        try:
            records += batch.slice(number, 1).to_pylist()
        except (ValueError, OverflowError):
            bad.add("the row cannot be decoded", f"{name}:{first + number}")
            records.append(None)
    return records


READERS: dict[str, Callable[[Path, BadRows], Located]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _table,
    ".tsv": _table,
    ".parquet": _parquet,
}
