"""Where the rows of a text file begin and end, found in one pass of constant memory over files of any size."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int, UInt8

from percept.core.errors import PerceptError
from percept.data.sources.index import Arrays, read_span

CHUNK = 16 << 20
"""Bytes looked at together."""
QUOTE, BACKSLASH, NEWLINE = b'"'[0], b"\\"[0], b"\n"[0]
KINDS = np.zeros(256, np.int8)
KINDS[list(b"[{")], KINDS[list(b"]}")], KINDS[list(b",")] = 1, -1, 2
"""What a character of json outside of strings does: it opens or closes a level, or separates elements."""
OPENS, CLOSES, SEPARATES = 1, -1, 2

Places = Int[np.ndarray, " k"]


def line_spans(file: Path) -> Arrays:
    """Return start and stop of every line that is not empty."""
    return _spans(file, quoted=False)


def record_spans(file: Path) -> Arrays:
    """Return start and stop of every record of a comma-separated file, where a quoted field may hold line breaks."""
    return _spans(file, quoted=True)


def _spans(file: Path, *, quoted: bool) -> Arrays:
    with file.open("rb") as opened:
        ends = np.concatenate([np.zeros(1, np.int64), *_ends(opened, quoted=quoted)])
    if ends[-1] < (size := file.stat().st_size):
        ends = np.append(ends, size)
    start, stop = ends[:-1], ends[1:]
    short = np.flatnonzero(stop - start <= 2)  # perhaps only a line break
    if len(short):
        data = np.memmap(file, np.uint8, "r")
        empty = short[np.isin(data[start[short]], list(b"\r\n "))]
        start, stop = np.delete(start, empty), np.delete(stop, empty)
    return {"start": start, "stop": stop}


def _ends(file: BinaryIO, *, quoted: bool) -> Iterator[Places]:
    """Yield the places after line breaks; inside of quotes they do not count."""
    at, inside = 0, 0
    while data := file.read(CHUNK):
        chunk = np.frombuffer(data, np.uint8)
        breaks = np.flatnonzero(chunk == NEWLINE)
        if quoted:
            quotes = np.flatnonzero(chunk == QUOTE)
            breaks = breaks[(np.searchsorted(quotes, breaks) + inside) % 2 == 0]
            inside = (inside + len(quotes)) % 2
        yield breaks + at + 1
        at += len(chunk)


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
