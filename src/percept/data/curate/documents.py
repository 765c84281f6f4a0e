"""Interleaved documents, images between sentences, as rows: one row per image with the sentences of its document."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

ADJACENT = "adjacent"
"""Column with the sentence that stands next to an image in its document."""
DOCUMENT = "document"
"""Column with the key of the document."""
_END = re.compile(r"(?<=[.!?…。！？])\s+|(?<=[。！？])|\n+")


def sentences(text: str) -> list[str]:
    """Split a paragraph after the marks that end a sentence, and at line breaks.

    >>> sentences("A red cup. It is empty!\\nGood morning")
    ['A red cup.', 'It is empty!', 'Good morning']
    """
    return [part.strip() for part in _END.split(text) if part and part.strip()]


def is_document(record: dict[str, Any]) -> bool:
    """True if a record has lists `images` and `texts` with exactly one of the two at every place.

    >>> is_document({"images": ["a.jpg", None], "texts": [None, "A cup."]})
    True
    """
    images, texts = record.get("images"), record.get("texts")
    if not isinstance(images, list) or not isinstance(texts, list) or len(images) != len(texts):
        return False
    return all((image is None) != (text is None) for image, text in zip(images, texts, strict=True))


def rows_of(document: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """Yield a row per image of a document in the layout of OBELICS; see `is_document`.

    A row has the columns key, image, captions (all sentences of the document), adjacent (the sentence before the image, or
    after it where there is none), document, and the other columns of the document. A document without images gives one row.
    """
    images, texts = document["images"], document["texts"]
    key = str(document.get("key") or document.get("id") or where)
    groups = [sentences(text) if isinstance(text, str) else [] for text in texts]
    rest = {name: value for name, value in document.items() if name not in ("images", "texts", "key", "id")}
    every = [sentence for group in groups for sentence in group]
    bare = all(image is None for image in images)
    for place, image in enumerate(images[:1] if bare else images):
        if bare or image is not None:
            yield {
                "key": f"{key}/{place}",
                "image": image,
                "captions": every,
                ADJACENT: _adjacent(groups, place),
                DOCUMENT: key,
                **rest,
            }


def _adjacent(groups: Sequence[Sequence[str]], place: int) -> str:
    """Return the last sentence before a place, else the first one after it, else an empty text."""
    before = next((group[-1] for group in reversed(groups[:place]) if group), None)
    return before or next((group[0] for group in groups[place:] if group), "")
