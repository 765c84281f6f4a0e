"""Status, compaction and repair, each within a transaction of its caller."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from percept.search.store.database import FILE, damaged
from percept.search.store.records import Repair, Root, Status
from percept.search.store.segments import FOLDER, Segment, damaged_segment, read_segments, rewrite
from percept.search.store.writes import drop_pieces

Segments = dict[int, list[Segment]]
"""Segments by space."""


def all_segments(connection: sqlite3.Connection, folder: Path) -> Segments:
    """Return the segments of every space."""
    spaces = connection.execute("SELECT id, dim FROM space ORDER BY id").fetchall()
    return {space: read_segments(connection, folder, space, dim) for space, dim in spaces}


def compact(connection: sqlite3.Connection, folder: Path) -> int:
    """Rewrite the segments that hold vectors of removed pieces; return how many vectors were dropped."""
    dead = _dead(connection)
    dropped = 0
    for space, parts in all_segments(connection, folder).items():
        counts = {segment.id: int(np.isin(segment.ids, dead).sum()) for segment in parts}
        affected = [segment for segment in parts if counts[segment.id]]
        if any(len(segment.damaged_rows()) for segment in affected):
            raise damaged_segment(folder, affected[0].id, "a checksum does not match")
        dropped += sum(counts.values())
        rewrite(connection, folder, space, affected, dead)
    connection.execute("DELETE FROM dead")
    return dropped


def _dead(connection: sqlite3.Connection) -> np.ndarray:
    return np.fromiter((row[0] for row in connection.execute("SELECT piece FROM dead")), np.int64)


def check_database(connection: sqlite3.Connection, folder: Path) -> None:
    """Check the database, and rebuild its own indexes if they do not match the rows.

    Raises:
        PerceptError: it is damaged beyond that.
    """
    if connection.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok":
        return
    try:
        connection.execute("REINDEX")
    except sqlite3.IntegrityError as error:
        raise damaged(folder, str(error)) from None
    remaining = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if remaining != "ok":
        raise damaged(folder, remaining)


def repair(connection: sqlite3.Connection, folder: Path) -> Repair:
    """Drop damaged blocks of vectors, and the contents whose vectors were in them; their files are marked as pending."""
    result, dead = Repair(), _dead(connection)
    for space, parts in all_segments(connection, folder).items():
        bad = {segment.id: len(segment.damaged_rows()) for segment in parts}
        result.rows += sum(bad.values())
        rewrite(connection, folder, space, [segment for segment in parts if bad[segment.id]], dead)
    for parts in all_segments(connection, folder).values():
        stored = _stored(parts)
        result.files += drop_pieces(connection, np.setdiff1d(_pieces(connection), stored).tolist())
    remaining = [_stored(parts) for parts in all_segments(connection, folder).values()]
    gone = np.setdiff1d(_dead(connection), np.concatenate([*remaining, np.zeros(0, np.int64)]))
    connection.executemany("DELETE FROM dead WHERE piece = ?", ((piece,) for piece in gone.tolist()))
    return result


def _stored(parts: Sequence[Segment]) -> np.ndarray:
    return np.concatenate([segment.ids for segment in parts]) if parts else np.zeros(0, np.int64)


def _pieces(connection: sqlite3.Connection) -> np.ndarray:
    return np.fromiter((row[0] for row in connection.execute("SELECT id FROM piece")), np.int64)


def drop_vectors(connection: sqlite3.Connection) -> None:
    """Remove all contents and vectors of an index that holds no files."""
    for table in ("bad", "thumbnail", "piece", "content", "dead", "segment"):
        connection.execute(f"DELETE FROM {table}")


def status(connection: sqlite3.Connection, folder: Path, roots: tuple[Root, ...]) -> Status:
    """Count what is stored, and check all vectors against their checksums."""

    def number(query: str) -> int:
        return connection.execute(query).fetchone()[0]

    parts = [segment for several in all_segments(connection, folder).values() for segment in several]
    files = [path for path in (folder / FOLDER).glob("*") if path.is_file()]
    database = [folder / f"{FILE}{ending}" for ending in ("", "-wal")]
    return Status(
        files=number("SELECT count(content) FROM file"),
        images=number("SELECT count(*) FROM content WHERE kind = 'image'"),
        videos=number("SELECT count(*) FROM content WHERE kind = 'video'"),
        pieces=number("SELECT count(*) FROM piece"),
        dead=number("SELECT count(*) FROM dead"),
        pending=number("SELECT count(*) FROM file WHERE content IS NULL"),
        bad=number("SELECT count(*) FROM bad"),
        segments=len(parts),
        damaged=sum(len(segment.damaged_rows()) for segment in parts),
        vector_bytes=sum(path.stat().st_size for path in files),
        database_bytes=sum(path.stat().st_size for path in database if path.exists()),
        roots=roots,
    )
