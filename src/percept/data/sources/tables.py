"""Rows of comma- and tab-separated tables with a line of column names, in files of any size."""

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

from percept.core.errors import PerceptError
from percept.data.sources.fields import Fields
from percept.data.sources.index import Index, read_span
from percept.data.sources.sample import BadSample, Sample
from percept.data.sources.scan import line_spans, record_spans

DELIMITERS = "\t,;|"
csv.field_size_limit(sys.maxsize)


@dataclass(frozen=True, kw_only=True)
class TableRows:
    """The rows of one table below its line of column names."""

    name: str
    index: Index
    fields: Fields
    columns: tuple[str, ...]
    delimiter: str
    count: int

    @classmethod
    def open(cls, file: Path, name: str, fields: Fields) -> "TableRows":
        """Find the rows of a file. The character that separates columns is the most frequent one of its first line.

        Raises:
            PerceptError: it cannot be read, is empty, or has no column for images or videos.
        """
        delimiter = _delimiter(file)
        kind, scan = ("lines", line_spans) if delimiter == "\t" else ("records", record_spans)
        index = Index.of(file, kind, scan)
        spans = index.arrays(name)
        if not len(spans["start"]):
            raise PerceptError(f"{file} is empty. A table begins with a line of column names.")
        first = read_span(file, 0, int(spans["stop"][0]))
        columns = tuple(_cells(first, delimiter, name))
        if len(set(columns)) < len(columns):
            raise PerceptError(f"{file} has two columns of one name: {', '.join(columns)}. Rename one.")
        _check_columns(file, columns, fields)
        return cls(
            name=name, index=index, fields=fields, columns=columns, delimiter=delimiter, count=len(spans["start"]) - 1
        )

    def __len__(self) -> int:
        return self.count

    def key(self, index: int) -> str:
        """Return the file and the number of the row below the column names, counted from 1."""
        return f"{self.name}:{index + 1}"

    def read(self, index: int) -> Sample:
        """Read a row.

        Raises:
            BadSample: it is not UTF-8, or has more or fewer cells than there are columns.
        """
        key = self.key(index)
        spans = self.index.arrays(key)
        data = read_span(self.index.file, int(spans["start"][index + 1]), int(spans["stop"][index + 1]))
        cells = _cells(data, self.delimiter, key)
        if len(cells) != len(self.columns):
            raise BadSample("wrong number of cells", key, f"{len(cells)} cells in {len(self.columns)} columns")
        return self.fields.sample(key, dict(zip(self.columns, cells, strict=True)))


def _delimiter(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            first = opened.readline().decode("utf-8", errors="replace")
    except OSError as error:
        raise PerceptError(
            f"{file} cannot be read: {(error.strerror or str(error)).lower()}. Check the path."
        ) from None
    if file.suffix.lower() == ".tsv":
        return "\t"
    return max(DELIMITERS, key=lambda delimiter: (first.count(delimiter), delimiter == ","))


def _cells(data: bytes, delimiter: str, key: str) -> list[str]:
    try:
        text = data.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError:
        raise BadSample("not UTF-8", key) from None
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
            "Name the column with image= or video=."
        )
