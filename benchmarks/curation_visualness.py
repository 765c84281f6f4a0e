"""Visualness of text: TIP-CLIP tuned on a corpus that is made from documents, against heuristics, a text classifier and the untuned encoder.

    python benchmarks/curation_visualness.py --json-file benchmarks/curation_visualness.json

Pages have images of the world, their captions, and sentences that evoke no image; some of those name colours ("she felt blue about the law").
The corpus is labelled by the step `label-visualness` with nano; the labels are noisy. Test sentences use things and abstract nouns that
occur in no page. The threshold of every arm is chosen on a graded validation set with the words of the pages. MRR: rank of the right caption
among those of 200 test images.
"""

import argparse
import random
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import numpy as np
import torch
from small_clip import NAMES, jpeg, paired, scene_of, stored
from torch.nn import functional as F

import percept
from percept.core.report import err
from percept.core.seed import derive, seed_everything
from percept.data.curate.pipeline import Curation
from percept.data.curate.step import Tools, make_steps
from percept.data.curate.visualness import VISUAL, null_image
from percept.methods.curation.visualness import Judged, Visualness
from percept.world import COLOURS, render, short_caption

SEEN, HELD_OUT = NAMES[:70], NAMES[70:]
"""Things of the pages and of the validation set, and those of the test set."""
NOUNS = (
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
)
HELD_OUT_NOUNS = ("policy", "memory", "risk", "doubt", "season", "theory")
FORMS = (
    "a matter of {n} and of time", "the {n} of the {m} has not changed", "she felt {c} about the {n}", "there is a {n} in the {m}",
    "an idea of a {n} behind the {m}", "we talked about the {n} on a monday", "he read the {m} in a {c} mood", "one {n} with a {m}",
    "a {c} lie about the {n}", "nobody knows the {n} of a {m}",
)  # fmt: skip


def abstract(rng: random.Random, nouns: Sequence[str]) -> str:
    """Return a sentence that evokes no image; a third of them name a colour."""
    return rng.choice(FORMS).format(n=rng.choice(nouns), m=rng.choice(nouns), c=rng.choice(tuple(COLOURS)))


@dataclass(frozen=True)
class Sentences:
    """Sentences with the truth, and the images of the visual ones."""

    texts: list[str]
    visual: np.ndarray
    images: list[bytes]


def sentences(count: int, seed: int, things: Sequence[str], nouns: Sequence[str], split: str) -> Sentences:
    """Return as many visual as other sentences, all different."""
    rng, seen, images = random.Random(derive(seed, "sentences")), dict[str, bytes](), []
    number = 0
    while len(seen) < count // 2:
        scene = scene_of(rng.choice(things), derive(seed, "graded", number), split)
        seen.setdefault(short_caption(scene, rng), jpeg(render(scene, size=96, truth=False).image, 92))
        number += 1
    other: dict[str, None] = {}
    while len(other) < count // 2:
        other[abstract(rng, nouns)] = None
    images = list(seen.values())
    return Sentences([*seen, *other], np.arange(count) < len(seen), images)


def pages(count: int, seed: int) -> list[dict[str, Any]]:
    """Return documents with two images, their captions, and four sentences that evoke no image."""
    rng, found = random.Random(derive(seed, "pages")), []
    for number in range(count):
        scenes = [scene_of(rng.choice(SEEN), derive(seed, number, place), "train") for place in range(2)]
        parts: list[tuple[Any, Any]] = [(jpeg(render(scene, size=96, truth=False).image, 92), None) for scene in scenes]
        parts += [(None, short_caption(scene, rng).capitalize() + ".") for scene in scenes]
        parts += [(None, abstract(rng, NOUNS).capitalize() + ".") for _ in range(4)]
        rng.shuffle(parts)
        found.append({"id": f"p{number}", "images": [one for one, _ in parts], "texts": [two for _, two in parts]})
    return found


def corpus(encoder: Any, count: int, seed: int, top: float, bottom: float) -> list[tuple[str, bytes, bool]]:
    """Label the sentences of pages by the step; return sentence, image and label."""
    import pyarrow.parquet as pq

    tools = Tools(name="nano", dim=encoder.dim, images=encoder.image, texts=encoder.text)
    with tempfile.TemporaryDirectory() as folder:
        source = stored(Path(folder) / "pages", pages(count, seed))
        steps = make_steps(["label-visualness"], {"label-visualness": {"top": top, "bottom": bottom}})
        Curation(source=source, out=Path(folder) / "out", steps=steps, tools=tools, workers=1).run()
        rows = pq.read_table(Path(folder) / "out" / "rows-00000.parquet").to_pylist()
    return [
        (text, row["image"], label) for row in rows for text, label in zip(row["captions"], row[VISUAL], strict=True)
    ]


def tuned(
    encoder: Any, labelled: Sequence[tuple[str, bytes, bool]], null: torch.Tensor, arguments: Any, seed: int
) -> Visualness:
    """Tune a copy of the encoder, all weights."""
    seed_everything(seed)
    task = Visualness(Visualness.Config(), percept.load("nano", train=True), null).train()
    optimiser = torch.optim.Adam(task.parameters(), lr=arguments.rate)
    tokens = encoder.tokenizer([text for text, _, _ in labelled])
    visual = torch.tensor([label for _, _, label in labelled])
    rng, order = np.random.default_rng(seed), np.zeros(0, dtype=np.int64)
    for _ in range(arguments.steps):
        while len(order) < arguments.batch:
            order = np.concatenate([order, rng.permutation(len(labelled))])
        rows, order = order[: arguments.batch], order[arguments.batch :]
        image = torch.stack(
            [encoder.prepare(labelled[row][1]) if visual[row] else torch.zeros_like(null) for row in rows]
        )
        optimiser.zero_grad()
        task(Judged(image=image, tokens=tokens[rows], visual=visual[rows]))["loss"].backward()
        optimiser.step()
    return task.eval()


def f1(truth: np.ndarray, guess: np.ndarray) -> float:
    """Return the mean of the F1 of both classes."""
    both = []
    for side in (True, False):
        hits = ((truth == side) & (guess == side)).sum()
        both.append(2 * hits / max(1, (truth == side).sum() + (guess == side).sum()))
    return float(np.mean(both))


def judged(values: Callable[[Sequence[str]], np.ndarray], valid: Sentences, test: Sentences) -> dict[str, float]:
    """Choose the threshold on the validation set; return F1 and accuracy on both."""
    scores, unseen = values(valid.texts), values(test.texts)
    threshold = max(np.unique(scores), key=lambda value: f1(valid.visual, scores >= value))
    guess = unseen >= threshold
    return {
        "F1": round(f1(test.visual, guess), 4), "accuracy": round(float((guess == test.visual).mean()), 4),
        "F1, words of the pages": round(f1(valid.visual, scores >= threshold), 4), "threshold": round(float(threshold), 4),
    }  # fmt: skip


def words(text: str) -> list[str]:
    """Split a text into words."""
    return re.findall(r"[a-z]+", text.lower())


def word_list(labelled: Sequence[tuple[str, bytes, bool]]) -> Callable[[Sequence[str]], np.ndarray]:
    """Score a text by the mean share of visual sentences among those with its words; unknown words count 0.5."""
    counts: dict[str, list[int]] = {}
    for text, _, label in labelled:
        for word in set(words(text)):
            counts.setdefault(word, [0, 0])[label] += 1
    shares = {word: (visual + 1) / (visual + other + 2) for word, (other, visual) in counts.items()}
    return lambda texts: np.array([np.mean([shares.get(word, 0.5) for word in words(text)] or [0.5]) for text in texts])


def colours(texts: Sequence[str]) -> np.ndarray:
    """Score a text by the number of colours it names."""
    return np.array([sum(word in COLOURS for word in words(text)) for text in texts], dtype=float)


def classifier(
    embed: Callable[..., torch.Tensor], labelled: Sequence[tuple[str, bytes, bool]]
) -> Callable[[Sequence[str]], np.ndarray]:
    """Fit a logistic regression on the text vectors of the untuned encoder."""
    vectors, target = embed([text for text, _, _ in labelled]), torch.tensor([float(label) for _, _, label in labelled])
    weight, bias = torch.zeros(vectors.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = F.binary_cross_entropy_with_logits(vectors @ weight + bias, target) + 1e-4 * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)  # type: ignore[arg-type]
    return lambda texts: (embed(list(texts)) @ weight.detach()).numpy()


@torch.no_grad()
def attention(model: Any, tokenizer: Any, texts: Sequence[str], visual: set[str]) -> float:
    """Return how well the attention of the end token in the last block of the text tower tells visual words from others (AUROC)."""
    ids = tokenizer(list(texts))
    tower, last = model.text, len(model.text.blocks) - 1
    hidden = tower(ids, layers=(last - 1,)).hidden[last - 1]
    block = tower.blocks[last]
    q, k, _ = (
        block.attention.qkv(block.norm_1(hidden)).unflatten(-1, (3, block.attention.heads, -1)).permute(2, 0, 3, 1, 4)
    )
    scores: list[float] = []
    truth: list[bool] = []
    for row, ends in enumerate(ids.argmax(dim=1).tolist()):
        weights = (
            (q[row, :, ends : ends + 1] @ k[row, :, 1:ends].transpose(1, 2) * q.shape[-1] ** -0.5)
            .softmax(-1)
            .mean(0)[0]
        )
        for place, weight in enumerate(weights.tolist(), start=1):
            piece = tokenizer.decode([int(ids[row, place])]).strip().lower()
            if len(piece) > 1:
                scores.append(weight * (ends - 1))
                truth.append(any(piece in word or word in piece for word in visual))
    order = np.argsort(scores)
    ranks = np.empty(len(order))
    ranks[order] = np.arange(1, len(order) + 1)
    flags = np.array(truth)
    return float((ranks[flags].sum() - flags.sum() * (flags.sum() + 1) / 2) / (flags.sum() * (~flags).sum()))


def mrr(image: torch.Tensor, text: torch.Tensor) -> float:
    """Return the mean reciprocal rank of the right text."""
    cosines = image @ text.T
    return float((1 / (cosines >= cosines.diagonal()[:, None]).sum(dim=1)).mean())


def run_seed(encoder: Any, seed: int, arguments: Any) -> dict[str, dict[str, float]]:
    """Return the scores of every arm."""
    valid = sentences(300, derive(seed, "valid"), SEEN, NOUNS, "validation")
    test = sentences(400, derive(seed, "test"), HELD_OUT, HELD_OUT_NOUNS, "evaluation")
    labelled = corpus(encoder, arguments.pages, seed, arguments.top, arguments.bottom)
    null = encoder.prepare(null_image())
    images = encoder.image(test.images)
    visual_words = {word for name in HELD_OUT for word in words(name)} | set(COLOURS)
    found: dict[str, dict[str, float]] = {}

    def neural(
        name: str, embed: Callable[..., torch.Tensor], vector: torch.Tensor, image: torch.Tensor, model: Any
    ) -> None:
        scores = judged(lambda texts: (1 - embed(list(texts)) @ vector).numpy(), valid, test)
        ranks = mrr(image, embed(test.texts[: len(test.images)]))
        focus = attention(model, encoder.tokenizer, test.texts[: len(test.images)], visual_words)
        found[name] = {**scores, "MRR": round(ranks, 4), "attention AUROC": round(focus, 4)}
        err.print(seed, name, found[name], soft_wrap=True)

    def tip(name: str, target: torch.Tensor) -> None:
        task = tuned(encoder, labelled, target, arguments, seed)
        prepared = torch.stack([encoder.prepare(image) for image in test.images])
        with torch.no_grad():
            vector = task.clip.embed_image(task.null[None])[0]
            vectors = torch.cat([task.clip.embed_image(part) for part in prepared.split(50)])
        neural(name, lambda texts: task.clip.embed_text(encoder.tokenizer(texts)).detach(), vector, vectors, task.clip)

    plain = encoder
    neural("untuned encoder", plain.text, plain.image([null_image()])[0], images, percept.load("nano", train=True))
    found["colour words"] = judged(colours, valid, test)
    found["word list of the corpus"] = judged(word_list(labelled), valid, test)
    found["text classifier"] = judged(classifier(plain.text, labelled), valid, test)
    tip("TIP, NULL image", null)
    tip("TIP, one real image", encoder.prepare(labelled[0][1]))
    truth = {text.lower() for text, _, _ in labelled}
    right = sum(
        label == (not any(f" {noun} " in f" {text.lower().rstrip('.')} " for noun in NOUNS))
        for text, _, label in labelled
    )
    found["corpus"] = {
        "sentences": len(labelled),
        "visual": sum(label for _, _, label in labelled),
        "labels that are right": round(right / len(labelled), 4),
        "different": len(truth),
    }
    err.print(seed, found["corpus"], soft_wrap=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=400)
    parser.add_argument("--top", type=float, default=0.15, help="share of the sentences labelled visual")
    parser.add_argument("--bottom", type=float, default=0.3, help="share of the sentences labelled not visual")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--rate", type=float, default=5e-5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json-file", type=Path, default=None)
    arguments = parser.parse_args()
    start, encoder = time.perf_counter(), percept.load("nano", dtype="float32")
    runs = []
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        runs.append(run_seed(encoder, seed, arguments))
        harness.save(
            arguments.json_file, {**harness.facts(torch.device("cpu"), start), "result": summary(runs, arguments)}
        )


def summary(runs: Sequence[dict[str, dict[str, float]]], arguments: Any) -> dict[str, Any]:
    """Return the scores of all seeds by arm, and the differences."""
    arms = {name: {key: [run[name][key] for run in runs] for key in runs[0][name]} for name in runs[0]}
    setup = {key: getattr(arguments, key) for key in ("pages", "top", "bottom", "steps", "batch", "rate")}
    if len(runs) == 1:
        return {**setup, "arms": arms}
    ours, untuned = arms["TIP, NULL image"], arms["untuned encoder"]
    others = [name for name in arms if name not in ("corpus", "TIP, NULL image")]
    return {
        **setup,
        "arms": arms,
        "F1 of TIP, NULL image minus arm": {name: paired(ours["F1"], arms[name]["F1"]) for name in others},
        "attention AUROC minus untuned": paired(ours["attention AUROC"], untuned["attention AUROC"]),
        "MRR minus untuned": paired(ours["MRR"], untuned["MRR"]),
    }


if __name__ == "__main__":
    main()
