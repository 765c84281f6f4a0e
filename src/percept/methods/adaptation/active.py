"""Active learning on top of an adaptation method: rounds in which images are chosen, labelled, and a new model is trained on all of them.

Acquisitions, each of which orders the images that are not labelled yet:
    random    in random order
    entropy   the least certain first
    coreset   the one farthest from all labelled and chosen ones next (Sener and Savarese 2018, arXiv:1708.00489, algorithm 1)
    badge     k-means++ over gradients of the last layer (Ash et al. 2020, arXiv:1906.03671), whose outer products are never formed
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.eval.statistics import Score
from percept.methods.adaptation.bench import Arm, build
from percept.methods.adaptation.contract import Adaptation
from percept.methods.adaptation.few import Seen
from percept.methods.adaptation.measure import logits_of, measure
from percept.methods.adaptation.pcb import balanced
from percept.methods.adaptation.trainer import fit

ACQUISITIONS = ("random", "entropy", "coreset", "badge")
Rows: TypeAlias = Int[np.ndarray, " _"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How images are chosen; defaults of PCB."""

    acquisition: Literal["random", "entropy", "coreset", "badge"] = "badge"
    """Which images are proposed."""
    balance: Literal["none", "predicted", "true"] = "predicted"
    """Which of the proposed images are labelled: none: the first ones; predicted: balanced by predicted classes; true: by true ones, as a bound."""
    rounds: int = 8
    """Including the first, which is random."""
    budget: int | None = None
    """Labels of a round; as many as there are classes if None."""
    share: float = 0.1
    """Of the pool that is proposed when choices are balanced [γ]."""
    skip_empty: bool = False
    """Go on to the next smallest class where no candidate of the smallest is left. Ours; the paper takes a random candidate."""

    def __post_init__(self) -> None:
        if self.acquisition not in ACQUISITIONS or self.balance not in ("none", "predicted", "true"):
            raise PerceptError(
                f"acquisition must be one of {', '.join(ACQUISITIONS)} and balance none, predicted or true, got {self.acquisition!r} and "
                f"{self.balance!r}."
            )
        if self.rounds < 1 or (self.budget is not None and self.budget < 1) or not 0 < self.share <= 1:
            raise PerceptError(
                f"rounds and budget must be at least 1 and share above 0 and at most 1, got {self.rounds}, {self.budget} and {self.share}."
            )

    @property
    def name(self) -> str:
        """Name in tables."""
        return self.acquisition + {"none": "", "predicted": " + PCB", "true": " + true balance"}[self.balance]


@dataclass(frozen=True, kw_only=True)
class Round:
    """A round after its training."""

    number: int
    labelled: int
    """Labels so far."""
    accuracy: Score
    """On test images, among all classes."""
    label_entropy: float
    """Of the class frequencies of all labels so far; 1 if they are equal, 0 if there is one class."""
    predicted_right: float | None
    """Share of this round's labels that the model had predicted; None in the first round."""
    seconds: float


class Oracle:
    """Knows the labels, counts which were asked for, and gives no others."""

    def __init__(self, labels: Int[np.ndarray, " n"], classes: int) -> None:
        self._labels, self.classes = labels, classes
        self.asked = np.zeros(0, dtype=np.int64)

    def label(self, rows: Rows) -> Rows:
        """Return the labels of images and count them."""
        assert not np.isin(rows, self.asked).any(), "an image was labelled twice"
        self.asked = np.concatenate([self.asked, rows])
        return self._labels[rows]

    def counts(self) -> Int[np.ndarray, " c"]:
        """Return how many labels each class has among those asked for."""
        return np.bincount(self._labels[self.asked], minlength=self.classes)

    def for_the_bound(self, rows: Rows) -> Rows:
        """Return labels without counting them, for `balance="true"`, which no user can have."""
        return self._labels[rows]


def label_entropy(counts: Int[np.ndarray, " c"]) -> float:
    """Return the entropy of class frequencies, divided by the largest possible.

    >>> label_entropy(np.array([5, 5])), label_entropy(np.array([3, 0, 0]))
    (1.0, 0.0)
    """
    share = counts[counts > 0] / max(1, counts.sum())
    return max(0.0, float(-(share * np.log(share)).sum() / np.log(max(2, len(counts)))))


def uneven(rows: Rows, labels: Rows, *, power: float, seed: int) -> Rows:
    """Return a part of a pool whose class frequencies fall as rank^-power; the ranks of the classes are random."""
    rng = random.Random(derive(seed, "uneven"))
    own = {int(label): rows[labels[rows] == label].tolist() for label in np.unique(labels[rows])}
    most = min(map(len, own.values()))
    ranked = rng.sample(list(own), len(own))
    chosen = [rng.sample(own[label], max(1, round(most * (rank + 1) ** -power))) for rank, label in enumerate(ranked)]
    return np.array(sorted(row for part in chosen for row in part), dtype=np.int64)


# acquisitions


def by_entropy(logits: Float[Tensor, "n c"], count: int) -> list[int]:
    """Return the images with the largest entropy of the prediction, the largest first."""
    log = logits.double().log_softmax(dim=1)
    return (-(log.exp() * log).sum(dim=1)).topk(count).indices.tolist()


def by_coreset(vectors: Float[Tensor, "n d"], labelled: Float[Tensor, "k d"], count: int) -> list[int]:
    """Return images of which each is the farthest from all labelled and earlier ones; at least one image is labelled."""
    nearest, chosen = torch.cdist(vectors, labelled).amin(dim=1), []
    for _ in range(count):
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (vectors - vectors[chosen[-1]]).norm(dim=1))
        nearest[chosen] = -1
    return chosen


def by_badge(logits: Float[Tensor, "n c"], vectors: Float[Tensor, "n d"], count: int, rng: random.Random) -> list[int]:
    """Return images by k-means++ over (p - onehot(argmax p)) ⊗ f; the first has the longest gradient.

    Squared distances follow from the factors: |a ⊗ f|² = |a|² |f|² and (a ⊗ f) · (b ⊗ g) = (a · b) (f · g).
    """
    share = logits.double().softmax(dim=1)
    error = share - torch.nn.functional.one_hot(share.argmax(dim=1), share.shape[1])
    vector = vectors.double()
    length = error.square().sum(dim=1) * vector.square().sum(dim=1)
    chosen, nearest = [int(length.argmax())], torch.full_like(length, torch.inf)
    while len(chosen) < count:
        last = chosen[-1]
        inner = (error @ error[last]) * (vector @ vector[last])
        nearest = torch.minimum(nearest, (length + length[last] - 2 * inner).clamp(min=0))
        nearest[chosen] = 0
        taken = set(chosen)
        left = [each for each in range(len(length)) if each not in taken]
        weights = nearest[left].tolist()
        chosen.append(rng.choices(left, weights)[0] if sum(weights) > 0 else rng.choice(left))
    return chosen


def choose(
    plan: Plan, logits: Float[Tensor, "n c"], vectors: Float[Tensor, "n d"], labelled: Float[Tensor, "k d"], counts: Int[np.ndarray, " c"],
    *, budget: int, seed: int, truth: Callable[[Rows], Rows] | None = None,
) -> list[int]:  # fmt: skip
    """Return which of n images to label next.

    Args:
        logits: of the images by the current model.
        vectors: of the images.
        labelled: vectors of the images with labels.
        counts: labels of each class so far.
        budget: number of labels.
        truth: true classes of some of the images; only for `balance="true"`.
    """
    rng, balance = random.Random(seed), plan.balance != "none"
    wide = balance and plan.acquisition != "random"
    count = min(len(logits), max(budget, round(plan.share * len(logits))) if wide else budget)
    proposed = {
        "random": lambda: rng.sample(range(len(logits)), count),
        "entropy": lambda: by_entropy(logits, count),
        "coreset": lambda: by_coreset(vectors, labelled, count),
        "badge": lambda: by_badge(logits, vectors, count, rng),
    }[plan.acquisition]()
    if not balance:
        return proposed
    rows = np.array(proposed, dtype=np.int64)
    if plan.balance == "true":
        assert truth is not None
        classes = truth(rows)
    else:
        classes = logits.argmax(dim=1).numpy()[rows]
    return rows[balanced(classes, counts, budget, rng, skip_empty=plan.skip_empty)].tolist()


# rounds


def learn(
    arm: Arm, seen: Seen, plan: Plan, *, seed: int, pool: Rows | None = None, told: Callable[[Round], None] = lambda _: None
) -> list[Round]:  # fmt: skip
    """Label images round by round, train a new model on all labels of every round, and measure it.

    Args:
        arm: the method that is trained; its recipe is that of 16 shots.
        seen: the set; labels of its pool are read through an `Oracle` only.
        pool: images that may be labelled; the pool of the set if None.
        told: called after every round.

    Raises:
        PerceptError: the pool is smaller than the labels of all rounds.
    """
    pool = seen.data.pool if pool is None else pool
    budget = plan.budget or len(seen.data.classes)
    if budget * plan.rounds > len(pool):
        raise PerceptError(
            f"{plan.rounds} rounds of {budget} labels need more than the {len(pool)} images of the pool. Use fewer rounds, or a smaller budget."
        )
    oracle, found = Oracle(seen.data.labels, len(seen.data.classes)), []
    method: Adaptation | None = None
    for number in range(plan.rounds):
        rows, right = _ask(plan, method, seen, pool, oracle, budget=budget, seed=derive(seed, "round", number))
        method, seconds = _trained(arm, seen, oracle.asked, derive(seed, "model", number))
        accuracy = measure(method, seen, oracle.asked, ("all",)).scores["all"]
        found.append(
            Round(
                number=number, labelled=len(oracle.asked), accuracy=accuracy, label_entropy=label_entropy(oracle.counts()),
                predicted_right=right, seconds=seconds,
            )
        )  # fmt: skip
        assert len(rows) == budget
        told(found[-1])
    return found


def _ask(
    plan: Plan, method: Adaptation | None, seen: Seen, pool: Rows, oracle: Oracle, *, budget: int, seed: int
) -> tuple[Rows, float | None]:
    """Choose images, ask for their labels, and return them with the share that was predicted right."""
    left = pool[~np.isin(pool, oracle.asked)]
    if method is None:
        rows = np.array(random.Random(seed).sample(left.tolist(), budget), dtype=np.int64)
        oracle.label(rows)
        return rows, None
    logits = logits_of(method, seen, left)
    chosen = choose(
        plan, logits, seen.vectors[left].float(), seen.vectors[oracle.asked].float(), oracle.counts(), budget=budget, seed=seed,
        truth=lambda rows: oracle.for_the_bound(left[rows]),
    )  # fmt: skip
    truth = oracle.label(left[chosen])
    return left[chosen], float((logits.argmax(dim=1).numpy()[chosen] == truth).mean())


def _trained(arm: Arm, seen: Seen, rows: Rows, seed: int) -> tuple[Adaptation, float]:
    """Return a new method trained on labelled images, and the seconds it took."""
    shots = seen.shots(rows, "all")
    method = build(arm, seen.encoder, shots, seed)
    trained = fit(method, shots, replace(method.recipe(16), **dict(arm.training)), seed=seed)
    return method, trained.seconds


def area(rounds: Sequence[Round]) -> float:
    """Return the mean accuracy over the rounds: the height of the learning curve."""
    return float(np.mean([each.accuracy.value for each in rounds]))
