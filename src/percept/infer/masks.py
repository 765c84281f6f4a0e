"""Find objects without labels or training: the normalised cut of the graph of patches.

Wang et al. 2022, arXiv:2202.11539 (TokenCut), eq. 3-5; further objects as in MaskCut (Wang et al. 2023, arXiv:2301.11320). Differs from
them: features are those of a chosen block, not the keys of the last one; patches are joined above the mean cosine of the image, not above
0.2, which joins all patches of many encoders; masks are enlarged bilinearly, not by a bilateral solver; specks are removed.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.infer.dense import Layer
from percept.infer.grid import dense_layer, unit_map, with_grid
from percept.infer.specks import without_specks

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder

APART = 1e-5
"""Weight of two patches that are not joined."""
PATCHES = 24
"""Patches along the longer side; the cost grows with the sixth power."""


def mean_cosine(features: Float[Tensor, "y x w"]) -> float:
    """Return the mean cosine over all pairs of patches."""
    return float(unit_map(features).mean(dim=(0, 1)).square().sum())


def second_vector(features: Float[Tensor, "n w"], threshold: float) -> Float[Tensor, " n"]:
    """Return the second smallest eigenvector of the generalised problem (D - W) v = l D v.

    Args:
        features: unit vectors of patches.
        threshold: cosine above which patches are joined.
    """
    weights = torch.where(features @ features.T > threshold, 1.0, APART).double()
    scale = weights.sum(dim=1).rsqrt()
    vectors = torch.linalg.eigh(scale[:, None] * weights * scale[None]).eigenvectors
    return vectors[:, -2] * scale  # the second largest of the normalised weights


def object_map(features: Float[Tensor, "y x w"], threshold: float | None = None) -> Float[Tensor, "y x"] | None:
    """Return a map that is positive on the most salient object: one connected part of the graph's cut; None without a cut.

    The object is the side of the cut with the patch of largest magnitude, unless it covers three of the four corners of
    the image; then it is the other side. Patches with features of zeros take no part.

    Args:
        features: a map of features.
        threshold: cosine above which two patches are joined (tau). Default: the mean over all pairs.
    """
    vectors = unit_map(features).flatten(0, 1)
    cosines = vectors @ vectors.T
    threshold = mean_cosine(features) if threshold is None else threshold
    if bool((cosines >= threshold - 1e-6).all()):  # every patch is joined with every other one
        return None
    vector = second_vector(vectors, threshold).float()
    values = (vector - vector.mean()).unflatten(0, features.shape[:2])
    values = values * values.flatten()[values.abs().argmax()].sign()
    corners = values[[0, 0, -1, -1], [0, -1, 0, -1]] > 0
    values = -values if int(corners.sum()) >= 3 else values
    part = connected(values > 0, int(values.argmax()))
    return torch.where(part | (values <= 0), values, -values)


def connected(mask: Bool[Tensor, "y x"], seed: int) -> Bool[Tensor, "y x"]:
    """Return the part of a mask that is connected, over edges, with the cell number `seed`."""
    part = torch.zeros_like(mask)
    part.flatten()[seed] = bool(mask.flatten()[seed])
    cross = torch.tensor([[0.0, 1, 0], [1, 1, 1], [0, 1, 0]])[None, None]
    while True:
        grown = (F.conv2d(part[None, None].float(), cross, padding=1)[0, 0] > 0) & mask
        if bool((grown == part).all()):
            return part
        part = grown


def object_maps(
    features: Float[Tensor, "y x w"], count: int = 1, threshold: float | None = None
) -> list[Float[Tensor, "y x"]]:
    """Return maps, positive on their objects, of at most `count` objects; the patches of one are left out for the next."""
    threshold = mean_cosine(features) if threshold is None else threshold
    free, found = features.clone(), []
    for _ in range(count):
        values = object_map(free, threshold)
        if values is None or not bool((values > 0).any()):
            break
        found.append(values)
        free[values > 0] = 0.0
    return found


def object_masks(
    encoder: "Encoder",
    image: Any,
    *,
    count: int = 1,
    layer: Layer | None = None,
    patches: int = PATCHES,
    threshold: float | None = None,
    size: tuple[int, int] | None = None,
) -> Bool[np.ndarray, "k y x"]:
    """Return the masks of at most `count` objects, most salient first; they do not overlap.

    Args:
        encoder: any image encoder of which layers can be read.
        image: an image.
        count: most objects.
        layer: block whose features are compared. Default: at two thirds of the depth.
        patches: patches along the longer side.
        threshold: cosine above which patches are joined. Default: the mean over all pairs.
        size: height and width of the masks in pixels. Default: those of the encoder's input.

    Raises:
        PerceptError: the count is not positive.
    """
    if count < 1:
        raise PerceptError(f"the number of objects must be at least 1, got {count}.")
    finer, at = with_grid(encoder, patches), dense_layer(encoder, layer)
    features = next(finer.hidden(image, at)).map(at)
    size = size or (features.shape[0] * encoder.patch, features.shape[1] * encoder.patch)
    maps = object_maps(features, count, threshold)
    taken, masks = np.zeros(size, bool), []
    for values in maps:
        large = F.interpolate(values[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        masks.append(without_specks((large > 0).numpy() & ~taken))
        taken |= masks[-1]
    return np.stack(masks) if masks else np.zeros((0, *size), bool)
