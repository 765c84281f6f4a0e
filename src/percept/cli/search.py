"""`percept search`: find images and moments of videos by text, by image, or by both."""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import tyro

from percept.cli.filtering import ANY, FilesWhere
from percept.cli.index import DEFAULT, load_for
from percept.cli.options import MODEL, Model
from percept.cli.output import check_rows_output, is_stdout, write_rows
from percept.cli.show import check_output, say, writing
from percept.core.errors import PerceptError
from percept.core.report import notice, table

if TYPE_CHECKING:
    from percept.infer.localizer import Localizer
    from percept.search.hits import Answer, Hit, Wanted
    from percept.search.question import Question
    from percept.search.spans import Span
    from percept.search.store import Store

FIELDS: dict[str, Any] = {
    "rank": int, "score": float, "path": str, "kind": str, "width": int, "height": int, "start": float, "stop": float,
    "seconds": float, "spans": object, "taken": str, "missing": bool, "copies": list[str], "group": str,
    "others": list[str], "clip": str,
}  # fmt: skip
"""Columns of --out. start and stop: the best span of a video; spans: all that stand out; seconds: its length."""


Several: TypeAlias = tyro.conf.UseAppendAction[tuple[Path, ...]]
Avoided: TypeAlias = Annotated[tuple[str, ...], tyro.conf.arg(name="not"), tyro.conf.UseAppendAction]


def search(
    text: tyro.conf.Positional[tuple[str, ...]] = (),
    image: Several = (),
    avoid: Avoided = (),
    not_image: Several = (),
    weight: float = 0.5,
    not_weight: float = 0.5,
    top: int = 5,
    min_score: float | None = None,
    group: str | None = None,
    above: float = 0.95,
    moments: bool = False,
    level: float = 0.5,
    localizer: Path | None = None,
    cut: Path | None = None,
    out: Path | None = None,
    sheet: Path | None = None,
    page: Path | None = None,
    where: FilesWhere = ANY,
    index: Path = DEFAULT,
    model: Model = MODEL,
) -> int:
    """Find the images and videos nearest to a text, to an image, or to both.

    Args:
        text: Description of the images, for example "two red cups next to a lamp"; several are averaged.
        image: An image they should resemble; it is resized as those of the index were. May be given several times.
        avoid: Description of what they should not show; may be given several times.
        not_image: An image they should not resemble; may be given several times.
        weight: With text and image, the share of the text from 0 to 1.
        not_weight: Weight of what they should not show; what they should show has the weight 1.
        top: Number of hits.
        min_score: Least score (cosine) of a hit.
        group: One hit per folder, or per group of near-duplicates: folder or duplicate.
        above: With --group duplicate, the cosine from which two images are near-duplicates.
        moments: Find moments of videos: neighbouring spans that match are joined.
        level: Where a moment ends, from 0 (at the video's mean score) to 1 (the best spans alone).
        localizer: With --moments, the folder of a trained localizer, which finds where a moment starts and ends.
        cut: Folder for an MP4 clip of the best span of every hit that is a video.
        out: File for the hits, .csv, .json, .jsonl or .parquet; - for json lines on standard output.
        sheet: PNG file for a contact sheet of the hits.
        page: HTML file for a page of the hits.
        index: Folder of the index; `percept index` makes it.
    """
    from percept.search.hits import Wanted
    from percept.search.question import question

    asked = question(list(text), image=list(image), not_=list(avoid), not_image=list(not_image),
                     weight=weight, not_weight=not_weight)  # fmt: skip
    wanted = Wanted(
        top=top, where=where.chosen(), min_score=min_score, group=group, above=above, moments=moments, level=level
    ).check()
    _check(asked, out=out, sheet=sheet, page=page, cut=cut)
    finder = None if localizer is None else _localizer(localizer, asked, wanted)
    return _search(asked, wanted, Outputs(out=out, sheet=sheet, page=page, cut=cut), index, model, finder)


def _localizer(folder: Path, asked: "Question", wanted: "Wanted") -> "Localizer":
    """Open a trained localizer."""
    from percept.infer.load import load
    from percept.infer.localizer import Localizer
    from percept.search.locate import check_locating

    check_locating(asked, wanted)
    opened: Any = load(folder)
    if not isinstance(opened, Localizer):
        raise PerceptError(f"{folder} is not a localizer. Train one with: percept train excl/nano --out finder")
    return opened


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where the hits are written."""

    out: Path | None
    sheet: Path | None
    page: Path | None
    cut: Path | None


def _check(asked: "Question", *, out: Path | None, sheet: Path | None, page: Path | None, cut: Path | None) -> None:
    """Check files before a model is loaded: a mistyped name is reported at once."""
    from percept.data.images import read_bytes

    check_rows_output(out)
    check_output(sheet, ".png")
    check_output(page, ".html", ".htm")
    for image in (*asked.images, *asked.not_images):
        read_bytes(image)
    if cut is not None:
        if cut.exists() and not cut.is_dir():
            raise PerceptError(f"{cut} is a file. Give a folder for the clips.")
        with writing(cut):
            cut.mkdir(parents=True, exist_ok=True)


def _search(asked: "Question", wanted: "Wanted", outputs: Outputs, index: Path, model: Any, localizer: Any) -> int:
    from percept.search.query import ask
    from percept.search.store import Store

    with Store(index) as store:
        _check_sheet(outputs.sheet, asked, store)
        encoder, _ = load_for(store.stamp, model)
        answer = ask(store, encoder, asked, wanted, localizer=localizer)
        if not is_stdout(outputs.out):
            _show(answer, wanted)
        clips = _cut(answer, outputs.cut)
        _write(store, answer, clips, outputs)
    return 0


def _check_sheet(sheet: Path | None, asked: "Question", store: "Store") -> None:
    """Refuse to overwrite an image of the query, or an image of the index."""
    if sheet is None or not sheet.exists():
        return
    asked_for = any(sheet.samefile(image) for image in (*asked.images, *asked.not_images))
    if asked_for or store.known([Path(os.path.abspath(sheet))]):
        raise PerceptError(f"{sheet} is one of your images and would be lost. Give the sheet a different name.")


def _show(answer: "Answer", wanted: "Wanted") -> None:
    if not answer.searched:
        notice("nothing in the index passes these filters" if wanted.where is not None else "the index holds no videos")
        return
    if not answer.hits:
        say(
            f"{answer}: no hit"
            + ("" if wanted.min_score is None else f" with a score of at least {wanted.min_score:g}")
        )
        return
    timed = any(hit.span is not None for hit in answer.hits)
    rows = [
        (hit.rank, hit.score, _place(hit.path), *([str(hit.span or "")] if timed else []), _size(hit), _remark(hit))
        for hit in answer.hits
    ]
    columns = ("rank", "score", "file" if timed else "image", *(["time"] if timed else []), "size", "remark")
    how = "" if answer.exact else " (approximate)"
    title = f"{answer}: best {len(rows)} of {answer.among}{how}, {answer.seconds * 1000:.0f} ms"
    table(title, columns, rows)


def _place(path: Path) -> str:
    """Return the path as typed from the current folder."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _size(hit: "Hit") -> str:
    return f"{hit.width}×{hit.height} px"


def _remark(hit: "Hit") -> str:
    also = ", ".join(map(str, hit.spans[1:]))
    copies = "1 copy" if len(hit.copies) == 1 else f"{len(hit.copies)} copies"
    return ", ".join(
        [
            *(["the file no longer exists"] if hit.missing else []),
            *([f"also {also}"] if also else []),
            *([f"{len(hit.others)} more of its group"] if hit.others else []),
            *([copies] if hit.copies else []),
        ]
    )


def _cut(answer: "Answer", folder: Path | None) -> dict[int, Path]:
    """Write a clip per hit with a span, and return the clips by rank; a video that cannot be read is named."""
    from percept.search.cut import cut

    clips: dict[int, Path] = {}
    spans = [(hit, hit.span) for hit in answer.hits if hit.span is not None]
    if folder is None:
        return clips
    if not spans:
        notice("no clip was cut: there is no video among the hits")
    for hit, span in spans:
        file = folder / f"{hit.rank:02d}-{hit.path.stem}-{span.start:.2f}-{span.stop:.2f}.mp4"
        try:
            with writing(file):
                cut(hit.path, span.start, span.stop, file)
        except PerceptError as error:
            notice(f"no clip of hit {hit.rank}: {error}")
            continue
        clips[hit.rank] = file
        say(f"wrote {file}")
    return clips


def _write(store: "Store", answer: "Answer", clips: dict[int, Path], outputs: Outputs) -> None:
    from percept.search.thumbnails import illustrated

    if outputs.out is not None:
        facts = {"query": str(answer), "model": str(store.stamp), "index": str(store.folder),
                 "searched": answer.searched, "exact": answer.exact}  # fmt: skip
        write_rows(outputs.out, (_row(hit, clips.get(hit.rank)) for hit in answer.hits), FIELDS, facts=facts)
        if not is_stdout(outputs.out):
            say(f"wrote {outputs.out}")
    if outputs.sheet is None and outputs.page is None:
        return
    answer = illustrated(store, answer)
    if outputs.sheet is not None:
        from percept.search.sheet import write_sheet

        with writing(outputs.sheet):
            write_sheet(outputs.sheet, [answer])
        say(f"wrote {outputs.sheet}")
    if outputs.page is not None:
        _write_page(outputs.page, store, answer)


def _write_page(file: Path, store: "Store", answer: "Answer") -> None:
    from percept.search.page import Page, write_page

    facts = (
        ("Model", str(store.stamp)),
        ("Index", str(store.folder)),
        ("Searched", f"{answer.among} in {answer.seconds * 1000:.0f} ms"),
    )
    with writing(file):
        write_page(file, Page(title=f"Search: {answer}", facts=facts, answers=(answer,)))
    say(f"wrote {file}")


def _row(hit: "Hit", clip: Path | None) -> dict[str, Any]:
    taken = None if hit.taken is None else datetime.fromtimestamp(hit.taken).isoformat()
    return {
        "rank": hit.rank, "score": hit.score, "path": hit.path, "kind": hit.kind, "width": hit.width,
        "height": hit.height, "start": hit.span and hit.span.start, "stop": hit.span and hit.span.stop,
        "seconds": hit.seconds, "spans": list(map(_span, hit.spans)), "taken": taken, "missing": hit.missing,
        "copies": hit.copies, "group": hit.group or None, "others": hit.others, "clip": clip,
    }  # fmt: skip


def _span(span: "Span") -> dict[str, float]:
    return {"start": span.start, "stop": span.stop, "score": span.score}


COMMAND = search
