"""Training pictures of the world, drawn once by all cores, kept on disk, and served as batches that depend on the step alone."""

import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8, UInt16
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from percept.core.contracts import Batch
from percept.core.errors import PerceptError, unknown_name
from percept.core.io import content_hash, read_json, replacing
from percept.core.parallel import map_processes
from percept.core.report import track
from percept.core.seed import derive
from percept.data.tokenizers import Tokenizer
from percept.data.world.alt_text import alt_text
from percept.data.world.elements import Scene
from percept.data.world.language import article, contrary, long_caption, names_caption, noun, short_caption
from percept.data.world.objects import CATEGORIES
from percept.data.world.palette import COLOURS
from percept.data.world.patches import MOST_THINGS, cover_of, ids_of
from percept.data.world.regions import NAMES, Region, cut, regions_of
from percept.data.world.render import render
from percept.data.world.scene import sample_scene
from percept.data.world.splits import held_out
from percept.data.world.variants import shows_colour

TEXTS = ("alt", "names", "short", "long")
"""Kinds of the texts kept for every picture; a training step draws one of them for all its pictures."""
SIDE = 96
"""Pixels a side of the kept pictures."""
NOT_DRAWING = ("questions.py", "record.py", "sheet.py", "write.py")
"""Files that have no part in what a kept picture shows or its texts say."""
SHOWN = ("words", "regions", "scenes")
"""What a batch can hold: windows around single things with words as labels, the same with texts too, or whole scenes."""
IDS = ".ids"
"""Ending of the files that tell which thing each pixel shows."""
CHUNK = 256
"""Pairs per unit of work."""


@dataclass(frozen=True, kw_only=True)
class WorldData:
    """Which pictures to train on: always pairs, a scene and its twin (two colours, the sides or one kind exchanged)."""

    pairs: int = 100_000
    """Pairs of pictures; each is 2 x 36.9 kB on disk."""
    seed: int = 0
    style: str = "mixed"
    """A style of the world, or "mixed": half plain."""
    stretched: float = 0.4
    """Share of pairs that are not square; they are squashed to a square like any picture the models see."""
    stretch: float = 0.7
    """Largest absolute logarithm of their aspect: 0.7 is up to 2:1 either way."""
    twins: float = 0.5
    """Share of a batch that consists of whole pairs; of the other pairs one picture is taken."""
    weights: tuple[float, ...] = (0.1, 0.3, 0.3, 0.3)
    """How often a step takes each of the texts (alt, names, short, long)."""
    region_weights: tuple[float, ...] = (0.6, 0.2, 0.2)
    """How often a step of regions takes each of their texts (kind, colour, pattern)."""
    crop: int = 8
    """Pixels that a crop may leave out on either axis; the same for all pictures of a step."""
    brightness: float = 0.15
    """Largest relative change of brightness, per picture."""
    contrast: float = 0.3
    """Largest relative change of contrast, per picture."""
    noise: float = 0.08
    """Largest standard deviation of noise, of the range from black to white; two of three pictures have none."""

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise PerceptError(f"pairs={self.pairs}; draw at least one")
        if not 0 <= self.crop < SIDE:
            raise PerceptError(f"crop={self.crop}; a crop leaves out 0 to {SIDE - 1} of {SIDE} pixels")
        for name in ("stretched", "twins", "brightness", "contrast", "noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise PerceptError(f"{name}={getattr(self, name)}; it is a share within 0..1")
        for name, kinds in (("weights", TEXTS), ("region_weights", NAMES)):
            weights = getattr(self, name)
            if len(weights) != len(kinds) or not all(0 <= one < math.inf for one in weights) or not sum(weights):
                raise PerceptError(f"{name}={weights}; give one weight per kind ({', '.join(kinds)}), not all 0")


def _texts(scene: Scene, rng: random.Random) -> list[str]:
    write = {"alt": alt_text, "names": names_caption, "short": short_caption, "long": long_caption}
    return [write[kind](scene, rng) for kind in TEXTS]


@dataclass(frozen=True)
class _Drawn:
    """One picture of the cache."""

    image: UInt8[np.ndarray, "y x 3"]
    ids: UInt8[np.ndarray, "y x"]
    texts: list[str]
    """One per entry of TEXTS."""
    regions: list[Region]
    things: list[tuple[int, int, str]]
    """Category, colour and name of every thing, see `_things`."""
    contrary: list[tuple[str, str]]


def _things(scene: Scene) -> list[tuple[int, int, str]]:
    """Return number of category, of colour (-1 where it does not show), and name of every thing.

    The name is empty where the thing alone would be a composition kept for evaluation.
    """
    coloured, found = shows_colour(scene), []
    for thing in scene.things:
        kept = held_out(thing.category, thing.colour, "alone")
        name = "" if kept else article(noun(thing, coloured))
        colour = list(COLOURS).index(thing.colour) if coloured else -1
        found.append((list(CATEGORIES).index(thing.category), colour, name))
    return found


def _pair(number: int, data: WorldData) -> Iterator[_Drawn]:
    from percept.data.world import twin

    rng = random.Random(derive(data.seed, "pair", number))
    aspect = math.exp(rng.uniform(-data.stretch, data.stretch)) if rng.random() < data.stretched else 1.0
    draw = partial(sample_scene, split="train", style=data.style, aspect=aspect)
    scene = draw(derive(data.seed, "scene", number))
    other = twin(scene, rng) or draw(derive(data.seed, "other", number))
    for one in (scene, other):
        drawn = render(one, size=SIDE)
        yield _Drawn(
            image=_squashed(drawn.image, Image.Resampling.BILINEAR),
            ids=_squashed(ids_of(drawn), Image.Resampling.NEAREST),
            texts=_texts(one, rng),
            regions=regions_of(drawn),
            things=_things(one),
            contrary=contrary(one, rng),
        )


def _squashed(image: np.ndarray, how: Image.Resampling) -> np.ndarray:
    """Resize to a square, as the preprocessing of the models does with pictures of any aspect."""
    if image.shape[:2] == (SIDE, SIDE):
        return image
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), how))


def _draw_chunk(folder: Path, data: WorldData, first: int) -> None:
    """Draw up to CHUNK pairs into three files."""
    target = folder / f"{first:08d}.npy"
    drawn = [item for number in range(first, min(first + CHUNK, data.pairs)) for item in _pair(number, data)]
    with replacing(target.with_suffix(".json")) as part:
        told = {name: [getattr(one, name) for one in drawn] for name in ("texts", "regions", "things", "contrary")}
        part.write_text(json.dumps(told), encoding="utf-8")
    with replacing(target.with_suffix(IDS)) as part, part.open("wb") as file:
        np.save(file, np.stack([one.ids for one in drawn]))
    with replacing(target) as part, part.open("wb") as file:  # last: its presence says that the chunk is whole
        np.save(file, np.stack([one.image for one in drawn]))


def source_fingerprint() -> str:
    """Hash the code that draws and words the world, so that old pictures are never taken for new ones."""
    folder = Path(__file__).parent
    files = [path for path in sorted(folder.rglob("*.py")) if path.name not in NOT_DRAWING]
    return content_hash(b"".join(path.read_bytes() for path in files))


def _cache_name(data: WorldData) -> str:
    drawn = (data.style, data.seed, data.stretched, data.stretch, source_fingerprint())
    return f"{data.style}-{data.seed}-{data.pairs}-{content_hash(repr(drawn).encode())[:12]}"


def draw_cache(data: WorldData, home: Path | str, *, workers: int | None = None) -> Path:
    """Draw all pairs of `data` below `home` unless they are there, and return their folder.

    The folder's name tells settings and drawing code apart; an interrupted drawing goes on where it stopped.
    """
    folder = Path(home) / _cache_name(data)
    folder.mkdir(parents=True, exist_ok=True)
    starts = [first for first in range(0, data.pairs, CHUNK) if not (folder / f"{first:08d}.npy").is_file()]
    if not starts:
        return folder
    draw = partial(_draw_chunk, folder, data)
    for _ in track(map_processes(draw, starts, processes=workers), "drawing training pictures", len(starts)):
        pass
    return folder


@dataclass(frozen=True)
class Stage:
    """What batches hold from step `first` on, `size` pixels a side."""

    first: int
    size: int
    shown: str = "scenes"
    """One of SHOWN."""
    keep: float = 1.0
    """Share of the patches that the model sees (Li et al. 2023, arXiv:2212.00794, FLIP); others are left out by chance."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise PerceptError(f"a stage shows pictures of {self.size} pixels; give at least 1")
        if not 0 < self.keep <= 1:
            raise PerceptError(f"a stage that keeps {self.keep} of the patches; it must be above 0 and at most 1")
        if self.shown not in SHOWN:
            raise unknown_name("stage", self.shown, SHOWN)


class WorldSource:
    """Batches from a drawn cache. A batch depends on its step number alone, so a resumed run sees what it would have seen."""

    def __init__(
        self,
        data: WorldData,
        folder: Path,
        tokenizer: Tokenizer,
        *,
        batch: int,
        stages: Sequence[Stage],
        seed: int,
        patch: int = 8,
    ) -> None:
        self.data, self.tokenizer, self.batch_size, self.stages, self.seed = data, tokenizer, batch, tuple(stages), seed
        self.patch = patch
        files = sorted(folder.glob("*.npy"))
        self.pictures = [np.load(file, mmap_mode="r") for file in files]
        self.numbered = [np.load(file.with_suffix(IDS), mmap_mode="r") for file in files]
        told = [read_json(file.with_suffix(".json")) for file in files]
        texts = [row for one in told for row in one["texts"]]
        self.ids = _tokenized(texts, tokenizer)
        things = [row for one in told for row in one["things"]]
        self.things = np.full((len(things), MOST_THINGS, 2), -1, dtype=np.int64)
        for picture, row in enumerate(things):
            self.things[picture, : len(row)] = [thing[:2] for thing in row]
        self.names = _tokenized(
            [[name for *_, name in row] + [""] * (MOST_THINGS - len(row)) for row in things], tokenizer
        )
        self.names[self.names[..., 1] == tokenizer.end_id] = 0  # an empty text
        pairs = [[text for pair in row for text in pair] for one in told for row in one["contrary"]]
        self.contrary = _tokenized(pairs, tokenizer)
        regions = [
            (picture, *region)
            for picture, row in enumerate(r for one in told for r in one["regions"])
            for region in row
        ]
        self.region_pictures = np.array([picture for picture, _, _ in regions], dtype=np.int64)
        self.region_boxes = np.array([box for _, box, _ in regions], dtype=np.float32).reshape(-1, 4)
        self.region_ids = _tokenized([names for _, _, names in regions], tokenizer)
        self._orders: dict[str, tuple[int, np.ndarray]] = {}

    def stage_at(self, step: int) -> Stage:
        """Return the stage a step is in."""
        return next(stage for stage in reversed(self.stages) if stage.first <= step)

    def _walk(self, step: int, count: int, total: int, what: str) -> np.ndarray:
        """Walk through `total` things, `count` a step, in a new random order per epoch."""
        per_epoch = total // count
        if per_epoch == 0:
            raise PerceptError(f"{total} {what} are fewer than the {count} of one batch; draw more or batch less")
        epoch, place = divmod(step, per_epoch)
        if what not in self._orders or self._orders[what][0] != epoch:
            rng = np.random.default_rng(derive(self.seed, "order", what, epoch))
            self._orders[what] = epoch, rng.permutation(total)
        return self._orders[what][1][place * count : (place + 1) * count]

    def numbers_of(self, step: int) -> np.ndarray:
        """Return the picture numbers of a step: whole pairs first, then one picture of each further pair."""
        whole = int(self.batch_size * self.data.twins) // 2
        pairs = self._walk(step, self.batch_size - whole, self.data.pairs, "pairs")
        side = np.random.default_rng(derive(self.seed, "side", step)).integers(0, 2, len(pairs) - whole)
        return np.concatenate([2 * pairs[:whole], 2 * pairs[:whole] + 1, 2 * pairs[whole:] + side])

    def batch(self, step: int) -> Batch:
        """Return the batch of a step: pictures scaled to the stage's size and to [-1, 1], and one text each.

        All texts of a step are of one kind, so that none says of a picture what another says less closely.
        """
        rng = np.random.default_rng(derive(self.seed, "draw", step))
        stage = self.stage_at(step)
        scenes = stage.shown == "scenes"
        if scenes:
            numbers = self.numbers_of(step)
            raw, things = (torch.from_numpy(np.stack(found)) for found in self._pictures(numbers))
            pixels, things = self._cropped(raw.permute(0, 3, 1, 2), things, stage.size, rng)
            ids = self.ids[numbers, _drawn(rng, self.data.weights)]
        else:
            chosen = self._walk(step, self.batch_size, len(self.region_boxes), "regions")
            numbers = self.region_pictures[chosen]
            boxes = self.region_boxes[chosen]
            pixels, things = cut(*self._pictures(numbers), boxes, stage.size, self.looseness(step), rng)
            ids = self.region_ids[chosen, _drawn(rng, self.data.region_weights)]
        tokens = _wide(ids)
        cover = cover_of(things, self.patch)
        return Batch(
            image=self._lit(pixels, rng),
            tokens=None if stage.shown == "words" else tokens,
            words=tokens,
            cover=cover,
            things=torch.from_numpy(self.things[numbers]),
            names=_wide(self.names[numbers]) if stage.shown != "words" else None,
            contrary=_wide(self._contrary(numbers, rng)) if scenes else None,
            keep=_kept(cover.shape[1], stage.keep, rng),
        )

    def looseness(self, step: int) -> float:
        """Return how loose the windows of a step are: tight at first, loose where the scenes begin."""
        scenes = next((stage.first for stage in self.stages if stage.shown == "scenes"), None)
        return step / scenes if scenes else 1.0

    def _contrary(self, numbers: np.ndarray, rng: np.random.Generator) -> UInt16[np.ndarray, "b 1 2 n"]:
        """Draw one of the pairs of a right and a wrong text of each picture."""
        pairs = self.contrary.shape[1] // 2
        chosen = rng.integers(0, pairs, len(numbers))
        return self.contrary.reshape(len(self.contrary), pairs, 2, -1)[numbers, chosen][:, None]

    def _pictures(self, numbers: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return pixels and ids of pictures."""
        places = [divmod(int(number), 2 * CHUNK) for number in numbers]
        found = [[files[file][place] for file, place in places] for files in (self.pictures, self.numbered)]
        return found[0], found[1]

    def _cropped(
        self, image: UInt8[Tensor, "b 3 y x"], ids: UInt8[Tensor, "b y x"], size: int, rng: np.random.Generator
    ) -> tuple[UInt8[Tensor, "b 3 s s"], UInt8[Tensor, "b s s"]]:
        """Crop a little and scale; positions stay what the text says."""
        top, left, lost = (int(rng.integers(0, self.data.crop + 1)) for _ in range(3))
        side = image.shape[-1] - lost
        top, left = min(top, lost), min(left, lost)
        image, ids = (one[..., top : top + side, left : left + side].contiguous() for one in (image, ids))
        if side != size:
            image = F.interpolate(image, size=(size, size), mode="bilinear", antialias=True)
            ids = F.interpolate(ids[:, None], size=(size, size), mode="nearest")[:, 0]
        return image, ids

    def _lit(self, image: UInt8[Tensor, "b 3 y x"], rng: np.random.Generator) -> Float[Tensor, "b 3 y x"]:
        """Change brightness and contrast of each picture, scale it to [-1, 1], and put noise on one of three."""
        brightness, contrast = (
            torch.from_numpy(1 + most * (2 * rng.random(len(image), dtype=np.float32) - 1))[:, None, None, None]
            for most in (self.data.brightness, self.data.contrast)
        )
        scaled = image.float().mul_(brightness / 127.5).sub_(1.0)
        grey = scaled.mean(dim=(1, 2, 3), keepdim=True)
        scaled = scaled.sub_(grey).mul_(contrast).add_(grey)
        if self.data.noise:
            noisy = torch.from_numpy(np.flatnonzero(rng.random(len(image)) < 1 / 3))
            deviation = 2 * self.data.noise * rng.random((len(noisy), 1, 1, 1), dtype=np.float32)
            noise = rng.standard_normal((len(noisy), *image.shape[1:]), dtype=np.float32)
            scaled[noisy] += torch.from_numpy(noise * deviation)
        return scaled.clamp_(-1.0, 1.0)


def _wide(ids: UInt16[np.ndarray, "*b n"]) -> Int[Tensor, "*b n"]:
    return torch.from_numpy(ids.astype(np.int64))


def _kept(count: int, share: float, rng: np.random.Generator) -> Int[Tensor, " k"] | None:
    """Draw which of `count` patches are kept, in their order; None for all."""
    if share == 1:
        return None
    return torch.from_numpy(np.sort(rng.permutation(count)[: max(1, round(share * count))]))


def _drawn(rng: np.random.Generator, weights: Sequence[float]) -> int:
    """Draw a position with these weights."""
    return int(rng.choice(len(weights), p=np.array(weights) / sum(weights)))


def _tokenized(rows: Sequence[Sequence[str]], tokenizer: Tokenizer) -> np.ndarray:
    """Return ids [rows, texts, context]; in parts, because ids of 64 bits for all at once would fill the memory."""
    parts = [
        tokenizer([text for row in rows[first : first + CHUNK] for text in row]).numpy().astype(np.uint16)
        for first in range(0, len(rows), CHUNK)
    ]
    return np.concatenate(parts).reshape(len(rows), len(rows[0]), -1)


def some_texts(folder: Path, count: int) -> list[str]:
    """Return texts of the first pictures of a cache, for training a tokenizer."""
    found: list[str] = []
    for file in sorted(folder.glob("*.json")):
        told: Any = read_json(file)
        found += [text for row in told["texts"] for text in row]
        if len(found) >= count:
            break
    return found[:count]
