"""Rows of Arrow files, of Parquet files, and of data sets that Hugging Face `datasets` saved; they are mapped into memory.

Single rows of Parquet files, and of Arrow files whose batches are compressed, cannot be read: on first use an uncompressed copy
in Arrow's format is written to the cache.
"""

import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError, missing_extra
from percept.core.io import replacing
from percept.data.sources.fields import Fields
from percept.data.sources.index import Stamp, cache_home
from percept.data.sources.sample import BadSample, Sample, check_index

BATCH = 256
"""Rows of a batch in a converted file."""
PARQUET = (".parquet", ".pq")
OPEN = 64
"""Files that a process keeps mapped."""


@dataclass(frozen=True, kw_only=True)
class ArrowRows:
    """The rows of one Arrow or Parquet file."""

    name: str
    file: Path
    fields: Fields
    stamp: Stamp
    """The file when it was opened."""
    count: int

    @classmethod
    def open(cls, file: Path, name: str, fields: Fields) -> "ArrowRows":
        """Map a file, converting Parquet on first use.

        Raises:
            PerceptError: pyarrow is not installed, the file cannot be read, or it has no column for images, videos or
                conversations.
        """
        file, stamp = file.absolute(), Stamp.of(file)
        mapped = _mapped(file, stamp)
        found = replace(fields, classes=mapped.classes)
        return cls(name=name, file=file, fields=found, stamp=stamp, count=mapped.ends[-1] if mapped.ends else 0)

    def __len__(self) -> int:
        return self.count

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, where a column holds class numbers."""
        return next(iter((self.fields.classes or {}).values()), ())

    def key(self, index: int) -> str:
        """Return the file and the number of the row, counted from 1."""
        return f"{self.name}:{index + 1}"

    def where(self, index: int) -> str:
        """Return the file and the number of the row, for messages."""
        return f"{self.name}, row {index + 1}"

    def read(self, index: int) -> Sample:
        """Read a row.

        Raises:
            BadSample: a field of it has the wrong type or cannot be decoded, or the file has changed.
        """
        check_index(self, index)
        key = self.key(index)
        try:
            now = Stamp.of(self.file)
        except PerceptError as error:
            raise BadSample("missing file", key, str(error)) from None
        if now != self.stamp:
            raise BadSample("file changed", key, f"{self.file} was written while it was read; start again")
        try:
            record = _mapped(self.file, self.stamp).row(index)
        except UnicodeDecodeError:
            raise BadSample("not UTF-8", key) from None
        except (ValueError, OverflowError, OSError) as error:  # such as a time beyond the year 9999
            raise BadSample("cannot be decoded", key, str(error)) from None
        return self.fields.sample(key, record)


@dataclass(frozen=True)
class _Mapped:
    """An Arrow file in memory-mapped form."""

    batch: Callable[[int], Any]
    """Returns a batch by its number without copying it."""
    ends: list[int]
    """Rows up to the end of each batch."""
    classes: dict[str, tuple[str, ...]]

    def row(self, index: int) -> dict[str, Any]:
        number = bisect_right(self.ends, index)
        begin = self.ends[number - 1] if number else 0
        return self.batch(number).slice(index - begin, 1).to_pylist()[0]


@lru_cache(maxsize=OPEN)
def _mapped(file: Path, stamp: Stamp) -> _Mapped:
    arrow = pyarrow()
    try:
        if file.suffix.lower() in PARQUET or _is_compressed(file):
            file = _converted(file, stamp)
        reader = _reader(file)
        if hasattr(reader, "get_batch"):
            sizes = [reader.get_batch(number).num_rows for number in range(reader.num_record_batches)]
            batch = reader.get_batch
        else:
            batches = list(reader)
            sizes, batch = [each.num_rows for each in batches], batches.__getitem__
    except (arrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise PerceptError(f"{file} cannot be read: {reason}. It may be damaged or not what its ending says.") from None
    return _Mapped(batch, list(accumulate(sizes)), _classes(reader.schema.metadata or {}))


def _reader(file: Path) -> Any:
    """Map a file of either of Arrow's formats: with random access to its batches, or as a stream of them."""
    arrow = pyarrow()
    memory = arrow.memory_map(os.fspath(file))
    try:
        return arrow.ipc.open_file(memory)
    except arrow.ArrowInvalid:
        memory.seek(0)
        return arrow.ipc.open_stream(memory)


def _is_compressed(file: Path) -> bool:
    """True if reading a batch takes memory: the batches of an uncompressed file stay where they are mapped."""
    reader, before = _reader(file), pyarrow().total_allocated_bytes()
    batches = map(reader.get_batch, range(reader.num_record_batches)) if hasattr(reader, "get_batch") else reader
    first = next(iter(batches), None)
    return first is not None and pyarrow().total_allocated_bytes() - before > first.nbytes // 2


def _converted(file: Path, stamp: Stamp) -> Path:
    """Return an uncompressed copy of a file, written batch by batch unless it is there."""
    import pyarrow as arrow

    name = hashlib.blake2b(os.fsencode(file.resolve()), digest_size=12).hexdigest()
    copy = cache_home() / f"{name}-{stamp.size}-{stamp.modified}.arrow"
    if not copy.is_file():
        schema, batches = stored_batches(file)
        try:
            with replacing(copy) as temporary, arrow.ipc.new_file(os.fspath(temporary), schema) as out:
                for batch in batches:
                    out.write_batch(batch)
        except OSError as error:
            if error.errno is None:  # pyarrow's error for damaged data
                raise
            raise PerceptError(
                f"the uncompressed copy {copy} of {file} cannot be written: {error.strerror or error}. Free some space, or set "
                "PERCEPT_CACHE to a different folder."
            ) from None
        for old in cache_home().glob(f"{name}-*.arrow"):  # copies of what the file was before
            if old != copy:
                old.unlink(missing_ok=True)
    return copy


def stored_batches(file: Path) -> tuple[Any, Iterator[Any]]:
    """Return the schema of a file and its batches, one in memory at a time."""
    from pyarrow import parquet

    if file.suffix.lower() in PARQUET:
        table = parquet.ParquetFile(file)
        return table.schema_arrow, table.iter_batches(batch_size=BATCH)
    reader = _reader(file)
    if hasattr(reader, "get_batch"):
        return reader.schema, map(reader.get_batch, range(reader.num_record_batches))
    return reader.schema, iter(reader)


def _classes(metadata: dict[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Return the class names that Hugging Face `datasets` stores, by column."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"].items()
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
    known = {name: each for name, each in features if isinstance(each, dict)}
    return {name: tuple(each["names"]) for name, each in known.items() if each.get("_type") == "ClassLabel"}


def saved_files(folder: Path) -> list[Path] | None:
    """Return the Arrow files of a data set that `save_to_disk` wrote; None for other folders.

    Raises:
        PerceptError: the folder holds several splits.
    """
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(path.parent.name for path in folder.glob("*/state.json"))
        raise PerceptError(
            f"{folder} holds the splits {', '.join(splits)}. Name one: {folder / (splits or ['train'])[0]}"
        )
    if not (folder / "state.json").is_file():
        return None
    try:
        listed = json.loads((folder / "state.json").read_text(encoding="utf-8"))["_data_files"]
        return [folder / each["filename"] for each in listed]
    except (ValueError, KeyError, TypeError, OSError):
        raise PerceptError(
            f"{folder / 'state.json'} does not list the files of a data set. Save the data set again."
        ) from None


def pyarrow() -> Any:
    """Import the library.

    Raises:
        PerceptError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError:
        raise missing_extra("pyarrow", "data", "reading Arrow and Parquet files") from None
    return pyarrow
