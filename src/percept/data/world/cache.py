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
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from percept.core.contracts import Batch
from percept.core.errors import PerceptError
from percept.core.io import content_hash, read_json, replacing
from percept.core.parallel import map_processes
from percept.core.report import track
from percept.core.seed import derive
from percept.data.tokenizers import Tokenizer
from percept.data.world.alt_text import alt_text
from percept.data.world.elements import Scene
from percept.data.world.language import long_caption, short_caption
from percept.data.world.render import render
from percept.data.world.scene import sample_scene

TEXTS = ("alt", "short", "short", "long", "long")
"""Kinds of the texts kept for every picture; a training step draws one of them."""
SIDE = 96
"""Pixels a side of the kept pictures."""
NOT_DRAWING = ("questions.py", "record.py", "sheet.py", "write.py")
"""Files that have no part in what a kept picture shows or its texts say."""
CHUNK = 256
"""Pairs per unit of work."""


@dataclass(frozen=True, kw_only=True)
class WorldData:
    """Which pictures to train on: always pairs, a scene and its twin (two colours or the sides exchanged)."""

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
    weights: tuple[float, ...] = (0.2, 0.2, 0.2, 0.2, 0.2)
    """How often each of the texts (alt, short, short, long, long) is drawn."""
    crop: int = 8
    """Pixels that a crop may leave out on either axis; the same for all pictures of a step."""
    brightness: float = 0.15
    """Largest relative change of brightness, per picture."""


def _texts(scene: Scene, rng: random.Random) -> list[str]:
    write = {"alt": alt_text, "short": short_caption, "long": long_caption}
    return [write[kind](scene, rng) for kind in TEXTS]


def _pair(number: int, data: WorldData) -> Iterator[tuple[np.ndarray, list[str]]]:
    from percept.data.world import twin

    rng = random.Random(derive(data.seed, "pair", number))
    aspect = math.exp(rng.uniform(-data.stretch, data.stretch)) if rng.random() < data.stretched else 1.0
    draw = partial(sample_scene, split="train", style=data.style, aspect=aspect)
    scene = draw(derive(data.seed, "scene", number))
    other = twin(scene, rng) or draw(derive(data.seed, "other", number))
    for one in (scene, other):
        yield _squashed(render(one, size=SIDE, truth=False).image), _texts(one, rng)


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
        part.write_text(json.dumps([texts for _, texts in drawn]), encoding="utf-8")
    with replacing(target) as part, part.open("wb") as file:  # last: its presence says that the chunk is whole
        np.save(file, np.stack([picture for picture, _ in drawn]))


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
    """From step `first` on, pictures have `size` pixels a side."""

    first: int
    size: int


class WorldSource:
    """Batches from a drawn cache. A batch depends on its step number alone, so a resumed run sees what it would have seen."""

    def __init__(
        self, data: WorldData, folder: Path, tokenizer: Tokenizer, *, batch: int, stages: Sequence[Stage], seed: int
    ) -> None:
        self.data, self.batch_size, self.stages, self.seed = data, batch, tuple(stages), seed
        files = sorted(folder.glob("*.npy"))
        self.pictures = [np.load(file, mmap_mode="r") for file in files]
        self.ids = np.concatenate([_tokenized(file.with_suffix(".json"), tokenizer) for file in files])
        self._order: tuple[int, np.ndarray] | None = None

    def size_at(self, step: int) -> int:
        """Return the side of the pictures of a step, pixels."""
        return next(stage.size for stage in reversed(self.stages) if stage.first <= step)

    def _pairs_of(self, step: int, count: int) -> np.ndarray:
        """Walk through all pairs in a new random order per epoch."""
        per_epoch = self.data.pairs // count
        if per_epoch == 0:
            raise PerceptError(
                f"{self.data.pairs} pairs are fewer than the {count} of one batch; draw more or batch less"
            )
        epoch, place = divmod(step, per_epoch)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, np.random.default_rng(derive(self.seed, "order", epoch)).permutation(self.data.pairs)
        return self._order[1][place * count : (place + 1) * count]

    def numbers_of(self, step: int) -> np.ndarray:
        """Return the picture numbers of a step: whole pairs first, then one picture of each further pair."""
        whole = int(self.batch_size * self.data.twins) // 2
        pairs = self._pairs_of(step, self.batch_size - whole)
        side = np.random.default_rng(derive(self.seed, "side", step)).integers(0, 2, len(pairs) - whole)
        return np.concatenate([2 * pairs[:whole], 2 * pairs[:whole] + 1, 2 * pairs[whole:] + side])

    def batch(self, step: int) -> Batch:
        """Return the batch of a step: pictures scaled to the stage's size and to [-1, 1], and one text each."""
        rng = np.random.default_rng(derive(self.seed, "draw", step))
        numbers = self.numbers_of(step)
        raw = np.stack([self.pictures[number // (2 * CHUNK)][number % (2 * CHUNK)] for number in numbers])
        kinds = rng.choice(len(TEXTS), len(numbers), p=np.array(self.data.weights) / sum(self.data.weights))
        ids = self.ids[numbers, kinds].astype(np.int64)
        image = self._augmented(torch.from_numpy(raw).permute(0, 3, 1, 2), self.size_at(step), rng)
        return Batch(image=image, tokens=torch.from_numpy(ids))

    def _augmented(self, image: UInt8[Tensor, "b 3 y x"], size: int, rng: np.random.Generator) -> Tensor:
        """Crop a little, scale, and change the brightness; positions and colours stay what the text says."""
        top, left, lost = (int(rng.integers(0, self.data.crop + 1)) for _ in range(3))
        side = image.shape[-1] - lost
        top, left = min(top, lost), min(left, lost)
        image = image[..., top : top + side, left : left + side].contiguous()
        if side != size:
            image = F.interpolate(image, size=(size, size), mode="bilinear", antialias=True)
        strength = 1 + self.data.brightness * (2 * rng.random(len(image), dtype=np.float32) - 1)
        scaled = image.float() * torch.from_numpy(strength / 127.5)[:, None, None, None]
        return scaled.clamp_(max=2.0).sub_(1.0)


def _tokenized(path: Path, tokenizer: Tokenizer) -> np.ndarray:
    """Return ids [pictures, texts, context] of one chunk."""
    texts: Any = read_json(path)
    flat = [text for row in texts for text in row]
    return tokenizer(flat).numpy().astype(np.uint16).reshape(len(texts), len(TEXTS), -1)


def some_texts(folder: Path, count: int) -> list[str]:
    """Return texts of the first pictures of a cache, for training a tokenizer."""
    found: list[str] = []
    for file in sorted(folder.glob("*.json")):
        found += [text for row in read_json(file) for text in row]
        if len(found) >= count:
            break
    return found[:count]
