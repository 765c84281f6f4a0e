"""Changing the model of an index: a second space of vectors, and pieces that move to it; each function within a transaction.

Ids of pieces grow and are never used twice. The pieces up to a number have their vectors in the old space, all later ones in the
current space: a content moves when its pieces are replaced by new ones, in one transaction with their vectors.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from percept.core.errors import PerceptError
from percept.search.contracts import Stamp
from percept.search.store.records import NewContent, Space
from percept.search.store.segments import append
from percept.search.store.tables import stamp_json
from percept.search.store.writes import content_id, insert_pieces

TABLE = """
CREATE TABLE IF NOT EXISTS bridge (                  -- how queries of the current model search an old space
    space INTEGER PRIMARY KEY REFERENCES space (id),
    last INTEGER NOT NULL,                           -- pieces up to this id have their vectors in that space
    data BLOB NOT NULL                               -- map and anchors, safetensors
)
"""


@dataclass(frozen=True, kw_only=True)
class Old:
    """A space whose contents are still to be encoded by the current model."""

    space: int
    last: int
    """Pieces up to this id belong to it."""
    data: bytes
    """The bridge to it, see `percept.search.bridge`."""


def read_old(connection: sqlite3.Connection) -> Old | None:
    """Return the old space of an index whose model is being changed."""
    if connection.execute("SELECT count(*) FROM space").fetchone()[0] < 2:
        return None
    row = connection.execute("SELECT space, last, data FROM bridge").fetchone()
    return None if row is None else Old(space=row[0], last=row[1], data=row[2])


def switch(connection: sqlite3.Connection, before: Space, stamp: Stamp, data: bytes) -> int:
    """Add a space for the vectors of another model and make it current; return its id.

    Raises:
        PerceptError: another process has changed the model in the meantime.
    """
    check_current(connection, before.id)
    connection.execute(TABLE)
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'piece'").fetchone()
    connection.execute("UPDATE space SET current = 0")
    added = connection.execute(
        "INSERT INTO space VALUES (NULL, ?, ?, ?, 1)", (stamp_json(stamp), stamp.image, stamp.dim)
    )
    connection.execute("INSERT INTO bridge VALUES (?, ?, ?)", (before.id, 0 if row is None else row[0], data))
    return int(added.lastrowid or 0)


def check_current(connection: sqlite3.Connection, space: int) -> None:
    """Refuse to write vectors where the current space is a different one than when the model was checked.

    Raises:
        PerceptError: it is a different one.
    """
    if connection.execute("SELECT id FROM space WHERE current").fetchone() != (space,):
        raise PerceptError("the model of this index was changed by another process. Run the command again.")


def remaining(connection: sqlite3.Connection, last: int) -> int:
    """Return the number of contents that still belong to the old space."""
    return connection.execute("SELECT count(DISTINCT content) FROM piece WHERE id <= ?", (last,)).fetchone()[0]


def old_contents(connection: sqlite3.Connection, last: int, after: int, count: int) -> list[int]:
    """Return the next contents, by number, that still belong to the old space."""
    rows = connection.execute(
        "SELECT DISTINCT content FROM piece WHERE id <= ? AND content > ? ORDER BY content LIMIT ?",
        (last, after, count),
    )
    return [row[0] for row in rows]


def move(connection: sqlite3.Connection, folder: Path, space: Space, last: int, contents: Sequence[NewContent]) -> int:
    """Replace the pieces of contents by new ones with vectors of the current space; return how many contents moved.

    Contents that were removed, or that another process moved first, are left alone.
    """
    ids: list[int] = []
    vectors: list[np.ndarray] = []
    for content in contents:
        number = content_id(connection, content.hash)
        old = "FROM piece WHERE content = ? AND id <= ?", (number, last)
        if number is None or not connection.execute(f"SELECT 1 {old[0]} LIMIT 1", old[1]).fetchone():
            continue
        connection.execute(f"INSERT INTO dead SELECT id {old[0]}", old[1])
        connection.execute(f"DELETE {old[0]}", old[1])
        ids += insert_pieces(connection, number, content.spans)
        vectors.append(content.vectors)
    if ids:
        append(connection, folder, space.id, np.array(ids, np.int64), np.concatenate(vectors))
    return len(vectors)


def finish(connection: sqlite3.Connection, old: Old) -> bool:
    """Forget the old space if nothing belongs to it any more; return whether that was so.

    The files of its segments are left to `remove_leftovers`.
    """
    if remaining(connection, old.last):
        return False
    connection.execute("DELETE FROM dead WHERE piece <= ?", (old.last,))
    for table, column in (("segment", "space"), ("bridge", "space"), ("space", "id")):
        connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (old.space,))
    return True


def forget_old(connection: sqlite3.Connection) -> None:
    """Forget old spaces of an index that holds no files."""
    if connection.execute("SELECT count(*) FROM space").fetchone()[0] > 1:
        connection.execute("DELETE FROM bridge")
        connection.execute("DELETE FROM space WHERE NOT current")
