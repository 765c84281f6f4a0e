"""`percept search`: find pictures by text, by picture, or by both."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from percept.cli.index import DEFAULT, load_for
from percept.cli.show import check_output, say
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    from percept.search.index import Index
    from percept.search.query import Answer, Hit


def search(
    text: tyro.conf.Positional[str] = "",
    image: Path | None = None,
    top: int = 5,
    weight: float = 0.5,
    sheet: Path | None = None,
    page: Path | None = None,
    index: Path = DEFAULT,
    model: str | None = None,
    weights: Path | None = None,
    tokenizer: Path | None = None,
    device: str = "auto",
) -> int:
    """Find the pictures nearest to a text, to a picture, or to both.

    Args:
        text: What the pictures should show, for example "two red cups next to a lamp".
        image: A picture they should resemble; it is brought to size as those of the index were.
        top: How many are listed.
        weight: With text and picture, the share of the text from 0 to 1.
        sheet: PNG file for a contact sheet of the results.
        page: HTML file for a page of the results.
        index: Folder of the index; `percept index` makes it.
        model: The model, if not the one the index was made with.
        weights: Local weight file for an official name, if not the one the index remembers.
        tokenizer: tokenizer.json for a model that comes without one, if not the one the index remembers.
        device: auto, cpu, cuda or mps.
    """
    from percept.data.images import read_bytes
    from percept.search.index import Index
    from percept.search.query import ask, check_question

    check_question(text=text or None, image=image, top=top, weight=weight)
    check_output(sheet, ".png")
    check_output(page, ".html", ".htm")
    if image is not None:
        read_bytes(image)  # a mistyped name is answered at once
    with Index.open(index) as store:
        _check_sheet(sheet, image, store)
        encoder, _ = load_for(store.stamp, model, weights=weights, tokenizer=tokenizer, device=device)
        answer = ask(store, encoder, text=text or None, image=image, top=top, weight=weight)
        _show(answer)
        _write(answer, sheet=sheet, page=page, facts=(("Model", str(store.stamp)), ("Index", str(index))))
    return 0


def _check_sheet(sheet: Path | None, image: Path | None, store: "Index") -> None:
    """Refuse to write over a picture that is asked with, or that can be found."""
    if sheet is None or not sheet.exists():
        return
    if (image is not None and sheet.samefile(image)) or Path(os.path.abspath(sheet)) in store.files():
        raise PerceptError(f"{sheet} is one of your pictures and would be lost; give the sheet another name")


def _show(answer: "Answer") -> None:
    rows = [(hit.rank, hit.score, _place(hit), f"{hit.width}×{hit.height}", _remark(hit)) for hit in answer.hits]
    title = f"{answer}: best {len(rows)} of {answer.among}, {answer.seconds * 1000:.0f} ms"
    table(title, ("rank", "score", "picture", "size", ""), rows)


def _place(hit: "Hit") -> str:
    """Return the path as a person in this folder would type it."""
    below = hit.path.is_relative_to(Path.cwd())
    return os.path.relpath(hit.path) if below else str(hit.path)


def _remark(hit: "Hit") -> str:
    parts = (["the file is gone"] if hit.missing else []) + ([f"{len(hit.copies)} more alike"] if hit.copies else [])
    return ", ".join(parts)


def _write(answer: "Answer", *, sheet: Path | None, page: Path | None, facts: tuple[tuple[str, str], ...]) -> None:
    if sheet is not None:
        from percept.search.sheet import write_sheet

        write_sheet(sheet, [answer])
        say(f"wrote {sheet}")
    if page is not None:
        from percept.search.page import Page, write_page

        facts += (("Searched", f"{answer.among} in {answer.seconds * 1000:.0f} ms"),)
        write_page(page, Page(title=f"Search: {answer}", facts=facts, answers=(answer,)))
        say(f"wrote {page}")


COMMAND = search
