"""Unlabelled image-text pairs for meta-learning: drawn from the labelled world, clustered at two levels, and sampled as episodes."""

import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.core.report import track
from percept.core.seed import derive
from percept.data.augment.recipe import Augment, augmented
from percept.data.transforms import Preprocess
from percept.methods.adaptation.contract import Shots, Views
from percept.methods.adaptation.few import LEAST, PART
from percept.methods.adaptation.texts import TEMPLATE, Base, text_vectors

if TYPE_CHECKING:
    from percept.world import Scene

OPENING = re.compile(r"^(?:(?:a picture|a photo|an image|a drawing) of |there is )?(?:an? |one )?")
ROOM = 3
"""A caption has at most 1 / ROOM of the tokens of a text, so that learned tokens fit before it; pairs with longer ones are not used."""
DRAWS = 200
"""Scenes that are drawn for a pair with a short caption, at most."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """Images with captions, and the clusters that they are in."""

    vectors: Float[Tensor, "n d"]
    """Unit vectors of the images."""
    captions: tuple[str, ...]
    """Without their first words, so that they stand where a class name stands."""
    pixels: UInt8[Tensor, "n 3 y x"]
    preprocess: Preprocess
    top: Int[Tensor, " n"]
    """Cluster of the first level."""
    leaf: Int[Tensor, " n"]
    """Cluster of the second level, counted within that of the first."""

    def shots(self, rows: list[int]) -> Shots:
        """Return some pairs as shots whose classes are their different captions."""
        names = list(dict.fromkeys(self.captions[row] for row in rows))
        label = torch.tensor([names.index(self.captions[row]) for row in rows], device=self.vectors.device)
        return Shots(
            names=tuple(names), template=TEMPLATE, label=label, keys=tuple(map(str, rows)), vectors=self.vectors[rows][None],
            pixels=lambda some, _: self.images([rows[each] for each in some]), sentences=tuple((f"a {name}.",) for name in names),
        )  # fmt: skip

    def images(self, rows: list[int]) -> Float[Tensor, "b 3 y x"]:
        """Return preprocessed images."""
        return self.preprocess.normalise(self.pixels[rows]).to(self.vectors.device)

    def views(self, rows: list[int], *, images: bool) -> Views:
        """Return the batch of `shots(rows)`; the second view of an image is the first one."""
        vector, shots = self.vectors[rows], self.shots(rows)
        image = self.images(rows) if images else None
        row = torch.arange(len(rows), device=vector.device)
        return Views(label=shots.label, vector=vector, row=row, image=image, other_vector=vector, other_image=image)


@torch.no_grad()
def world_pairs(base: Base, count: int, *, top: int, leaf: int, seed: int, shown: float = 1.0) -> Pairs:
    """Draw scenes of the training split of the labelled world with short captions, encode and cluster them.

    Args:
        shown: share of an image that its crop has at most; the crops of smaller shares are harder to tell apart.
    """
    from percept.world import render

    preprocess = base.preprocess or Preprocess(size=base.clip.config.vision.image_size)
    augment = Augment(scale=(min(LEAST, shown), shown), brightness=0.0, saturation=0.0, flip=0.0)
    pixels, captions = [], []
    for number in track(range(count), "drawing image-text pairs", count):
        scene, caption = _captioned(base, derive(seed, "pair", number))
        image = Image.fromarray(render(scene, size=96, truth=False).image)
        pixels.append(augmented(image, preprocess, augment, derive(seed, "crop", number)).pixels[0])
        captions.append(caption)
    device, stacked = base.text.positions.device, torch.stack(pixels)
    vectors = torch.cat([base.clip.embed_image(preprocess.normalise(part).to(device)) for part in stacked.split(PART)])
    both = torch.cat([vectors, text_vectors(base, captions)], dim=1)
    first, second = two_levels(both, top, leaf, seed=seed)
    return Pairs(
        vectors=vectors, captions=tuple(captions), pixels=stacked, preprocess=preprocess, top=first, leaf=second
    )


def _captioned(base: Base, seed: int) -> "tuple[Scene, str]":
    """Return a random scene with a short caption.

    Raises:
        PerceptError: the tokenizer makes every caption too long.
    """
    from percept.world import sample_scene, short_caption

    longest = base.tokenizer.context // ROOM
    for draw in range(DRAWS):
        own = derive(seed, draw)
        scene = sample_scene(own, split="train", things=(1, 2))
        caption = OPENING.sub("", short_caption(scene, random.Random(own)))
        plain = caption.replace(" ", "").isalnum()  # a name may not end in a sign that joins the full stop
        if plain and len(base.tokenizer.encode(caption)) <= longest:
            return scene, caption
    raise PerceptError(
        f"no caption has at most {longest} tokens, a third of the {base.tokenizer.context} that the model reads. Use a model with a longer context."
    )


def k_means(vectors: Float[Tensor, "n d"], count: int, *, seed: int, steps: int = 20) -> Int[Tensor, " n"]:
    """Return the cluster of every unit vector by cosine (Lloyd's algorithm from random rows); an empty cluster keeps its centre."""
    chosen = random.Random(seed).sample(range(len(vectors)), min(count, len(vectors)))
    centres = vectors[chosen]
    label = (vectors @ centres.T).argmax(dim=1)
    for _ in range(steps):
        sums = torch.zeros_like(centres).index_add_(0, label, vectors)
        centres = torch.where(sums.any(dim=1, keepdim=True), F.normalize(sums, dim=1), centres)
        label = (vectors @ centres.T).argmax(dim=1)
    return label


def two_levels(
    features: Float[Tensor, "n d"], top: int, leaf: int, *, seed: int
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Return clusters of pairs, and clusters within each of them."""
    unit = F.normalize(features.float(), dim=1)
    first = k_means(unit, top, seed=seed)
    second = torch.zeros_like(first)
    for cluster in first.unique().tolist():
        inside = first == cluster
        second[inside] = k_means(unit[inside], leaf, seed=derive(seed, cluster))
    return first, second


def episode(pairs: Pairs, rng: random.Random, *, leaves: int, each: int) -> tuple[list[int], list[int]]:
    """Return support and query rows: `each` pairs of `leaves` clusters within one cluster of the first level, and the same of a different one."""
    tops = rng.sample(pairs.top.unique().tolist(), 2)
    return _part(pairs, rng, tops[0], leaves, each), _part(pairs, rng, tops[1], leaves, each)


def _part(pairs: Pairs, rng: random.Random, top: int, leaves: int, each: int) -> list[int]:
    inside = pairs.top == top
    known = pairs.leaf[inside].unique().tolist()
    rows = []
    for leaf in rng.sample(known, min(leaves, len(known))):
        own = (inside & (pairs.leaf == leaf)).nonzero().flatten().tolist()
        rows += rng.sample(own, min(each, len(own)))
    return rows
