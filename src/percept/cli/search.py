"""`percept search`: find images by text, by image, or by both."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from percept.cli.index import DEFAULT, load_for
from percept.cli.options import MODEL, Model
from percept.cli.show import check_output, say, writing
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    from percept.search.query import Answer, Hit
    from percept.search.store import Store


def search(
    text: tyro.conf.Positional[str] = "",
    image: Path | None = None,
    top: int = 5,
    weight: float = 0.5,
    sheet: Path | None = None,
    page: Path | None = None,
    index: Path = DEFAULT,
    model: Model = MODEL,
) -> int:
    """Find the images nearest to a text, to an image, or to both.

    Args:
        text: Description of the images, for example "two red cups next to a lamp".
        image: An image they should resemble; it is resized as those of the index were.
        top: Number of hits.
        weight: With text and image, the share of the text from 0 to 1.
        sheet: PNG file for a contact sheet of the hits.
        page: HTML file for a page of the hits.
        index: Folder of the index; `percept index` makes it.
    """
    from percept.data.images import read_bytes
    from percept.search.query import ask, check_question
    from percept.search.store import Store

    check_question(text=text or None, image=image, top=top, weight=weight)
    check_output(sheet, ".png")
    check_output(page, ".html", ".htm")
    if image is not None:
        read_bytes(image)  # a mistyped name is reported at once
    with Store(index) as store:
        _check_sheet(sheet, image, store)
        encoder, _ = load_for(store.stamp, model)
        answer = ask(store, encoder, text=text or None, image=image, top=top, weight=weight)
        _show(answer)
        _write(answer, sheet=sheet, page=page, facts=(("Model", str(store.stamp)), ("Index", str(index))))
    return 0


def _check_sheet(sheet: Path | None, image: Path | None, store: "Store") -> None:
    """Refuse to overwrite the image of the query, or an image of the index."""
    if sheet is None or not sheet.exists():
        return
    if (image is not None and sheet.samefile(image)) or store.known([sheet]):
        raise PerceptError(f"{sheet} is one of your images and would be lost. Give the sheet a different name.")


def _show(answer: "Answer") -> None:
    rows = [(hit.rank, hit.score, _place(hit), f"{hit.width}×{hit.height} px", _remark(hit)) for hit in answer.hits]
    title = f"{answer}: best {len(rows)} of {answer.among}, {answer.seconds * 1000:.0f} ms"
    table(title, ("rank", "score", "image", "size", "remark"), rows)


def _place(hit: "Hit") -> str:
    """Return the path as typed from the current folder."""
    below = hit.path.is_relative_to(Path.cwd())
    return os.path.relpath(hit.path) if below else str(hit.path)


def _remark(hit: "Hit") -> str:
    copies = "1 copy" if len(hit.copies) == 1 else f"{len(hit.copies)} copies"
    parts = (["the file no longer exists"] if hit.missing else []) + ([copies] if hit.copies else [])
    return ", ".join(parts)


def _write(answer: "Answer", *, sheet: Path | None, page: Path | None, facts: tuple[tuple[str, str], ...]) -> None:
    if sheet is not None:
        from percept.search.sheet import write_sheet

        with writing(sheet):
            write_sheet(sheet, [answer])
        say(f"wrote {sheet}")
    if page is not None:
        from percept.search.page import Page, write_page

        facts += (("Searched", f"{answer.among} in {answer.seconds * 1000:.0f} ms"),)
        with writing(page):
            write_page(page, Page(title=f"Search: {answer}", facts=facts, answers=(answer,)))
        say(f"wrote {page}")


COMMAND = search
