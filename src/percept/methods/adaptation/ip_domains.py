"""Domains of IP protection: pairs of images, a visible mark, styles in place of an unknown domain, and the measures of protection.

Wang et al. 2025, arXiv:2503.02393 (IP-CLIP). Which styles the paper draws is not published; those here are ours.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from percept.core.seed import derive
from percept.data.batch import Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class Domain(Batch):
    """Labelled images of one domain, by what the frozen image tower says about them."""

    vector: Float[Tensor, "b d"]
    """Unit vectors [f]."""
    style: Float[Tensor, "b l w"]
    """(μ + σ) / 2 of every block."""
    content: Float[Tensor, "b l w"]
    """μ of every block."""
    label: Int[Tensor, " b"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs(Batch):
    """Authorised images, each with an unauthorised one."""

    vector: Float[Tensor, "b d"]
    style: Float[Tensor, "b l w"]
    content: Float[Tensor, "b l w"]
    label: Int[Tensor, " b"]
    other_vector: Float[Tensor, "b d"]
    other_style: Float[Tensor, "b l w"]
    other_content: Float[Tensor, "b l w"]
    other_label: Int[Tensor, " b"]

    @classmethod
    def of(cls, one: Domain, other: Domain) -> "Pairs":
        """Join equally many images of both domains."""
        return cls(**one.tensors(), **{f"other_{name}": value for name, value in other.tensors().items()})

    def split(self) -> tuple[Domain, Domain]:
        """Return the authorised and the unauthorised images."""
        values, names = self.tensors(), ("vector", "style", "content", "label")
        return Domain(**{name: values[name] for name in names}), Domain(**{name: values[f"other_{name}"] for name in names})  # fmt: skip


def paired(authorised: Domain, unauthorised: Domain, seed: int) -> Pairs:
    """Return all authorised images in random order, each with a random unauthorised one of its class."""
    rng = torch.Generator().manual_seed(derive(seed, "order"))
    order = torch.randperm(len(authorised), generator=rng)
    partner = []
    for label in authorised.label[order].tolist():
        rows = (unauthorised.label == label).nonzero()[:, 0]
        partner.append(int(rows[torch.randint(len(rows), (1,), generator=rng)]))
    one = Domain(**{name: value[order] for name, value in authorised.tensors().items()})
    other = Domain(**{name: value[partner] for name, value in unauthorised.tensors().items()})
    return Pairs.of(one, other)


def pair_batches(authorised: Domain, unauthorised: Domain, size: int, seed: int) -> Callable[[int], list[Pairs]]:
    """Return a function of the epoch that returns its batches: those of `paired`, without a last one that is smaller, unless it is the only one."""

    def batches(epoch: int) -> list[Pairs]:
        pairs = paired(authorised, unauthorised, derive(seed, "pairs", epoch))
        return [pairs.rows(slice(start * size, (start + 1) * size)) for start in range(max(1, len(pairs) // size))]

    return batches


def marked(image: UInt8[np.ndarray, "y x 3"]) -> UInt8[np.ndarray, "y x 3"]:
    """Return the image with the mark of the release: 255 where the row or the column is even.

    >>> marked(np.zeros((3, 3, 3), np.uint8))[..., 0].tolist()
    [[255, 255, 255], [255, 0, 255], [255, 255, 255]]
    """
    result = image.copy()
    result[::2], result[:, ::2] = 255, 255
    return result


def restyled(image: UInt8[np.ndarray, "y x 3"], seed: int) -> UInt8[np.ndarray, "y x 3"]:
    """Return the image in one or two of seven random styles, as an unauthorised domain that nobody has images of."""
    rng, drawn = random.Random(seed), Image.fromarray(image)
    styles = {
        "inverted": ImageOps.invert,
        "outline": lambda each: ImageOps.invert(each.filter(ImageFilter.FIND_EDGES)),
        "few colours": lambda each: ImageOps.posterize(each, 2),
        "blurred": lambda each: each.filter(ImageFilter.GaussianBlur(rng.uniform(1, 2.5))),
        "pale": lambda each: ImageEnhance.Contrast(ImageEnhance.Color(each).enhance(0.1)).enhance(0.4),
        "solarised": lambda each: ImageOps.solarize(each, 110),
        "other hues": lambda each: Image.merge("RGB", rng.sample(each.split(), 3)),
    }
    for name in rng.sample(tuple(styles), rng.choice((1, 2))):
        drawn = styles[name](drawn)
    return np.asarray(drawn)


def protection(before: tuple[float, float], after: tuple[float, float]) -> dict[str, float]:
    """Return the drops of both domains and W = A_a (D_u - D_a), the weighted drop of the paper; all in shares.

    Args:
        before: accuracies of the unprotected model in the authorised and the unauthorised domain.
        after: those of the protected model.

    >>> {name: round(value, 3) for name, value in protection((0.9, 0.8), (0.88, 0.2)).items()}
    {'D_a': 0.02, 'D_u': 0.6, 'W_ua': 0.51}
    """
    drop, other = before[0] - after[0], before[1] - after[1]
    return {"D_a": drop, "D_u": other, "W_ua": after[0] * (other - drop)}


def ownership(before_unauthorised: float, after: tuple[float, float]) -> float:
    """Return O = A_u^SL (A_a - A_u): high if marked images were recognised before and are not any more.

    Args:
        before_unauthorised: accuracy of the unprotected model on marked images [A_u^SL].
        after: accuracies of the protected model on authorised and on marked images.

    >>> round(ownership(0.9, (0.95, 0.15)), 2)
    0.72
    """
    return before_unauthorised * (after[0] - after[1])


def applicability(after_marked: float, after_others: float) -> float:
    """Return A_a (A_a - A_u), a guess of the third measure, which is not published: only marked images are authorised.

    >>> round(applicability(0.9, 0.1), 2)
    0.72
    """
    return after_marked * (after_marked - after_others)
