"""What is searched for: texts and images to resemble, texts and images to avoid, and their weights, as one unit vector."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.report import printable
from percept.infer.labels import name_unknown_words
from percept.search.contracts import ImageEncoder

if TYPE_CHECKING:
    from percept.data.images import ImageSource

    Texts: TypeAlias = str | Sequence[str] | None
    Images: TypeAlias = ImageSource | Sequence[ImageSource] | None
else:
    # At run time any value reaches the checks below, which give better messages than a type checker.
    Texts = Images = Any

LEAST_NORM = 1e-3
"""Length of a weighted sum of unit vectors below which they cancel out."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """A query. Make it with `question`, which checks it."""

    texts: tuple[str, ...] = ()
    images: tuple[Any, ...] = ()
    """Images to resemble: paths, bytes, PIL images."""
    not_texts: tuple[str, ...] = ()
    not_images: tuple[Any, ...] = ()
    weight: float = 0.5
    """Share of the texts if there are images too."""
    not_weight: float = 0.5
    """Weight of what is to be avoided; what is wanted has the weight 1."""

    @property
    def image(self) -> Path | None:
        """The first image to resemble that is a file."""
        return next((Path(image) for image in self.images if isinstance(image, str | Path)), None)

    def __str__(self) -> str:
        parts = [*(f"“{text}”" for text in self.texts), *(f"like {_name(image)}" for image in self.images)]
        avoided = [*(f"“{text}”" for text in self.not_texts), *map(_name, self.not_images)]
        return printable(", ".join([*parts, *(f"not {name}" for name in avoided)]))


def _name(image: Any) -> str:
    return Path(image).name if isinstance(image, str | Path) else "an image"


def question(
    text: Texts = None,
    *,
    image: Images = None,
    not_: Texts = None,
    not_image: Images = None,
    weight: float = 0.5,
    not_weight: float = 0.5,
) -> Question:
    """Return a checked query. Several texts, or several images, are averaged.

    Args:
        text: description of what to find, or several.
        image: image that it should resemble, or several.
        not_: description of what to avoid, or several.
        not_image: image to stay away from, or several.
        weight: share of the texts in [0, 1] if there are images too.
        not_weight: weight of what is avoided, from 0; what is wanted has the weight 1.

    Raises:
        PerceptError: nothing to look for, a text without letters, or a weight outside its range.
    """
    asked = Question(
        texts=_several(text), images=_several(image), not_texts=_several(not_), not_images=_several(not_image),
        weight=weight, not_weight=not_weight,
    )  # fmt: skip
    if not asked.texts and not asked.images:
        raise PerceptError("a search needs a text, an image, or both")
    if not 0 <= weight <= 1:
        raise PerceptError(f"weight must be from 0 (images only) to 1 (texts only), got {weight}")
    if not 0 <= not_weight < float("inf"):
        raise PerceptError(f"not_weight must be 0 or more, got {not_weight}; 0.5 is usual")
    for each in (*asked.texts, *asked.not_texts):
        if not isinstance(each, str) or not any(letter.isalnum() for letter in each):
            raise PerceptError(f"the text {each!r} has no letters or digits; describe the images to find")
    return asked


def _several(value: Any) -> tuple[Any, ...]:
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def query_vector(encoder: ImageEncoder, asked: Question) -> Float[np.ndarray, " d"]:
    """Return the unit vector of a query: normalise(w·texts + (1 - w)·images - v·avoided).

    Each term is the unit mean of unit vectors; texts and images to avoid are averaged in the same way with the same w.

    Raises:
        PerceptError: an image cannot be read, the terms cancel out, or the model returns something that is not a number.
    """
    return query_vectors(encoder, asked, [lambda vectors: vectors])[0]


def query_vectors(
    encoder: ImageEncoder, asked: Question, maps: Sequence[Callable[[Tensor], Tensor]]
) -> list[Float[np.ndarray, " d"]]:
    """Return the unit vector of a query in several spaces: its texts and images are encoded once, and mapped before they are mixed.

    Raises:
        PerceptError: as `query_vector`.
    """
    name_unknown_words(encoder, [*asked.texts, *asked.not_texts])
    wanted = _encoded(encoder, asked.texts, asked.images, asked.weight)
    avoided = _encoded(encoder, asked.not_texts, asked.not_images, asked.weight) if asked.not_weight else []
    return [_combined(wanted, avoided, asked.not_weight, each) for each in maps]


def _combined(
    wanted: "Sequence[_Part]", avoided: "Sequence[_Part]", not_weight: float, map_: Callable[[Tensor], Tensor]
) -> Float[np.ndarray, " e"]:
    total = _mixed(wanted, map_)
    if avoided:
        total = total - not_weight * _mixed(avoided, map_)
    norm = float(total.norm())
    if not norm > LEAST_NORM:
        raise PerceptError(
            "what is wanted and what is avoided cancel out. Change the query, or the weight of what is avoided."
        )
    return np.ascontiguousarray((total / norm).numpy(), dtype=np.float32)


_Part: TypeAlias = tuple[float, Float[Tensor, "_ _"]]
"""Weight, and unit vectors [n, d] that are averaged."""


def _encoded(encoder: ImageEncoder, texts: Sequence[str], images: Sequence[Any], weight: float) -> list[_Part]:
    """Return the vectors of texts and those of images, with their weights."""
    parts = []
    if texts:
        parts.append((weight if images else 1.0, encoder.text(list(texts))))
    if images:
        parts.append((1 - weight if texts else 1.0, encoder.image(list(images))))
    return [(share, F.normalize(vectors.float().cpu(), dim=-1)) for share, vectors in parts]


def _mixed(parts: Sequence[_Part], map_: Callable[[Tensor], Tensor]) -> Float[Tensor, " e"]:
    """Return the unit vector between the mean of texts and the mean of images."""
    return F.normalize(torch.stack([share * _mean(map_(vectors)) for share, vectors in parts]).sum(0), dim=0)


def _mean(vectors: Float[Tensor, "n d"]) -> Float[Tensor, " d"]:
    mean = F.normalize(vectors.mean(0), dim=0)
    if not bool(mean.isfinite().all()):
        raise PerceptError("the model returns vectors that are not numbers. Load it with --dtype float32.")
    return mean
