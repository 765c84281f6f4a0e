"""The commands that look after an index: `percept index status`, remove, compact, repair, export and upgrade."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from percept.cli.index import DEFAULT, load_for
from percept.cli.options import MODEL, Model
from percept.cli.output import check_rows_output, is_stdout, save_rows
from percept.cli.show import SHOWN_BAD, bad_files, check_output, count, writing
from percept.cli.upgrade import upgrade
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    from percept.search.store import Root, Store


STATUS = {
    "index": str, "files": int, "images": int, "videos": int, "pieces": int, "dead": int, "pending": int, "bad": int,
    "segments": int, "damaged": int, "vector_bytes": int, "database_bytes": int, "model": str, "folders": list[str],
}  # fmt: skip
"""Of the row of --out. pieces: vectors that can be found; dead: of removed files; pending: files to read again; bad: unreadable files."""


def status(index: Path = DEFAULT, out: Path | None = None) -> int:
    """Show what an index holds, and check its vectors against their checksums.

    Args:
        index: Folder of the index.
        out: File for the counts, one row, ending in .csv, .json, .jsonl or .parquet; - for a json line on standard output.
    """
    from percept.search.store import Store

    check_rows_output(out)
    with Store(index) as store:
        now, stamp, left = store.status(), store.stamp, store.remaining()
    values = {name: getattr(now, name) for name in STATUS if hasattr(now, name)}
    row = {"index": index, **values, "model": str(stamp), "folders": list(map(_described, now.roots))}
    save_rows(out, [row], STATUS)
    if is_stdout(out):
        return 0
    rows: list[tuple[object, object]] = [
        ("files", f"{now.files:,}"),
        ("distinct images", f"{now.images:,}"),
        ("distinct videos", f"{now.videos:,}"),
        ("vectors that can be found", f"{now.pieces:,}"),
        ("vectors of removed files (percept index compact drops them)", f"{now.dead:,}"),
        ("files that could not be read", f"{now.bad:,}"),
        ("files to read again", f"{now.pending:,}"),
        ("damaged vectors (percept index repair)", f"{now.damaged:,}"),
        ("vectors on disk", f"{now.vector_bytes / 1e6:.1f} MB in {count(now.segments, 'segment')}"),
        ("metadata and thumbnails", f"{now.database_bytes / 1e6:.1f} MB"),
        ("model", str(stamp)),
        *([("images and videos of its former model (percept index encodes them again)", f"{left:,}")] if left else []),
        *(("indexed", _described(root)) for root in now.roots[:SHOWN_BAD]),
        *([("indexed", f"and {len(now.roots) - SHOWN_BAD} more")] if len(now.roots) > SHOWN_BAD else []),
    ]
    table(str(index), ("what", "value"), rows)
    return 0


def _described(root: "Root") -> str:
    parts = [*(f"only {pattern}" for pattern in root.include), *(f"without {pattern}" for pattern in root.exclude)]
    return ", ".join([str(root.path), *parts, *(["with hidden files"] if root.hidden else [])])


def remove(paths: tyro.conf.Positional[tuple[Path, ...]], index: Path = DEFAULT) -> int:
    """Forget files and folders; the files themselves are left alone.

    A folder that is forgotten is not brought up to date any more. `percept index compact` frees the room.

    Args:
        paths: Files and folders, which need not exist any more.
        index: Folder of the index.
    """
    from percept.search.store import Store

    if not paths:
        raise PerceptError("no path was given. Name the files or folders to forget.")
    with Store(index) as store:
        removed = store.remove(list(paths))
        left = len(store)
    if not removed:
        raise PerceptError(
            f"none of the {count(len(paths), 'path')} is in {index}. percept index status lists its folders."
        )
    table(str(index), ("files", "count"), [("forgotten", len(removed)), ("in the index now", left)])
    return 0


def compact(index: Path = DEFAULT) -> int:
    """Free the room that vectors of removed and changed files still take.

    Args:
        index: Folder of the index.
    """
    from percept.search.store import Store

    with Store(index) as store:
        before = store.status().vector_bytes
        dropped = store.compact()
        after = store.status().vector_bytes
    rows = [
        ("vectors dropped", f"{dropped:,}"),
        ("size before", f"{before / 1e6:.1f} MB"),
        ("size now", f"{after / 1e6:.1f} MB"),
    ]
    table(str(index), ("what", "value"), rows)
    return 0


def repair(index: Path = DEFAULT, model: Model = MODEL) -> int:
    """Check all vectors, drop the damaged ones, and encode their files again.

    Args:
        index: Folder of the index.
    """
    from percept.search.build import build
    from percept.search.store import Store

    with Store(index) as store:
        found = store.repair()
        rows = [
            ("damaged vectors dropped", found.rows),
            ("files whose vectors were lost", len(found.files)),
            ("leftovers of interrupted writes deleted", found.leftovers),
        ]
        pending = store.pending()
        if pending:
            encoder, _ = load_for(store.stamp, model)
            report = build(store, encoder, [])
            rows += [("files encoded again", report.repaired), ("could not be read", len(report.bad))]
            bad_files(report.bad)
        rows.append(("files in the index now", len(store)))
    table(str(index), ("what", "count"), rows)
    return 0


def export(out: Path, index: Path = DEFAULT) -> int:
    """Write the vectors with their paths, for other programs.

    A span of a video has the path FILE#t=START,STOP, in seconds.

    Args:
        out: File or folder to write; the ending chooses the format: .parquet, .npz, .jsonl, .safetensors, .csv or .json as
            percept encode writes them, or .lance for a folder with a LanceDB database.
        index: Folder of the index.
    """
    from percept.search.exporting import to_lance
    from percept.search.store import Store

    with Store(index) as store:
        if out.suffix.lower() == ".lance":
            with writing(out):
                rows = to_lance(store, out)
        else:
            rows = _export_file(store, out)
    table("Written", ("what", "value"), [("place", str(out)), ("rows", f"{rows:,}")])
    return 0


def _export_file(store: "Store", out: Path) -> int:
    import numpy as np

    from percept.cli.encode import check_vectors_output, write_vectors
    from percept.core.config import to_dict
    from percept.search.exporting import exported

    check_vectors_output(out)
    check_output(out)
    parts = list(exported(store))
    if not parts:
        raise PerceptError(f"the index {store.folder} holds no vectors, so nothing was written")
    vectors = np.concatenate([part.vectors for part in parts])
    with writing(out):
        write_vectors(out, [place for part in parts for place in part.places], vectors, {"stamp": to_dict(store.stamp)})
    return len(vectors)


COMMANDS: dict[str, Callable[..., int]] = {
    "status": status,
    "remove": remove,
    "compact": compact,
    "repair": repair,
    "export": export,
    "upgrade": upgrade,
}
