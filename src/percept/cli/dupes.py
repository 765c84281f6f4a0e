"""`percept dupes`: find near duplicates among images and videos, and move the copies away."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from percept.cli.filtering import ANY, FilesWhere, FilterOptions
from percept.cli.options import MODEL, VIDEO, Model, ModelOptions, Video
from percept.cli.output import check_rows_output, is_stdout, write_rows
from percept.cli.placing import PlaceOptions
from percept.cli.show import bad_files, check_output, common_folder, count, count_files, say, size_text, within, writing
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    from percept.data.copies import FileFacts
    from percept.infer.dupes import Dupes

FIELDS = {
    "group": int, "keep": bool, "path": str, "cosine": float, "exact": bool, "width": int, "height": int, "bytes": int,
    "sharpness": float,
}  # fmt: skip
"""Of a row of --out: cosine and exact are with the file of the group that is kept; sharpness with --keep sharpest, else null."""


@dataclass(frozen=True, kw_only=True)
class MoveOptions(PlaceOptions):
    """Where the copies go."""

    place: str | None = None
    """move, copy or link (symbolic). Default: move."""

    move_to: Path | None = None
    """Folder to which the copies are moved (or copied or linked, by --place); what is kept stays. Nothing is ever deleted."""


MOVE = MoveOptions()


def dupes(
    paths: tyro.conf.Positional[tuple[Path, ...]],
    index: Path | None = None,
    above: float = 0.95,
    keep: str = "largest",
    show: int = 20,
    out: Path | None = None,
    page: Path | None = None,
    move: Annotated[MoveOptions, tyro.conf.arg(name="")] = MOVE,
    where: FilesWhere = ANY,
    model: Model = MODEL,
    video: Video = VIDEO,
) -> int:
    """Find files of equal content, and images and videos that are nearly the same; nothing is changed without --move-to.

    Args:
        paths: Folders (searched with their subfolders), image and video files.
        index: Folder of an index, in place of paths: its vectors are compared, and no file is read.
        above: Least cosine of a copy with the file that is kept.
        keep: Which file of a group is kept: largest (most pixels, then bytes), sharpest, oldest, newest, or first (in the order of
            names).
        show: Number of groups shown in the table; --out and --page hold more.
        out: File for the rows, ending in .csv, .json, .jsonl or .parquet; - for json lines on standard output.
        page: HTML page with the groups.
    """
    if show < 0:
        raise PerceptError(f"--show must be at least 0, got {show}.")
    where.check_index(index, paths)
    files = _files(paths) if index is None else []
    check_rows_output(out)
    check_output(page, ".html", ".htm")
    placing = move.ready(move.move_to, "--move-to", default="move")
    if index is None:
        found, identity = _of_files(files, above, keep, model, video)
    elif model != MODEL or video != VIDEO:
        raise PerceptError(
            "options of the model and of videos have no effect on the vectors of an index. Leave them out."
        )
    else:
        found, identity = _of_index(index, above, keep, where)
    on_stderr = is_stdout(out)
    if out is not None:
        facts = {"model": identity, "above": above, "keep": keep, "files": found.files}
        write_rows(out, _rows(found), FIELDS, facts=facts)
        if not on_stderr:
            say(f"wrote {out}")
    if page is not None:
        from percept.infer.dupes_page import write_page

        with writing(page):
            write_page(page, found, title=f"Near duplicates in {', '.join(map(str, paths[:3])) or index}")
            say(f"wrote {page}")
    bad_files(found.bad, on_stderr=on_stderr)
    if not on_stderr:
        _show(found, show)
    copies = [copy.file.path for group in found.groups for copy in group.copies]
    failed = placing.together(copies, on_stderr=on_stderr) if placing is not None and copies else 0
    if index is not None and placing is not None and copies and not placing.dry_run:
        say(f"percept index --index {index} brings the index up to date")
    return 2 if failed else 0


def _files(paths: tuple[Path, ...]) -> list[Path]:
    from percept.data.files import find_media

    return find_media(paths)


def _of_files(
    files: list[Path], above: float, keep: str, model: ModelOptions, video: Video
) -> "tuple[Dupes, dict[str, Any]]":
    """Return the groups among files, and the identity of the model."""
    from percept.core.config import to_dict
    from percept.infer.dupes import find_dupes

    sampling = video.sampling()
    encoder = model.open()
    say(f"{encoder} compares {count_files(files)}")
    found = find_dupes(encoder, files, above=above, keep=keep, sampling=sampling)
    return found, to_dict(encoder.identity)


def _of_index(index: Path, above: float, keep: str, where: FilterOptions) -> "tuple[Dupes, dict[str, Any]]":
    """Return the groups in an index, and the stamp of its model."""
    from percept.core.config import to_dict
    from percept.search.duplicates import find_dupes
    from percept.search.store import Store

    condition = where.chosen()
    with Store(index) as store:
        say(f"{count(len(store), 'file')} in {index}, with vectors of {store.stamp}")
        return find_dupes(store, above=above, keep=keep, where=condition), to_dict(store.stamp)


def _rows(found: "Dupes") -> Iterator[dict[str, Any]]:
    for number, group in enumerate(found.groups, 1):
        yield {"group": number, "keep": True, "cosine": 1.0, "exact": True, **_facts(group.keep)}
        for copy in group.copies:
            yield {"group": number, "keep": False, "cosine": copy.cosine, "exact": copy.exact, **_facts(copy.file)}


def _facts(file: "FileFacts") -> dict[str, Any]:
    return {
        "path": file.path, "width": file.width or None, "height": file.height or None, "bytes": file.bytes,
        "sharpness": file.sharpness or None,
    }  # fmt: skip


def _show(found: "Dupes", show: int) -> None:
    everything = [file.path for group in found.groups for file in (group.keep, *(copy.file for copy in group.copies))]
    folder = common_folder(everything)
    rows = []
    for number, group in enumerate(found.groups[:show], 1):
        rows.append((number, "keep", within(group.keep.path, folder), *_size(group.keep)))
        rows += [
            (
                "",
                "same content" if copy.exact else f"{copy.cosine:.3f}",
                within(copy.file.path, folder),
                *_size(copy.file),
            )
            for copy in group.copies
        ]
    copies = sum(len(group.copies) for group in found.groups)
    size = sum(group.bytes for group in found.groups)
    title = f"{count(len(found.groups), 'group')} among {count(found.files, 'file')}: {count(copies, 'copy', 'copies')}, {size_text(size)}"
    if rows:
        table(title, ("group", "cosine", "file", "pixels", "kB"), rows)
    else:
        say(title if found.groups else f"no near duplicates among {count(found.files, 'file')}")


def _size(file: "FileFacts") -> tuple[str, str]:
    return f"{file.width} x {file.height}" if file.width else "", f"{file.bytes / 1e3:,.0f}"


COMMAND = dupes
