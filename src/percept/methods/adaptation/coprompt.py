"""CoPrompt: deep prompts and adapters that stay consistent with the frozen model on perturbed inputs.

Roy and Etemad 2024, arXiv:2306.01195. Reference: ShuvenduRoy/CoPrompt, trainers/coprompt.py. With the prompts of MaPLe, an adapter A of each
tower, and the projected vectors f and w of both,

    f ← 0.9 f + 0.1 A_f(f),  w ← 0.8 w + 0.2 A_w(w),  A(x) = relu(W₂ relu(W₁ x))
    loss = CE + W [1 - mean_c cos(w_c, w⁰_cj) + 1 - mean_b cos(f(x₁), f⁰(x₂))]

w⁰_cj is the frozen vector of sentence j about class c, with one random j for all classes in a step; x₁ and x₂ are two random crops of an image.

Differs from it: crops are the only augmentation of images; x₂ is one of the stored crops; data sets without sentences get the written
ones of `sentences`. W is 1 in the configuration of the reference and 8 in its code; the last epoch is used for all data sets.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.methods.adaptation.adapters import FeatureAdapter
from percept.methods.adaptation.contract import Shots, Training, Views
from percept.methods.adaptation.deep import DeepConfig, DeepPrompted, words_only
from percept.methods.adaptation.sentences import SentenceBank, sentences_of
from percept.methods.adaptation.texts import TEMPLATE, Base
from percept.models.clip import unit


def consistency_loss(vectors: Float[Tensor, "n d"], frozen: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Return 1 - the mean cosine of each vector with the frozen one."""
    return 1 - F.cosine_similarity(vectors, frozen, dim=1).mean()


class CoPrompt(DeepPrompted):
    """Deep prompts, adapters and a frozen teacher."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Defaults of the reference."""

        prompts: DeepConfig = field(default_factory=DeepConfig)
        """The learned tokens."""
        reduction: int = 4
        """The hidden layer of an adapter has 1 / reduction of the length of a vector; 0 for no adapters."""
        image_share: float = 0.1
        """Of the adapter in the vector of an image."""
        text_share: float = 0.2
        """Of the adapter in the vector of a class."""
        weight: float = 1.0
        """Of the consistency [W]; 0 to leave it out."""
        perturbed: bool = True
        """Compare with other crops and with sentences; otherwise with the same crop and the template."""

        def __post_init__(self) -> None:
            if min(self.reduction, self.weight, self.image_share, self.text_share) < 0:
                raise PerceptError(
                    f"reduction, weight and shares must be at least 0, got reduction={self.reduction}, weight={self.weight}, "
                    f"image_share={self.image_share}, text_share={self.text_share}."
                )

    def __init__(self, config: Config, base: Base, names: Sequence[str], template: str = TEMPLATE) -> None:
        super().__init__(config, base, names, template)
        if config.reduction:
            length = base.text.config.output_dim
            self.image_adapter = FeatureAdapter(length, self.hidden, bias=False, last=True)
            self.text_adapter = FeatureAdapter(length, self.hidden, bias=False, last=True)
        self.bank: SentenceBank | None = None
        self.step = 0

    @property
    def hidden(self) -> int:
        """Hidden units of an adapter."""
        return max(1, self.base.text.config.output_dim // self.config.reduction)

    def prepare(self, shots: Shots) -> None:
        """Read the sentences."""
        self.bank, self.step = SentenceBank(self.base, sentences_of(shots)), 0

    def fold(self) -> None:
        """Remove the sentences."""
        self.bank = None

    def declared(self) -> dict[str, int]:
        """Return the prompts and the adapters."""
        sizes = super().declared()
        if self.config.reduction:
            for name in ("image_adapter", "text_adapter"):
                sizes |= FeatureAdapter.sizes(name, self.base.text.config.output_dim, self.hidden, bias=False)
        return sizes

    def text_features(self) -> Float[Tensor, "c d"]:
        """Return the vectors of the prompts, blended with their adapter."""
        own, share = super().text_features().float(), self.config.text_share
        return own.lerp(self.text_adapter(own), share) if self.config.reduction else own

    def image_features(self, image: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b d"]:
        """Return the vectors of images, blended with their adapter."""
        own, share = super().image_features(image).float(), self.config.image_share
        return own.lerp(self.image_adapter(own), share) if self.config.reduction else own

    def teachers(self, batch: Views) -> tuple[Float[Tensor, "c d"], Float[Tensor, "b d"]]:
        """Return the frozen vectors that classes and images are compared with."""
        if not self.config.perturbed:
            assert batch.image is not None
            with torch.no_grad():
                return self.hand_vectors(), unit(self.clip.encode_image(batch.image))
        assert self.bank is not None, "prepare reads the sentences"
        chosen = random.Random(derive(0, "sentence", self.step)).randrange(self.bank.vectors.shape[1])
        return self.bank.vectors[:, chosen], batch.vector.float()

    def losses(self, batch: Views) -> dict[str, Tensor]:
        """Return the cross-entropy and the consistency of both towers."""
        classes, images, weight = self.class_vectors(), self.image_vectors(batch), self.config.weight
        found = {"cross_entropy": F.cross_entropy(self.clip.scale() * images @ classes.T, batch.label)}
        if weight:
            text, image = self.teachers(batch)
            found["text"] = weight * consistency_loss(classes, text)
            found["image"] = weight * consistency_loss(images, image)
        return found

    def after_step(self, step: int) -> None:
        """Count the steps, which choose the sentences."""
        self.step = step + 1

    def neutral_twin(self) -> "CoPrompt":
        """Return the method with the words of the template and no adapters."""
        return CoPrompt(replace(self.config, prompts=words_only(), reduction=0), self.base, self.names)

    @classmethod
    def recipe(cls, shots: int) -> Training:
        """Return 8 epochs with rate 0.0035 and batches of 4."""
        return Training(epochs=8, batch=4, rate=3.5e-3)
