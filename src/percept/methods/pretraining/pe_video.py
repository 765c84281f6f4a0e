"""Video training of the Perception Encoder: contrast of clips and captions, a clip being the mean of its frames.

Bolya et al. 2025, arXiv:2504.13181, section 3: frames are encoded one by one, their vectors are averaged, and the loss is that of image
pretraining. The paper does not say whether the vectors of frames are scaled to length 1 before they are averaged; here they are not.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from percept.data.sources.batches import VideoText
from percept.methods.contrast import check_micro_tokens, contrast, encode_images, encode_texts
from percept.models.clip import CLIP, average_frames
from percept.models.config import ClipConfig, TextConfig, VisionConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """How clips are encoded."""

    normalize_frames: bool = False
    """Scale the vector of every frame to length 1 before the mean."""
    micro_tokens: int | None = None
    """Tokens that a tower processes at once. The loss compares the whole batch. None: as the recipe chooses for the device."""
    recompute: bool = False
    """Encode each part of `micro_tokens` again in the backward pass, so that activations of one part are stored at a time."""

    def __post_init__(self) -> None:
        check_micro_tokens(self.micro_tokens)


class VideoContrast(nn.Module):
    """Both towers and the scale."""

    Config = Config
    shown = ("batch_accuracy", "scale")

    def __init__(self, config: Config, clip: CLIP) -> None:
        super().__init__()
        self.config, self.clip = config, clip

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """Return the loss, the scale, and the share of clips whose nearest text is their own.

        Args:
            batch: has `frames` [b, t, 3, y, x] and `tokens` [b, n], such as `VideoText`.
        """
        parts = self.config.micro_tokens, self.config.recompute
        frames = encode_images(self.clip, batch.frames.flatten(0, 1), *parts)
        clips = average_frames(frames.unflatten(0, batch.frames.shape[:2]), normalize=self.config.normalize_frames)
        text = encode_texts(self.clip, batch.tokens, *parts)
        return contrast(self.clip, clips, text, batch.tokens)

    @classmethod
    def tiny(cls) -> tuple["VideoContrast", VideoText]:
        """Return a task of a few thousand parameters and a batch for it."""
        vision = VisionConfig(image_size=16, patch_size=8, width=16, layers=1, heads=1, pool_heads=1, output_dim=12)
        text = TextConfig(context=6, vocabulary=20, width=16, layers=1, heads=1, output_dim=12)
        task = cls(Config(), CLIP(ClipConfig(vision=vision, text=text)))
        tokens = torch.randint(1, 18, (3, 6))
        tokens[:, 0], tokens[:, -1] = 18, 19
        return task, VideoText(frames=torch.randn(3, 2, 3, 16, 16), tokens=tokens)
