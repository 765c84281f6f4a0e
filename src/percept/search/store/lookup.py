"""Reading pieces by number, and finding those that pass a filter."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Int64

from percept.core.errors import PerceptError, unknown_name
from percept.search.store.database import stored_path
from percept.search.store.records import KINDS, Filter, Piece

T = TypeVar("T")

AT_ONCE = 500
"""Values in one query."""

PIECES = """
SELECT piece.id, content.id, hash, kind, width, height, start, stop, seconds, taken
FROM piece JOIN content ON content.id = piece.content WHERE piece.id IN ({})
"""
SIDES = {"min_side": "min(content.width, content.height) >= ?", "max_side": "max(content.width, content.height) <= ?"}
TIME = "coalesce(content.taken, file.modified / 1e9)"


def chunks(values: Sequence[T], size: int = AT_ONCE) -> Iterator[Sequence[T]]:
    """Yield parts of at most `size` values."""
    return (values[first : first + size] for first in range(0, len(values), size))


def marks(values: Sequence[object]) -> str:
    """Return a question mark per value, for a list in a query."""
    return ",".join("?" * len(values))


def read_pieces(connection: sqlite3.Connection, ids: Sequence[int]) -> list[Piece]:
    """Return pieces in the order of `ids`, without those that no longer exist."""
    found: dict[int, Piece] = {}
    for part in chunks(ids):
        rows = connection.execute(PIECES.format(marks(part)), part).fetchall()
        paths = _paths(connection, sorted({row[1] for row in rows}))
        for row in rows:
            found[row[0]] = _piece(row, paths.get(row[1], ()))
    return [found[id_] for id_ in ids if id_ in found]


def ids_of(connection: sqlite3.Connection, contents: Sequence[int]) -> list[int]:
    """Return the ids of the pieces of contents, by content and in the order of their spans."""
    query = f"SELECT id FROM piece WHERE content IN ({marks(contents)}) ORDER BY content, start"
    return [id_ for (id_,) in connection.execute(query, list(contents))]


def _piece(row: tuple, paths: tuple[Path, ...]) -> Piece:
    id_, content, hash_, kind, width, height, start, stop, seconds, taken = row
    return Piece(
        id=id_, content=content, hash=hash_, kind=kind, width=width, height=height, start=start, stop=stop,
        seconds=seconds, taken=taken, paths=paths,
    )  # fmt: skip


def _paths(connection: sqlite3.Connection, contents: Sequence[int]) -> dict[int, tuple[Path, ...]]:
    found: dict[int, tuple[Path, ...]] = {}
    query = f"SELECT content, path FROM file WHERE content IN ({marks(contents)}) ORDER BY path"
    for content, path in connection.execute(query, contents):
        found[content] = (*found.get(content, ()), Path(os.fsdecode(path)))
    return found


def passing(connection: sqlite3.Connection, condition: Filter) -> Int64[np.ndarray, " n"]:
    """Return the ids of the pieces that pass, ascending.

    Raises:
        PerceptError: an unknown kind, or an empty pattern.
    """
    terms, values = _terms(condition)
    rows = connection.execute(
        "SELECT DISTINCT piece.id FROM file JOIN content ON content.id = file.content "
        f"JOIN piece ON piece.content = content.id WHERE {' AND '.join(['1', *terms])} ORDER BY piece.id",
        values,
    )
    return np.fromiter((row[0] for row in rows), np.int64)


def _terms(condition: Filter) -> tuple[list[str], list[object]]:
    if condition.kind is not None and condition.kind not in KINDS:
        raise unknown_name("kind", condition.kind, KINDS)
    terms: list[str] = []
    values: list[object] = []

    def add(term: str, *given: object) -> None:
        terms.append(term)
        values.extend(given)

    match = "CAST(file.path AS TEXT) GLOB CAST(? AS TEXT)"
    if condition.include:
        add(f"({' OR '.join([match] * len(condition.include))})", *map(stored_pattern, condition.include))
    for pattern in condition.exclude:
        add(f"NOT {match}", stored_pattern(pattern))
    if condition.below:
        ranges = [below_range(Path(path)) for path in condition.below]
        add(f"({' OR '.join([BELOW] * len(ranges))})", *(value for part in ranges for value in part))
    if condition.kind is not None:
        add("content.kind = ?", condition.kind)
    if condition.after is not None:
        add(f"{TIME} >= ?", condition.after)
    if condition.before is not None:
        add(f"{TIME} < ?", condition.before)
    for name, term in SIDES.items():
        if getattr(condition, name) is not None:
            add(term, getattr(condition, name))
    return terms, values


BELOW = "(file.path = ? OR (file.path >= ? AND file.path < ?))"


def below_range(path: Path) -> tuple[bytes, bytes, bytes]:
    """Return a path, and the first and the excluded last value of the paths inside it.

    >>> below_range(Path("/a"))
    (b'/a', b'/a/', b'/a0')
    """
    whole = stored_path(path)
    stem = whole.rstrip(b"/")
    return whole, stem + b"/", stem + b"0"  # 0 follows / in ASCII


def stored_pattern(pattern: str) -> bytes:
    """Return a pattern of the shell as SQLite compares it with absolute paths.

    >>> stored_pattern("cats/[!a]*.jpg"), stored_pattern("/home/*")
    (b'*/cats/[^a]*.jpg', b'/home/*')

    Raises:
        PerceptError: it is empty.
    """
    if not pattern:
        raise PerceptError("an empty pattern matches nothing. Give a pattern such as '*.jpg' or 'holiday/*'.")
    anywhere = pattern if pattern.startswith(("/", "*")) else f"*/{pattern}"
    return os.fsencode(anywhere.replace("[!", "[^"))
