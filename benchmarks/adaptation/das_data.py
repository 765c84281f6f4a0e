"""Image-text pairs of the labelled world for fusion models, as frozen states of an encoder's towers: pretraining, questions, entailment.

Pretraining: whether a caption is that of the image, and the next word of a cut caption. Questions: those of the world whose answer is among the
`ANSWERS` most frequent ones. Entailment: a right text, or one that differs from it in one colour, side or kind. Splits have different scenes.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from recorded import weights_of
from torch import Tensor
from torch.nn import functional as F

from percept.core.io import load_tensors, read_json, save_tensors, write_json
from percept.core.report import track
from percept.core.seed import derive
from percept.methods.adaptation.fusion import Pairs
from percept.world import long_caption, render, sample_scene, short_caption
from percept.world.contrary import contrary
from percept.world.elements import Scene
from percept.world.questions import questions

COUNTS = {"train": 2000, "valid": 300, "test": 800}
"""Scenes."""
SIDE, GRID, WORDS, ANSWERS, EACH = 96, 4, 24, 48, 4
"""Pixels along a side; parts of an image along each side; most words of a text; answers; questions of a scene."""
TASKS = ("questions", "entailment")


def scene_of(split: str, number: int) -> Scene:
    """Return a scene of one to four things."""
    return sample_scene(
        derive(0, "das", split, number), split="train" if split == "train" else "evaluation", things=(1, 4)
    )


def texts_of(split: str, number: int) -> dict[str, Any]:
    """Return the texts of a scene."""
    scene, rng = scene_of(split, number), random.Random(derive(1, "das", split, number))
    return {
        "captions": [short_caption(scene, rng), long_caption(scene, rng)],
        "contrary": [each.texts for each in contrary(scene, rng)[:2]],
        "questions": questions(scene, rng)[: 2 * EACH],
    }


def _image_states(encoder: Any, split: str) -> Float[Tensor, "n k d"]:
    parts = []
    starts = range(0, COUNTS[split], 50)
    for start in track(starts, f"images of {split}", len(starts)):
        numbers = range(start, min(start + 50, COUNTS[split]))
        images = [render(scene_of(split, number), size=SIDE, truth=False).image for number in numbers]
        pixels = encoder.preprocess.stack([Image.fromarray(image) for image in images])
        out = encoder.model.vision(encoder.preprocess.normalise(pixels))
        tokens = out.tokens[:, out.prefix :].float().transpose(1, 2).unflatten(2, out.grid)
        parts.append(F.adaptive_avg_pool2d(tokens, GRID).flatten(2).transpose(1, 2).half())
    return torch.cat(parts)


@torch.no_grad()
def image_states(encoder: Any, folder: Path, split: str) -> Float[Tensor, "n k d"]:
    """Return the mean states of 4 x 4 parts of every image; computed once for an encoder."""
    file = folder / f"images-{split}-{COUNTS[split]}-{encoder.identity.image[:16]}.safetensors"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(file, {"states": _image_states(encoder, split)})
    return load_tensors(file)["states"].float()


class Words:
    """Word states of texts by a frozen text tower; each text is computed once."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder
        self.known: dict[str, int] = {}
        self.states: list[Tensor] = []

    @torch.no_grad()
    def add(self, texts: Sequence[str]) -> None:
        """Compute the states of texts that are new."""
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        for start in range(0, len(new), 256):
            part = new[start : start + 256]
            ids = self.encoder.tokenizer(part)
            counts = (ids != 0).sum(1)
            out = self.encoder.model.text(ids[:, : int(counts.max())]).tokens
            for text, state, count in zip(part, out, counts.tolist(), strict=True):
                self.known[text] = len(self.states)
                self.states.append(state[1 : count - 1][:WORDS].half())  # without start and end

    def add_cut(self, cut: str, text: str) -> None:
        """Make the states of the beginning of a known text known: the tower is causal, so they are the first ones of the text."""
        count = len(self.encoder.tokenizer.encode(cut))
        self.known.setdefault(cut, len(self.states))
        self.states.append(self.states[self.known[text]][:count])

    def padded(self, texts: Sequence[str]) -> tuple[Float[Tensor, "b n e"], Int[Tensor, " b"]]:
        """Return the states of known texts, and how many words each has."""
        states = [self.states[self.known[text]] for text in texts]
        return torch.nn.utils.rnn.pad_sequence(states, batch_first=True).float(), torch.tensor(
            [len(each) for each in states]
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Pairs of an image and a text, with a label."""

    images: Float[Tensor, "n k d"]
    words: Words
    rows: Int[np.ndarray, " m"]
    """Image of each pair."""
    texts: Sequence[str]
    labels: Int[Tensor, " m"]
    classes: int

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, chosen: Sequence[int]) -> Pairs:
        """Return some pairs."""
        words, count = self.words.padded([self.texts[number] for number in chosen])
        return Pairs(
            image=self.images[self.rows[list(chosen)]], words=words, count=count, label=self.labels[list(chosen)]
        )


class Data:
    """Everything that the benchmark trains on and measures."""

    def __init__(self, encoder: Any, folder: Path) -> None:
        self.foundation, self.weights, self.words = encoder.name, weights_of(encoder), Words(encoder)
        self.images = {split: image_states(encoder, folder, split) for split in COUNTS}
        file = folder / "texts.json"
        if not file.is_file():
            write_json(file, {split: [texts_of(split, number) for number in range(COUNTS[split])] for split in COUNTS})
        self.texts: dict[str, list[dict[str, Any]]] = read_json(file)
        counts = Counter(answer for each in self.texts["train"] for _, answer in each["questions"])
        self.answers = {answer: place for place, (answer, _) in enumerate(counts.most_common(ANSWERS))}

    def task(self, name: str, split: str) -> Examples:
        """Return the examples of a task."""
        rows, texts, labels = getattr(self, f"_{name}")(split)
        self.words.add(texts)
        classes = len(self.answers) if name == "questions" else 2
        return Examples(
            images=self.images[split], words=self.words, rows=np.array(rows), texts=texts, labels=torch.tensor(labels), classes=classes
        )  # fmt: skip

    def _questions(self, split: str) -> tuple[list[int], list[str], list[int]]:
        found = [
            (number, question, self.answers[answer])
            for number, each in enumerate(self.texts[split])
            for question, answer in [pair for pair in each["questions"] if pair[1] in self.answers][:EACH]
        ]
        rows, texts, labels = zip(*found, strict=True)
        return list(rows), list(texts), list(labels)

    def _entailment(self, split: str) -> tuple[list[int], list[str], list[int]]:
        found = [
            (number, text, int(place == 0))
            for number, each in enumerate(self.texts[split])
            for pair in each["contrary"]
            for place, text in enumerate(pair)
        ]
        rows, texts, labels = zip(*found, strict=True)
        return list(rows), list(texts), list(labels)

    def matching(self) -> Examples:
        """Return each training caption twice: with its own image (label 1) and with the image of another caption (label 0)."""
        rng = random.Random(0)
        captions = [(number, text) for number, each in enumerate(self.texts["train"]) for text in each["captions"]]
        others = [(rng.randrange(COUNTS["train"]), text) for _, text in captions]
        self.words.add([text for _, text in captions])
        return Examples(
            images=self.images["train"], words=self.words, rows=np.array([row for row, _ in captions + others]),
            texts=[text for _, text in captions + others], classes=2,
            labels=torch.tensor([1] * len(captions) + [int(row == own) for (row, _), (own, _) in zip(others, captions, strict=True)]),
        )  # fmt: skip

    def next_words(self) -> Examples:
        """Return training captions, each cut before a random word of the first 16, with the word."""
        found, rng = [], random.Random(1)
        for number, each in enumerate(self.texts["train"]):
            for text in each["captions"]:
                words = text.split()
                place = rng.randrange(1, max(2, min(len(words), 16)))
                found.append((number, text, " ".join(words[:place]), words[min(place, len(words) - 1)].strip(".,")))
        vocabulary = {word: place for place, word in enumerate(sorted({word for *_, word in found}))}
        self.words.add([text for _, text, *_ in found])
        for _, text, cut, _ in found:
            self.words.add_cut(cut, text)
        return Examples(
            images=self.images["train"], words=self.words, rows=np.array([row for row, *_ in found]), texts=[cut for *_, cut, _ in found],
            labels=torch.tensor([vocabulary[word] for *_, word in found]), classes=len(vocabulary),
        )  # fmt: skip
