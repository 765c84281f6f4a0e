"""Three kinds of small models that the benchmark of TL;DR trains on the same rows, each with seven tasks.

All read nano's image tower, which is locked: its vector, and 17 tokens (that vector and the means over 3 x 3 patches).

dual       `small_clip.Small`, contrastive
fusion     the end state of a text reads the tokens of an image by cross-attention, and a head gives the match of the pair; the pairs of a batch are
           told apart as in image-text matching, with all other pairs as negatives
captioner  a decoder writes the caption after the tokens of the image
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from small_clip import CONTEXT, NAMES, SIDE, Small, scene_of
from small_clip import train as train_dual
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.seed import derive, seed_everything
from percept.data.tokenizers import Tokenizer
from percept.models.config import TextConfig
from percept.models.text import TextTower
from percept.world import CLASS_TEMPLATES, COLOUR_TEMPLATES, COLOURS, fill_template, render, short_caption
from percept.world.elements import Scene

GRID, WIDTH, HEADS, BATCH, RATE = 4, 64, 2, 64, 2e-3
KINDS = ("dual", "fusion", "captioner")
TAIL = len(NAMES) * 2 // 3


@dataclass(frozen=True)
class Images:
    """Vectors and tokens of images."""

    vectors: Tensor
    tokens: Tensor

    def __getitem__(self, rows: Any) -> "Images":
        return Images(self.vectors[rows], self.tokens[rows])


@torch.no_grad()
def encoded(encoder: Any, images: Sequence[Any]) -> Images:
    """Return vectors and tokens of images."""
    vectors, tokens = [], []
    for start in range(0, len(images), 50):
        out = encoder.model.vision(torch.stack([encoder.prepare(image) for image in images[start : start + 50]]))
        patches = out.tokens[:, out.prefix :].unflatten(1, out.grid).movedim(-1, 1)
        grid = F.adaptive_avg_pool2d(patches, GRID).flatten(2).transpose(1, 2)
        vectors.append(F.normalize(out.pooled.float(), dim=-1))
        tokens.append(torch.cat([vectors[-1][:, None] * grid.shape[-1] ** 0.5, grid.float()], dim=1))
    return Images(torch.cat(vectors), torch.cat(tokens))


def drawn(encoder: Any, scenes: Sequence[Scene]) -> Images:
    """Render scenes and encode them."""
    return encoded(encoder, [render(scene, size=SIDE, truth=False).image for scene in scenes])


@dataclass(frozen=True)
class Tasks:
    """Test images: single things, plain and in two styles, with their categories; and captioned ones with their colours."""

    plain: Images
    sketch: Images
    corrupted: Images
    labels: np.ndarray
    captioned: Images
    captions: list[str]
    colours: np.ndarray
    categories: np.ndarray

    @classmethod
    def make(cls, encoder: Any, singles: int = 500, styled: int = 200, captioned: int = 200) -> "Tasks":
        """Render and encode the test images."""

        def styles(count: int, style: str) -> Images:
            return drawn(
                encoder,
                [
                    scene_of(NAMES[place % 100], derive(10_000, "test", place), "evaluation", style)
                    for place in range(count)
                ],
            )

        rng, texts, number = random.Random(1), dict[str, Scene](), 0
        while len(texts) < captioned:
            scene = scene_of(NAMES[number % len(NAMES)], derive(7, "retrieval", number), "evaluation")
            texts.setdefault(short_caption(scene, rng), scene)
            number += 1
        things = [scene.things[0] for scene in texts.values()]
        return cls(
            styles(singles, "plain"), styles(styled, "sketch"), styles(styled, "corruption"), np.arange(singles) % len(NAMES),
            drawn(encoder, list(texts.values())), list(texts),
            np.array([list(COLOURS).index(thing.colour) for thing in things]), np.array([NAMES.index(thing.category) for thing in things]),
        )  # fmt: skip


class Fusion(nn.Module):
    """A text tower whose end state reads the tokens of an image, and a head for the match."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        config = TextConfig(
            context=CONTEXT, vocabulary=tokenizer.vocab_size, width=WIDTH, layers=2, heads=HEADS, output_dim=WIDTH
        )
        self.text = TextTower(config)
        self.keys, self.query, self.out = nn.Linear(256, 2 * WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, 1))

    def embed(self, ids: Tensor) -> Tensor:
        """Return the end states of texts."""
        return self.text(ids[:, : int(ids.argmax(dim=1).max()) + 1]).pooled

    def forward(self, tokens: Tensor, texts: Tensor) -> Tensor:
        """Return the match of every image with every text [m, n], from image tokens and end states."""
        key, value = self.keys(tokens).unflatten(-1, (2, HEADS, -1)).unbind(dim=2)
        query = self.query(texts).unflatten(-1, (HEADS, -1))
        weights = (torch.einsum("nhd,mthd->mnht", query, key) * query.shape[-1] ** -0.5).softmax(dim=-1)
        read = torch.einsum("mnht,mthd->mnhd", weights, value).flatten(-2)
        return self.head(texts + self.out(read)).squeeze(-1)

    @torch.no_grad()
    def match(self, images: Images, texts: Sequence[str]) -> Tensor:
        """Return the match of every image with every text."""
        states = torch.cat([self.embed(part) for part in self.tokenizer(list(texts)).split(512)])
        return torch.cat([self(part, states) for part in images.tokens.split(50)])

    def loss(self, images: Images, ids: Tensor) -> Tensor:
        """Return the matching loss of the pairs of a batch."""
        logits, own = self(images.tokens, self.embed(ids)), torch.arange(len(ids))
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


class Writer(nn.Module):
    """A decoder that writes a caption after the tokens of an image."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        config = TextConfig(
            context=CONTEXT, vocabulary=tokenizer.vocab_size, width=WIDTH, layers=2, heads=HEADS, output_dim=8
        )
        self.decoder, self.project = TextTower(config), nn.Linear(256, WIDTH)
        self.decoder.projection.requires_grad_(False)

    def forward(self, images: Images, ids: Tensor) -> Tensor:
        """Return the logits of the token that follows each token."""
        front = self.project(images.tokens)
        out = self.decoder(ids, extra={0: front}).tokens[:, front.shape[1] :]
        return out @ self.decoder.embedding.weight.T

    def loss(self, images: Images, ids: Tensor) -> Tensor:
        """Return the loss of the captions."""
        ids = ids[:, : int(ids.argmax(dim=1).max()) + 1]
        return F.cross_entropy(self(images, ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten(), ignore_index=0)

    @torch.no_grad()
    def write(self, images: Images, most: int = 14) -> list[str]:
        """Return the most probable captions, chosen token by token; of "original; generated" all is written."""
        texts, tokenizer = [], self.tokenizer
        for rows in torch.arange(len(images.vectors)).split(300):
            ids = torch.full((len(rows), 1), tokenizer.start_id)
            for _ in range(most):
                ids = torch.cat([ids, self(images[rows], ids)[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
            ended = [
                row[: row.index(tokenizer.end_id)] if tokenizer.end_id in row else row for row in ids[:, 1:].tolist()
            ]
            texts += [tokenizer.decode(row) for row in ended]
        return texts


def train(
    kind: str, images: Images, texts: Sequence[Sequence[str]], tokenizer: Tokenizer, *, steps: int, seed: int
) -> Any:
    """Train a model of a kind; of the captions of an image one is drawn per step."""
    if kind == "dual":
        return train_dual(images.vectors, texts, tokenizer, steps=steps, batch=BATCH, seed=seed)
    seed_everything(seed)
    model = (Fusion(tokenizer) if kind == "fusion" else Writer(tokenizer)).train()
    optimiser = torch.optim.AdamW(
        [one for one in model.parameters() if one.requires_grad], lr=RATE, betas=(0.9, 0.95), weight_decay=0.1
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
    rng, order = np.random.default_rng(seed), np.zeros(0, dtype=np.int64)
    ids = [tokenizer(list(some)) for some in texts]
    for _ in range(steps):
        while len(order) < BATCH:
            order = np.concatenate([order, rng.permutation(len(ids))])
        rows, order = order[:BATCH], order[BATCH:]
        chosen = torch.stack([ids[row][rng.integers(len(ids[row]))] for row in rows])
        optimiser.zero_grad()
        model.loss(images[torch.from_numpy(rows)], chosen).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return model.eval()


def scores(kind: str, model: Any, tasks: Tasks) -> dict[str, float]:
    """Return the seven scores of a model and their mean."""
    found = written_scores(model, tasks) if kind == "captioner" else matched_scores(kind, model, tasks)
    plain = {name: round(float(value), 4) for name, value in found.items()}
    return {**plain, "mean": round(float(np.mean(list(plain.values()))), 4)}


def match(kind: str, model: Any, images: Images, texts: Sequence[str]) -> Tensor:
    """Return the match of every image with every text."""
    if kind == "fusion":
        return model.match(images, texts)
    assert isinstance(model, Small)
    return model.images(images.vectors) @ model.texts(texts).T


def matched_scores(kind: str, model: Any, tasks: Tasks) -> dict[str, Any]:
    """Return the scores of a model that matches images and texts."""
    prompts = [fill_template(template, name) for name in NAMES for template in CLASS_TEMPLATES[:3]]
    forms = [
        fill_template(form, name, colour) for colour in COLOURS for form in COLOUR_TEMPLATES[:1] for name in NAMES[:20]
    ]

    def grouped(images: Images, texts: Sequence[str], count: int) -> np.ndarray:
        return match(kind, model, images, texts).unflatten(1, (count, -1)).mean(dim=2).argmax(dim=1).numpy()

    right = grouped(tasks.plain, prompts, len(NAMES)) == tasks.labels
    styled = [
        grouped(images, prompts, len(NAMES)) == tasks.labels[: len(images.vectors)]
        for images in (tasks.sketch, tasks.corrupted)
    ]
    pairs, own = match(kind, model, tasks.captioned, tasks.captions), torch.arange(len(tasks.captions))
    return {
        "category": right.mean(), "rarest third": right[tasks.labels >= TAIL].mean(),
        "sketches": styled[0].mean(), "corrupted": styled[1].mean(),
        "colour": (grouped(tasks.captioned, forms, len(COLOURS)) == tasks.colours).mean(),
        "text among 200": (pairs.argmax(dim=1) == own).float().mean(), "image among 200": (pairs.argmax(dim=0) == own).float().mean(),
    }  # fmt: skip


def named(text: str) -> int:
    """Return the category that a caption names, the longest name if there are several; -1 if there is none.

    >>> NAMES[named("a drawing of a green palm tree")], named("untitled")
    ('palm tree', -1)
    """
    found = [number for number, name in enumerate(NAMES) if re.search(rf"\b{name}\b", text)]
    return max(found, key=lambda number: len(NAMES[number]), default=-1)


def coloured(text: str) -> int:
    """Return the first colour that a caption names; -1 if there is none."""
    found = [word for word in re.findall(r"[a-z]+", text) if word in COLOURS]
    return list(COLOURS).index(found[0]) if found else -1


def overlap(text: str, truth: str) -> float:
    """Return the F1 of the words of a caption.

    >>> overlap("a red cup", "a red hat")
    0.6666666666666666
    """
    first, second = set(re.findall(r"[a-z]+", text)), set(re.findall(r"[a-z]+", truth))
    return 2 * len(first & second) / max(1, len(first) + len(second))


def written_scores(model: Any, tasks: Tasks) -> dict[str, Any]:
    """Return the scores of a model that writes captions."""
    plain, sketch, corrupted, captioned = (
        model.write(images) for images in (tasks.plain, tasks.sketch, tasks.corrupted, tasks.captioned)
    )
    right = np.array([named(text) for text in plain]) == tasks.labels
    styled = [np.array([named(text) for text in some]) == tasks.labels[: len(some)] for some in (sketch, corrupted)]
    colour = np.array([coloured(text) for text in captioned]) == tasks.colours
    return {
        "category": right.mean(), "rarest third": right[tasks.labels >= TAIL].mean(),
        "sketches": styled[0].mean(), "corrupted": styled[1].mean(), "colour": colour.mean(),
        "category and colour": (colour & (np.array([named(text) for text in captioned]) == tasks.categories)).mean(),
        "words of the caption": np.mean([overlap(one, two) for one, two in zip(captioned, tasks.captions, strict=True)]),
    }  # fmt: skip
