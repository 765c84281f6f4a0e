"""Contrastive pretraining of an image tower and a text tower (CLIP).

Radford et al. 2021, arXiv:2103.00020, figure 3: symmetric InfoNCE with a learned scale, at most 100; or the sigmoid loss of Zhai
et al. 2023, arXiv:2303.15343. The loss compares all pairs of the global batch, whatever the number of processes and of parts in
which the towers process it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from percept.data.batch import ImageText
from percept.losses.sigmoid import INITIAL_BIAS
from percept.methods.contrast import check_form, check_micro_tokens, contrast, encode_images, encode_texts
from percept.models.clip import CLIP
from percept.models.config import ClipConfig, TextConfig, VisionConfig


class Contrastive(nn.Module):
    """Both towers and the scale."""

    shown = ("batch_accuracy", "scale")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """How a step is computed."""

        micro_tokens: int | None = None
        """Tokens that a tower processes at once; smaller parts fit the caches of a CPU better. All at once if None."""
        recompute: bool = False
        """Encode each part again in the backward pass, so that activations of only one part are stored: a batch larger than
        the memory for activations, with the same gradients."""
        form: str = "auto"
        """auto, dense, tiled or sigmoid, see `percept.methods.contrast.contrast`."""

        def __post_init__(self) -> None:
            check_micro_tokens(self.micro_tokens)
            check_form(self.form)

    def __init__(self, config: Config, clip: CLIP) -> None:
        super().__init__()
        self.config, self.clip = config, clip
        self.bias = nn.Parameter(torch.tensor(INITIAL_BIAS)) if config.form == "sigmoid" else None

    def forward(self, batch: ImageText) -> dict[str, Tensor]:
        """Return the loss, the scale, and the share of images whose nearest text is their own."""
        config = self.config
        image = encode_images(self.clip, batch.image, config.micro_tokens, config.recompute)
        text = encode_texts(self.clip, batch.tokens, config.micro_tokens, config.recompute)
        return contrast(self.clip, image, text, batch.tokens, form=config.form, bias=self.bias)

    @classmethod
    def tiny(cls) -> tuple["Contrastive", ImageText]:
        """Return a task of a few thousand parameters and a batch for it."""
        vision = VisionConfig(image_size=16, patch_size=8, width=16, layers=1, heads=1, pool_heads=1, output_dim=12)
        text = TextConfig(context=6, vocabulary=20, width=16, layers=1, heads=1, output_dim=12)
        task = cls(cls.Config(), CLIP(ClipConfig(vision=vision, text=text)))
        tokens = torch.randint(1, 18, (4, 6))
        tokens[:, 0], tokens[:, -1] = 18, 19
        return task, ImageText(image=torch.randn(4, 3, 16, 16), tokens=tokens)
