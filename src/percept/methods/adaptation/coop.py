"""CoOp: learn the context words of a class prompt, keep both towers frozen.

Zhou et al. 2022, arXiv:2109.01134. Reference: KaiyangZhou/CoOp, trainers/coop.py. With learned tokens v₁…v_M [equation 2], one context for
all classes or one for each,

    t_c = [start, v₁, …, v_M, name of c, ".", end],  w_c = Text(t_c) / |Text(t_c)|
    p(c | x) = softmax_c(s cos(f, w_c)),             loss = CE(p, y)

Differs from it: float32 throughout; the image vectors of training views are computed once, so an image has a fixed number of random
crops.
"""

from dataclasses import dataclass, field

from percept.methods.adaptation.contract import Training
from percept.methods.adaptation.prompts import PromptConfig, Prompted


def epochs_of(shots: int) -> int:
    """Return the epochs of the paper: 50 for one shot, 100 up to four, 200 above."""
    return 50 if shots == 1 else 100 if shots <= 4 else 200


class CoOp(Prompted):
    """A learned context on frozen towers."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Paper defaults (section 4.1): 16 random tokens before the name, shared by all classes."""

        prompt: PromptConfig = field(default_factory=PromptConfig)
        """The learned tokens."""

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return SGD with rate 0.002 and batches of 32."""
        return Training(epochs=epochs_of(shots))
