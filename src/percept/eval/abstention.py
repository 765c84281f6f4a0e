"""Conformal abstention: answer with one class, with a set, or not at all, by two conformal thresholds chosen for a declared cost.

Tayebati et al. 2025, arXiv:2502.06884. The published evaluation counts an abstention as a right answer with full confidence and
trains the policy on the items it is tested on; here an abstention never counts as right, the policy is trained on items of its
own, and the thresholds are calibrated afresh once its two levels are fixed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import nn

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.eval.conformal import Answers, aps, lac, quantile
from percept.eval.statistics import RESAMPLES, Score, wilson

ALPHA, BETA = (0.75, 0.9), (0.01, 0.05)
"""Ranges of the two levels."""
START = (0.85, 0.025)
SLOPE = 5.0
"""Steepness of the two sigmoids."""
WIDE_ALPHA = (0.05, 0.3, 0.6, 0.9, 1.0)
WIDE_BETA, WIDE_REFUSED = (0.04, 0.06, 0.08, 0.1, 0.13, 0.16), (0.02, 0.1, 0.3, 0.5, 0.7, 0.85)
SLOPES = (SLOPE, 100.0)
"""Choices of `constrained`."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Weights of what a policy is charged for, from the paper; all rates are between 0 and 1."""

    error: float = 1.0
    """Share of wrong ones among the answered items."""
    size: float = 0.3
    """Mean number of classes of the answers given as sets."""
    abstention: float = 0.3
    coverage: float = 0.4
    """Reward for the share of items that are answered."""
    entropy: float = 0.2
    """Reward for using all three actions."""
    single: float = 0.5
    """Charged for the share of single answers beyond 80 %."""


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Miscoverage levels of the thresholds: `alpha` for a single answer, `beta` for sets."""

    alpha: float
    beta: float
    refused: float | None = None
    """Level of the threshold of abstention; `beta` if None, as in the paper, where sets and abstention share one."""
    slope: float = SLOPE
    """Steepness of the two sigmoids."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Disjoint items of a data set, as indices."""

    calibration: Int[np.ndarray, " a"]
    fresh: Int[np.ndarray, " b"]
    """For the thresholds after the levels are fixed."""
    policy: Int[np.ndarray, " c"]
    test: Int[np.ndarray, " d"]

    @classmethod
    def random(cls, n: int, seed: int) -> "Split":
        """Return a split of 20, 20, 20 and 40 % of the items.

        Raises:
            PerceptError: fewer than 20 items.
        """
        if n < 20:
            raise PerceptError(
                f"the split into calibration and test data needs at least 20 items, got {n}. Give more, better 500."
            )
        order = np.random.default_rng(derive(seed, "conformal split")).permutation(n)
        parts = np.split(order, [n // 5, 2 * (n // 5), 3 * (n // 5)])
        return cls(calibration=parts[0], fresh=parts[1], policy=parts[2], test=parts[3])


def decide(
    probabilities: Float[np.ndarray, "n C"],
    calibration_scores: Float[np.ndarray, " m"],
    levels: Levels,
    rng: np.random.Generator,
) -> Answers:
    """Draw an action for every item: its most likely class, the set of a threshold, or an abstention.

    With s = 1 − max p, thresholds q of the calibration scores and the slope k: P(single) = σ(−k (s − q_α)), P(abstain) = σ(k (s − q_β)),
    and a set of the classes with p ≥ 1 − q_β has the rest; the three are normalised. Where `levels.refused` is given, it replaces β in
    P(abstain).
    """
    refused = levels.beta if levels.refused is None else levels.refused
    single, largest, abstain = (
        quantile(calibration_scores, 1 - level) for level in (levels.alpha, levels.beta, refused)
    )
    score = 1 - probabilities.max(axis=1)
    chances = np.stack([_sigmoid(-levels.slope * (score - single)), _sigmoid(levels.slope * (score - abstain))])
    rest = np.clip(1 - chances.sum(axis=0), 0, None)
    chances /= chances.sum(axis=0) + rest
    drawn = rng.random(len(score))
    top = most_likely(probabilities)
    sets = (probabilities >= 1 - largest) | top
    sets[drawn < chances[0]] = top[drawn < chances[0]]
    sets[(drawn >= chances[0]) & (drawn < chances.sum(axis=0))] = False
    return Answers(sets=sets, probabilities=probabilities)


def cost(answers: Answers, labels: Int[np.ndarray, " n"], weights: Cost) -> float:
    """Return what a policy is charged for its answers; lower is better."""
    return _cost(answers.sets.sum(axis=1), answers.sets[np.arange(len(labels)), labels], weights)


def cost_score(answers: Answers, labels: Int[np.ndarray, " n"], weights: Cost, *, seed: int = 0) -> Score:
    """Return the cost with a percentile bootstrap interval over items.

    Where all items are alike, so that the bootstrap has no width, it is Wilson's for the share of errors.
    """
    sizes, covered = answers.sets.sum(axis=1), answers.sets[np.arange(len(labels)), labels]
    n, rng, value = len(labels), np.random.default_rng(seed), _cost(sizes, covered, weights)
    picks = (rng.integers(0, n, n) for _ in range(RESAMPLES // 4))
    low, high = np.quantile([_cost(sizes[pick], covered[pick], weights) for pick in picks], (0.025, 0.975))
    if low == high and sizes.any():
        errors = int((~covered).sum())
        low, high = (value + weights.error * (end - errors / n) for end in wilson(errors, n))
    return Score(name="cost", value=value, unit="", better="less", n=n, low=float(low), high=float(high))


def _cost(sizes: Int[np.ndarray, " n"], covered: Bool[np.ndarray, " n"], weights: Cost) -> float:
    """Return the cost of answers of these sizes, 0 for an abstention, that cover the true class or not."""
    answered = sizes > 0
    rates = np.array([(sizes == 1).mean(), (sizes > 1).mean(), (~answered).mean()])
    error = 1 - covered[answered].mean() if answered.any() else 0.0
    size = sizes[sizes > 1].mean() if (sizes > 1).any() else 0.0
    used = rates[rates > 0]
    return float(
        weights.error * error
        + weights.size * size
        + weights.abstention * rates[2]
        - weights.coverage * (1 - rates[2])
        + weights.entropy * (used * np.log(used)).sum()
        + weights.single * max(0.0, rates[0] - 0.8)
    )


def best_of_grid(charge: Callable[[Levels], float], steps: int = 7) -> Levels:
    """Return the levels of least cost on a grid of `steps` × `steps`."""
    grid = [
        Levels(alpha=float(a), beta=float(b)) for a in np.linspace(*ALPHA, steps) for b in np.linspace(*BETA, steps)
    ]
    return min(grid, key=charge)


def constrained(charge: Callable[[Levels], float], misses: Callable[[Levels], float]) -> Levels:
    """Return the levels of least cost of those without misses: a level of abstention of its own, wider ranges, and steeper sigmoids.

    Where all have misses, those with the fewest are taken.

    Args:
        charge: what levels cost.
        misses: how much the coverage of answered items falls short; 0 where it is reached.
    """
    choices = product(WIDE_ALPHA, WIDE_BETA, WIDE_REFUSED, SLOPES)
    grid = [Levels(alpha=alpha, beta=beta, refused=refused, slope=slope) for alpha, beta, refused, slope in choices]
    return min(grid, key=lambda levels: (misses(levels), charge(levels)))


class Policy(nn.Module):
    """Normal distribution over changes of the two levels, with 452 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(2, 64)
        self.mean = nn.Linear(64, 2)
        self.log_std = nn.Linear(64, 2)

    def forward(self, levels: torch.Tensor) -> torch.distributions.Normal:
        """Return the distribution of the action at these levels [2]."""
        hidden = self.hidden(levels).relu()
        return torch.distributions.Normal(self.mean(hidden), self.log_std(hidden).exp())


def learned(charge: Callable[[Levels], float], *, epochs: int = 200, seed: int = 0) -> Levels:
    """Return levels found by REINFORCE: one action per epoch, a step of 0.005 times the action, reward minus the cost."""
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, "policy") % 2**63)
        policy = Policy()
        optimiser = torch.optim.Adam(policy.parameters(), lr=1e-3)
        levels = torch.tensor(START)
        for _ in range(epochs):
            action = policy(levels)
            drawn = action.sample()
            levels = torch.stack(
                [(levels[0] + 0.005 * drawn[0]).clamp(*ALPHA), (levels[1] + 0.005 * drawn[1]).clamp(*BETA)]
            )
            reward = -charge(Levels(alpha=levels[0].item(), beta=levels[1].item()))
            optimiser.zero_grad()
            (-action.log_prob(drawn).sum() * reward).backward()
            optimiser.step()
    return Levels(alpha=levels[0].item(), beta=levels[1].item())


def compared(
    probabilities: Float[np.ndarray, "n C"],
    labels: Int[np.ndarray, " n"],
    split: Split,
    *,
    alpha: float = 0.1,
    weights: Cost | None = None,
    seed: int = 0,
) -> dict[str, Answers]:
    """Return the answers of every method on the items `split.test`.

    The methods: the most likely class; the same with a confidence threshold that abstains as often as the policy; LAC; APS;
    APS with randomisation; and the policy with levels from a grid, learned, fixed in advance, and of least cost among those that
    cover 1 − alpha of the answered items of `split.policy`.
    """
    weights = weights or Cost()
    test, scores = probabilities[split.test], 1 - probabilities[np.arange(len(labels)), labels]
    given = np.concatenate([split.calibration, split.fresh])

    @cache
    def tried(levels: Levels) -> Answers:
        rng = np.random.default_rng(derive(seed, "charge"))
        return decide(probabilities[split.policy], scores[split.calibration], levels, rng)

    def charge(levels: Levels) -> float:
        return cost(tried(levels), labels[split.policy], weights)

    def misses(levels: Levels) -> float:
        return max(0.0, 1 - alpha - _covered_share(tried(levels), labels[split.policy]))

    def acted(levels: Levels) -> Answers:
        return decide(test, scores[split.fresh], levels, np.random.default_rng(derive(seed, "test")))

    policy = acted(learned(charge, seed=seed))
    top = most_likely(test)
    return {
        "top-1": Answers(sets=top, probabilities=test),
        "threshold": Answers(sets=top & _surest(test, policy.answered.mean())[:, None], probabilities=test),
        "LAC": lac(test, probabilities[given], labels[given], alpha=alpha),
        "APS": aps(test, probabilities[given], labels[given], alpha=alpha, seed=seed),
        "APS randomised": aps(test, probabilities[given], labels[given], alpha=alpha, randomised=True, seed=seed),
        "policy, grid": acted(best_of_grid(charge)),
        "policy, learned": policy,
        "policy, fixed": acted(Levels(alpha=ALPHA[1], beta=BETA[1])),
        "policy, constrained": acted(constrained(charge, misses)),
    }


def _covered_share(answers: Answers, labels: Int[np.ndarray, " n"]) -> float:
    """Return the share of the answered items that are covered, as if there were one more that is not."""
    return float(answers.sets[np.arange(len(labels)), labels].sum() / (answers.answered.sum() + 1))


def most_likely(probabilities: Float[np.ndarray, "n C"]) -> Bool[np.ndarray, "n C"]:
    """Return sets of the most likely class alone; of equal ones the first, as `judged` has it."""
    return np.arange(probabilities.shape[1]) == probabilities.argmax(axis=1)[:, None]


def _surest(probabilities: Float[np.ndarray, "n C"], share: float) -> np.ndarray:
    """True for this share of the items, those with the largest top probability."""
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    chosen = np.zeros(len(probabilities), dtype=bool)
    chosen[order[: round(share * len(order))]] = True
    return chosen


def _sigmoid(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))
