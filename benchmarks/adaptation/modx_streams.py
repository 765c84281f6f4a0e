"""Streams of image-text pairs of the labelled world for `modx.py`: domains that follow one another, and what is measured on them."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from beds import HIGHEST, harder
from PIL import Image
from recorded import passes_gate
from torch import Tensor

from percept.core.seed import derive
from percept.data.augment.recipe import Augment, augmented
from percept.data.augment.view import normalise_jittered
from percept.eval.retrieval import same
from percept.methods.adaptation.texts import base_of
from percept.models.clip import CLIP
from percept.world import CATEGORIES, Scene, render, sample_scene, short_caption

VERSION, SIDE = 1, 96
"""Changes with the content of the streams; side of the images in pixels."""
PART = 64
"""Images that are encoded together where nothing is trained."""


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Where pairs come from: a style, and the groups of categories that their scenes are made of."""

    name: str
    style: str
    variant: str | None = None
    groups: tuple[str, ...] = ()
    """All groups if empty."""
    hard: bool = False
    """Blur the images, take colour and contrast away, add noise."""
    split: str = "evaluation"
    """Unseen variants occur in the evaluation split only; training and test pairs have different seeds."""
    things: tuple[int, int] = (1, 3)
    """Least and most things of a scene."""

    def scenes(self, seed: int) -> Iterator[Scene]:
        """Yield different random scenes."""
        rng = random.Random(derive(seed, "stream", self.name))
        while True:
            scene = sample_scene(rng.getrandbits(40), split=self.split, style=self.style, variant=self.variant, things=self.things)  # fmt: skip
            if not self.groups or all(CATEGORIES[thing.category].group in self.groups for thing in scene.things):
                yield scene


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Domains that are learned one after the other, and one that never is."""

    parts: tuple[Domain, ...]
    never: Domain


OLD = Domain(name="old", style="mixed", split="validation")
"""What encoders of the world were trained on, with other scenes."""
STREAMS = {
    "styles": Stream(
        parts=(
            Domain(name="comic", style="rendition", variant="comic", hard=True),
            Domain(name="chalk", style="sketch", variant="chalk", hard=True),
            Domain(name="fog", style="corruption", variant="fog", hard=True),
            Domain(name="psychedelic", style="unusual", variant="psychedelic", hard=True),
            Domain(name="pixels", style="rendition", variant="pixel art", hard=True),
        ),
        never=Domain(name="blueprint", style="sketch", variant="blueprint", hard=True),
    ),
    "contents": Stream(
        parts=(
            Domain(name="animals", style="rendition", variant="halftone", groups=("animal",)),
            Domain(name="traffic", style="rendition", variant="halftone", groups=("vehicle", "building")),
            Domain(name="food", style="rendition", variant="halftone", groups=("food", "plant")),
        ),
        never=Domain(name="household", style="rendition", variant="halftone", groups=("furniture", "clothes", "tool", "thing")),
    ),
}  # fmt: skip
"""Five unseen styles with all categories; three groups of categories in one unseen style."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Images with captions."""

    pictures: list[Image.Image]
    pixels: Tensor
    """uint8, as the encoder takes them [n, 3, y, x]."""
    captions: list[str]
    tokens: Tensor
    """Without the padding that all of them have."""
    kinds: list[frozenset[str]]
    """Categories of each image."""

    def __len__(self) -> int:
        return len(self.captions)


def pairs_of(encoder: Any, domain: Domain, count: int, seed: int) -> Pairs:
    """Draw pairs; different seeds have no scene in common but by chance."""
    scenes, rng = domain.scenes(seed), random.Random(derive(seed, "captions", domain.name))
    drawn = [next(scenes) for _ in range(count)]
    pictures = [Image.fromarray(render(scene, size=SIDE, truth=False).image) for scene in drawn]
    pictures = [harder(each, rng) for each in pictures] if domain.hard else pictures
    captions = [short_caption(scene, rng) for scene in drawn]
    return Pairs(
        pictures=pictures, pixels=encoder.preprocess.stack(pictures), captions=captions, tokens=tokens_of(encoder, captions),
        kinds=[frozenset(thing.category for thing in scene.things) for scene in drawn],
    )  # fmt: skip


def tokens_of(encoder: Any, captions: Sequence[str]) -> Tensor:
    """Return token ids up to the end of the longest caption."""
    tokens = base_of(encoder).tokenizer(list(captions))
    return tokens[:, : int(tokens.argmax(dim=1).max()) + 1]


def joined(parts: Sequence[Pairs]) -> Pairs:
    """Return all pairs of some domains."""
    length = max(part.tokens.shape[1] for part in parts)
    padded = [torch.nn.functional.pad(part.tokens, (0, length - part.tokens.shape[1])) for part in parts]
    return Pairs(
        pictures=[each for part in parts for each in part.pictures], pixels=torch.cat([part.pixels for part in parts]),
        captions=[each for part in parts for each in part.captions], tokens=torch.cat(padded),
        kinds=[each for part in parts for each in part.kinds],
    )  # fmt: skip


def views(encoder: Any, pairs: Pairs, rows: Sequence[int], seed: int) -> tuple[Tensor, Tensor]:
    """Return two random views of some images: crops, mirrored, with other brightness and saturation."""
    augment, found = Augment(scale=(0.3, 1.0), views=2), []
    for row in rows:
        both = augmented(pairs.pictures[row], encoder.preprocess, augment, derive(seed, row))
        views = torch.empty(2, *both.pixels[0].shape)
        for out, pixels, colour in zip(views, both.pixels, both.colours, strict=True):
            normalise_jittered(pixels, encoder.preprocess, colour, out=out)
        found.append(views)
    first, second = torch.stack(found).unbind(1)
    return first, second


@torch.no_grad()
def vectors(clip: CLIP, encoder: Any, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Return the unit vectors of images and texts."""
    normalise = encoder.preprocess.normalise
    image = torch.cat([clip.embed_image(normalise(part)) for part in pairs.pixels.split(PART)])
    return image, torch.cat([clip.embed_text(part) for part in pairs.tokens.split(PART)])


def recall(image: Tensor, text: Tensor, positive: Tensor) -> list[float]:
    """Return R@1 of images by texts, and of texts by images; `positive` [text, image] is True for pairs that belong together."""
    similar = text @ image.T
    both = [(similar, positive), (similar.T, positive.T)]
    return [round(float(right.gather(1, each.argmax(1, keepdim=True)).float().mean()), 4) for each, right in both]


def measured(image: Tensor, text: Tensor, pairs: Pairs) -> dict[str, Any]:
    """Return R@1 both ways, and the share of images whose nearest other image shows a thing of the same category."""
    near = (image @ image.T).fill_diagonal_(-2).argmax(dim=1).tolist()
    alike = [bool(pairs.kinds[row] & pairs.kinds[other]) for row, other in enumerate(near)]
    return {"R@1": recall(image, text, same(pairs.captions)), "alike": round(float(np.mean(alike)), 4)}


def passes(name: str, found: dict[str, Any], count: int, encoder: Any) -> bool:
    """Return whether R@1 of an encoder leaves room to gain and to lose in a domain; in the old domain nothing is to be gained."""
    share, highest = float(np.mean(found["R@1"])), 1.0 if name == OLD.name else HIGHEST
    return passes_gate(name, share, 1 / count, encoder.name, what="R@1", highest=highest)


# a planted rotation


def turn(width: int, angle: float, seed: int) -> Tensor:
    """Return a matrix that turns every vector of an even width by an angle in degrees, in random planes."""
    rng = torch.Generator().manual_seed(derive(seed, "turn", width))
    basis = torch.linalg.qr(torch.randn(width, width, generator=rng, dtype=torch.float64)).Q
    radians, block = torch.deg2rad(torch.tensor(angle, dtype=torch.float64)), torch.eye(width, dtype=torch.float64)
    for place in range(0, width - 1, 2):
        block[place, place] = block[place + 1, place + 1] = radians.cos()
        block[place, place + 1], block[place + 1, place] = -radians.sin(), radians.sin()
    return (basis @ block @ basis.T).float()


def predicted(image: Tensor, text: Tensor, positive: Tensor, angle: float, *, draws: int = 5) -> list[float]:
    """Return R@1 both ways after a turn of the texts alone, if it acts on every query like a turn in a random direction of its own.

    Texts t turned by θ give i · R t = cos θ i · t + sin θ i · t', where t' is a unit vector at right angles to t; for images as queries the same
    holds with R' i. The prediction draws t', or i', at random for every query.
    """
    rng, radians = torch.Generator().manual_seed(derive(0, "predicted")), torch.deg2rad(torch.tensor(angle))
    found = []
    for _ in range(draws):
        both = []
        for query, others, right in ((text, image, positive), (image, text, positive.T)):
            orthogonal = torch.randn(query.shape, generator=rng)
            orthogonal -= (orthogonal * query).sum(1, keepdim=True) * query
            turned = radians.cos() * query + radians.sin() * torch.nn.functional.normalize(orthogonal, dim=1)
            best = (turned @ others.T).argmax(1, keepdim=True)
            both.append(float(right.gather(1, best).float().mean()))
        found.append(both)
    return [round(float(each), 4) for each in np.mean(found, axis=0)]
