"""Helpers of the benchmarks of data: noisy, imbalanced images of the world, and a small model that is trained on them in seconds.

The model is trained as in LiT (Zhai et al. 2022, arXiv:2111.07991): the image tower is locked, and a projection of its vectors and a text tower
learn from the captions. The locked tower is that of nano, so what the benchmarks measure is the language that data teaches, not vision.
"""

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.seed import derive, seed_everything
from percept.data.tokenizers import Tokenizer
from percept.infer.encoder import Encoder
from percept.losses.contrastive import info_nce
from percept.models.config import TextConfig
from percept.models.text import TextTower
from percept.world import CATEGORIES, CLASS_TEMPLATES, alt_text, fill_template, obeys, render, sample_scene
from percept.world.elements import Scene

SIDE, CONTEXT, DIM = 96, 32, 64
NAMES = tuple(CATEGORIES)
"""Categories, the most frequent first."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How bad the data is."""

    skew: float = 1.2
    """Exponent of the frequency of a category by its rank."""
    mismatched: float = 0.3
    """Share of the captions that belong to another image."""
    boilerplate: float = 0.1
    """Share of the captions that say nothing."""
    copied: float = 0.2
    """Share of the rows whose image is an earlier one, encoded with another quality, with its caption."""


def scene_of(category: str, number: int, split: str, style: str = "plain") -> Scene:
    """Return a scene with one thing of a category."""
    for attempt in range(1000):
        scene = sample_scene(derive(number, category, attempt) % 2**31, split=split, things=(1, 1), style=style)
        scene = replace(scene, things=(replace(scene.things[0], category=category),))
        if obeys(scene):
            return scene
    raise AssertionError(category)


def jpeg(pixels: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def noisy_rows(count: int, noise: Noise, seed: int) -> list[dict[str, Any]]:
    """Return rows with key, caption, image (bytes of a file), and the truth: category, and whether the caption is another image's."""
    rng = random.Random(derive(seed, "rows"))
    weights = [(rank + 1) ** -noise.skew for rank in range(len(NAMES))]
    rows: list[dict[str, Any]] = []
    pixels: list[np.ndarray] = []
    for number in range(count):
        if rows and rng.random() < noise.copied:
            source = rng.randrange(len(rows))
            pixels.append(pixels[source])
            rows.append({**rows[source], "key": f"{number:06d}", "image": jpeg(pixels[source], rng.randint(50, 90))})
            continue
        category = rng.choices(NAMES, weights)[0]
        scene = scene_of(category, derive(seed, number), "train")
        pixels.append(render(scene, size=SIDE, truth=False).image)
        row = {"key": f"{number:06d}", "caption": alt_text(scene, rng), "image": jpeg(pixels[-1], 92)}
        rows.append({**row, "category": category, "mismatch": False})
    originals = list(rows)
    for place, row in enumerate(rows):
        if rng.random() < noise.mismatched:
            rows[place] = row = {**row, "caption": rng.choice(originals)["caption"], "mismatch": True}
        if rng.random() < noise.boilerplate:
            text = rng.choice(("IMG_{}.jpg", "untitled", "click to enlarge", "photo {}")).format(rng.randrange(9999))
            rows[place] = {**row, "caption": text, "mismatch": True}
    return rows


@dataclass(frozen=True)
class Test:
    """Vectors of test images of one thing each, and their categories, all equally often."""

    vectors: Tensor
    labels: np.ndarray


def singles_of(encoder: Encoder, count: int, seed: int, style: str = "plain") -> Test:
    labels = np.arange(count) % len(NAMES)
    scenes = [
        scene_of(NAMES[label], derive(seed, "test", place), "evaluation", style) for place, label in enumerate(labels)
    ]
    return Test(encoder.image([render(scene, size=SIDE, truth=False).image for scene in scenes]), labels)


class Small(nn.Module):
    """A projection of image vectors and a text tower, with a learned scale."""

    def __init__(self, width: int, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.image = nn.Sequential(nn.Linear(width, 128), nn.GELU(), nn.Linear(128, DIM))
        self.text = TextTower(
            TextConfig(context=CONTEXT, vocabulary=tokenizer.vocab_size, width=64, layers=2, heads=2, output_dim=DIM)
        )
        self.log_scale = nn.Parameter(torch.tensor(2.66))

    def forward(self, vectors: Tensor, tokens: Tensor) -> Tensor:
        """Return the contrastive loss."""
        image, text = F.normalize(self.image(vectors), dim=-1), self.embed(tokens)
        return info_nce(image, text, self.log_scale.clamp(max=4.6).exp())

    def embed(self, tokens: Tensor) -> Tensor:
        """Return unit vectors of token ids."""
        ends = int(tokens.argmax(dim=1).max()) + 1
        return F.normalize(self.text(tokens[:, :ends]).pooled, dim=-1)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors of texts."""
        ids = self.tokenizer(list(texts))
        return torch.cat([self.embed(part) for part in ids.split(512)])

    @torch.no_grad()
    def images(self, vectors: Tensor) -> Tensor:
        """Return unit vectors of images, from the vectors of the locked tower."""
        return F.normalize(self.image(vectors), dim=-1)


def train(
    vectors: Tensor, texts: Sequence[Sequence[str]], tokenizer: Tokenizer, *, steps: int, batch: int = 128, seed: int
) -> Small:
    """Train a small model; of the captions of an image one is drawn per step."""
    seed_everything(seed)
    model = Small(vectors.shape[1], tokenizer).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.1)
    rng = np.random.default_rng(seed)
    lengths = np.array([len(some) for some in texts])
    ids, starts = tokenizer([text for some in texts for text in some]), np.cumsum([0, *lengths])[:-1]
    order = np.zeros(0, dtype=np.int64)
    for _ in range(steps):
        while len(order) < batch:
            order = np.concatenate([order, rng.permutation(len(vectors))])
        rows, order = order[:batch], order[batch:]
        chosen = starts[rows] + (rng.random(batch) * lengths[rows]).astype(np.int64)
        loss = model(vectors[torch.from_numpy(rows)], ids[torch.from_numpy(chosen)])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return model.eval()


def zero_shot(model: Small, test: Test) -> np.ndarray:
    """Return for each test image whether its category is found."""
    prompts = [fill_template(template, name) for name in NAMES for template in CLASS_TEMPLATES]
    classes = F.normalize(model.texts(prompts).unflatten(0, (len(NAMES), -1)).mean(dim=1), dim=-1)
    return (model.images(test.vectors) @ classes.T).argmax(dim=1).numpy() == test.labels


def paired(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """Return the mean difference of runs with equal seeds, with the 95 % interval of Student's t."""
    difference = np.subtract(first, second)
    quantile = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}[len(difference)]
    half = quantile * difference.std(ddof=1) / np.sqrt(len(difference))
    mean = float(difference.mean())
    return {
        "mean": round(mean, 4),
        "low": round(mean - half, 4),
        "high": round(mean + half, 4),
        "seeds": len(difference),
    }


def stored(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows as parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), folder / "rows.parquet")
    return folder / "rows.parquet"
