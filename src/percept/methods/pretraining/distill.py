"""Distillation of an image-text model from a larger one: the student learns both similarity distributions of the teacher.

Bolya et al. 2025, arXiv:2504.13181, appendix (distillation of L and B from G). Student and teacher encode the same images and texts, each
with its own towers, image size and tokenizer; the loss is that of `percept.losses.distillation`. The teacher's scale is fixed at twice its
own, 200 for the published models. There is no contrastive loss besides.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core import dist
from percept.core.errors import PerceptError
from percept.data.batch import Batch
from percept.losses.distillation import distillation_loss
from percept.methods.contrast import check_micro_tokens, clamp_scale, encode_images, encode_texts
from percept.models.clip import CLIP, unit
from percept.models.config import ClipConfig, TextConfig, VisionConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class TaughtText(Batch):
    """Matching images and texts for a student and its teacher."""

    image: Float[Tensor, "b 3 y x"]
    """Preprocessed images, at the larger of both image sizes."""
    tokens: Int[Tensor, "b n"]
    """Token ids of the student, padded with 0."""
    teacher_tokens: Int[Tensor, "b m"]
    """Token ids of the teacher for the same texts."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The teacher's distribution, and how a step is computed."""

    sharpness: float = 2.0
    """The teacher's fixed scale is this times its own; 2 makes 200 of 100."""
    micro_tokens: int | None = None
    """Tokens that a tower processes at once. The loss compares the whole batch. None: as the recipe chooses for the device."""
    recompute: bool = False
    """Encode each part of `micro_tokens` again in the backward pass, so that activations of one part are stored at a time."""

    def __post_init__(self) -> None:
        check_micro_tokens(self.micro_tokens)
        if not 0 < self.sharpness < math.inf:
            raise PerceptError(f"sharpness must be positive and finite, got {self.sharpness}.")


def at_size(image: Float[Tensor, "b 3 y x"], size: int) -> Float[Tensor, "b 3 s s"]:
    """Return images at `size` pixels, bilinear with antialiasing; images of that size are returned as they are."""
    if image.shape[-2:] == (size, size):
        return image
    return F.interpolate(image.float(), (size, size), mode="bilinear", antialias=True).to(image.dtype)


class Distillation(nn.Module):
    """A student, which is trained, and a frozen teacher."""

    Config = Config
    shown = ("agreement", "scale")

    def __init__(self, config: Config, clip: CLIP, teacher: CLIP) -> None:
        super().__init__()
        self.config, self.clip = config, clip
        self.teacher = teacher.requires_grad_(False).eval()

    def forward(self, batch: TaughtText) -> dict[str, Tensor]:
        """Return the loss, the scale, and the share of images whose nearest text in the batch is the same for both models."""
        clamp_scale(self.clip)
        image, text = self._vectors(self.clip, batch.image, batch.tokens)
        with torch.no_grad():
            theirs = self._vectors(self.teacher, batch.image, batch.teacher_tokens)
            fixed = self.config.sharpness * float(self.teacher.scale())
        ours, texts, their_images, their_texts = (dist.gather(each) for each in (image, text, *theirs))
        loss = distillation_loss(ours, texts, self.clip.scale(), their_images, their_texts, teacher_scale=fixed)
        nearest, wanted = (
            rows.detach() @ columns.detach().T for rows, columns in ((image, texts), (theirs[0], their_texts))
        )
        agreement = (nearest.argmax(dim=1) == wanted.argmax(dim=1)).float().mean()
        return {"loss": loss, "scale": self.clip.scale().detach(), "agreement": agreement}

    def _vectors(
        self, clip: CLIP, image: Float[Tensor, "b 3 y x"], tokens: Int[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        """Return unit vectors of images and texts."""
        parts = self.config.micro_tokens, self.config.recompute
        pixels = at_size(image, clip.config.vision.image_size)
        return unit(encode_images(clip, pixels, *parts)), unit(encode_texts(clip, tokens, *parts))

    @classmethod
    def tiny(cls) -> tuple["Distillation", TaughtText]:
        """Return a task of a few thousand parameters and a batch for it."""

        def clip(size: int, width: int, vocabulary: int) -> CLIP:
            vision = VisionConfig(
                image_size=size, patch_size=8, width=width, layers=1, heads=1, pool_heads=1, output_dim=12
            )
            text = TextConfig(context=6, vocabulary=vocabulary, width=width, layers=1, heads=1, output_dim=12)
            return CLIP(ClipConfig(vision=vision, text=text))

        def tokens(vocabulary: int) -> Int[Tensor, "b n"]:
            ids = torch.randint(1, vocabulary - 2, (4, 6))
            ids[:, 0], ids[:, -1] = vocabulary - 2, vocabulary - 1
            return ids

        task = cls(Config(), clip(16, 16, 20), clip(24, 24, 30))
        return task, TaughtText(image=torch.randn(4, 3, 24, 24), tokens=tokens(20), teacher_tokens=tokens(30))
