"""Visualness of text: TIP-CLIP tuned on a corpus made from documents, against word lists, text classifiers and the untuned encoder.

    python benchmarks/curation_visualness.py --json-file benchmarks/curation_visualness.json

Pages have images of the world and sentences about things that can be seen ("she spoke of a red cup") and about things that cannot ("she spoke of
a red policy"). Both kinds have the same forms, lengths and colours, so only the noun decides. The corpus is labelled by the step
`label-visualness` with nano; the labels are noisy. Test sentences use things and abstract nouns that occur in no page. The threshold of every arm
is chosen on a graded validation set with the words of the pages. MRR: rank of the right sentence among those of the test images.
Attention: that of the end token in the last block of the text tower to the words of visual test sentences; AUROC of things and colours
against all other words.
"""

import argparse
import itertools
import random
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from curation_seeds import Scores, by_seed, columns, compared
from small_clip import NAMES, jpeg, scene_of, stored
from torch import Tensor, nn
from torch.nn import functional as F

import percept
from percept.core.report import err
from percept.core.seed import derive, seed_everything
from percept.data.curate.pipeline import Curation
from percept.data.curate.step import Tools, make_steps
from percept.data.curate.visualness import VISUAL, null_image
from percept.data.tokenizers import Tokenizer
from percept.methods.curation.visualness import Judged, Visualness
from percept.models.config import TextConfig
from percept.models.text import TextTower
from percept.world import COLOURS, render

SEEN, HELD_OUT = NAMES[:70], NAMES[70:]
"""Things of the pages and of the validation set, and those of the test set."""
NOUNS = [
    "law",
    "opinion",
    "history",
    "price",
    "meeting",
    "plan",
    "trust",
    "year",
    "reason",
    "question",
    "budget",
    "habit",
    "promise",
    "rumour",
    "theorem",
    "debt",
    "argument",
    "mood",
    "holiday",
    "custom",
    "excuse",
    "doctrine",
    "salary",
    "agenda",
    "belief",
    "contract",
    "decade",
    "dilemma",
    "effort",
    "failure",
    "grammar",
    "honour",
    "idea",
    "joke",
    "lesson",
    "method",
]
HELD_OUT_NOUNS = [
    "policy",
    "memory",
    "risk",
    "doubt",
    "season",
    "theory",
    "duty",
    "motive",
    "proverb",
    "rent",
    "scandal",
    "tariff",
    "verdict",
    "virtue",
    "warranty",
]
FORMS = (
    "there is a {x}", "a {x} again", "she spoke of a {x}", "nothing but a {x}", "it was a {x} in the end", "the {x} of last year",
    "one {x} for all of us", "a {x} on a monday", "we wanted a {x}", "this is about a {x}", "he remembered the {x}", "a kind of {x}",
)  # fmt: skip
OURS, UNTUNED = "TIP, NULL image", "untuned encoder"
OTHERS = (
    "colour words",
    "names of things",
    "word list of the corpus",
    "text classifier",
    "own text classifier",
    UNTUNED,
)


def sentence(rng: random.Random, noun: str, colour: str) -> str:
    """Return a sentence about a noun; half of them name the colour."""
    return rng.choice(FORMS).format(x=f"{colour} {noun}" if rng.random() < 0.5 else noun)


def abstract(rng: random.Random, nouns: Sequence[str]) -> str:
    """Return a sentence that evokes no image."""
    return sentence(rng, rng.choice(nouns), rng.choice(tuple(COLOURS)))


def depicted(rng: random.Random, thing: str, number: int, split: str) -> tuple[str, bytes]:
    """Return a sentence about a thing, and an image of it."""
    scene = scene_of(thing, number, split)
    return sentence(rng, thing, scene.things[0].colour), jpeg(render(scene, size=96, truth=False).image, 92)


@dataclass(frozen=True)
class Sentences:
    """Sentences with the truth, and the images of the visual ones, which come first."""

    texts: list[str]
    visual: np.ndarray
    images: list[bytes]


def sentences(count: int, seed: int, things: Sequence[str], nouns: Sequence[str], split: str) -> Sentences:
    """Return as many visual as other sentences, all different."""
    rng, seen, number = random.Random(derive(seed, "sentences")), dict[str, bytes](), 0
    while len(seen) < count // 2:
        text, image = depicted(rng, rng.choice(things), derive(seed, "graded", number), split)
        seen.setdefault(text, image)
        number += 1
    other: dict[str, None] = {}
    while len(other) < count // 2:
        other[abstract(rng, nouns)] = None
    return Sentences([*seen, *other], np.arange(count) < len(seen), list(seen.values()))


def pages(count: int, seed: int) -> list[dict[str, Any]]:
    """Return documents with two images, a sentence about each, and four sentences that evoke no image."""
    rng, found = random.Random(derive(seed, "pages")), []
    for number in range(count):
        pairs = [depicted(rng, rng.choice(SEEN), derive(seed, number, place), "train") for place in range(2)]
        texts = [text for text, _ in pairs] + [abstract(rng, NOUNS) for _ in range(4)]
        parts: list[tuple[Any, Any]] = [(image, None) for _, image in pairs]
        parts += [(None, text.capitalize() + ".") for text in texts]
        rng.shuffle(parts)
        found.append({"id": f"p{number}", "images": [one for one, _ in parts], "texts": [two for _, two in parts]})
    return found


@dataclass(frozen=True)
class Corpus:
    """Labelled sentences, each with the image that the step chose."""

    texts: list[str]
    images: list[bytes]
    visual: list[bool]

    def facts(self) -> dict[str, float]:
        """Return the size, and the share of the labels that are right."""
        truth = [not any(word in NOUNS for word in words(text)) for text in self.texts]
        return {
            "sentences": len(self.texts),
            "visual": sum(self.visual),
            "labels that are right": round(float(np.mean(np.equal(truth, self.visual))), 4),
        }


def corpus(encoder: Any, count: int, seed: int, top: float, bottom: float) -> Corpus:
    """Label the sentences of pages by the step."""
    import pyarrow.parquet as pq

    tools = Tools(name="nano", dim=encoder.dim, images=encoder.image, texts=encoder.text)
    with tempfile.TemporaryDirectory() as folder:
        source = stored(Path(folder) / "pages", pages(count, seed))
        steps = make_steps(["label-visualness"], {"label-visualness": {"top": top, "bottom": bottom}})
        Curation(source=source, out=Path(folder) / "out", steps=steps, tools=tools, workers=1).run()
        rows = pq.read_table(Path(folder) / "out" / "rows-00000.parquet").to_pylist()
    found = [
        (text, row["image"], label) for row in rows for text, label in zip(row["captions"], row[VISUAL], strict=True)
    ]
    return Corpus([one[0] for one in found], [one[1] for one in found], [one[2] for one in found])


def tuned(encoder: Any, labelled: Corpus, arguments: Any, seed: int) -> Visualness:
    """Tune all weights of a copy of the encoder."""
    seed_everything(seed)
    null = encoder.prepare(null_image())
    task = Visualness(Visualness.Config(), percept.load("nano", train=True), null).train()
    optimiser = torch.optim.Adam(task.parameters(), lr=arguments.rate)
    tokens, visual = encoder.tokenizer(labelled.texts), torch.tensor(labelled.visual)
    images = torch.stack(
        [
            encoder.prepare(image) if sees else torch.zeros_like(null)
            for image, sees in zip(labelled.images, visual, strict=True)
        ]
    )
    rng, order = np.random.default_rng(seed), np.zeros(0, dtype=np.int64)
    for _ in range(arguments.steps):
        while len(order) < arguments.batch:
            order = np.concatenate([order, rng.permutation(len(tokens))])
        rows, order = order[: arguments.batch], order[arguments.batch :]
        optimiser.zero_grad()
        task(Judged(image=images[rows], tokens=tokens[rows], visual=visual[rows]))["loss"].backward()
        optimiser.step()
    return task.eval()


def f1(truth: np.ndarray, guess: np.ndarray) -> float:
    """Return the mean of the F1 of both classes."""
    both = []
    for side in (True, False):
        hits = ((truth == side) & (guess == side)).sum()
        both.append(2 * hits / max(1, (truth == side).sum() + (guess == side).sum()))
    return float(np.mean(both))


Values = Callable[[Sequence[str]], np.ndarray]
"""Gives each text a number that is larger for visual texts."""


def measured(values: Values, valid: Sentences, test: Sentences) -> dict[str, float]:
    """Choose the threshold on the validation set; return F1 and accuracy on both."""
    scores, unseen = values(valid.texts), values(test.texts)
    threshold = chosen_threshold(scores, valid.visual)
    guess = unseen >= threshold
    found = {
        "F1": f1(test.visual, guess),
        "accuracy": float((guess == test.visual).mean()),
        "AUROC": auroc(unseen, test.visual),
        "F1, words of the pages": f1(valid.visual, scores >= threshold),
        "threshold": float(threshold),
    }
    return {name: round(value, 4) for name, value in found.items()}


def chosen_threshold(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the threshold of the largest F1: the middle of a gap between scores, and the median of those that are equally good."""
    unique = np.unique(scores)
    middles = np.concatenate([unique[:1], (unique[1:] + unique[:-1]) / 2])
    values = np.array([f1(truth, scores >= middle) for middle in middles])
    best = middles[values == values.max()]
    return float(best[len(best) // 2])


def auroc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Return the chance that a true item scores above a false one; equal scores count half.

    >>> auroc(np.array([0.1, 0.4, 0.4]), np.array([False, False, True]))
    0.75
    """
    first, second = scores[truth][:, None], scores[~truth][None]
    return float(((first > second) + 0.5 * (first == second)).mean())


def words(text: str) -> list[str]:
    """Split a text into words."""
    return re.findall(r"[a-z]+", text.lower())


def word_list(labelled: Corpus) -> Values:
    """Score a text by the mean share of visual sentences among those with its words; unknown words count 0.5."""
    counts: dict[str, list[int]] = {}
    for text, label in zip(labelled.texts, labelled.visual, strict=True):
        for word in set(words(text)):
            counts.setdefault(word, [0, 0])[label] += 1
    shares = {word: (visual + 1) / (visual + other + 2) for word, (other, visual) in counts.items()}
    return lambda texts: np.array([np.mean([shares.get(word, 0.5) for word in words(text)] or [0.5]) for text in texts])


def listed(entries: Sequence[str]) -> Values:
    """Score a text by the number of words of a list that it names."""
    every = {word for entry in entries for word in words(entry)} - {"of"}
    return lambda texts: np.array([sum(word in every for word in words(text)) for text in texts], dtype=float)


def classifier(embed: Callable[..., Tensor], labelled: Corpus) -> Values:
    """Fit a logistic regression on the text vectors of the untuned encoder."""
    vectors, target = embed(labelled.texts), torch.tensor(labelled.visual).float()
    weight, bias = torch.zeros(vectors.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.binary_cross_entropy_with_logits(vectors @ weight + bias, target) + 1e-4 * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)  # type: ignore[arg-type]
    return lambda texts: (embed(list(texts)) @ weight.detach()).numpy()


def own_classifier(labelled: Corpus, seed: int, steps: int = 300) -> Values:
    """Train a small text tower and a linear layer on the sentences alone."""
    seed_everything(seed)
    tokenizer = Tokenizer.train(labelled.texts, vocab_size=600, context=32)
    config = TextConfig(context=32, vocabulary=tokenizer.vocab_size, width=64, layers=2, heads=2, output_dim=64)
    model = nn.ModuleList([TextTower(config), nn.Linear(64, 1)])
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    ids, target = tokenizer(labelled.texts), torch.tensor(labelled.visual).float()

    def logits(some: Tensor) -> Tensor:
        return model[1](model[0](some[:, : int(some.argmax(dim=1).max()) + 1]).pooled)[:, 0]

    for _ in range(steps):
        rows = torch.randint(len(ids), (32,))
        optimiser.zero_grad()
        F.binary_cross_entropy_with_logits(logits(ids[rows]), target[rows]).backward()
        optimiser.step()
    return lambda texts: logits(tokenizer(list(texts))).detach().numpy()


def pieces(tokenizer: Any, text: str) -> list[int]:
    """Return the number of tokens of every word of a text."""
    counts = [len(tokenizer.encode(word)) for word in words(text)]
    assert sum(counts) == len(tokenizer.encode(text)), text
    return counts


@torch.no_grad()
def end_attention(model: Any, ids: Tensor) -> Tensor:
    """Return the mean over the heads of the attention of the end token in the last block [b, n]."""
    tower, last = model.text, len(model.text.blocks) - 1
    hidden = tower(ids, layers=(last - 1,)).hidden[last - 1]
    block = tower.blocks[last]
    parts = block.attention.qkv(block.norm_1(hidden)).unflatten(-1, (3, block.attention.heads, -1))
    q, k, _ = parts.permute(2, 0, 3, 1, 4)
    ends = ids.argmax(dim=1)
    query = q[torch.arange(len(ids)), :, ends]
    scores = torch.einsum("bhd,bhnd->bhn", query, k) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(torch.arange(ids.shape[1]) > ends[:, None, None], -torch.inf)
    return scores.softmax(dim=-1).mean(dim=1)


def attention(model: Any, tokenizer: Any, texts: Sequence[str], visual: set[str]) -> float:
    """Return the AUROC of visual words by the attention to them, relative to the mean word of their sentence."""
    weights = end_attention(model, tokenizer(list(texts))).tolist()
    scores, truth = [], []
    for text, row in zip(texts, weights, strict=True):
        ends = 1 + np.cumsum([0, *pieces(tokenizer, text)])
        values = np.array([sum(row[begin:end]) for begin, end in itertools.pairwise(ends)])
        scores += (values / values.mean()).tolist()
        truth += [word in visual for word in words(text)]
    return auroc(np.array(scores), np.array(truth))


def mrr(image: Tensor, text: Tensor) -> float:
    """Return the mean reciprocal rank of the right text."""
    cosines = image @ text.T
    return float((1 / (cosines >= cosines.diagonal()[:, None]).sum(dim=1)).mean())


@torch.no_grad()
def neural(clip: Any, encoder: Any, valid: Sentences, test: Sentences) -> dict[str, float]:
    """Return the scores of an encoder: S = 1 - cosine with the NULL image, rank of the right sentence, attention."""
    null = clip.embed_image(encoder.prepare(null_image())[None])[0]
    images = torch.stack([encoder.prepare(image) for image in test.images])
    vectors = torch.cat([clip.embed_image(part) for part in images.split(50)])
    embed = lambda texts: clip.embed_text(encoder.tokenizer(list(texts)))  # noqa: E731
    seen = test.texts[: len(test.images)]
    visual = {word for name in HELD_OUT for word in words(name)} - {"of"} | set(COLOURS)
    return {
        **measured(lambda texts: (1 - embed(texts) @ null).numpy(), valid, test),
        "MRR": round(mrr(vectors, embed(seen)), 4),
        "attention AUROC": round(attention(clip, encoder.tokenizer, seen, visual), 4),
    }


def run_seed(encoder: Any, seed: int, arguments: Any) -> Scores:
    """Return the scores of every arm."""
    valid = sentences(300, derive(seed, "valid"), SEEN, NOUNS, "validation")
    test = sentences(400, derive(seed, "test"), HELD_OUT, HELD_OUT_NOUNS, "evaluation")
    labelled = corpus(encoder, arguments.pages, seed, arguments.top, arguments.bottom)
    found: Scores = {"corpus": labelled.facts()}
    values = {
        "colour words": listed(tuple(COLOURS)),
        "names of things": listed(SEEN),
        "word list of the corpus": word_list(labelled),
        "text classifier": classifier(encoder.text, labelled),
        "own text classifier": own_classifier(labelled, seed),
    }
    found |= {name: measured(value, valid, test) for name, value in values.items()}
    found[UNTUNED] = neural(percept.load("nano", train=True).eval(), encoder, valid, test)
    found[OURS] = neural(tuned(encoder, labelled, arguments, seed).clip, encoder, valid, test)
    for name, scores in found.items():
        err.print(seed, name, scores, soft_wrap=True)
    return found


def summary(runs: Sequence[Scores]) -> dict[str, Any]:
    """Return the verdicts over the seeds."""
    kept = [
        ours / before for ours, before in zip(columns(runs, OURS, "MRR"), columns(runs, UNTUNED, "MRR"), strict=True)
    ]
    return {
        "F1 of TIP minus arm": {name: compared(runs, OURS, name, "F1") for name in OTHERS},
        "attention AUROC of TIP minus untuned": compared(runs, OURS, UNTUNED, "attention AUROC"),
        "share of the MRR that is kept": [round(value, 4) for value in kept],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--top", type=float, default=0.2, help="share of the sentences labelled visual")
    parser.add_argument("--bottom", type=float, default=0.3, help="share of the sentences labelled not visual")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--rate", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json-file", type=Path, default=None)
    arguments = parser.parse_args()
    encoder = percept.load("nano", dtype="float32")
    setup = {key: getattr(arguments, key) for key in ("pages", "top", "bottom", "steps", "batch", "rate")}
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    by_seed(arguments.json_file, setup, seeds, lambda seed: run_seed(encoder, seed, arguments), summary)


if __name__ == "__main__":
    main()
