"""Generated documents with their text: pages, forms, receipts, charts and signs, with boxes, reading order and questions.

Each document contains facts, such as (bar chart, label, value) or (form, key, value). One in eight is held out for
evaluation: no document of the other splits contains one, and every question of the evaluation split involves one.

>>> document = generate_document(3, kind="receipt")
>>> document.texts[0].role, document.pairs[0].kind
('title', 'value')
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from percept.core.errors import PerceptError, unknown_name
from percept.core.seed import derive
from percept.world.documents import charts, forms, pages, signs
from percept.world.documents.facts import Facts, reading_pairs, suited
from percept.world.documents.paper import Document, Paper, Text
from percept.world.qa.pair import Pair
from percept.world.splits import split_seed

__all__ = ["DOCUMENTS", "Document", "Text", "documents", "generate_document"]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How to sample, draw and ask about one kind of document."""

    sample: Callable[[Facts], Any]
    draw: Callable[[Any, Paper], None]
    pairs: Callable[[Any, Paper, random.Random], list[Pair]]
    height: Callable[[Any], float] = lambda content: 1.0
    """Height in widths."""
    width: int
    """Usual width in pixels, at which the text is legible."""


def _chart(kind: str) -> Kind:
    return Kind(
        sample=lambda facts: charts.sample_chart(kind, facts),
        draw=charts.draw_chart,
        pairs=charts.chart_pairs,
        width=224,
    )


_KINDS: dict[str, Kind] = {
    "page": Kind(
        sample=pages.sample_page, draw=pages.draw_page, pairs=pages.page_pairs, height=pages.page_height, width=384
    ),
    "form": Kind(
        sample=forms.sample_form, draw=forms.draw_form, pairs=forms.form_pairs, height=forms.form_height, width=256
    ),
    "receipt": Kind(
        sample=forms.sample_receipt, draw=forms.draw_receipt, pairs=forms.receipt_pairs, height=forms.receipt_height,
        width=192,
    ),
    "bar chart": _chart("bar chart"),
    "line chart": _chart("line chart"),
    "pie chart": _chart("pie chart"),
    "sign": Kind(sample=signs.sample_sign, draw=signs.draw_sign, pairs=signs.sign_pairs, width=128),
}  # fmt: skip
DOCUMENTS = tuple(_KINDS)
"""Kinds of documents."""
_PAPERS = ((255, 255, 255), (252, 250, 244), (246, 248, 252), (250, 246, 236))


def generate_document(seed: int, *, kind: str, split: str = "train", width: int | None = None) -> Document:
    """Generate document number `seed` of a kind. The same arguments give the same bytes.

    Args:
        seed: number of the document.
        kind: a name of `DOCUMENTS`.
        split: a name of `SPLITS`.
        width: width in pixels, from 64 to 2048; None for a width at which the text is legible.

    Raises:
        PerceptError: unknown kind or split, or a width out of range.
    """
    if kind not in _KINDS:
        raise unknown_name("kind of document", kind, _KINDS)
    if width is not None and not 64 <= width <= 2048:
        raise PerceptError(f"width must be from 64 to 2048 pixels, got {width}.")
    how = _KINDS[kind]
    rng = random.Random(derive(split_seed(seed, split), "document", kind))
    while True:
        facts = Facts(rng, split)
        content = how.sample(facts)
        if not facts.missing:
            break
    paper = Paper(width or how.width, how.height(content), rng.choice(_PAPERS))
    how.draw(content, paper)
    pairs = suited(paper, how.pairs(content, paper, rng) + reading_pairs(paper, rng, split), split)
    return Document(
        kind=kind,
        seed=seed,
        split=split,
        image=paper.finish(),
        texts=tuple(paper.texts),
        data=asdict(content),
        pairs=pairs,
    )


def documents(seed: int = 0, *, split: str = "train", width: int | None = None) -> Iterator[Document]:
    """Yield documents of all kinds in turn without end."""
    number = seed
    while True:
        yield generate_document(number, kind=DOCUMENTS[number % len(DOCUMENTS)], split=split, width=width)
        number += 1
