"""The frozen model with hand-written texts, which every method is compared with: one template, or an ensemble of eight.

Reference: KaiyangZhou/CoOp, trainers/zsclip.py (`ZeroshotCLIP` and `ZeroshotCLIP2`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from percept.methods.adaptation.contract import Adaptation, Training
from percept.methods.adaptation.texts import SELECTED, TEMPLATE, Base, averaged_vectors


class ZeroShot(Adaptation):
    """One template. Nothing is trained."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """There is nothing to choose."""

    def __init__(self, config: Config, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        self.use(names)

    def declared(self) -> dict[str, int]:
        """Return nothing."""
        return {}

    def class_vectors(self) -> Float[Tensor, "c d"]:
        """Return the vectors of the template."""
        return self.hand_vectors()

    def neutral_twin(self) -> "ZeroShot":
        """Return the method itself: it is the frozen model."""
        return ZeroShot(self.config, self.base, self.names)

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return no epochs."""
        return Training(epochs=0)


class Templates(Adaptation):
    """The mean of seven selected templates and that of the data set. Nothing is trained."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Texts of the ensemble."""

        templates: tuple[str, ...] = SELECTED
        """With {} for the class name; the template of the data set is added."""

    def __init__(self, config: Config, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        self.use(names)

    def declared(self) -> dict[str, int]:
        """Return nothing."""
        return {}

    def class_vectors(self) -> Float[Tensor, "c d"]:
        """Return the mean vectors of the templates."""
        return averaged_vectors(self.base, self.names, (*self.config.templates, self.template))

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return no epochs."""
        return Training(epochs=0)
