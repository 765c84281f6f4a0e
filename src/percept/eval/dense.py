"""Dense features for evaluations, one image at a time: a whole set of token maps does not fit into memory.

2,000 images of 1,024 tokens and 1,024 channels are 8 GB in float32.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from percept.infer.dense import Hidden
from percept.infer.encoder import Encoder

Truth = TypeVar("Truth")

AT_ONCE = 32
"""Images whose features are held at the same time."""


def hidden(
    encoder: Encoder, images: Iterable[Any], layer: int = -1, *, norm: bool = False, at_once: int = AT_ONCE
) -> Iterator[Hidden]:
    """Yield the features of each image after a block, in order; at most `at_once` of them are held.

    Args:
        encoder: computes the features.
        images: read as they are needed; anything `encoder.hidden` takes, one at a time.
        layer: block, counted from 0, or from the end with negative numbers.
        norm: apply the final norm of the model.
        at_once: images per batch.
    """
    samples = ((image, None) for image in images)
    return (features for features, _ in labelled(encoder, samples, layer, norm=norm, at_once=at_once))


def labelled(
    encoder: Encoder,
    samples: Iterable[tuple[Any, Truth]],
    layer: int = -1,
    *,
    norm: bool = False,
    at_once: int = AT_ONCE,
) -> Iterator[tuple[Hidden, Truth]]:
    """Yield the features of each image with what is known about it, such as masks; otherwise like `hidden`.

    Args:
        encoder: computes the features.
        samples: pairs of an image and what is known about it, read as they are needed.
        layer: as for `hidden`.
        norm: as for `hidden`.
        at_once: as for `hidden`.
    """
    remaining = iter(samples)
    while batch := list(islice(remaining, at_once)):
        features = encoder.hidden([image for image, _ in batch], layer, norm=norm)
        yield from zip(features, (truth for _, truth in batch), strict=True)
