"""MaPLe: learned tokens in the first blocks of both towers; those of the image tower are linear functions of those of the text tower.

Khattak et al. 2023, arXiv:2210.03117. Reference: muzairkhattak/multimodal-prompt-learning, trainers/maple.py. With the vectors w of
the classes and f of the images that the tokens of `deep` give [equations 1 to 5],

    loss = CE(softmax_c(s cos(f, w_c)), y)

Differs from it: the points listed in `deep`; runs that are measured on other data sets have the settings for base and new
classes too, where the paper trains tokens in three blocks for 2 epochs with rate 0.0026.
"""

from dataclasses import dataclass, field, replace

from percept.methods.adaptation.contract import Training
from percept.methods.adaptation.deep import DeepConfig, DeepPrompted, words_only


class MaPLe(DeepPrompted):
    """Coupled tokens in both towers."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Paper defaults (section 4.1): two tokens in nine blocks."""

        prompts: DeepConfig = field(default_factory=DeepConfig)
        """The learned tokens; `towers` has the ablations."""

    def neutral_twin(self) -> "MaPLe":
        """Return the method with the words of the template in the first block of the text tower, and nothing else."""
        return MaPLe(replace(self.config, prompts=words_only()), self.base, self.names)

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return that for base and new classes: 5 epochs with rate 0.0035 and batches of 4."""
        return Training(epochs=5, batch=4, rate=3.5e-3)
