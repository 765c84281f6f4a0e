"""The store of an index: metadata in SQLite, vectors in files that are mapped into memory.

A folder holds `index.sqlite` and `segments/`. A batch is written and synced behind the committed rows of a segment, then
one transaction adds everything that refers to it: an interruption loses at most the batch in flight.
"""

from percept.search.store.database import FILE, has_store
from percept.search.store.records import (
    BadState,
    FileState,
    Filter,
    NewContent,
    Piece,
    Repair,
    Root,
    Space,
    Status,
)
from percept.search.store.segments import Segment
from percept.search.store.store import Store

__all__ = [
    "FILE", "BadState", "FileState", "Filter", "NewContent", "Piece", "Repair", "Root", "Segment", "Space", "Status",
    "Store", "has_store",
]  # fmt: skip
