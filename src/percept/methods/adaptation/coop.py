"""CoOp: learn the context words of a class prompt, keep both towers frozen.

Zhou et al. 2022, arXiv:2109.01134. Reference: KaiyangZhou/CoOp, trainers/coop.py. With learned tokens v₁…v_M [equation 2], one context for
all classes or one for each,

    t_c = [start, v₁, …, v_M, name of c, ".", end],  w_c = Text(t_c) / |Text(t_c)|
    p(c | x) = softmax_c(s cos(f, w_c)),             loss = CE(p, y)

Differs from it: float32 throughout; the image vectors of training views are computed once, so an image has a fixed number of random
crops.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from percept.methods.adaptation.contract import Adaptation, Training
from percept.methods.adaptation.prompts import PHRASE, PromptConfig, SoftPrompt
from percept.methods.adaptation.texts import TEMPLATE, Base


def epochs_of(shots: int) -> int:
    """Return the epochs of the paper: 50 for one shot, 100 up to four, 200 above."""
    return 50 if shots == 1 else 100 if shots <= 4 else 200


class CoOp(Adaptation):
    """A learned context on frozen towers."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Paper defaults (section 4.1): 16 random tokens before the name, shared by all classes."""

        prompt: PromptConfig = field(default_factory=PromptConfig)
        """The learned tokens."""

    def __init__(self, config: Config, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        self.other_classes = not config.prompt.per_class
        self.prompt = SoftPrompt(config.prompt, base, self.names)
        self.use(names)

    def on_classes(self) -> None:
        """Rebuild the layout of the prompts."""
        self.prompt.use(self.names)

    def declared(self) -> dict[str, int]:
        """Return the context: M · width values, times the classes for a context per class."""
        chosen = self.config.prompt
        copies = len(self.names) if chosen.per_class else 1
        return {"prompt.context": copies * chosen.context * self.base.text.config.width}

    def class_vectors(self) -> Float[Tensor, "c d"]:
        """Return the unit vectors of the prompts."""
        return self.prompt.vectors(self.base.text)

    def neutral_twin(self) -> "CoOp":
        """Return the method with the words of the template as its context."""
        return CoOp(
            self.Config(prompt=PromptConfig(context=len(self.base.tokenizer.encode(PHRASE)), phrase=PHRASE)),
            self.base,
            self.names,
        )

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return SGD with rate 0.002 and batches of 32."""
        return Training(epochs=epochs_of(shots))

    @classmethod
    def tiny_config(cls) -> Config:
        """Return a short context."""
        return cls.Config(prompt=PromptConfig(context=4))
