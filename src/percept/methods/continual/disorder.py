"""Spatial disorder: how a space of vectors turned within a modality, and how images and texts moved apart.

The diagnosis of Mod-X (Ni et al. 2023, arXiv:2305.07437, section 3): intra-modal rotation and inter-modal deviation. Angles are in degrees.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from percept.models.clip import unit
from percept.nn.across import procrustes


@dataclass(frozen=True, kw_only=True)
class Disorder:
    """How a space of pairs changed between two models."""

    image_rotation: float
    """Mean angle between the old and the new vector of an image."""
    text_rotation: float
    """Mean angle between the old and the new vector of a text."""
    deviation: float
    """Mean angle that is left between the new text and where the rotation of the images takes the old text: 0 if both modalities turned alike."""

    @property
    def total(self) -> float:
        """Mean of both rotations, plus the deviation."""
        return (self.image_rotation + self.text_rotation) / 2 + self.deviation


def disorder(
    old: tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]], new: tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]
) -> Disorder:
    """Return how the vectors of the same pairs changed.

    Args:
        old: vectors of images and texts by the earlier model.
        new: vectors of the same by the later one.
    """
    (image, text), (image_now, text_now) = ((unit(each.float()) for each in pair) for pair in (old, new))
    turn = procrustes(image, image_now)
    return Disorder(
        image_rotation=angles(image, image_now).mean().item(),
        text_rotation=angles(text, text_now).mean().item(),
        deviation=angles(text @ turn.T, text_now).mean().item(),
    )


def angles(one: Float[Tensor, "n d"], other: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Return the angles between vectors in degrees."""
    return torch.rad2deg(torch.linalg.vecdot(unit(one), unit(other)).clamp(-1, 1).acos())
