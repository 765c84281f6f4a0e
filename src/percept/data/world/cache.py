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
from jaxtyping import Float, UInt8
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
from percept.data.world.language import long_caption, names_caption, short_caption
from percept.data.world.regions import NAMES, Region, cut, regions_of
from percept.data.world.render import render
from percept.data.world.scene import sample_scene

TEXTS = ("alt", "names", "short", "long")
"""Kinds of the texts kept for every picture; a training step draws one of them for all its pictures."""
SIDE = 96
"""Pixels a side of the kept pictures."""
NOT_DRAWING = ("questions.py", "record.py", "sheet.py", "write.py")
"""Files that have no part in what a kept picture shows or its texts say."""
SHOWN = ("words", "regions", "scenes")
"""What a batch can hold: windows around single things with words as labels, the same with texts too, or whole scenes."""
CHUNK = 256
"""Pairs per unit of work."""


@dataclass(frozen=True, kw_only=True)
class WorldData:
    """Which pictures to train on: always pairs, a scene and its twin (two colours, the sides or one kind exchanged)."""

    pairs: int = 100_000
    """Pairs of pictures; each is 2 x 27.6 kB on disk."""
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

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise PerceptError(f"pairs={self.pairs}; draw at least one")
        if not 0 <= self.crop < SIDE:
            raise PerceptError(f"crop={self.crop}; a crop leaves out 0 to {SIDE - 1} of {SIDE} pixels")
        for name in ("stretched", "twins", "brightness"):
            if not 0 <= getattr(self, name) <= 1:
                raise PerceptError(f"{name}={getattr(self, name)}; it is a share within 0..1")
        for name, kinds in (("weights", TEXTS), ("region_weights", NAMES)):
            weights = getattr(self, name)
            if len(weights) != len(kinds) or not all(0 <= one < math.inf for one in weights) or not sum(weights):
                raise PerceptError(f"{name}={weights}; give one weight per kind ({', '.join(kinds)}), not all 0")


def _texts(scene: Scene, rng: random.Random) -> list[str]:
    write = {"alt": alt_text, "names": names_caption, "short": short_caption, "long": long_caption}
    return [write[kind](scene, rng) for kind in TEXTS]


def _pair(number: int, data: WorldData) -> Iterator[tuple[np.ndarray, list[str], list[Region]]]:
    from percept.data.world import twin

    rng = random.Random(derive(data.seed, "pair", number))
    aspect = math.exp(rng.uniform(-data.stretch, data.stretch)) if rng.random() < data.stretched else 1.0
    draw = partial(sample_scene, split="train", style=data.style, aspect=aspect)
    scene = draw(derive(data.seed, "scene", number))
    other = twin(scene, rng) or draw(derive(data.seed, "other", number))
    for one in (scene, other):
        drawn = render(one, size=SIDE)
        yield _squashed(drawn.image), _texts(one, rng), regions_of(drawn)


def _squashed(image: np.ndarray) -> np.ndarray:
    """Resize to a square, as the preprocessing of the models does with pictures of any aspect."""
    if image.shape[:2] == (SIDE, SIDE):
        return image
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def _draw_chunk(folder: Path, data: WorldData, first: int) -> None:
    """Draw up to CHUNK pairs into two files."""
    target = folder / f"{first:08d}.npy"
    drawn = [item for number in range(first, min(first + CHUNK, data.pairs)) for item in _pair(number, data)]
    with replacing(target.with_suffix(".json")) as part:
        told = {"texts": [texts for _, texts, _ in drawn], "regions": [regions for _, _, regions in drawn]}
        part.write_text(json.dumps(told), encoding="utf-8")
    with replacing(target) as part, part.open("wb") as file:  # last: its presence says that the chunk is whole
        np.save(file, np.stack([picture for picture, _, _ in drawn]))


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

    def __post_init__(self) -> None:
        if self.size < 1:
            raise PerceptError(f"a stage shows pictures of {self.size} pixels; give at least 1")
        if self.shown not in SHOWN:
            raise unknown_name("stage", self.shown, SHOWN)


class WorldSource:
    """Batches from a drawn cache. A batch depends on its step number alone, so a resumed run sees what it would have seen."""

    def __init__(
        self, data: WorldData, folder: Path, tokenizer: Tokenizer, *, batch: int, stages: Sequence[Stage], seed: int
    ) -> None:
        self.data, self.tokenizer, self.batch_size, self.stages, self.seed = data, tokenizer, batch, tuple(stages), seed
        files = sorted(folder.glob("*.npy"))
        self.pictures = [np.load(file, mmap_mode="r") for file in files]
        told = [read_json(file.with_suffix(".json")) for file in files]
        texts = [row for one in told for row in one["texts"]]
        self.ids = _tokenized(texts, tokenizer)
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
        if stage.shown != "scenes":
            chosen = self._walk(step, self.batch_size, len(self.region_boxes), "regions")
            raw = [self._picture(int(number)) for number in self.region_pictures[chosen]]
            image = self._lit(cut(raw, self.region_boxes[chosen], stage.size, self.looseness(step), rng), rng)
            ids = self.region_ids[chosen, _drawn(rng, self.data.region_weights)]
        else:
            numbers = self.numbers_of(step)
            raw = np.stack([self._picture(int(number)) for number in numbers])
            image = self._augmented(torch.from_numpy(raw).permute(0, 3, 1, 2), stage.size, rng)
            ids = self.ids[numbers, _drawn(rng, self.data.weights)]
        tokens = torch.from_numpy(ids.astype(np.int64))
        return Batch(image=image, tokens=None if stage.shown == "words" else tokens, words=tokens)

    def looseness(self, step: int) -> float:
        """Return how loose the windows of a step are: tight at first, loose where the scenes begin."""
        scenes = next((stage.first for stage in self.stages if stage.shown == "scenes"), None)
        return step / scenes if scenes else 1.0

    def _picture(self, number: int) -> UInt8[np.ndarray, "y x 3"]:
        return self.pictures[number // (2 * CHUNK)][number % (2 * CHUNK)]

    def _augmented(self, image: UInt8[Tensor, "b 3 y x"], size: int, rng: np.random.Generator) -> Tensor:
        """Crop a little, scale, and change the light; positions and colours stay what the text says."""
        top, left, lost = (int(rng.integers(0, self.data.crop + 1)) for _ in range(3))
        side = image.shape[-1] - lost
        top, left = min(top, lost), min(left, lost)
        image = image[..., top : top + side, left : left + side].contiguous()
        if side != size:
            image = F.interpolate(image, size=(size, size), mode="bilinear", antialias=True)
        return self._lit(image, rng)

    def _lit(self, image: UInt8[Tensor, "b 3 y x"], rng: np.random.Generator) -> Float[Tensor, "b 3 y x"]:
        """Change the brightness of each picture and scale it to [-1, 1]."""
        strength = 1 + self.data.brightness * (2 * rng.random(len(image), dtype=np.float32) - 1)
        scaled = image.float() * torch.from_numpy(strength / 127.5)[:, None, None, None]
        return scaled.clamp_(max=2.0).sub_(1.0)


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
