"""How `percept teach` learns to say "none of these": from classes that are left out in turn.

Labels are learned without some of the classes, whose images are then images of something else. What is compared is the energy of an image,
log Σ exp logit (Liu et al. 2020, arXiv:2010.03759): of these images, and of held-out images of known classes. A logistic curve
through both (Platt 1999), in which both kinds have the same weight, gives the probability that an image shows one of the labels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from percept.eval.resampling import group_numbers, share
from percept.eval.statistics import Score
from percept.eval.teach_fit import LARGE, LinearHead, Prior, fit_with
from percept.infer.taught import Known

FEWEST_CLASSES = 3
"""Classes from which one can be left out: a classifier needs two."""
GROUPS, GROUPS_LARGE = 20, 5
"""Most groups of classes that are left out in turn, also of a large set; with as many groups as classes every class is one."""
STEPS = 50
"""Most steps of Newton's method; it ends when the curve stands still."""


@dataclass(frozen=True, kw_only=True, eq=False)
class NoneOfThese:
    """The curve, and how well it tells known from unknown."""

    known: Known
    kept: Score
    """Share of held-out images that keep a label."""
    found: Score
    """Share of images of classes that were left out that are called none."""


def learn_none(
    held_out: Float[Tensor, "m c"],
    vectors: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    prior: Prior | None,
    head: LinearHead,
    *,
    rows: Int[Tensor, " m"],
    groups: Int[np.ndarray, " n"],
    seed: int = 0,
) -> NoneOfThese | None:
    """Return how probable it is that an image shows one of the classes, from its logits.

    Args:
        held_out: logits of images of the classes by heads that did not see them.
        vectors: of all images, of unit length.
        labels: their classes.
        prior: the zero-shot classifier; None for a model without texts.
        head: learned from all images; its share and decay are used again.
        rows: numbers of the images of `held_out`.
        groups: number of each image's group of nearly equal images, which are resampled together.
        seed: of the division of the classes into groups.

    Returns:
        None with fewer than three classes, or if the energy of unknown images is not lower than that of known ones.
    """
    classes = len(head.bias)
    if classes < FEWEST_CLASSES:
        return None
    count = min(classes, GROUPS_LARGE if len(vectors) > LARGE else GROUPS)
    part_of = torch.from_numpy(np.random.default_rng(seed).permutation(classes) % count)
    left_out = [_logits_without(part_of == part, vectors, labels, prior, head) for part in range(count)]
    inside, outside = held_out.logsumexp(dim=1), torch.cat([logits.logsumexp(dim=1) for logits in left_out])
    known = curve(inside, outside)
    if known.slope <= 0:
        return None
    kept, missed = known.probability(inside) >= 0.5, known.probability(outside) >= 0.5
    order = torch.cat([torch.nonzero((part_of == part)[labels])[:, 0] for part in range(count)])
    return NoneOfThese(
        known=known, kept=share("kept", kept.numpy(), group_numbers(groups[rows.numpy()].tolist()), seed=seed),
        found=share("found", ~missed.numpy(), group_numbers(groups[order.numpy()].tolist()), seed=seed),
    )  # fmt: skip


def _logits_without(
    left: Tensor, vectors: Tensor, labels: Tensor, prior: Prior | None, head: LinearHead
) -> Float[Tensor, "k c"]:
    """Return the logits of the images of some classes by a head that was learned without these classes."""
    rows, number = left[labels], (~left).cumsum(0) - 1
    rest = None if prior is None else Prior(texts=prior.texts[~left], scale=prior.scale)
    others = int((~left).sum())
    fitted = fit_with(vectors[~rows], number[labels[~rows]], rest, others, share=head.share, decay=head.decay)
    return fitted(vectors[rows])


def curve(inside: Float[Tensor, " m"], outside: Float[Tensor, " k"]) -> Known:
    """Return the logistic curve with the least cross-entropy, in which both sides weigh the same.

    The targets are Platt's, (n + 1) / (n + 2) and 1 / (n + 2), so that a few values that are all on their side do not give certainty.
    """
    values = torch.cat([inside, outside]).double()
    mean, deviation = values.mean(), values.std().clamp(min=1e-6)
    points = torch.stack([(values - mean) / deviation, torch.ones_like(values)], dim=1)
    sizes = torch.tensor([len(inside), len(outside)])
    targets = torch.tensor([(len(inside) + 1) / (len(inside) + 2), 1 / (len(outside) + 2)]).double()
    targets, weights = targets.repeat_interleave(sizes), (0.5 / sizes).double().repeat_interleave(sizes)
    found = torch.zeros(2, dtype=torch.float64)
    for _ in range(STEPS):
        chance = (points @ found).sigmoid()
        slope = points.T @ (weights * (chance - targets))
        curvature = points.T @ (points * (weights * chance * (1 - chance))[:, None])
        step = torch.linalg.solve(curvature + 1e-9 * torch.eye(2, dtype=torch.float64), slope)
        found = found - step.clamp(-2, 2)
        if float(step.abs().max()) < 1e-9:
            break
    steep = float(found[0] / deviation)
    return Known(slope=steep, offset=float(found[1]) - steep * float(mean))
