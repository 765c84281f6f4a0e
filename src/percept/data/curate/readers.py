"""Rows of json lines, tables, Parquet and Arrow files, tar shards and folders of images, as they are, with their places."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from percept.core.errors import missing_extra
from percept.core.io import reasons
from percept.data.curate.documents import is_document, rows_of
from percept.data.sources.arrow import stored_batches
from percept.data.sources.sample import BadSample
from percept.data.sources.tables import Table

EXAMPLES = 5
"""Bad rows that a report names, per reason."""


Record = dict[str, Any]


@dataclass
class BadRows:
    """Rows that could not be read, counted by reason, with a few examples."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    missing: int = 0
    """Rows that were read and whose image is a path at which there is no file."""

    def add(self, reason: str, where: str) -> None:
        """Count one row."""
        self.counts[reason] += 1
        listed = self.examples.setdefault(reason, [])
        if len(listed) < EXAMPLES:
            listed.append(where)


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


def _arrow(file: Path, bad: BadRows) -> Located:
    first = 0
    arrow()
    with reasons(file):
        _, batches = stored_batches(file)
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


def _samples(file: Path, bad: BadRows) -> Located:
    """Yield the samples of a shard or of a folder of images, with their names as keys. A column `other_images` has all but the first."""
    from percept.data.sources.open import open_rows

    rows = open_rows(file)
    for number in range(len(rows)):
        where = rows.key(number)
        try:
            sample = rows.read(number)
        except BadSample as error:
            bad.add(f"the row cannot be read: {error.reason}", where)
            continue
        images = [os.path.relpath(image, file.parent) if isinstance(image, Path) else image for image in sample.images]
        texts = {name: texts[0] if len(texts) == 1 else list(texts) for name, texts in sample.captions.items()}
        more = {"other_images": images[1:]} if images[1:] else {}
        yield where, {**texts, **sample.record, "key": where, "image": images[0] if images else None, **more}


READERS: dict[str, Callable[[Path, BadRows], Located]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _table,
    ".tsv": _table,
    ".parquet": _arrow,
    ".pq": _arrow,
    ".arrow": _arrow,
    ".feather": _arrow,
    ".tar": _samples,
}
"""Reader by the ending of a file."""


def read_file(file: Path, bad: BadRows) -> Located:
    """Yield the rows of a file, or the images of a folder with the texts of the same names; bad ones are counted."""
    return (_samples if file.is_dir() else READERS[file.suffix.lower()])(file, bad)
