"""TIP-CLIP: tune an encoder so that visual texts match their image and all other texts one NULL image.

Verma et al. 2023, "Learning the Visualness of Text Using Large Vision-Language Models", arXiv:2305.10434, section 4. With the NULL image I0 of
random pixels, and x_i = I_i for a visual text t_i, x_i = I0 for any other text:

    L = InfoNCE(x, t), symmetric, over the pairs of the batch
    S(t) = 1 - cos(I0, t)                  # visual where S(t) is at least a threshold, chosen on validation data

The texts of a batch that are not visual are negatives of each other's NULL image, as in the paper. No official code is published; the
tuning is of all weights, by Adam with a rate of 5e-5: 5 epochs on automatic labels (`percept.data.curate.visualness`), 2 on human ones.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from percept.data.batch import Batch
from percept.methods.contrast import check_micro_tokens, contrast, encode_images, encode_texts
from percept.models.clip import CLIP, unit
from percept.models.config import ClipConfig, TextConfig, VisionConfig


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged(Batch):
    """Texts that are visual, with their images, and texts that are not."""

    image: Float[Tensor, "b 3 y x"]
    """Preprocessed images; that of a text that is not visual is not used."""
    tokens: Int[Tensor, "b n"]
    """Token ids, padded with 0."""
    visual: Bool[Tensor, " b"]
    """True where a text is visual."""


class Visualness(nn.Module):
    """Both towers and the NULL image, a buffer that is stored with the weights."""

    shown = ("batch_accuracy",)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """How a step is computed."""

        micro_tokens: int | None = None
        """Tokens that a tower processes at once. All at once if None."""

        def __post_init__(self) -> None:
            check_micro_tokens(self.micro_tokens)

    def __init__(self, config: Config, clip: CLIP, null: Float[Tensor, "3 y x"]) -> None:
        """Tune `clip`; `null` is the NULL image, preprocessed like all others (`percept.data.curate.visualness.null_image`)."""
        super().__init__()
        self.config, self.clip = config, clip
        self.null: Tensor
        self.register_buffer("null", null.clone())

    def forward(self, batch: Judged) -> dict[str, Tensor]:
        """Return the loss, and the share of images whose nearest text is their own."""
        null = encode_images(self.clip, self.null[None].to(batch.image.dtype), self.config.micro_tokens)
        image = null.expand(len(batch.visual), -1).clone()
        if bool(batch.visual.any()):
            image[batch.visual] = encode_images(self.clip, batch.image[batch.visual], self.config.micro_tokens)
        text = encode_texts(self.clip, batch.tokens, self.config.micro_tokens)
        return contrast(self.clip, image, text, batch.tokens)

    @torch.no_grad()
    def visualness(self, tokens: Int[Tensor, "b n"]) -> Float[Tensor, " b"]:
        """Return S of texts: 1 minus the cosine with the NULL image."""
        null = unit(self.clip.encode_image(self.null[None]))[0]
        return 1 - self.clip.embed_text(tokens) @ null

    @classmethod
    def tiny(cls) -> tuple["Visualness", Judged]:
        """Return a task of a few thousand parameters and a batch for it."""
        vision = VisionConfig(image_size=16, patch_size=8, width=16, layers=1, heads=1, pool_heads=1, output_dim=12)
        text = TextConfig(context=6, vocabulary=20, width=16, layers=1, heads=1, output_dim=12)
        task = cls(cls.Config(), CLIP(ClipConfig(vision=vision, text=text)), torch.rand(3, 16, 16) * 2 - 1)
        tokens = torch.randint(1, 18, (4, 6))
        tokens[:, 0], tokens[:, -1] = 18, 19
        visual = torch.tensor([True, False, True, False])
        return task, Judged(image=torch.randn(4, 3, 16, 16), tokens=tokens, visual=visual)
