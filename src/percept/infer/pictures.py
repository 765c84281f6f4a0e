"""What a user may call a picture, and how many of them become batches of one shape each.

`Picture`: a file, the bytes of a file, a PIL image, uint8 pixels [y, x, 3], a uint8 tensor [3, y, x], or a float tensor
[3, y, x] that is already preprocessed. `Pictures`: one, a list of them, or an array or tensor with one more axis in front.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from percept.core.errors import PerceptError
from percept.data.files import in_order
from percept.data.images import ImageSource
from percept.data.transforms import Preprocess, read_pixels

if TYPE_CHECKING:
    Picture: TypeAlias = ImageSource | Tensor
    Pictures: TypeAlias = Picture | Iterable[Picture]
else:
    # Whatever a user passes reaches the checks below, whose words are made for users.
    Picture = Pictures = Any

Key = TypeVar("Key")
Made = TypeVar("Made")

FILES_AND_PIXELS = (str, os.PathLike, bytes, Image.Image, np.ndarray)
WAITING = 8
"""Most pictures of many shapes that are kept back to meet others of their shape, in batches."""


def is_single(pictures: Any) -> bool:
    """Tell whether one picture was given and not several."""
    if isinstance(pictures, Tensor):
        return pictures.ndim <= 3
    if isinstance(pictures, np.ndarray):
        return pictures.ndim <= 3
    return isinstance(pictures, FILES_AND_PIXELS)


def as_list(pictures: Any) -> list[Any]:
    """Return the pictures as a list.

    Raises:
        PerceptError: neither a picture nor something that holds pictures.
    """
    if is_single(pictures):
        return [pictures]
    if isinstance(pictures, dict) or not isinstance(pictures, Iterable):
        raise _not_a_picture(pictures)
    return list(pictures)


def to_tensor(picture: Any, preprocess: Preprocess) -> UInt8[Tensor, "3 y x"] | Float[Tensor, "3 y x"]:
    """Return uint8 pixels at the model's size; a float tensor passes as it is.

    Raises:
        PerceptError: not a picture, or one that cannot be read (the reason is plain).
    """
    if isinstance(picture, Tensor):
        return _from_tensor(picture, preprocess)
    if isinstance(picture, np.ndarray) and picture.dtype != np.uint8:
        raise PerceptError(
            f"an array of {picture.dtype} is no picture: arrays hold uint8 pixels [y, x, 3]; "
            "a picture that is already preprocessed is a float torch tensor [3, y, x]"
        )
    if not isinstance(picture, FILES_AND_PIXELS):
        raise _not_a_picture(picture)
    return read_pixels(picture, preprocess)


def _from_tensor(picture: Tensor, preprocess: Preprocess) -> Tensor:
    if picture.ndim != 3 or picture.shape[0] != 3:
        raise PerceptError(
            f"a tensor of shape {list(picture.shape)} is no picture; give [3, y, x] for one, [n, 3, y, x] for several"
        )
    if picture.is_floating_point():
        return picture.detach()
    if picture.dtype != torch.uint8:
        raise PerceptError(f"a tensor of {picture.dtype} is no picture: uint8 holds pixels, float is preprocessed")
    if not picture.numel():
        raise PerceptError(f"a tensor of shape {list(picture.shape)} has no pixels; each side is 1 or more")
    return preprocess(Image.fromarray(picture.permute(1, 2, 0).cpu().contiguous().numpy()))


def whole_patches(picture: Tensor, preprocess: Preprocess, patch: int) -> Tensor:
    """Return a picture as it is; a model would leave out pixels beyond the last whole patch.

    Raises:
        PerceptError: a float tensor whose sides are no whole patches, nor those that the preprocessing gives.
    """
    height, width = picture.shape[-2:]
    odd = height % patch or width % patch
    if picture.is_floating_point() and odd and (height, width) != preprocess.shape:
        sides = " × ".join(str(max(1, round(side / patch)) * patch) for side in (height, width))
        raise PerceptError(
            f"a preprocessed picture of {height} × {width} pixels does not divide into patches of {patch}; resize it to "
            f"{sides}, or give the picture itself (a path, PIL image, uint8 pixels), which is resized as needed"
        )
    return picture


def _not_a_picture(given: Any) -> PerceptError:
    return PerceptError(
        f"{type(given).__name__} is no picture; give a path, bytes of an image file, a PIL image, "
        "a uint8 array [y, x, 3], a tensor [3, y, x], or a list of these"
    )


def prepared(pictures: Iterable[Any], prepare: Callable[[Any], Made]) -> Iterator[tuple[int, Made]]:
    """Yield (position, what `prepare` made of the picture), in order, computed by threads."""
    return enumerate(in_order(prepare, pictures))


def packs(
    prepared: Iterable[tuple[Key, Float[Tensor, "3 _ _"] | UInt8[Tensor, "3 _ _"]]], size: int, most: int | None = None
) -> Iterator[list[tuple[list[Key], Float[Tensor, "_ 3 _ _"] | UInt8[Tensor, "_ 3 _ _"]]]]:
    """Yield what goes through a model together, at most `size` pictures: a list of (keys, stacked tensors of one shape and type).

    As long as a shape fills whole batches these go alone; what is left of several shapes goes together, as long as it has
    no more than `most` pixels.
    """
    waiting: dict[tuple[torch.Size, torch.dtype], list[tuple[Key, Tensor]]] = defaultdict(list)
    for key, tensor in prepared:
        kind = tensor.shape, tensor.dtype
        waiting[kind].append((key, tensor))
        if len(waiting[kind]) == size:
            yield [_stack(waiting.pop(kind))]
        elif sum(map(len, waiting.values())) == WAITING * size:
            yield from _together(waiting.values(), size, most)
            waiting.clear()
    yield from _together(waiting.values(), size, most)


def _together(
    groups: Iterable[list[tuple[Key, Tensor]]], size: int, most: int | None
) -> Iterator[list[tuple[list[Key], Float[Tensor, "_ 3 _ _"] | UInt8[Tensor, "_ 3 _ _"]]]]:
    pack: list[list[tuple[Key, Tensor]]] = []
    for group in sorted(groups, key=lambda group: group[0][1].numel()):  # those of equal length share their attention
        longer = [*pack, group]
        if pack and (sum(map(len, longer)) > size or (most is not None and _pixels(longer) > most)):
            yield [_stack(one) for one in pack]
            pack = []
        pack.append(group)
    if pack:
        yield [_stack(one) for one in pack]


def _pixels(groups: list[list[tuple[Key, Tensor]]]) -> int:
    return sum(len(group) * group[0][1][0].numel() for group in groups)


def _stack(group: list[tuple[Key, Tensor]]) -> tuple[list[Key], Tensor]:
    return [key for key, _ in group], torch.stack([tensor for _, tensor in group])
