"""What a user may pass as an image, turned into tensors at the model's size.

`ImageInput`: a file's path, the bytes of a file, an open file, a PIL image, uint8 pixels [y, x, 3], a uint8 tensor [3, y, x], or a float tensor
[3, y, x] that is preprocessed already. `ImageInputs`: one, an iterable of them, or an array or tensor with one more leading axis.
"""

import os
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.report import notice
from percept.data.files import in_order
from percept.data.images import ImageSource
from percept.data.inputs import OpenFile
from percept.data.transforms import Preprocess, read_pixels

if TYPE_CHECKING:
    ImageInput: TypeAlias = ImageSource | Tensor
    ImageInputs: TypeAlias = ImageInput | Iterable[ImageInput]
else:
    # Wrong types reach the checks below, whose messages are written for users.
    ImageInput = ImageInputs = Any

FILES_AND_PIXELS = (str, os.PathLike, bytes, OpenFile, Image.Image, np.ndarray)

LARGEST = 32.0
"""Magnitude that no value of a normalised image reaches; pixels from 0 to 255 do."""


@cache
def _range_notice() -> None:
    """Print the notice once in a process."""
    notice(
        f"a float tensor is taken as preprocessed already, but some hold values beyond ±{LARGEST:.0f}. Give pixels as uint8, "
        "or prepare images with encoder.prepare."
    )


def is_single(images: Any) -> bool:
    """Return True for one image, False for several."""
    if isinstance(images, Tensor | np.ndarray):
        return images.ndim <= 3
    return isinstance(images, FILES_AND_PIXELS)


def as_iterable(images: Any) -> Iterable[Any]:
    """Return the images as an iterable; a generator stays one.

    Raises:
        PerceptError: neither an image nor an iterable.
    """
    if is_single(images):
        return [images]
    if isinstance(images, dict) or not isinstance(images, Iterable):
        raise _not_an_image(images)
    return images


def to_tensor(image: Any, preprocess: Preprocess) -> UInt8[Tensor, "3 y x"] | Float[Tensor, "3 y x"]:
    """Return uint8 pixels at the model's size; a float tensor is returned as it is.

    Raises:
        PerceptError: not an image, or one that cannot be read (the reason is given).
    """
    if isinstance(image, Tensor):
        return _from_tensor(image, preprocess)
    if isinstance(image, np.ndarray) and image.dtype != np.uint8:
        raise PerceptError(
            f"an array of {image.dtype} is not an image. Arrays hold uint8 pixels [y, x, 3]; an image that is preprocessed "
            "already is a float torch tensor [3, y, x]"
        )
    if not isinstance(image, FILES_AND_PIXELS):
        raise _not_an_image(image)
    return read_pixels(image, preprocess)


def _from_tensor(image: Tensor, preprocess: Preprocess) -> Tensor:
    if image.ndim != 3 or image.shape[0] != 3:
        raise PerceptError(
            f"a tensor of shape {list(image.shape)} is not an image. Give [3, y, x] for one, [n, 3, y, x] for several"
        )
    if image.is_floating_point():
        if image.numel() and float(image.detach().abs().amax()) > LARGEST:
            _range_notice()
        return image.detach()
    if str(image.dtype) != "torch.uint8":
        raise PerceptError(f"a tensor of {image.dtype} is not an image: uint8 holds pixels, float is preprocessed")
    if not image.numel():
        raise PerceptError(f"a tensor of shape {list(image.shape)} has no pixels; each side must be at least 1")
    return read_pixels(Image.fromarray(image.permute(1, 2, 0).cpu().contiguous().numpy()), preprocess)


def check_whole_patches(image: Tensor, preprocess: Preprocess, patch: int) -> Tensor:
    """Return an image unchanged if no pixels would be cut off beyond its last whole patch.

    Raises:
        PerceptError: the sides of a float tensor are neither multiples of `patch` nor those that the preprocessing gives.
    """
    height, width = image.shape[-2:]
    partial = height % patch or width % patch
    if image.is_floating_point() and partial and (height, width) != preprocess.shape:
        sides = " × ".join(str(max(1, round(side / patch)) * patch) for side in (height, width))
        raise PerceptError(
            f"a preprocessed image of {height} × {width} pixels does not divide into patches of {patch}. Resize it to {sides}, or "
            "give the image itself (a path, PIL image, uint8 pixels), which is resized as needed"
        )
    return image


def prepared(images: Any, preprocess: Preprocess, patch: int) -> Iterator[tuple[int, Tensor]]:
    """Yield (number, tensor at the model's size) of each image, read by several threads, in order.

    Raises:
        PerceptError: an image cannot be read.
    """
    return enumerate(
        in_order(
            lambda image: check_whole_patches(to_tensor(image, preprocess), preprocess, patch), as_iterable(images)
        )
    )


def _not_an_image(value: Any) -> PerceptError:
    return PerceptError(
        f"{type(value).__name__} is not an image. Give a path, bytes of an image file, an open file, a PIL image, a uint8 array [y, x, 3], a "
        "tensor [3, y, x], or a list of these"
    )
