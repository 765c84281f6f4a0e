"""How likely a model finds given answers."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from percept.infer.prefill import Started
from percept.models.vlm import VLM
from percept.nn.cache import KVCache


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A possible answer and how likely it is."""

    label: str
    probability: float
    """Among all choices."""
    log_likelihood: float
    """Of all tokens and the end of the answer, in nats."""
    tokens: int
    """Number of tokens, with the end."""

    def __str__(self) -> str:
        return f"{self.label} {self.probability:.0%}"


def ranked(labels: Sequence[str], rows: Sequence[Sequence[float]], *, per_token: bool) -> list[Choice]:
    """Return choices, the most likely first.

    Args:
        rows: log-likelihoods of the tokens of each.
        per_token: compare means instead of sums.
    """
    sums = torch.tensor([sum(row) for row in rows], dtype=torch.float64)
    counts = torch.tensor([len(row) for row in rows])
    shares = (sums / counts if per_token else sums).softmax(dim=0)
    order: list[int] = shares.argsort(descending=True, stable=True).tolist()
    return [
        Choice(
            label=labels[place],
            probability=float(shares[place]),
            log_likelihood=float(sums[place]),
            tokens=len(rows[place]),
        )
        for place in order
    ]


def continued(model: VLM, started: Started, texts: Sequence[Sequence[int]]) -> list[list[float]]:
    """Return the log-likelihood of each token of some texts that continue the first row of a batch."""
    prompt, longest = started.cache.lengths[0], max(map(len, texts))
    cache = KVCache.joined([(started.cache, 0, prompt)] * len(texts), capacity=prompt + longest)
    ids = torch.zeros(len(texts), max(1, longest - 1), dtype=torch.long)
    for row, text in enumerate(texts):
        ids[row, : len(text) - 1] = torch.tensor(text[:-1], dtype=torch.long)
    counts = [len(text) - 1 for text in texts]
    out = model.decoder(ids.to(started.logits.device), cache=cache, counts=counts).tokens
    return [
        _of_row(torch.cat([started.logits[:1], model.decoder.logits(out[row, : len(text) - 1])]), text)
        for row, text in enumerate(texts)
    ]


def _of_row(logits: Float[Tensor, "n v"], text: Sequence[int]) -> list[float]:
    chosen = torch.tensor(text, device=logits.device)[:, None]
    return logits.float().log_softmax(dim=-1).gather(-1, chosen)[:, 0].tolist()
