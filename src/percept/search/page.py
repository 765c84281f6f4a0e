"""Results as one self-contained web page without scripts, with light and dark colours. Every text is escaped."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape as escape_markup
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from percept.core.io import replacing
from percept.core.report import printable
from percept.data.files import BadFile
from percept.search.hits import Answer, Hit
from percept.search.spans import clock
from percept.search.thumbnails import SIZE, data_uri, jpeg, thumbnail


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """An image with its most probable labels, best first."""

    path: Path
    guesses: tuple[tuple[str, float], ...]
    """Labels with probabilities."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """Content of a page. Empty sections are omitted."""

    title: str
    introduction: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    """Names with values: the model, numbers of images, seconds."""
    answers: tuple[Answer, ...] = ()
    labelled: tuple[Labelled, ...] = ()
    num_labels: int = 0
    """Number of labels to choose from."""
    bad: tuple[BadFile, ...] = ()


def write_page(file: Path | str, page: Page) -> None:
    """Write the page. Links to images are relative to it."""
    file = Path(file)
    with replacing(file) as temporary:
        temporary.write_text(render(page, file.parent), encoding="utf-8")


def render(page: Page, folder: Path) -> str:
    """Return the page as HTML for a file in `folder`."""
    parts = [
        _head(page),
        *(_answer(number, answer, folder) for number, answer in enumerate(page.answers, start=1)),
        _labels(page.labelled, page.num_labels, folder),
        _bad(page.bad),
        "</main></body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def escape(text: object) -> str:
    """Return a text as one line of HTML, also for a file name that is not valid text."""
    return escape_markup(printable(text))


def _head(page: Page) -> str:
    introduction = "\n".join(map(escape, page.introduction.splitlines()))
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in page.facts)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{escape(page.title)}</title>
<style>{_style()}</style></head><body><main>
<header class="top"><h1>{escape(page.title)}</h1>
{f'<p class="introduction">{introduction}</p>' if introduction else ""}
{f"<dl>{facts}</dl>" if facts else ""}</header>"""


@lru_cache
def _style() -> str:
    return files("percept.search").joinpath("page.css").read_text(encoding="utf-8")


def _answer(number: int, answer: Answer, folder: Path) -> str:
    asked = answer.question
    images = [Path(image) for image in asked.images if isinstance(image, str | Path)]
    examples = "".join(f'<div class="example">{_image(image, folder)}</div>' for image in images)
    like = "images like this one" if len(asked.images) == 1 else "images like these"
    wanted = [*(f"“{escape(text)}”" for text in asked.texts), *([like] if images else [])]
    avoided = [
        *(f"“{escape(text)}”" for text in asked.not_texts),
        *(escape(Path(image).name) if isinstance(image, str | Path) else "an image" for image in asked.not_images),
    ]
    query = " and ".join(wanted or ["an image"]) + "".join(f", not {name}" for name in avoided)
    note = f"best {len(answer.hits)} of {answer.among}, {answer.seconds * 1000:.1f} ms"
    hits = "\n".join(_hit(hit, folder) for hit in answer.hits)
    return f"""<section class="answer"><header>{examples}<div><p class="kicker">Query {number}</p>
<h2>{query}</h2><p class="note">{note}</p></div></header>
<ol class="hits">{hits}</ol></section>"""


def _hit(hit: Hit, folder: Path) -> str:
    size = f"{hit.width} × {hit.height}" + (f", {clock(hit.seconds)} long" if hit.seconds is not None else "")
    notes = "".join(f'<p class="note">{note}</p>' for note in [size, *_notes(hit)])
    return f"""<li><figure>{_picture(hit, folder)}<figcaption>
<p class="score"><span class="rank">{hit.rank}</span>{_bar(hit.score)}<span class="number">{_score(hit.score)}</span></p>
<p class="name">{_name(hit.path)}</p>{notes}</figcaption></figure></li>"""


def _notes(hit: Hit) -> list[str]:
    """Return further lines about a hit: spans, group, copies."""
    also = ", ".join(map(str, hit.spans[1:]))
    return [
        *([f"at {hit.span}" + (f", also {also}" if also else "")] if hit.span is not None else []),
        *([f"in {escape(hit.group)}"] if hit.group else []),
        *([f"and {len(hit.others)} more of its group"] if hit.others else []),
        *([f"and {len(hit.copies)} more with the same content"] if hit.copies else []),
        *(["the file no longer exists"] if hit.missing and hit.thumbnail is not None else []),
    ]


def _picture(hit: Hit, folder: Path) -> str:
    if hit.thumbnail is None:
        return _image(hit.path, folder)
    image = f'<img src="{data_uri(hit.thumbnail)}" alt="{escape(hit.path.name)}">'
    if hit.missing:
        return f'<span class="frame">{image}</span>'
    time = f"#t={hit.span.start:.2f},{hit.span.stop:.2f}" if hit.span is not None else ""
    return f'<a class="frame" href="{_link(hit.path, folder)}{time}">{image}</a>'


def _labels(labelled: Sequence[Labelled], num_labels: int, folder: Path) -> str:
    if not labelled:
        return ""
    cards = "\n".join(_card(image, folder) for image in labelled)
    among = f", the most probable of {num_labels} labels" if num_labels else ""
    return f"""<section><header><div><p class="kicker">Labels</p><h2>What each image shows{among}</h2></div></header>
<ul class="cards">{cards}</ul></section>"""


def _card(image: Labelled, folder: Path) -> str:
    rows = "".join(
        f'<p class="guess"><span class="label">{escape(label)}</span><span class="number">{probability:.0%}</span></p>'
        f"{'' if place else _bar(probability)}"
        for place, (label, probability) in enumerate(image.guesses)
    )
    return f"""<li><figure>{_image(image.path, folder)}<figcaption>{rows}
<p class="name">{_name(image.path)}</p></figcaption></figure></li>"""


def _bad(bad: Iterable[BadFile]) -> str:
    rows = "".join(f"<tr><td>{_name(file.path)}</td><td>{escape(file.reason)}</td></tr>" for file in bad)
    if not rows:
        return ""
    return f"""<section><header><div><p class="kicker">Left out</p><h2>Files that could not be read</h2></div></header>
<table><thead><tr><th>File</th><th>Reason</th></tr></thead><tbody>{rows}</tbody></table></section>"""


def _name(path: Path) -> str:
    return f'<span title="{escape(path)}">{escape(path.name)}</span>'


def _score(score: float) -> str:
    return f"{score:.3f}".replace("-", "−")


def _bar(share: float) -> str:
    return f'<span class="bar"><span style="width:{100 * min(1.0, max(0.0, share)):.1f}%"></span></span>'


def _image(path: Path, folder: Path) -> str:
    uri = _thumbnail_uri(path)
    if uri is None:
        reason = "cannot be shown" if os.path.exists(path) else "the file no longer exists"
        return f'<span class="frame gone">{reason}</span>'
    return f'<a class="frame" href="{_link(path, folder)}"><img src="{uri}" alt="{escape(path.name)}"></a>'


def _link(path: Path, folder: Path) -> str:
    return quote(os.fsencode(os.path.relpath(path, folder)))


@lru_cache(maxsize=2048)
def _thumbnail_uri(path: Path) -> str | None:
    small = thumbnail(path, SIZE)  # shown at half of it, so that it is sharp on high-resolution screens
    return data_uri(jpeg(small)) if small else None
