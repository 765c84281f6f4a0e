"""Put the vectors of an index into LanceDB, a vector database in a folder, and search there by text (pip install lancedb).

percept index PHOTOS --index photos
python examples/vector_database.py photos photos.lance --query "a red cup" --where "kind = 'image' AND width > 1000"
"""

import sys
from pathlib import Path
from typing import Any

import tyro

import percept
from percept.core.report import table
from percept.search.exporting import TABLE, to_lance


def main(
    index: tyro.conf.Positional[Path],
    database: tyro.conf.Positional[Path],
    query: str | None = None,
    where: str | None = None,
    top: int = 5,
) -> None:
    """Export an index once, and search the database.

    Args:
        index: Folder of the index.
        database: Folder of the database, written if it does not exist.
        query: Text to search for.
        where: Condition of the database on the columns path, kind, start, stop, width, height and taken.
        top: Number of rows.
    """
    with percept.Index(index) as opened:
        if not database.exists():
            table("Exported", ("database", "rows"), [(database, to_lance(opened.store, database))])
        if query is None:
            return
        (vector,) = opened.encoder.text([query]).float().numpy()
        rows = found(database, vector, where, top)
    shown = [(1 - row["_distance"], row["path"], row["start"], row["stop"]) for row in rows]
    table(f"“{query}” in {database}", ("score", "path", "from, s", "to, s"), shown)


def found(database: Path, vector: Any, where: str | None, top: int) -> list[dict[str, Any]]:
    """Return the nearest rows of the database by cosine."""
    import lancedb  # pyright: ignore[reportMissingImports]

    search = lancedb.connect(str(database)).open_table(TABLE).search(vector).distance_type("cosine").limit(top)
    return (search if where is None else search.where(where, prefilter=True)).to_list()


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except percept.PerceptError as error:
        sys.exit(f"vector_database: {error}")
