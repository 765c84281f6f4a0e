"""How answers are generated, and how the next token is chosen."""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypedDict

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.seed import derive

Allowed: TypeAlias = Int64[np.ndarray, " _"]
"""Token ids."""


class GenerationOptions(TypedDict, total=False):
    """Options of answers; their meaning and defaults are those of `Generation`."""

    max_new_tokens: int
    temperature: float
    top_p: float
    top_k: int | None
    samples: int | None
    seed: int | None
    stop: str | Sequence[str]
    choices: Sequence[str] | None
    pattern: str | None


@dataclass(frozen=True, kw_only=True)
class Generation:
    """How answers are generated."""

    max_new_tokens: int = 256
    """Most tokens of an answer."""
    temperature: float = 0.0
    """Divides the logits before sampling; 0 takes the most likely token every time."""
    top_p: float = 1.0
    """Sample from the most likely tokens that together have at least this probability."""
    top_k: int | None = None
    """Sample from this many most likely tokens; no limit when None."""
    samples: int | None = None
    """Return a list of this many answers; None for one answer, not in a list."""
    seed: int | None = None
    """The random numbers of an answer depend on the seed and the number of its sample only; new ones each time when None."""
    stop: tuple[str, ...] = ()
    """Texts before which an answer ends."""
    choices: tuple[str, ...] | None = None
    """The answer is one of these."""
    pattern: str | None = None
    """The answer matches this regular expression completely; see `percept.infer.grammar`."""

    @classmethod
    def of(cls, options: GenerationOptions) -> "Generation":
        """Return checked options.

        Raises:
            PerceptError: a value is out of range or has no effect.
        """
        values: dict[str, Any] = dict(options)
        values["stop"] = _texts(values.get("stop", ()), "stop")
        if values.get("choices") is not None:
            values["choices"] = check_choices(values["choices"])
        return cls(**values)

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "top_k", "samples"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise PerceptError(f"{name} must be a positive integer, got {value!r}.")
        if not _is_number(self.temperature) or not 0 <= self.temperature < math.inf:
            raise PerceptError(f"temperature must be 0 or a positive number, got {self.temperature!r}.")
        if not _is_number(self.top_p) or not 0 < self.top_p <= 1:
            raise PerceptError(f"top_p must be above 0 and at most 1, got {self.top_p!r}.")
        if self.seed is not None and (isinstance(self.seed, bool) or not isinstance(self.seed, int)):
            raise PerceptError(f"seed must be an integer, got {self.seed!r}.")
        if not isinstance(self.pattern, str | None):
            raise PerceptError(f"pattern must be a string, got {self.pattern!r}.")
        ignored = self.top_p < 1 or self.top_k is not None or (self.samples or 1) > 1
        if self.temperature == 0 and ignored:
            raise PerceptError(
                "top_p, top_k and several samples have no effect at temperature 0, which always takes the most likely token. Give "
                "a temperature such as 0.7, or leave them out."
            )
        if self.choices is not None and self.pattern is not None:
            raise PerceptError(
                "choices and pattern were given, but an answer follows one of them. Leave out the other."
            )

    def dice(self, sample: int) -> random.Random:
        """Return the random numbers of one answer."""
        return random.Random() if self.seed is None else random.Random(derive(self.seed, "answer", sample))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _texts(given: Any, name: str) -> tuple[str, ...]:
    if not isinstance(given, str | Iterable):
        raise PerceptError(f"{name} must be a string or a list of strings, got {given!r}.")
    texts = (given,) if isinstance(given, str) else tuple(given)
    if not all(isinstance(text, str) and text for text in texts):
        raise PerceptError(f"{name} must hold non-empty strings, got {list(texts)!r}.")
    return texts


def check_choices(given: Sequence[str]) -> tuple[str, ...]:
    """Return choices as a tuple.

    Raises:
        PerceptError: there are none, one is empty or not a string, or one occurs twice.
    """
    if isinstance(given, str):
        raise PerceptError(f"choices must be a list of strings, got {given!r}. Use ['yes', 'no'] for two choices.")
    choices = _texts(given, "choices")
    if not choices:
        raise PerceptError("choices is empty, so there is nothing to choose from. Give at least one.")
    twice = sorted({choice for choice in choices if choices.count(choice) > 1})
    if twice:
        raise PerceptError(f"choices must be distinct, got more than once: {', '.join(twice)}.")
    return choices


def pick(
    logits: Float[Tensor, "b v"],
    generation: Generation,
    dice: Sequence[random.Random],
    allowed: Sequence[Allowed | None] = (),
) -> list[int]:
    """Return the next token of each row.

    Args:
        logits: of the next token, on any device.
        dice: random numbers of each row; one is used for a token unless the temperature is 0.
        allowed: ids to choose from in each row; all when None, or when nothing is given.

    Raises:
        PerceptError: a logit is NaN or infinite.
    """
    logits = logits.float()
    if not logits.amax(dim=-1).isfinite().all():
        raise PerceptError(
            "the model computed NaN or infinite logits. Its weights are damaged, or their type is too narrow: try dtype='float32'."
        )
    if any(ids is not None for ids in allowed):
        logits = _restricted(logits, allowed)
    if generation.temperature == 0:
        return logits.argmax(dim=-1).tolist()
    return _sampled(logits, generation, [row.random() for row in dice])


def _restricted(logits: Float[Tensor, "b v"], allowed: Sequence[Allowed | None]) -> Float[Tensor, "b v"]:
    """Return logits that are -inf for every id that is not allowed."""
    result = torch.full_like(logits, float("-inf"))
    for row, ids in enumerate(allowed):
        index = slice(None) if ids is None else torch.as_tensor(ids, device=logits.device)
        result[row, index] = logits[row, index]
    return result


def _sampled(logits: Float[Tensor, "b v"], generation: Generation, uniform: list[float]) -> list[int]:
    """Draw one token per row by inverting the cumulative distribution of its sorted probabilities."""
    most = min(generation.top_k or logits.shape[-1], logits.shape[-1])
    if generation.top_k is None:
        values, order = logits.sort(dim=-1, descending=True, stable=True)
    else:
        values, order = logits.topk(most, dim=-1)
    shares = (values / generation.temperature).softmax(dim=-1)
    shares = shares.masked_fill(shares.cumsum(dim=-1) - shares >= generation.top_p, 0)
    sums = shares.cumsum(dim=-1)
    target = torch.tensor(uniform, device=logits.device, dtype=sums.dtype)[:, None] * sums[:, -1:]
    place = (sums <= target).sum(dim=-1, keepdim=True)
    last = (shares > 0).sum(dim=-1, keepdim=True) - 1
    return order.gather(-1, torch.minimum(place, last))[:, 0].tolist()
