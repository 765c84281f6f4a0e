"""Images and texts in one space: an image tower, a text tower and a learned scale.

Radford et al. 2021, arXiv:2103.00020; video as in Bolya et al. 2025, arXiv:2504.13181, section 4.5.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.models.config import ClipConfig
from percept.models.text import TextTower
from percept.models.towers import ImageTower, VisionOut, build_tower

INITIAL_LOG_SCALE = math.log(1 / 0.07)
MAX_LOG_SCALE = math.log(100)


def unit(x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
    """Scale vectors to length 1, in float32."""
    return F.normalize(x.float(), dim=-1)


def average_frames(vectors: Float[Tensor, "*b t d"], *, normalize: bool) -> Float[Tensor, "*b d"]:
    """Return the mean over frames, each first scaled to length 1 if `normalize`; the mean itself is not scaled."""
    return (unit(vectors) if normalize else vectors).mean(dim=-2)


def _vectors(out: VisionOut) -> Tensor:
    if out.pooled is None:
        raise PerceptError(
            "this model returns tokens, not one vector per image; use nano or a PE-Core model for vectors"
        )
    return out.pooled


@dataclass(frozen=True)
class ClipOut:
    """The result of `CLIP.forward`; None for an input that was not given."""

    image: Float[Tensor, "b d"] | None
    """Unit-length vectors of the images."""
    text: Float[Tensor, "b d"] | None
    """Unit-length vectors of the texts."""
    scale: Float[Tensor, ""] | None
    """What cosines are multiplied by; None for a model without a text tower."""


torch.export.register_dataclass(ClipOut)  # torch.export and FSDP look for the tensors in it


class CLIP(nn.Module):
    """An image tower and a text tower. A model without a text tower has no `text` and no scale."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.vision: ImageTower = build_tower(config.vision)
        self.text = None if config.text is None else TextTower(config.text)
        self.log_scale = None if config.text is None else nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))

    def reset_parameters(self) -> None:
        """Initialise both towers and the scale."""
        self.vision.reset_parameters()
        if self.text is not None:
            self.text.reset_parameters()
        if self.log_scale is not None:
            nn.init.constant_(self.log_scale, INITIAL_LOG_SCALE)

    def cut(self, after: int) -> "CLIP":
        """Return a model without text tower of the blocks up to and including `after`; see `VisionTower.cut`.

        Raises:
            PerceptError: the block does not exist, or the tower cannot be cut.
        """
        vision = self.vision.cut(after)
        with torch.device("meta"):
            model = CLIP(ClipConfig(vision=vision.config))
        model.vision = vision
        return model.train(self.training)

    def forward(
        self, image: Float[Tensor, "b 3 y x"] | None = None, tokens: Int[Tensor, "b n"] | None = None
    ) -> ClipOut:
        """Return unit-length vectors of images and of texts, and the scale.

        Raises:
            PerceptError: neither images nor texts, or an input that the model has no tower for.
        """
        if image is None and tokens is None:
            raise PerceptError("nothing to encode was given; give images, token ids, or both")
        return ClipOut(
            image=None if image is None else self.embed_image(image),
            text=None if tokens is None else self.embed_text(tokens),
            scale=None if self.log_scale is None else self.scale(),
        )

    def scale(self) -> Float[Tensor, ""]:
        """Return exp(log_scale), at most 100: what cosines are multiplied by.

        Raises:
            PerceptError: the model has no text tower.
        """
        if self.log_scale is None:
            raise PerceptError("this model has no text tower; the PE-Core models and nano have one")
        return self.log_scale.float().clamp(max=MAX_LOG_SCALE).exp()

    def encode_image(self, image: Float[Tensor, "b 3 y x"], *, normalize: bool = False) -> Float[Tensor, "b d"]:
        """Return one vector per image.

        Raises:
            PerceptError: the model returns tokens only.
        """
        pooled = _vectors(self.vision(image))
        return unit(pooled) if normalize else pooled

    def encode_packed(self, images: Sequence[Float[Tensor, "_ 3 _ _"]]) -> Float[Tensor, "b d"]:
        """Return one vector per image of batches of different sizes, run as one row without padding.

        Raises:
            PerceptError: the model returns tokens only.
        """
        return torch.cat([_vectors(out) for out in self.vision.packed(images)])

    def encode_text(self, ids: Int[Tensor, "b n"], *, normalize: bool = False) -> Float[Tensor, "b d"]:
        """Return one vector per text.

        Raises:
            PerceptError: the model has no text tower.
        """
        if self.text is None:
            raise PerceptError("this model has no text tower; the PE-Core models and nano have one")
        if (
            len(ids) and not torch.compiler.is_compiling()
        ):  # later tokens cannot change the end token; a graph keeps them
            ids = ids[:, : int(ids.argmax(dim=-1).max()) + 1]
        pooled = self.text(ids).pooled
        return unit(pooled) if normalize else pooled

    def encode_video(self, frames: Float[Tensor, "b t 3 y x"], *, normalize: bool = False) -> Float[Tensor, "b d"]:
        """Return one vector per clip: the mean over its frames.

        With `normalize` every frame is scaled to length 1 before the mean; the mean itself is not, as published.
        """
        vectors = self.encode_image(frames.flatten(0, 1))
        return average_frames(vectors.unflatten(0, frames.shape[:2]), normalize=normalize)

    def embed_image(self, image: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b d"]:
        """Return unit-length vectors of images."""
        return self.encode_image(image, normalize=True)

    def embed_text(self, tokens: Int[Tensor, "b n"]) -> Float[Tensor, "b d"]:
        """Return unit-length vectors of texts."""
        return self.encode_text(tokens, normalize=True)
