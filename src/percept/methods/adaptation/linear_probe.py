"""Linear probe: multinomial logistic regression on the frozen image vectors of the shots; texts are not used.

Radford et al. 2021, arXiv:2103.00020, section 3.2. The weight decay has the least cross-entropy on a quarter of the shots
(`percept.eval.probes.linear`). New classes cannot be named.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.eval.probes.linear import fit_linear
from percept.methods.adaptation.contract import Adaptation, Shots, Training, Views
from percept.methods.adaptation.texts import TEMPLATE, Base


class LinearProbe(Adaptation):
    """A linear layer on frozen vectors, fitted by L-BFGS in `prepare`."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """There is little to choose."""

        seed: int = 0
        """Of the quarter that the weight decay is chosen on."""

    def __init__(self, config: Config, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        self.other_classes, self._trained = False, self.names
        self.head = nn.Linear(base.text.config.output_dim, len(self.names))

    def on_classes(self) -> None:
        """Refuse other classes."""
        if self.names != self._trained:
            raise PerceptError(
                f"a linear probe knows only the classes that it was trained on: {', '.join(self._trained[:4])}. Train it on the others too."
            )

    def prepare(self, shots: Shots) -> None:
        """Fit the layer to the whole images."""
        fitted = fit_linear(shots.vectors[0].float(), shots.label, len(self.names), seed=self.config.seed)
        weight = fitted.linear.weight / fitted.standardise.deviation
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.copy_(fitted.linear.bias - weight @ fitted.standardise.mean)

    def declared(self) -> dict[str, int]:
        """Return the layer."""
        length = self.base.text.config.output_dim
        return {"head.weight": length * len(self.names), "head.bias": len(self.names)}

    def class_vectors(self) -> Float[Tensor, "c d"]:
        """Return the rows of the layer, which are not of unit length."""
        return self.head.weight

    def logits(self, batch: Views) -> Float[Tensor, "b c"]:
        """Return the layer's answers."""
        return F.linear(batch.vector.float(), self.head.weight.float(), self.head.bias.float())

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return no epochs: `prepare` finds the minimum."""
        return Training(epochs=0)
