"""Captioned drawings on white, such as emoji and clip art, put in front of other backgrounds while training."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.data.images import read_image
from percept.data.sources.sample import BadSample, Rows, Sample
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess

WHITE = 246
"""Least value of every channel that counts as white paper."""
KEPT = 128
"""Longest side in pixels of a drawing that is kept in memory."""
DIRECTED = ("left", "right", "arrow", "button", "clock", "keycap", "flag", "sign", "letter")
"""Drawings whose captions have one of these words are not mirrored."""


@dataclass(frozen=True, kw_only=True)
class Pasting:
    """How a drawing is changed at random."""

    white: float = 0.35
    """Share that stays on white."""
    scale: tuple[float, float] = (0.6, 1.0)
    """Least and largest share of the image's side that the drawing takes."""
    turn: float = 15.0
    """Largest rotation in degrees."""
    flip: float = 0.5
    """Share that is mirrored, unless its caption names a side."""
    hue: float = 0.04
    """Largest shift of the hue, where the whole circle is 1."""
    colour: float = 0.35
    """Largest relative change of saturation, brightness and contrast."""
    grey: float = 0.08
    """Share without colour."""
    outlined: float = 0.25
    """Share that gets a dark outline."""
    flat: float = 0.2
    """Share with few colours, as in a flat drawing."""


@dataclass(frozen=True, kw_only=True)
class Words:
    """How the caption of a drawing is chosen."""

    templates: Sequence[str]
    """Texts with {} for a name."""
    keywords: float = 0.15
    """Share of captions that are up to three of the drawing's keywords."""


class DrawingSource:
    """Batches of drawings with captions: a function of seed and step. Drawings of a labelled kind are drawn more often."""

    def __init__(
        self,
        rows: Sequence[Rows],
        tokenizer: Tokenizer,
        preprocess: Preprocess,
        *,
        words: Words,
        pasting: Pasting | None = None,
        labelled: float = 3.0,
        background: Callable[[random.Random, int], Image.Image] | None = None,
        seed: int = 0,
    ) -> None:
        """Read the tables; images are decoded when they are first used.

        Args:
            rows: tables with images, a field "caption", and perhaps "keywords" and a label.
            words: how captions are chosen.
            pasting: how images are changed.
            labelled: how many times as often a row with a label is drawn.
            background: makes a square picture of so many pixels; plain colours alone if None.
            seed: of everything that is drawn.

        Raises:
            PerceptError: there is no row with an image and a caption.
        """
        self.tokenizer, self.preprocess, self.words = tokenizer, preprocess, words
        self.pasting, self.background, self.seed = pasting or Pasting(), background, seed
        self.samples = [sample for part in rows for sample in _usable(part)]
        if not self.samples:
            raise PerceptError("no row has an image and a caption. Give tables with the fields path and caption.")
        self.chances = np.array([labelled if sample.label else 1.0 for sample in self.samples])
        self.chances /= self.chances.sum()
        self.cut = lru_cache(maxsize=None)(self._cut)

    def batch(self, step: int, rows: slice, size: int) -> tuple[Float[Tensor, "b 3 y x"], Int[Tensor, "b n"]]:
        """Return images and token ids of a slice of the step's rows; no row is drawn twice.

        Args:
            step: number of the step.
            rows: of the `size` rows of the whole step.
            size: rows of the step over all processes.
        """
        rng = np.random.default_rng(derive(self.seed, "drawings", step))
        size = min(size, len(self.samples))
        chosen = rng.choice(len(self.samples), size, replace=False, p=self.chances)[rows]
        made = [
            self._made(int(number), random.Random(derive(self.seed, "paste", step, int(number)))) for number in chosen
        ]
        images = [self.preprocess.normalise(self.preprocess(image)) for image, _ in made]
        return torch.stack(images), self.tokenizer([text for _, text in made])

    def texts(self) -> list[str]:
        """Return the caption, the keywords and the label of every drawing."""
        fields = [sample.captions.get(name, ()) for sample in self.samples for name in ("caption", "keywords", "label")]
        return [text for values in fields for text in values if text]

    def _made(self, number: int, rng: random.Random) -> tuple[Image.Image, str]:
        sample = self.samples[number]
        return self._pasted(self.cut(number), caption_of(sample), rng), self._caption(sample, rng)

    def _caption(self, sample: Sample, rng: random.Random) -> str:
        keywords = [word.strip() for word in ",".join(sample.captions.get("keywords", ())).split(",") if word.strip()]
        if len(keywords) > 1 and rng.random() < self.words.keywords:
            return ", ".join(rng.sample(keywords, min(len(keywords), rng.randint(1, 3))))
        name = sample.label if sample.label and rng.random() < 0.7 else caption_of(sample)
        return name if rng.random() < 0.2 else _filled(rng.choice(self.words.templates), name.lower())

    def _cut(self, number: int) -> tuple[Image.Image, Image.Image]:
        """Return a drawing and the mask of what is not white paper around it, cropped to the mask."""
        image = read_image(self.samples[number].images[0]).convert("RGB")
        image.thumbnail((KEPT, KEPT), Image.Resampling.BOX)
        mask = drawn_mask(image)
        box = mask.getbbox() or (0, 0, *image.size)
        return image.crop(box), mask.crop(box)

    def _pasted(self, cut: tuple[Image.Image, Image.Image], caption: str, rng: random.Random) -> Image.Image:
        how, side = self.pasting, max(self.preprocess.shape)
        image, mask = coloured(cut[0], how, rng), cut[1]
        if rng.random() < how.outlined:
            image, mask = outlined(image, mask)
        if rng.random() < how.flip and not any(word in caption.lower() for word in DIRECTED):
            image, mask = (each.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for each in (image, mask))
        angle = rng.uniform(-how.turn, how.turn)
        image = image.rotate(angle, Image.Resampling.BILINEAR, expand=True, fillcolor=(255, 255, 255))
        mask = mask.rotate(angle, Image.Resampling.BILINEAR, expand=True)
        factor = rng.uniform(*how.scale) * side / max(image.size)
        size = (max(1, round(factor * image.width)), max(1, round(factor * image.height)))
        image, mask = (each.resize(size, Image.Resampling.BILINEAR) for each in (image, mask))
        canvas = self._behind(side, rng)
        place = (rng.randint(0, max(0, side - size[0])), rng.randint(0, max(0, side - size[1])))
        canvas.paste(image, place, mask)
        return canvas

    def _behind(self, side: int, rng: random.Random) -> Image.Image:
        if rng.random() < self.pasting.white:
            return Image.new("RGB", (side, side), (255, 255, 255))
        if self.background is not None and rng.random() < 0.5:
            return self.background(rng, side)
        corners = Image.new("RGB", (2, 2))
        first = [rng.randint(0, 255) for _ in range(3)]
        for place in ((0, 0), (1, 0), (0, 1), (1, 1)):
            corners.putpixel(place, tuple(min(255, max(0, value + rng.randint(-40, 40))) for value in first))
        return corners.resize((side, side), Image.Resampling.BILINEAR)


def drawn_mask(image: Image.Image) -> Image.Image:
    """Return 255 where an image is not the white paper that reaches its border, and 0 elsewhere."""
    paper = ImageChops.darker(*image.split()[:2])
    paper = ImageChops.darker(paper, image.split()[2]).point([255 if value >= WHITE else 0 for value in range(256)])
    framed = Image.new("L", (image.width + 2, image.height + 2), 255)
    framed.paste(paper, (1, 1))
    ImageDraw.floodfill(framed, (0, 0), 128)
    return framed.crop((1, 1, image.width + 1, image.height + 1)).point(
        [0 if value == 128 else 255 for value in range(256)]
    )


def coloured(image: Image.Image, how: Pasting, rng: random.Random) -> Image.Image:
    """Change hue, saturation, brightness and contrast at random, or leave only a few colours, or none."""
    if rng.random() < how.grey:
        return image.convert("L").convert("RGB")
    if rng.random() < how.flat:
        image = image.quantize(rng.randint(4, 10)).convert("RGB")
    hue, *rest = image.convert("HSV").split()
    shift = round(256 * rng.uniform(-how.hue, how.hue))
    image = Image.merge("HSV", (hue.point([(value + shift) % 256 for value in range(256)]), *rest)).convert("RGB")
    for change in (ImageEnhance.Color, ImageEnhance.Brightness, ImageEnhance.Contrast):
        image = change(image).enhance(1 + rng.uniform(-how.colour, how.colour))
    return image


def outlined(image: Image.Image, mask: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Draw a dark line around the mask; return the image and the mask, both larger by the line."""
    width = 1 + max(image.size) // 40
    size = (image.width + 2 * width, image.height + 2 * width)
    wide, inner = Image.new("L", size), Image.new("L", size)
    inner.paste(mask, (width, width))
    wide = inner.filter(ImageFilter.MaxFilter(2 * width + 1))
    canvas = Image.new("RGB", size, (20, 20, 20))
    canvas.paste(image, (width, width), mask)
    return canvas, wide


def caption_of(sample: Sample) -> str:
    """Return the first caption of a row."""
    return next(iter(sample.captions.get("caption", ())), "")


def _usable(rows: Rows) -> list[Sample]:
    found = []
    for number in range(len(rows)):
        try:
            sample = rows.read(number)
        except BadSample:
            continue
        if sample.record.get("part", "train") != "train":
            raise PerceptError(
                f"{sample.key} belongs to the part {sample.record['part']!r}, which is for evaluation. Give train.csv."
            )
        if sample.images and caption_of(sample):
            found.append(sample)
    return found


def _filled(template: str, name: str) -> str:
    from percept.core.words import article

    return template.replace("a {}", article(name)).replace("{}", name)
