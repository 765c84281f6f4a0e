"""Spatial disorder: how a space of vectors turned within a modality, and how images and texts moved apart.

The diagnosis of Mod-X (Ni et al. 2023, arXiv:2305.07437, section 3): intra-modal rotation and inter-modal deviation. Angles are in degrees.
The deviation is measured in the span of the old image vectors: images say nothing about how directions turn that they do not reach, and fewer
images than dimensions never reach all of them. How the paper treats the rest is not known; `covered` says how much of the texts it is.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.models.clip import unit
from percept.nn.across import procrustes

SPAN = 1e-3
"""Directions in which the images have less than this part of their largest singular value do not count as reached."""


@dataclass(frozen=True, kw_only=True)
class Disorder:
    """How a space of pairs changed between two models."""

    image_rotation: float
    """Mean angle between the old and the new vector of an image."""
    text_rotation: float
    """Mean angle between the old and the new vector of a text."""
    deviation: float
    """Mean angle that is left between the new text and where the rotation of the images takes the old text: 0 if both modalities turned alike."""
    covered: float
    """Share of the squared length of the old texts that lies in the span of the old images, in which `deviation` is measured."""

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

    Raises:
        PerceptError: there are fewer than two pairs.
    """
    if len(old[0]) < 2:
        raise PerceptError(f"{len(old[0])} pairs do not show how a space turned. Give more.")
    (image, text), (image_now, text_now) = ((unit(each.float()) for each in pair) for pair in (old, new))
    basis = span(image)
    turned = procrustes(image @ basis, image_now)
    inside = text @ basis
    return Disorder(
        image_rotation=angles(image, image_now).mean().item(),
        text_rotation=angles(text, text_now).mean().item(),
        deviation=angles(inside, text_now @ turned).mean().item(),
        covered=inside.square().sum(dim=1).mean().item(),
    )


def span(vectors: Float[Tensor, "n d"]) -> Float[Tensor, "d k"]:
    """Return an orthonormal basis of the directions that vectors reach."""
    _, sizes, directions = torch.linalg.svd(vectors.double(), full_matrices=False)
    return directions[sizes >= SPAN * sizes[0]].T.to(vectors.dtype)


def angles(one: Float[Tensor, "n d"], other: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    """Return the angles between vectors in degrees."""
    return torch.rad2deg(torch.linalg.vecdot(unit(one), unit(other)).clamp(-1, 1).acos())
