"""Measure what distillation from nano gives a student of half its depth, compared with training alone at an equal budget.

    python benchmarks/distillation.py --threads 1          # prints a table and writes distillation.json next to this file

Both students see the same images of single things with their captions, in the same order, for as many steps, at the same learning rate, from
the same weights: nano with every second block of its image tower, on images of half the size. The one alone learns from the contrastive loss, the other from both similarity distributions of nano (Bolya et al. 2025,
arXiv:2504.13181, appendix), whose vectors are computed once, because distillation does not augment images. In a second experiment half
of the captions are exchanged between images, because captions from the web are often wrong. The score is zero-shot accuracy among 100
categories, on compositions that do not occur in training. An interrupted run continues where it stopped.
"""

import itertools
import random
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from harness import facts, save
from small_clip import paired
from torch import Tensor

import percept
from percept.core.io import read_object, write_json
from percept.core.report import notice, table, track
from percept.core.seed import derive
from percept.data.tokenizers import Tokenizer
from percept.eval.world import singles
from percept.losses.contrastive import info_nce
from percept.losses.distillation import distillation_loss
from percept.methods.contrast import clamp_scale
from percept.models.clip import CLIP, unit
from percept.optim.rules import parameter_groups
from percept.optim.schedule import warmup_cosine
from percept.world import CATEGORIES, CLASS_TEMPLATES, fill_template, render, sample_scene, short_caption

RESULTS = Path(__file__).with_suffix(".json")
TEACHER, SIDE = "nano", 48
"""Teacher, and side of the student's images in pixels; the teacher sees all 96."""
WAYS = ("alone", "distilled")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much is trained and measured."""

    images: int = 1_500
    steps: int = 50
    batch: int = 64
    learning_rate: float = 3e-4
    warmup: int = 5
    seeds: int = 3
    tests: int = 600
    wrong: tuple[float, ...] = (0.0, 0.5)
    """Shares of captions that belong to another image; each is an experiment of its own."""


@dataclass(frozen=True)
class Data:
    """Training images with captions, and what the teacher makes of them."""

    images: Tensor
    tokens: Tensor
    teacher: tuple[Tensor, Tensor]
    teacher_scale: float


def small(images: list[np.ndarray]) -> Tensor:
    """Return images at the student's size in [-1, 1]."""
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    return F.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True) / 127.5 - 1


def training_data(plan: Plan, teacher: Any, wrong: float) -> Data:
    """Draw the training images and encode them with the teacher."""
    scenes = [sample_scene(derive(1, "distil", number) % 2**31, things=(1, 1)) for number in range(plan.images)]
    drawn = [render(scene, truth=False).image for scene in track(scenes, "drawing", len(scenes))]
    texts = [short_caption(scene, random.Random(number)) for number, scene in enumerate(scenes)]
    exchanged = np.random.default_rng(7).permutation(plan.images)[: round(wrong * plan.images)].tolist()
    for number, other in zip(exchanged, np.roll(exchanged, 1).tolist(), strict=True):
        texts[number] = short_caption(scenes[other], random.Random(number))
    vectors = torch.cat([teacher.image(drawn[start : start + 256]) for start in range(0, len(drawn), 256)])
    scale = float(teacher.model.scale())
    return Data(small(drawn), teacher.tokenizer(texts), (vectors.float(), teacher.text(texts).float()), 2 * scale)


def student_of(teacher: CLIP) -> CLIP:
    """Return the teacher with every second block of its image tower."""
    config = teacher.config
    student = CLIP(replace(config, vision=replace(config.vision, layers=config.vision.layers // 2)))
    state = teacher.state_dict()
    for name in student.state_dict():
        parts = name.split(".")
        if parts[:2] == ["vision", "blocks"]:
            parts[2] = str(2 * int(parts[2]))
        student.state_dict()[name].copy_(state[".".join(parts)])
    return student


def trained(way: str, seed: int, data: Data, plan: Plan, teacher: CLIP) -> CLIP:
    """Train a student; the seed decides the order of the images."""
    student = student_of(teacher).train()
    groups = parameter_groups(student, rate=plan.learning_rate, weight_decay=0.05)
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    rates = [group["lr"] for group in optimiser.param_groups]
    order = np.concatenate([np.random.default_rng((seed, epoch)).permutation(plan.images) for epoch in range(20)])
    for step in range(plan.steps):
        rows = torch.from_numpy(order[step * plan.batch : (step + 1) * plan.batch])
        clamp_scale(student)
        image, text = unit(student.encode_image(data.images[rows])), unit(student.encode_text(data.tokens[rows]))
        if way == "alone":
            loss = info_nce(image, text, student.scale())
        else:
            theirs = (vectors[rows] for vectors in data.teacher)
            loss = distillation_loss(image, text, student.scale(), *theirs, teacher_scale=data.teacher_scale)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * warmup_cosine(step, warmup=plan.warmup, steps=plan.steps)
        optimiser.step()
    return student.eval()


@torch.no_grad()
def accuracy(student: CLIP, images: Tensor, labels: Tensor, tokenizer: Tokenizer) -> float:
    """Return the share of images whose category is the nearest one."""
    texts = [fill_template(template, name) for name in CATEGORIES for template in CLASS_TEMPLATES]
    vectors = torch.cat([student.embed_text(part) for part in tokenizer(texts).split(256)])
    classes = unit(vectors.unflatten(0, (len(CATEGORIES), -1)).mean(dim=1))
    found = torch.cat([student.embed_image(part) for part in images.split(256)])
    return float(((found @ classes.T).argmax(dim=1) == labels).float().mean())


def main(plan: Plan, threads: int = 1, json_file: Path | None = RESULTS) -> None:
    """Run what is missing, and print the comparison."""
    torch.set_num_threads(threads)
    start = time.perf_counter()
    kept = (json_file or RESULTS).with_suffix(".part.json")
    stored = read_object(kept)
    runs: dict[str, Any] = stored.get("runs", {}) if stored.get("plan") == asdict(plan) else {}
    spent: float = stored.get("seconds", 0.0) if runs else 0.0
    teacher = percept.load(TEACHER, device="cpu")
    assert teacher.tokenizer is not None
    weights = percept.load(TEACHER, device="cpu", train=True)
    drawn = singles(plan.tests, seed=3)
    tests, labels = small(drawn.images), torch.tensor(drawn.categories)
    before = accuracy(student_of(weights).eval(), tests, labels, teacher.tokenizer)
    notice(f"before training: {before:.3f}")
    for wrong in plan.wrong:
        data = training_data(plan, teacher, wrong)
        for seed, way in itertools.product(range(plan.seeds), WAYS):
            name = f"{way} {seed} {wrong}"
            if name not in runs:
                student = trained(way, seed, data, plan, weights)
                runs[name] = accuracy(student, tests, labels, teacher.tokenizer)
                notice(f"{name}: {runs[name]:.3f}")
                write_json(kept, {"plan": asdict(plan), "runs": runs, "seconds": spent + time.perf_counter() - start})
    report(plan, runs, before, json_file, start, spent)
    kept.unlink(missing_ok=True)


def report(
    plan: Plan, runs: dict[str, float], before: float, json_file: Path | None, start: float, spent: float
) -> None:
    """Print and write the accuracies and their paired difference."""
    rows: list[tuple[str, str, str, str]] = [("", "before", f"{before:.3f}", "")]
    found: dict[str, Any] = {}
    for wrong in plan.wrong:
        values = {way: [runs[f"{way} {seed} {wrong}"] for seed in range(plan.seeds)] for way in WAYS}
        gain = paired(values["distilled"], values["alone"])
        found[f"{wrong:.0%} of the captions wrong"] = {"top-1": values, "gain": gain}
        rows += [
            (f"{wrong:.0%}", way, f"{np.mean(each):.3f}", " ".join(f"{one:.3f}" for one in each))
            for way, each in values.items()
        ]
        interval = f"95 % interval {gain['low']:+.3f} to {gain['high']:+.3f}"
        rows.append((f"{wrong:.0%}", "gain", f"{gain['mean']:+.3f}", interval))
    table("Zero-shot top-1 of a student", ("wrong captions", "trained", "mean", "by seed"), rows)
    described = facts(torch.device("cpu"), start)
    described["seconds"] = round(described["seconds"] + spent, 1)
    content = {
        "facts": described,
        "plan": asdict(plan),
        "teacher": TEACHER,
        "before": before,
        "results": found,
    }
    save(json_file, content)


if __name__ == "__main__":
    tyro.cli(main)
