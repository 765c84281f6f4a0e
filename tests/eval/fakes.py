"""Encoders whose answers are known: an image is any object that the function understands."""

import zlib
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from percept.infer.identity import Identity
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS


class Fake:
    """Embeds images and texts by two given functions."""

    identity = Identity(name="fake", image="fa4e", text="fa4f", dim=0)

    def __init__(self, image: Callable[[object], Tensor], text: Callable[[str], Tensor]) -> None:
        self._image, self._text = image, text

    def image(self, images) -> Tensor:
        return F.normalize(torch.stack([self._image(one) for one in images]), dim=-1)

    def text(self, texts) -> Tensor:
        return F.normalize(torch.stack([self._text(one) for one in texts]), dim=-1)


def chance(dim: int = 32) -> Fake:
    """An encoder that knows nothing: every image and text gets its own direction."""

    def direction(thing: object) -> Tensor:
        rng = np.random.default_rng(zlib.crc32(repr(thing).encode()))
        return torch.from_numpy(rng.standard_normal(dim)).float()

    return Fake(direction, direction)


NAMES = [*CATEGORIES, *COLOURS]


def bag_of_words() -> Fake:
    """An encoder that sees every category and colour of a scene and of a text, but not which belongs to which."""

    def of_scene(boxed) -> Tensor:
        scene = boxed.item()
        found = [name for thing in scene.things for name in (thing.category, thing.colour)]
        return torch.tensor([float(found.count(name)) for name in NAMES])

    def of_text(text: str) -> Tensor:
        vector, left = torch.zeros(len(NAMES)), f" {text} "
        for position in sorted(range(len(NAMES)), key=lambda position: -len(NAMES[position])):
            if f" {NAMES[position]} " in left:
                vector[position] = 1.0
                left = left.replace(f" {NAMES[position]} ", "  ")
        return vector

    return Fake(of_scene, of_text)
