"""The vectors of an index with their paths, for other programs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from percept.core.errors import PerceptError, missing_extra
from percept.data.files import as_text
from percept.search.contents import name_left_out
from percept.search.store import Piece, Store

TABLE = "percept"
"""Name of the table in a vector database."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A part of the vectors of an index: one row per file, or per span of a video file."""

    paths: list[str]
    """Bytes that are not UTF-8 are replaced."""
    pieces: list[Piece]
    vectors: Float[np.ndarray, "n d"]

    @property
    def places(self) -> list[str]:
        """Path of each row; of a span of a video with its seconds, such as `walk.mp4#t=10,20` (W3C media fragments)."""
        return [place(path, piece) for path, piece in zip(self.paths, self.pieces, strict=True)]


def place(path: str, piece: Piece) -> str:
    """Return a path, with the seconds of the piece if it is a span of a video."""
    return path if piece.start is None else f"{path}#t={piece.start:.3f},{piece.stop:.3f}"


def exported(store: Store) -> Iterator[Exported]:
    """Yield all vectors that can be found, in parts; a file that is a duplicate has a row of its own."""
    name_left_out(store)
    for ids, vectors in store.vectors():
        rows = {int(id_): row for row, id_ in enumerate(ids)}
        pairs = [(as_text(path), piece) for piece in store.pieces(ids) for path in piece.paths]
        if pairs:
            order = [rows[piece.id] for _, piece in pairs]
            yield Exported(
                paths=[path for path, _ in pairs], pieces=[piece for _, piece in pairs], vectors=vectors[order]
            )


def to_lance(store: Store, folder: Path) -> int:
    """Write the vectors to a table of an embedded LanceDB database in a folder; return the number of rows.

    Columns: path, kind, start, stop (seconds; null for an image), width, height, taken (seconds since 1970), vector.

    Raises:
        PerceptError: lancedb is not installed, or the folder is in use.
    """
    try:
        import lancedb  # pyright: ignore[reportMissingImports]
        import pyarrow
    except ImportError:
        raise missing_extra("lancedb", "lancedb", "writing a vector database") from None
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PerceptError(f"{folder} is in use. Give a folder that is new or empty.")
    columns = {"kind": pyarrow.string(), "start": pyarrow.float64(), "stop": pyarrow.float64()}
    columns |= {"width": pyarrow.int32(), "height": pyarrow.int32(), "taken": pyarrow.float64()}
    vector = pyarrow.list_(pyarrow.float32(), store.stamp.dim)
    schema = pyarrow.schema({"path": pyarrow.string(), **columns, "vector": vector})

    def batch(part: Exported) -> Any:
        values = {name: [getattr(piece, name) for piece in part.pieces] for name in columns}
        flat = pyarrow.array(part.vectors.reshape(-1))
        values |= {"path": part.paths, "vector": pyarrow.FixedSizeListArray.from_arrays(flat, store.stamp.dim)}
        return pyarrow.RecordBatch.from_pydict(values, schema)

    table = lancedb.connect(str(folder)).create_table(TABLE, (batch(part) for part in exported(store)), schema=schema)
    return table.count_rows()
