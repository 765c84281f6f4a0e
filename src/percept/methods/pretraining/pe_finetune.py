"""Fine-tuning of an image-text model on own images: contrast in which all texts of the same class are right answers.

    L = 1/2 [ CE(s I T', P) + CE(s T I', P) ],   P_ij = 1 / (number of samples with the class of i) if i and j have one class, else 0

Yang et al. 2022, arXiv:2204.03610 (UniCL), equations 3 to 5, here with a learned scale. If all classes differ, this is symmetric InfoNCE,
the loss of pretraining, which is what fine-tuning keeps best (Goyal et al. 2023, arXiv:2212.00638, FLYP).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core import dist
from percept.data.batch import Batch
from percept.methods.contrast import check_micro_tokens, clamp_scale, encode_images, encode_texts, mean_cosine
from percept.models.clip import CLIP, unit
from percept.models.config import ClipConfig, TextConfig, VisionConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledText(Batch):
    """Matching images and texts, with a class for each pair."""

    image: Float[Tensor, "b 3 y x"]
    """Preprocessed images."""
    tokens: Int[Tensor, "b n"]
    """Token ids, padded with 0."""
    label: Int[Tensor, " b"]
    """Number of the class; pairs of one class are right answers for each other."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """How a step is computed."""

    micro_tokens: int | None = None
    """Tokens that a tower processes at once. The loss compares the whole batch. None: as the recipe chooses for the device."""
    recompute: bool = False
    """Encode each part of `micro_tokens` again in the backward pass, so that activations of one part are stored at a time."""

    def __post_init__(self) -> None:
        check_micro_tokens(self.micro_tokens)


def class_contrast(
    image: Float[Tensor, "b d"],
    text: Float[Tensor, "b d"],
    scale: Float[Tensor, ""],
    label: Int[Tensor, " b"],
    *,
    images: Float[Tensor, "k d"],
    texts: Float[Tensor, "k d"],
    labels: Int[Tensor, " k"],
) -> Float[Tensor, ""]:
    """Return the mean loss of b pairs among the k of a global batch; `images`, `texts` and `labels` are those of all pairs.

    Args:
        image: unit vectors.
        text: unit vectors.
        scale: multiplies the cosines.
        label: class of each pair.
    """
    same = (label[:, None] == labels[None]).float()
    right = same / same.sum(dim=1, keepdim=True)
    with torch.autocast(image.device.type, enabled=False):
        rows = F.cross_entropy(scale * image.float() @ texts.float().T, right)
        columns = F.cross_entropy(scale * text.float() @ images.float().T, right)
        return (rows + columns) / 2


class Finetuning(nn.Module):
    """Both towers and the scale."""

    Config = Config
    shown = ("batch_accuracy", "scale")

    def __init__(self, config: Config, clip: CLIP) -> None:
        super().__init__()
        self.config, self.clip = config, clip

    def forward(self, batch: LabelledText) -> dict[str, Tensor]:
        """Return the loss, the scale, and the share of images whose nearest text has their class."""
        clamp_scale(self.clip)
        parts = self.config.micro_tokens, self.config.recompute
        image, text = (
            unit(encode_images(self.clip, batch.image, *parts)),
            unit(encode_texts(self.clip, batch.tokens, *parts)),
        )
        images, texts, labels = (dist.gather(each) for each in (image, text, batch.label))
        scale = self.clip.scale()
        loss = class_contrast(image, text, scale, batch.label, images=images, texts=texts, labels=labels)
        nearest = (image.detach() @ texts.detach().T).argmax(dim=1)
        right = (labels[nearest] == batch.label).float().mean()
        cosine = mean_cosine(image)
        return {"loss": loss, "scale": scale.detach(), "batch_accuracy": right, "image_cosine": cosine}

    @classmethod
    def tiny(cls) -> tuple["Finetuning", LabelledText]:
        """Return a task of a few thousand parameters and a batch for it."""
        vision = VisionConfig(image_size=16, patch_size=8, width=16, layers=1, heads=1, pool_heads=1, output_dim=12)
        text = TextConfig(context=6, vocabulary=20, width=16, layers=1, heads=1, output_dim=12)
        task = cls(Config(), CLIP(ClipConfig(vision=vision, text=text)))
        tokens = torch.randint(1, 18, (4, 6))
        tokens[:, 0], tokens[:, -1] = 18, 19
        image = torch.randn(4, 3, 16, 16)
        return task, LabelledText(image=image, tokens=tokens, label=torch.tensor([0, 1, 0, 2]))
