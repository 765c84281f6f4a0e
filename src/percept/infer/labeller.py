"""Labels that are ready to rank images: texts, or what `percept teach` learned; with a threshold for "none of these".

The probability of a label is the softmax over all labels of scale × score, so it says which label fits best, not whether any fits: one
label alone always gets 100 %. Two ways to find images that no label fits:

- a least probability of the best label.
- for labels that `percept teach` learned, the probability that the image shows any of them, which was learned from classes that were left
  out (`percept.eval.teach_none`). It multiplies the probabilities of the labels; an image gets no label if it is below one half.
- for labels that are texts, other nouns that compete with them, as in NegLabel, Jiang et al. 2024, arXiv:2403.20078: an image gets no label
  if the others together are more probable than the labels. Nouns that are as close to a label as the nouns are to each other are left out.
"""

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.infer.labels import Guess, Labels, Templates, check_labels, class_vectors, fill
from percept.infer.taught import Known, Taught, open_labels

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder

NONE = "none"
"""What an image is called that no label fits."""
AUTO = "auto"
NEAR = 0.9
"""Quantile of the cosines of nouns with their nearest other noun; a noun nearer to a label than this does not compete with it."""
NoneBelow: TypeAlias = float | Literal["auto"] | None
if TYPE_CHECKING:
    AnyLabels: TypeAlias = Labels | Taught | os.PathLike[str]
else:
    AnyLabels = Any  # as for the labels themselves


@dataclass(frozen=True, kw_only=True, eq=False)
class Labeller:
    """Ranks vectors by labels: probability = softmax of scale × (weight · vector + bias)."""

    names: tuple[str, ...]
    weight: Float[Tensor, "c d"]
    bias: Float[Tensor, " c"]
    scale: float
    least: float | None = None
    """Probability of the best label below which an image is called "none"; None where every image gets a label."""
    others: Float[Tensor, "k d"] | None = None
    """Texts of other things that compete with the labels; an image is called "none" if they are more probable together."""
    known: Known | None = None
    """Probability that an image shows any of the labels; an image is called "none" where it is below one half."""

    def scores(self, vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Return the score of every label: its cosine with a text, or its logit where it was taught."""
        return vectors.float() @ self.weight.T + self.bias

    def probabilities(self, vectors: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Return the probability of every label; where "none" is possible, 1 minus the sum is its probability."""
        scores = logits = self.scores(vectors)
        if self.others is not None:
            logits = torch.cat([logits, vectors.float() @ self.others.T], dim=1)
        shares = (self.scale * logits.double()).softmax(dim=1)[:, : len(self.names)]
        return shares if self.known is None else shares * self.known.probability(scores.logsumexp(dim=1))[:, None]

    def none(self, probabilities: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
        """Return the probability of "none" where it wins, and -1 where a label does."""
        best, total = probabilities.max(dim=1).values, probabilities.sum(dim=1)
        absent = torch.full_like(best, -1)
        if self.others is not None or self.known is not None:
            return torch.where(total < 0.5, 1 - total, absent)
        return absent if self.least is None else torch.where(best < self.least, 1 - best, absent)

    def rank(self, vectors: Float[Tensor, "n d"], *, top: int | None = None) -> list[list[Guess]]:
        """Return all or the `top` best labels of every vector, best first; "none" comes before them where it wins."""
        scores, shares = self.scores(vectors), self.probabilities(vectors)
        rows = zip(scores, shares, self.none(shares).tolist(), strict=True)
        return [self._row(row, share, none, top) for row, share, none in rows]

    def _row(self, scores: Tensor, shares: Tensor, none: float, top: int | None) -> list[Guess]:
        order = scores.argsort(descending=True, stable=True)[:top]
        labels = [self.names[place] for place in order.tolist()]
        values = zip(labels, shares[order].tolist(), scores[order].tolist(), strict=True)
        guesses = [Guess(label=label, probability=share, score=score) for label, share, score in values]
        return guesses if none < 0 else [Guess(label=NONE, probability=none, score=guesses[0].score), *guesses]


def labeller(
    encoder: "Encoder", labels: AnyLabels, templates: Templates = None, none_below: NoneBelow = None
) -> Labeller:
    """Return what ranks the vectors of an encoder by labels.

    Args:
        encoder: computes the vectors.
        labels: texts, taught labels, or the path of a folder with taught labels.
        templates: one or several texts with {} for the label; several are averaged.
        none_below: probability of the best label below which an image is called "none"; "auto" for what `percept teach` learned
            about images of other things, and for texts for other nouns that compete; None where every image gets a label.

    Raises:
        PerceptError: the labels were taught on a different model, or templates are given for taught labels.
    """
    _check_threshold(none_below)
    if isinstance(labels, os.PathLike):
        labels = open_labels(os.fspath(labels))
    if isinstance(labels, Taught):
        return taught_labeller(labels.check(encoder), templates, none_below)
    names = check_labels(labels)
    if none_below is not None and NONE in names:
        raise PerceptError(f"{NONE!r} is what an image without a label is called. Leave it out of the labels.")
    weight = class_vectors(encoder, names, templates)
    found = Labeller(
        names=tuple(names), weight=weight, bias=weight.new_zeros(len(names)), scale=encoder.scale,
        least=None if isinstance(none_below, str) else none_below,
    )  # fmt: skip
    return replace(found, others=other_texts(encoder, found)) if none_below == AUTO else found


def taught_labeller(labels: Taught, templates: Templates = None, none_below: NoneBelow = None) -> Labeller:
    """Return what ranks vectors by taught labels; whether these fit the vectors is for the caller to check.

    Raises:
        PerceptError: templates are given, or the threshold is not one.
    """
    _check_threshold(none_below)
    if templates is not None:
        raise PerceptError("a template has no effect on taught labels. Leave it out.")
    return Labeller(
        names=labels.classes, weight=labels.weight, bias=labels.bias, scale=1 / labels.temperature,
        least=labels.least if none_below == AUTO else none_below,  # type: ignore[arg-type]
        known=labels.known if none_below == AUTO else None,
    )  # fmt: skip


def _check_threshold(none_below: NoneBelow) -> None:
    if none_below is None or none_below == AUTO:
        return
    if isinstance(none_below, str) or not 0 <= none_below <= 1:
        raise PerceptError(
            f"the least probability of a label must be a number from 0 to 1, or {AUTO}, got {none_below!r}."
        )


def other_texts(encoder: "Encoder", labels: Labeller) -> Float[Tensor, "k d"]:
    """Return texts of things that are not among the labels, for these to compete with."""
    vectors = _nouns(encoder)
    nearest = (vectors @ vectors.T).fill_diagonal_(-1).max(dim=1).values
    far = (vectors @ labels.weight.T).max(dim=1).values < nearest.quantile(NEAR)
    return vectors[far]


def _nouns(encoder: "Encoder") -> Float[Tensor, "k d"]:
    from percept.infer.zeroshot_dense import ELSEWHERE
    from percept.world.objects import CATEGORIES

    nouns = F.normalize(encoder.text([fill("a photo of a {}", name) for name in CATEGORIES]), dim=-1)
    return torch.cat([nouns, F.normalize(encoder.text(list(ELSEWHERE)), dim=-1)])
