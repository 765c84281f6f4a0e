"""Measure an adapted model on base classes, on new classes, among all classes, and by the harmonic mean, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from percept.core.errors import PerceptError
from percept.eval.resampling import resampled_means
from percept.eval.statistics import Score, proportion
from percept.methods.adaptation.contract import Adaptation, Views
from percept.methods.adaptation.few import PART, Seen


def harmonic(base: float, new: float) -> float:
    """Return 2 · base · new / (base + new), and 0 if both are 0.

    >>> round(harmonic(85.68, 77.16), 2), round(harmonic(82.69, 63.22), 2)
    (81.2, 71.66)
    """
    return 2 * base * new / (base + new) if base + new else 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What a model answered for the test images of some classes."""

    rows: Int[np.ndarray, " m"]
    """Numbers of the images in the set."""
    truth: Int[np.ndarray, " m"]
    """Class numbers in the set."""
    guess: Int[np.ndarray, " m"]
    sure: Float[np.ndarray, " m"]
    """Probability of the guess."""

    @property
    def right(self) -> Bool[np.ndarray, " m"]:
        """True where the guess is the true class."""
        return self.guess == self.truth

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return float(self.right.mean())


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """Answers by part: base and new among their own names, all among all names; and the scores."""

    answers: dict[str, Answers]
    scores: dict[str, Score] = field(default_factory=dict)


@torch.no_grad()
def logits_of(method: Adaptation, seen: Seen, rows: Int[np.ndarray, " m"]) -> Float[Tensor, "m c"]:
    """Return the logits of some images among the classes in use."""
    device, parts = method.base.text.positions.device, []
    for start in range(0, len(rows), PART):
        part = rows[start : start + PART]
        if method.reads == "images":
            parts.append(method.class_logits(seen.pixels(part.tolist(), None).to(device)).float().cpu())
            continue
        nothing = torch.zeros(len(part), dtype=torch.int64, device=device)
        views = Views(label=nothing, row=nothing, vector=seen.vectors[part].to(device))
        parts.append(method.logits(views).float().cpu())
    return torch.cat(parts)


def answer(method: Adaptation, seen: Seen, rows: Int[np.ndarray, " m"], part: str) -> Answers:
    """Classify test images among the names of base, new or all classes.

    Raises:
        PerceptError: the method knows only the classes that it was trained on.
    """
    method.use(seen.data.names(part), seen.data.template)
    logits = logits_of(method, seen, rows)
    best = logits.softmax(dim=1).max(dim=1)
    guess = best.indices.numpy() + seen.data.part(part).start
    return Answers(rows=rows, truth=seen.data.labels[rows], guess=guess, sure=best.values.numpy())


def measure(method: Adaptation, seen: Seen, drawn: Int[np.ndarray, " k"], parts: Sequence[str]) -> Measured:
    """Measure a method on its test images, or on those of a different set; a part whose classes the method cannot know is left out.

    Args:
        seen: the set; for a different one than the method was trained on, `drawn` is empty and `parts` is ("all",).
        drawn: images that were drawn for training; images that look like them are not tested on.
        parts: of base, new and all.
    """
    answers = {}
    for part in parts:
        try:
            answers[part] = answer(method, seen, seen.data.tested(drawn, part), part)
        except PerceptError:
            if method.other_classes:
                raise
    return Measured(answers=answers, scores=scores_of(answers))


def scores_of(answers: dict[str, Answers]) -> dict[str, Score]:
    """Return accuracies with Wilson intervals, and the harmonic mean of base and new with a bootstrap interval over images."""
    scores = {part: proportion(part, each.right) for part, each in answers.items()}
    if {"base", "new"} <= answers.keys():
        base, new = (
            resampled_means(answers[part].right.astype(float), seed=place) for place, part in enumerate(("base", "new"))
        )
        draws = [harmonic(one, other) for one, other in zip(base, new, strict=True)]
        low, high = np.quantile(draws, (0.025, 0.975))
        if {answers[part].accuracy for part in ("base", "new")} & {
            0.0,
            1.0,
        }:  # then a draw of these images never varies
            low = min(low, harmonic(scores["base"].low, scores["new"].low))
            high = max(high, harmonic(scores["base"].high, scores["new"].high))
        value = harmonic(answers["base"].accuracy, answers["new"].accuracy)
        n = len(answers["base"].rows) + len(answers["new"].rows)
        scores["harmonic"] = Score(name="harmonic mean", value=value, n=n, low=float(low), high=float(high))
    return scores
