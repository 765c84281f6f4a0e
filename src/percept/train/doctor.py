"""The training doctor: symptoms of common mistakes, each with what to do about it.

Every check is a function of values that the loop has anyway; it returns a message, or None if nothing is wrong.
"""

import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from percept.data.batch import Batch
from percept.models.clip import MAX_LOG_SCALE

KINDS = (
    "duplicate captions", "logit scale", "collapsed embeddings", "image normalisation", "learning rate", "forgetting",
    "data loading",
)  # fmt: skip
"""What is checked, in the order of a report."""
DUPLICATES = 0.2
"""Largest share of the captions in a batch that may be duplicates."""
FARTHEST = 2.7
"""Largest normalised pixel: white is 2.64 with the mean and deviation of ImageNet."""
OUTSIDE = 0.02
"""Share of pixels that may be farther away."""
FLAT = 0.02
"""Standard deviation of pixels below which images are taken to be blank."""
HISTORY, ENOUGH, STREAK = 50, 8, 5
"""Steps of a running median, steps it needs, and consecutive steps that count as a symptom."""
COLLAPSED = 0.999
"""Mean cosine of different vectors of a batch above which they are taken to be equal. Those of new models reach 0.98."""
LOSS_RATIO, NORM_RATIO = 2.0, 10.0
"""Multiples of the running median that are an explosion."""
FORGOTTEN, Z = 0.1, statistics.NormalDist().inv_cdf(0.975)
"""Share of an ability that may be lost, and the quantile of the normal distribution for a two-sided 95 % interval."""
STARVED, STARVED_SECONDS, WINDOW = 0.25, 1.0, 60.0
"""Share of the time, and seconds, spent waiting for data, and the seconds over which they are counted."""


@dataclass(frozen=True)
class Remark:
    """A symptom and its remedy."""

    kind: str
    """One of `KINDS`."""
    message: str


def duplicate_captions(tokens: Int[Tensor, "b n"]) -> str | None:
    """Check that captions of a batch differ: an equal caption of another image is a wrong negative of a contrastive loss."""
    repeats = len(tokens) - len(tokens.unique(dim=0))
    if len(tokens) < 2 or repeats <= DUPLICATES * len(tokens):
        return None
    return (
        f"{repeats} of the {len(tokens)} captions in a batch are duplicates. A contrastive loss pushes apart images that have the "
        "same caption. Remove duplicates (percept curate), or use more detailed captions."
    )


def scale_at_bound(scale: float) -> str | None:
    """Check that the learned scale of the logits is below its largest value."""
    bound = math.exp(MAX_LOG_SCALE)
    if scale < 0.999 * bound:
        return None
    return (
        f"the logit scale is at its bound, {bound:.0f}. This is usual at the end of a long run. Early in a run the scale grows "
        "too fast: lower its learning rate with a rule for log_scale."
    )


def collapsed(name: str, cosines: Sequence[float]) -> str | None:
    """Check that vectors of different samples differ.

    Args:
        name: what the vectors are of.
        cosines: mean over the pairs of a batch, of the latest steps.
    """
    last = list(cosines)[-STREAK:]
    if len(last) < STREAK or not min(last) > COLLAPSED:
        return None
    return (
        f"the vectors of different {name}s are nearly equal: their mean cosine is {last[-1]:.4f}. Lower the learning rate, warm "
        "up for longer, and check that the inputs differ."
    )


def normalisation(image: Float[Tensor, "b 3 y x"]) -> str | None:
    """Check that images are normalised to about mean 0 and standard deviation 1."""
    low, high = (float(end) for end in image.aminmax())
    advice = "Prepare images with the model's own Preprocess, once."
    if not math.isfinite(low + high):
        return f"images have values that are not finite. {advice}"
    if high > 20:
        return f"images have values from {low:.3g} to {high:.3g}; they were not divided by 255. {advice}"
    if image.numel() and float(image.float().std(correction=0)) < FLAT:
        return f"images hardly vary: values are from {low:.3g} to {high:.3g}. They are blank, or were scaled twice. {advice}"
    if low >= 0 and high <= 1:
        return (
            f"images have values from {low:.3g} to {high:.3g}; mean and standard deviation were not applied. {advice}"
        )
    if float((image.abs() > FARTHEST).float().mean()) > OUTSIDE:
        return f"images have values from {low:.3g} to {high:.3g}; they were normalised twice or with wrong values. {advice}"
    return None


def exploding(losses: Sequence[float], norms: Sequence[float], start: float = math.inf) -> str | None:
    """Check that loss and gradient norm of the last steps are not far above what they were, and the loss not above its start.

    They are compared with high values of the steps before, because losses of different kinds of batches may differ a lot.

    Args:
        losses: of the latest steps, the last one last.
        norms: gradient norms of the same steps, before clipping.
        start: what the loss was at the start, see `start_level`.
    """
    advice = "Lower the learning rate, warm up for longer, or clip gradients at a smaller norm."
    usual_loss = min(start, _high_before(losses))
    for name, values, usual, ratio in (
        ("loss", losses, usual_loss, LOSS_RATIO),
        ("gradient norm", norms, _high_before(norms), NORM_RATIO),
    ):
        last = list(values)[-STREAK:]
        if len(last) == STREAK and min(last) > ratio * abs(usual) + 0.05:
            return f"the {name} was {min(last):.3g} or more for {STREAK} steps; usual is {usual:.3g}. {advice}"
    return None


def start_level(losses: Sequence[float], before: float) -> float:
    """Return the loss that later losses are compared with: usually that of the first step.

    If a loss far above it is followed by a small one, batches are of several kinds; then it is the largest loss so far.

    Args:
        losses: of the latest steps, the last one last.
        before: the level before the last step; infinity at the first step.

    >>> start_level([1.0], math.inf), start_level([1.0, 9.0], 1.0), start_level([1.0, 9.0, 1.5], 1.0)
    (1.0, 1.0, 9.0)
    """
    last = losses[-1]
    if before == math.inf:
        return last
    far = LOSS_RATIO * before + 0.05
    return max(losses) if last <= far < max(losses) else before


def _high_before(values: Sequence[float]) -> float:
    """Return the 90 % quantile of the values before the last streak; infinity if there are too few."""
    before = list(values)[:-STREAK]
    return statistics.quantiles(before, n=10, method="inclusive")[-1] if len(before) >= ENOUGH else math.inf


def forgotten(name: str, before: float, now: float, *, samples: int = 0) -> str | None:
    """Check that an ability is still there.

    Args:
        samples: of both values, which are shares of right answers: a fall within the 95 % interval of their difference is not
            reported. 0 for values without an interval.
    """
    if now >= (1 - FORGOTTEN) * before or (samples and before - now <= margin(before, now, samples)):
        return None
    count = f" (n = {samples:,})" if samples else ""
    return (
        f"{name} fell from {before:.3g} before training to {now:.3g}{count}. Lower the learning rate, train fewer steps, freeze "
        "parts of the model or use adapters, or average the result with the start."
    )


def margin(first: float, second: float, samples: int) -> float:
    """Return how far two shares of right answers may differ by chance.

    Agresti and Caffo 2000, "Simple and effective confidence intervals for proportions and differences of proportions": one right and
    one wrong answer are added to each. The values are treated as independent; on the same samples chance does less.

    >>> round(margin(0.5, 0.5, 100), 3)
    0.14
    """
    shares = [(share * samples + 1) / (samples + 2) for share in (first, second)]
    half = Z * math.sqrt(sum(share * (1 - share) for share in shares) / (samples + 2))
    return half * (samples + 2) / samples


def starving(waited: float, seconds: float) -> str | None:
    """Check that the time waiting for data is a small share of all time."""
    if waited < STARVED_SECONDS or waited < STARVED * seconds:
        return None
    return (
        f"{waited:.1f} of {seconds:.1f} s were spent waiting for data. Use more workers, smaller image files, or shards on a "
        "faster disk."
    )


class Doctor:
    """Applies the checks to a run and reports each kind once. Lives on rank 0 and looks at its share of a batch."""

    def __init__(self) -> None:
        self.before: dict[str, float] = {}
        """Abilities before the first step, by name."""
        self.remarks: list[Remark] = []
        self.checked: set[str] = set()
        """Kinds that have been looked at."""
        self.begin_stage()
        self.waited = self.seconds = 0.0

    def begin_stage(self) -> None:
        """Forget earlier steps: those of a new stage do not compare with them."""
        self.losses: deque[float] = deque(maxlen=HISTORY)
        self.norms: deque[float] = deque(maxlen=HISTORY)
        self.start = math.inf
        """See `start_level`."""
        self.cosines = {name: deque[float](maxlen=STREAK) for name in ("image", "text")}

    def batch(self, batch: Batch, scalars: Mapping[str, float]) -> list[Remark]:
        """Look at a batch and what the task returned for it; return new remarks."""
        tensors, found = batch.tensors(), []
        tokens, image = tensors.get("tokens"), tensors.get("image")
        if tokens is not None and tokens.dim() == 2 and "scale" in scalars and "label" not in tensors:
            found.append(("duplicate captions", duplicate_captions(tokens)))
        if image is not None and image.is_floating_point():
            found.append(("image normalisation", normalisation(image)))
        return self._new(found)

    def step(self, scalars: Mapping[str, float]) -> list[Remark]:
        """Look at the scalars of a step; return new remarks."""
        self.losses.append(scalars["loss"])
        self.norms.append(scalars["gradient_norm"])
        self.start = start_level(self.losses, self.start)
        found: list[tuple[str, str | None]] = [("learning rate", exploding(self.losses, self.norms, self.start))]
        if "scale" in scalars:
            found.append(("logit scale", scale_at_bound(scalars["scale"])))
        for name, cosines in self.cosines.items():
            if f"{name}_cosine" in scalars:
                cosines.append(scalars[f"{name}_cosine"])
                found.append(("collapsed embeddings", collapsed(name, cosines)))
        return self._new(found)

    def time(self, waited: float, seconds: float) -> list[Remark]:
        """Add seconds of training and how many of them were spent waiting for data; return new remarks."""
        if self.seconds > WINDOW:
            self.waited = self.seconds = 0.0
        self.waited, self.seconds = self.waited + waited, self.seconds + seconds
        return self._new([("data loading", starving(self.waited, self.seconds))])

    def abilities(self, scalars: Mapping[str, float], *, samples: int = 0) -> list[Remark]:
        """Look at measurements of what training should keep; return new remarks. The first value of a name is its reference."""
        found = [
            ("forgetting", forgotten(name, self.before.setdefault(name, now), now, samples=samples))
            for name, now in scalars.items()
        ]
        return self._new(found)

    def _new(self, found: Sequence[tuple[str, Any]]) -> list[Remark]:
        known = {remark.kind for remark in self.remarks}
        self.checked |= {kind for kind, _ in found}
        fresh: dict[str, Remark] = {}
        for kind, message in found:
            if message is not None and kind not in known:
                fresh.setdefault(kind, Remark(kind, message))
        self.remarks += fresh.values()
        return list(fresh.values())
