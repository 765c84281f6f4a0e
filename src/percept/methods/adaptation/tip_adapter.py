"""Tip-Adapter-F: a cache of the image vectors of the shots, added to the zero-shot logits; the keys are fine-tuned.

Zhang et al. 2022, arXiv:2207.09519. Reference: gaopengcuhk/Tip-Adapter, main.py. With keys K (unit vectors of the shots at first) and their
labels L as rows of 0 and 1 [equations 4 to 6],

    logits(f) = s f W⁰ᵀ + α exp(-β (1 - f Kᵀ)) L

New classes have no entries in the cache and are classified zero-shot. Differs from it: α and β are not searched on a validation set, the
cosine is stepped once per epoch, and AdamW has its usual ε (the reference: 0.0001).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from percept.methods.adaptation.contract import Adaptation, Shots, Training, Views
from percept.methods.adaptation.texts import TEMPLATE, Base


class TipAdapter(Adaptation):
    """Zero-shot logits plus a cache."""

    values: Tensor

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The values with the best accuracy in the ablation of the paper; the search of the reference starts at α = 1.17 and β = 1."""

        share: float = 1.0
        """Of the cache in the logits [α]."""
        sharpness: float = 5.5
        """How fast the weight of an entry falls with its distance [β]."""
        entries: int = 0
        """Images in the cache; set from the shots."""
        cached: tuple[str, ...] = ()
        """Classes of the cache; set from the shots."""

        def __post_init__(self) -> None:
            object.__setattr__(self, "cached", tuple(self.cached))

    def __init__(self, config: Config, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        length, entries = base.text.config.output_dim, config.entries
        self.keys = nn.Parameter(torch.zeros(entries, length))
        self.register_buffer("values", torch.zeros(entries, dtype=torch.int64))
        self.use(names)

    def prepare(self, shots: Shots) -> None:
        """Fill the cache with the mean vector of the views of each image."""
        vectors = F.normalize(shots.vectors.float().mean(dim=0), dim=1)
        self.config = replace(self.config, entries=len(shots), cached=shots.names)
        self.keys = nn.Parameter(vectors.clone())
        self.values = shots.label.clone().to(vectors.device)
        self.on_classes()

    def on_classes(self) -> None:
        """Find the cached classes among the names."""
        places = {name: place for place, name in enumerate(self.names)}
        self._columns = torch.tensor([places.get(name, -1) for name in self.config.cached], dtype=torch.int64)

    def declared(self) -> dict[str, int]:
        """Return the keys: one vector per shot."""
        return {"keys": self.config.entries * self.base.text.config.output_dim}

    def class_vectors(self) -> Float[Tensor, "c d"]:
        """Return the vectors of the template."""
        return self.hand_vectors()

    def logits(self, batch: Views) -> Float[Tensor, "b c"]:
        """Return zero-shot logits plus the cache."""
        vector = batch.vector.float()
        near = torch.exp(-self.config.sharpness * (1 - vector @ self.keys.float().T))
        column = self._columns.to(self.values.device)[self.values] if len(self.values) else self.values
        kept = column >= 0
        labels = F.one_hot(column[kept], len(self.names)).float()
        return self.clip.scale() * vector @ self.hand_vectors().T + self.config.share * near[:, kept] @ labels

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return 20 epochs of AdamW with rate 0.001 and batches of 256."""
        return Training(epochs=20, batch=256, rate=1e-3, optimiser="adamw", weight_decay=0.01, warmup=0)
