"""Lion, AdamW and Adafactor, each at its best learning rate, on three tasks and several batch sizes; and the memory of their state.

    python benchmarks/optimisers.py                 # prints tables and writes optimisers.json next to this file; resumes there

Tasks, all of seconds on one thread, with the same number of samples for every batch size:
    classification   the handwritten digits of scikit-learn, shifted and with noise: a perceptron with two hidden layers; test accuracy
    contrastive      images of the world as vectors of nano's locked image tower, and captions: a perceptron and a bag of words; the share of 400
                     images whose nearest caption is their own
    captioning       the same images and captions: a transformer block that predicts the next token; mean log-likelihood of a token
Every optimiser has five learning rates on seed 0; the best one by the mean over the validation half of the test data is used with seeds 1 to 3, which
are scored on the other half. Weight decay times the learning rate is the same for the second rates of all three. The interval of a
difference is Student's, over three seeds, paired by seed: a win or a loss if it excludes 0, otherwise a tie.
"""

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from harness import facts
from small_clip import NAMES, SIDE, scene_of
from torch import Tensor, nn
from torch.nn import functional as F

import percept
from percept.core.io import read_json, write_json
from percept.core.report import out, table
from percept.core.seed import derive, seed_everything
from percept.data.tokenizers import Tokenizer
from percept.eval.digits import read_digits
from percept.losses.contrastive import info_nce
from percept.models.clip import CLIP
from percept.optim.build import OPTIMISERS, build_optimisers
from percept.optim.rules import parameter_groups
from percept.optim.schedule import warmup_cosine
from percept.recipes.pe_nano import Config, clip_config
from percept.world import render, short_caption

RESULTS = Path(__file__).with_suffix(".json")
RATES = {
    "adamw": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    "lion": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    "adafactor": (1e-2, 3e-2, 1e-1, 3e-1, 1.0),
}
DECAY = 3e-4
"""Second learning rate times weight decay."""
SEEDS = (1, 2, 3)
STUDENT = 4.303
"""Quantile of Student's distribution for a two-sided 95 % interval of three values."""
CONTEXT, TRAIN, TEST = 12, 1_600, 800


class Digits(nn.Module):
    """Classifies the digits."""

    batches, samples = (64, 512, 4_096), 200_000

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 128), nn.GELU(), nn.Linear(128, 10)
        )  # fmt: skip

    def loss(self, size: int) -> Tensor:
        """Return the loss of random digits, shifted by up to a pixel, with noise."""
        images, labels = _digits()
        rows = torch.randint(len(images) - TEST, (size,))
        shift = tuple(torch.randint(-1, 2, (2,)).tolist())
        given = images[rows].roll(shift, (1, 2)).flatten(1)
        return F.cross_entropy(self.layers(given + 0.3 * torch.randn_like(given)), labels[rows])

    def score(self, half: int) -> float:
        """Return the accuracy on half of the test digits."""
        images, labels = (each[-TEST:][half::2] for each in _digits())
        return float((self.layers(images.flatten(1)).argmax(dim=1) == labels).float().mean())


class Contrast(nn.Module):
    """Image vectors and bags of words in one space."""

    batches, samples = (64, 512), 40_960

    def __init__(self) -> None:
        super().__init__()
        vectors, _, vocabulary = _captions()
        self.image = nn.Sequential(nn.Linear(vectors.shape[1], 256), nn.GELU(), nn.Linear(256, 64))
        self.words = nn.Embedding(vocabulary, 64, padding_idx=0)
        self.text = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))
        self.log_scale = nn.Parameter(torch.tensor(2.66))

    def _embed(self, rows: Tensor, noise: float = 0.0) -> tuple[Tensor, Tensor]:
        vectors, ids, _ = _captions()
        given = vectors[rows] + noise * torch.randn(len(rows), vectors.shape[1])
        return F.normalize(self.image(given), dim=-1), F.normalize(self.text(self.words(ids[rows]).sum(dim=1)), dim=-1)

    def loss(self, size: int) -> Tensor:
        """Return the loss of random pairs, with noise."""
        image, text = self._embed(torch.randint(TRAIN, (size,)), noise=0.3)
        return info_nce(image, text, self.log_scale.clamp(max=4.6).exp())

    def score(self, half: int) -> float:
        """Return the share of images of half of the test pairs whose nearest caption is their own or an equal one."""
        rows = torch.arange(TRAIN + half, TRAIN + TEST, 2)
        image, text = self._embed(rows)
        ids = _captions()[1][rows]
        return float((ids[(image @ text.T).argmax(dim=1)] == ids).all(dim=1).float().mean())


class Captions(nn.Module):
    """Predicts the next token from the image and the tokens before."""

    batches, samples = (64, 512), 20_480
    outer = ("head",)

    def __init__(self) -> None:
        super().__init__()
        vectors, _, vocabulary = _captions()
        self.image = nn.Linear(vectors.shape[1], 64)
        self.words = nn.Embedding(vocabulary, 64)
        self.positions = nn.Parameter(0.02 * torch.randn(CONTEXT, 64))
        self.norm, self.norm_mlp, self.norm_out = nn.LayerNorm(64), nn.LayerNorm(64), nn.LayerNorm(64)
        self.qkv, self.out = nn.Linear(64, 192), nn.Linear(64, 64)
        self.mlp = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))
        self.head = nn.Linear(64, vocabulary)

    def _likelihood(self, rows: Tensor, noise: float = 0.0) -> Tensor:
        vectors, ids, _ = _captions()
        given = vectors[rows] + noise * torch.randn(len(rows), vectors.shape[1])
        tokens = ids[rows]
        x = torch.cat([self.image(given)[:, None], self.words(tokens[:, :-1])], dim=1) + self.positions
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, 2, 32)).movedim(2, 0).transpose(2, 3)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        x = x + self.mlp(self.norm_mlp(x))
        logits = self.head(self.norm_out(x))
        return -F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), ignore_index=0)

    def loss(self, size: int) -> Tensor:
        """Return the negative mean log-likelihood of random captions, with noise on the images."""
        return -self._likelihood(torch.randint(TRAIN, (size,)), noise=0.3)

    def score(self, half: int) -> float:
        """Return the mean log-likelihood of a token of half of the test captions."""
        return float(self._likelihood(torch.arange(TRAIN + half, TRAIN + TEST, 2)))


TASKS: dict[str, Any] = {"classification": Digits, "contrastive": Contrast, "captioning": Captions}


@cache
def _digits() -> tuple[Tensor, Tensor]:
    images, labels = read_digits()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    return torch.from_numpy(images).float()[order] / 128 - 1, torch.tensor(labels)[order]


@cache
def _captions() -> tuple[Tensor, Tensor, int]:
    """Return standardised vectors and padded token ids of scenes of one thing, and the size of the vocabulary."""
    rng, encoder = random.Random(0), percept.load("nano")
    scenes = [scene_of(NAMES[i % len(NAMES)], derive(3, i), "train") for i in range(TRAIN + TEST)]
    texts = [short_caption(scene, rng) for scene in scenes]
    vectors = encoder.image([render(scene, size=SIDE, truth=False).image for scene in scenes]).float()
    tokenizer = Tokenizer.train(texts, vocab_size=600, context=CONTEXT)
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(0))
    return (vectors[order] - vectors.mean(dim=0)) / vectors.std(dim=0), tokenizer(texts)[order], tokenizer.vocab_size


@dataclass(frozen=True)
class Run:
    """One training."""

    task: str
    batch: int
    optimiser: str
    rate: float
    seed: int

    @property
    def key(self) -> str:
        """Its name in the result file."""
        return f"{self.task} {self.batch} {self.optimiser} {self.rate:g} {self.seed}"

    def train(self) -> dict[str, float]:
        """Train, and return the scores on both halves of the test data, and seconds of the processor."""
        seed_everything(self.seed)
        task, start = TASKS[self.task](), time.process_time()
        groups = parameter_groups(task, rate=self.rate, weight_decay=DECAY / RATES[self.optimiser][1])
        (optimiser,) = build_optimisers(groups, self.optimiser)
        steps = task.samples // self.batch
        for step in range(steps):
            factor = warmup_cosine(step, warmup=max(1, steps // 10), steps=steps)
            for group in optimiser.param_groups:
                group["lr"] = self.rate * factor
            optimiser.zero_grad()
            task.loss(self.batch).backward()
            optimiser.step()
        with torch.no_grad():
            scores = {"validation": task.eval().score(0), "test": task.score(1)}
        return {name: round(value, 5) for name, value in scores.items()} | {
            "seconds": round(time.process_time() - start, 2)
        }


def interval(values: list[float]) -> dict[str, float]:
    """Return mean and 95 % interval of three values."""
    mean, half = statistics.mean(values), STUDENT * statistics.stdev(values) / len(values) ** 0.5
    return {"mean": round(mean, 5), "low": round(mean - half, 5), "high": round(mean + half, 5)}


def outcome(difference: dict[str, float]) -> str:
    return "win" if difference["low"] > 0 else "loss" if difference["high"] < 0 else "tie"


def tuned(task: str, batch: int, measured: Callable[[Run], dict[str, float]]) -> dict[str, Any]:
    """Return the best learning rate of every optimiser, its scores, and the differences of Lion to the others."""
    row: dict[str, Any] = {"task": task, "batch": batch}
    scores: dict[str, list[float]] = {}
    for name, rates in RATES.items():
        found = {rate: measured(Run(task, batch, name, rate, 0))["validation"] for rate in rates}
        best = max(rates, key=lambda rate: found[rate] if np.isfinite(found[rate]) else -np.inf)
        scores[name] = [measured(Run(task, batch, name, best, seed))["test"] for seed in SEEDS]
        row[name] = {
            "best rate": best,
            "at the edge of the grid": best in (rates[0], rates[-1]),
            "test": interval(scores[name]),
        }
    for other in ("adamw", "adafactor"):
        differences = [ours - theirs for ours, theirs in zip(scores["lion"], scores[other], strict=True)]
        gain = interval(differences)
        row[f"lion - {other}"] = gain | {"outcome": outcome(gain), "of seeds": differences}
    return row


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return wins, ties and losses of Lion, the slope of its gain over the batch, and whether its best rate is lower."""
    found: dict[str, Any] = {"best rate of lion is lower than that of adamw": [
        row["lion"]["best rate"] < row["adamw"]["best rate"] for row in rows
    ]}  # fmt: skip
    for other in ("adamw", "adafactor"):
        name = f"lion - {other}"
        outcomes = [row[name]["outcome"] for row in rows]
        found[name] = {
            f"{kind}s" if kind != "loss" else "losses": outcomes.count(kind) for kind in ("win", "tie", "loss")
        }
        for task in dict.fromkeys(row["task"] for row in rows):
            mine = [row for row in rows if row["task"] == task]
            if len(mine) > 1:
                doublings = np.log2([row["batch"] for row in mine])
                slopes = [
                    float(np.polyfit(doublings, [row[name]["of seeds"][seed] for row in mine], 1)[0]) for seed in range(len(SEEDS))
                ]  # fmt: skip
                found[f"slope of {name} per doubling of the batch, {task}"] = interval(slopes)
    return found


def memory(turns: int = 5) -> list[dict[str, Any]]:
    """Return bytes of state per byte of parameters, and the time of a step, for the towers of nano."""
    config, built = Config(), {}
    for name in OPTIMISERS:
        torch.manual_seed(0)
        model = CLIP(clip_config(config, config.vocabulary))
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        built[name] = model, build_optimisers(parameter_groups(model, rate=1e-5), name)
    seconds: dict[str, list[float]] = {name: [] for name in built}
    for _ in range(turns + 1):
        for name, (_, optimisers) in built.items():
            start = time.process_time()
            for optimiser in optimisers:
                optimiser.step()
            seconds[name].append(time.process_time() - start)
    rows = []
    for name, (model, optimisers) in built.items():
        states = [value for each in optimisers for state in each.state.values() for value in state.values()]
        held = sum(value.numel() * value.element_size() for value in states if isinstance(value, Tensor))
        size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        ratios = [mine / adamw for mine, adamw in zip(seconds[name][1:], seconds["adamw"][1:], strict=True)]
        rows.append({
            "optimiser": name, "state bytes": held, "parameter bytes": size, "share": round(held / size, 4),
            "step ms": round(1e3 * statistics.median(seconds[name][1:]), 2), "times adamw": round(statistics.median(ratios), 3),
        })  # fmt: skip
    return rows


def main(tasks: tuple[str, ...] = tuple(TASKS), json_file: Path = RESULTS) -> None:
    """Tune and compare the optimisers.

    Args:
        tasks: classification, contrastive, captioning.
        json_file: Result file; the runs that it holds are not repeated.
    """
    torch.set_num_threads(1)
    start = time.perf_counter()
    stored = read_json(json_file) if json_file.is_file() else {}
    runs: dict[str, dict[str, float]] = stored.get("runs", {}) if isinstance(stored, dict) else {}
    content = {"memory": memory(), "rows": []}

    def save() -> None:
        about = facts(torch.device("cpu"), start) | {
            "seconds of all runs": round(sum(run["seconds"] for run in runs.values()), 1)
        }
        write_json(json_file, about | {"rates": RATES, "seeds": SEEDS} | content | {"runs": runs})

    def measured(run: Run) -> dict[str, float]:
        if run.key not in runs:
            runs[run.key] = run.train()
            save()
            out.print(f"{run.key}: {runs[run.key]}", soft_wrap=True)
        return runs[run.key]

    rows = [tuned(task, batch, measured) for task in tasks for batch in TASKS[task].batches]
    content |= {"rows": rows, "summary": summary(rows)}
    save()
    table(
        "State of the optimisers, towers of nano",
        list(content["memory"][0]),
        [tuple(map(str, row.values())) for row in content["memory"]],
    )
    shown = [
        (row["task"], str(row["batch"]), *(f"{row[name]['test']['mean']:.4f} at {row[name]['best rate']:g}" for name in RATES),
         row["lion - adamw"]["outcome"], row["lion - adafactor"]["outcome"])
        for row in rows
    ]  # fmt: skip
    table("Test scores, 3 seeds", ("task", "batch", *RATES, "lion - adamw", "lion - adafactor"), shown)
    for name, value in content["summary"].items():
        out.print(f"{name}: {value}", soft_wrap=True)


if __name__ == "__main__":
    tyro.cli(main)
