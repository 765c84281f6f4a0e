"""Where the rows of a text file begin and end, found in one pass over files of any size."""

import re
from array import array
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int, UInt8

from percept.core.errors import PerceptError
from percept.core.io import reasons
from percept.data.sources.index import Arrays, read_span

CHUNK = 16 << 20
"""Bytes looked at together."""
QUOTE, BACKSLASH, NEWLINE = b'"'[0], b"\\"[0], b"\n"[0]
KINDS = np.zeros(256, np.int8)
KINDS[list(b"[{")], KINDS[list(b"]}")], KINDS[list(b",")] = 1, -1, 2
"""What a character of json outside of strings does: it opens or closes a level, or separates elements."""
DELIMITERS = "\t,;|"
MOST_OPEN = 16
"""Quotation marks of a table that are never closed, after which no mark counts any more."""
OPENS, CLOSES, SEPARATES = 1, -1, 2

Places = Int[np.ndarray, " k"]


def line_spans(file: Path) -> Arrays:
    """Return start and stop of every line that is not empty."""
    return _spans(file)


def record_spans(file: Path) -> Arrays:
    """Return start and stop of every record of a table, where a quoted cell may hold line breaks.

    A quotation mark counts only at the beginning of a cell. One that is never closed ends with its line.
    """
    with file.open("rb") as opened:
        return _without_empty(file, np.frombuffer(_record_ends(opened, delimiter_of(file)), np.int64))


def delimiter_of(file: Path) -> str:
    """Return the character that separates the cells of a table: the most frequent one of its first line; a tab in .tsv.

    Raises:
        PerceptError: it cannot be read.
    """
    if file.suffix.lower() == ".tsv":
        return "\t"
    with reasons(file), file.open("rb") as opened:
        first = next((line for line in opened if line.strip()), b"").decode("utf-8", errors="replace")
    return max(DELIMITERS, key=lambda delimiter: (first.count(delimiter), delimiter == ","))


def _record_ends(file: BinaryIO, delimiter: str) -> "array[int]":
    """Return 0 and the places after the records."""
    ends, at, after_first, retries = array("q", [0]), 0, 0, 0
    inside = False
    while True:
        for line in file:
            at += len(line)
            if inside or b'"' in line:
                inside, was = is_open(line, delimiter, inside=inside), inside
                after_first = at if inside and not was else after_first
            if not inside:
                ends.append(at)
        if not inside:
            return ends
        ends.append(after_first)  # a mark that is never closed: go on below its line
        inside, at, retries = False, after_first, retries + 1
        file.seek(at)
        if retries > MOST_OPEN:
            ends.extend(at := at + len(line) for line in file)
            return ends


def is_open(line: bytes, delimiter: str, *, inside: bool = False) -> bool:
    """True if a line ends within quotes; `inside` if it begins within quotes.

    >>> is_open(b'a,5" nail', ","), is_open(b'a,"one', ","), is_open(b'two",b', ",", inside=True)
    (False, True, False)
    """
    begin, whole = _line_patterns(delimiter)
    if inside:
        match = begin.match(line)
        if match is None:
            return True
        line = line[match.end() :]
    return whole.fullmatch(line.rstrip(b"\r\n")) is None


@lru_cache
def _line_patterns(delimiter: str) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Return a pattern for the end of a quoted cell with its delimiter, and one for cells without an open quote."""
    mark = re.escape(delimiter.encode())
    end = rb'(?:[^"]|"")*+"[^%b]*+' % mark
    cell = rb'(?:"%b|(?!")[^%b]*+)' % (end, mark)
    return re.compile(rb"%b(?:%b|\Z)" % (end, mark)), re.compile(rb"(?:%b%b)*+%b" % (cell, mark, cell))


def _spans(file: Path) -> Arrays:
    with file.open("rb") as opened:
        ends = np.concatenate([np.zeros(1, np.int64), *_ends(opened)])
    if ends[-1] < (size := file.stat().st_size):
        ends = np.append(ends, size)
    return _without_empty(file, ends)


def _without_empty(file: Path, ends: Places) -> Arrays:
    """Return start and stop of the lines between places, without empty lines."""
    start, stop = ends[:-1], ends[1:]
    short = np.flatnonzero(stop - start <= 2)  # perhaps only a line break
    if len(short):
        data = np.memmap(file, np.uint8, "r")
        empty = short[np.isin(data[start[short]], list(b"\r\n "))]
        start, stop = np.delete(start, empty), np.delete(stop, empty)
    return {"start": start, "stop": stop}


def _ends(file: BinaryIO) -> Iterator[Places]:
    """Yield the places after line breaks."""
    at = 0
    while data := file.read(CHUNK):
        yield np.flatnonzero(np.frombuffer(data, np.uint8) == NEWLINE) + at + 1
        at += len(data)


def element_spans(file: Path) -> Arrays:
    """Return start and stop of every element of the json list that a file holds.

    Raises:
        PerceptError: something follows the list.
    """
    starts, stops, at, depth, inside, lists = [], [], 0, 0, 0, 0
    with file.open("rb") as opened:
        while data := _chunk(opened):
            chunk = np.frombuffer(data, np.uint8)
            quotes = _unescaped(chunk, np.flatnonzero(chunk == QUOTE))
            places = np.flatnonzero(KINDS[chunk])
            places = places[(np.searchsorted(quotes, places) + inside) % 2 == 0]
            kinds = KINDS[chunk[places]]
            depths = depth + np.cumsum(np.where(kinds == SEPARATES, 0, kinds))
            begins = ((kinds == OPENS) & (depths == 1)) | ((kinds == SEPARATES) & (depths == 1))
            finishes = ((kinds == CLOSES) & (depths == 0)) | ((kinds == SEPARATES) & (depths == 1))
            lists += int(((kinds == OPENS) & (depths == 1)).sum())
            starts.append(places[begins] + at + 1)
            stops.append(places[finishes] + at)
            at, inside = at + len(chunk), (inside + len(quotes)) % 2
            depth = int(depths[-1]) if len(depths) else depth
    start, stop = np.concatenate(starts), np.concatenate(stops)
    if len(stop) < len(start):  # the file was cut: its last element ends where the file does
        stop = np.append(stop, at)
    if lists > 1:
        raise PerceptError(
            f"{file} holds more than one json list. Write one object on each line, in a file ending in .jsonl."
        )
    if len(start) == 1 and not read_span(file, int(start[0]), int(stop[0])).strip():
        start = stop = start[:0]
    return {"start": start, "stop": stop}


def _chunk(file: BinaryIO) -> bytes:
    """Read some bytes that do not end between a backslash and what it escapes."""
    data = file.read(CHUNK)
    while data.endswith(b"\\") and (more := file.read(1)):
        data += more
    return data


def _unescaped(chunk: UInt8[np.ndarray, " n"], quotes: Places) -> Int[np.ndarray, " q"]:
    """Return the quotes before which the number of backslashes is even."""
    count, before = np.zeros_like(quotes), quotes - 1
    while (active := (before >= 0) & (chunk[before] == BACKSLASH)).any():
        count[active] += 1
        before = np.where(active, before - 1, -1)
    return quotes[count % 2 == 0]
