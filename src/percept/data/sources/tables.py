"""Rows of comma- and tab-separated tables with a line of column names, in files of any size."""

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

from percept.core.errors import PerceptError
from percept.data.sources.fields import KNOWN, Fields
from percept.data.sources.index import Index, line_at, read_span
from percept.data.sources.sample import BadSample, Sample, check_index
from percept.data.sources.scan import delimiter_of, is_open, line_spans, record_spans

csv.field_size_limit(sys.maxsize)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table's columns, and where its rows are."""

    index: Index
    columns: tuple[str, ...]
    delimiter: str
    count: int
    """Rows below the column names."""

    @classmethod
    def open(cls, file: Path, name: str) -> "Table":
        """Find the rows of a file; `name` is what messages call it.

        Raises:
            PerceptError: it cannot be read, is empty, or has two columns of one name.
        """
        delimiter = delimiter_of(file)
        kind, scan = ("lines", line_spans) if delimiter == "\t" else ("records", record_spans)
        index = Index.of(file, kind, scan)
        spans = index.arrays(name)
        if not len(spans["start"]):
            raise PerceptError(f"{file} is empty. A table begins with a line of column names.")
        first = read_span(file, int(spans["start"][0]), int(spans["stop"][0]))
        columns = tuple(_cells(first, delimiter, name))
        if len(set(columns)) < len(columns):
            raise PerceptError(f"{file} has two columns of one name: {', '.join(columns)}. Rename one.")
        return cls(index=index, columns=columns, delimiter=delimiter, count=len(spans["start"]) - 1)

    def record(self, data: bytes, key: str) -> dict[str, str]:
        """Return the cells of a row by the names of their columns.

        Raises:
            BadSample: it is not UTF-8, has an open quotation mark, or has more or fewer cells than there are columns.
        """
        cells = _cells(data, self.delimiter, key)
        if len(cells) != len(self.columns):
            raise BadSample("wrong number of cells", key, f"{len(cells)} cells in {len(self.columns)} columns")
        return dict(zip(self.columns, cells, strict=True))


@dataclass(frozen=True, kw_only=True)
class TableRows:
    """The rows of one table below its line of column names."""

    name: str
    table: Table
    fields: Fields

    @classmethod
    def open(cls, file: Path, name: str, fields: Fields) -> "TableRows":
        """Find the rows of a file.

        Raises:
            PerceptError: it cannot be read, is empty, or has no column for images or videos.
        """
        table = Table.open(file, name)
        _check_columns(file, table.columns, fields)
        return cls(name=name, table=table, fields=fields)

    def __len__(self) -> int:
        return self.table.count

    def key(self, index: int) -> str:
        """Return the file and the number of the row below the column names, counted from 1."""
        return f"{self.name}:{index + 1}"

    def where(self, index: int) -> str:
        """Return the file and the line in which the row begins, for messages."""
        return line_at(self.name, self.table.index, index + 1)

    def read(self, index: int) -> Sample:
        """Read a row.

        Raises:
            BadSample: see `Table.record`.
        """
        check_index(self, index)
        key = self.key(index)
        spans, file = self.table.index.arrays(key), self.table.index.file
        data = read_span(file, int(spans["start"][index + 1]), int(spans["stop"][index + 1]))
        return self.fields.sample(key, self.table.record(data, key))


def _cells(data: bytes, delimiter: str, key: str) -> list[str]:
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError:
        raise BadSample("not UTF-8", key) from None
    if delimiter != "\t" and is_open(data, delimiter):
        raise BadSample("quote not closed", key, text.strip()[:60])
    try:
        return next(csv.reader(text.rstrip("\r\n").splitlines(keepends=True), delimiter=delimiter), [])
    except csv.Error as error:
        raise BadSample("wrong number of cells", key, str(error)) from None


def _check_columns(file: Path, columns: tuple[str, ...], fields: Fields) -> None:
    present = dict.fromkeys(columns)
    if fields.image_in(present) is None and fields.video_in(present) is None:
        asked = [name for name in (fields.image, fields.video) if name is not None]
        raise PerceptError(
            f"{file} has the columns {', '.join(columns)}, but no {' or '.join(map(repr, asked)) or 'usual name for images or videos'}. "
            + ("Name the column with image= or video=." if asked else f"Rename the column. {KNOWN}")
        )
