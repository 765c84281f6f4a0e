"""TL;DR on noisy data: the reduced set with generated captions against all rows, random rows, and each part removed.

    python benchmarks/curation_tldr.py --json-file benchmarks/curation_tldr.json

The captioner (`percept.methods.curation.tldr`) reads 16 tokens of nano's image tower, which is locked; it learns from the noisy rows, then from
a few clean captions, as the paper's from COCO. The match of image and caption is that of a small dual encoder which learned from all
noisy rows. Every arm trains the small dual encoder for the same steps, and is scored on seven tasks.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import harness
import numpy as np
import torch
from small_clip import (
    CONTEXT,
    NAMES,
    SIDE,
    Noise,
    Small,
    Test,
    noisy_rows,
    paired,
    scene_of,
    singles_of,
    stored,
    train,
    zero_shot,
)
from torch import Tensor, nn
from torch.nn import functional as F

import percept
from percept.core.report import err
from percept.core.seed import derive, seed_everything
from percept.data.batch import ImageText
from percept.data.curate.pipeline import Curation
from percept.data.curate.step import Tools, make_steps
from percept.data.tokenizers import Tokenizer
from percept.methods.curation.tldr import Captioner
from percept.models.config import TextConfig
from percept.world import COLOUR_TEMPLATES, COLOURS, fill_template, render, short_caption

CODES, GRID = 256, 4


class Stored(nn.Module):
    """Stands for a locked image tower whose tokens were computed before."""

    config = SimpleNamespace(width=256)

    def forward(self, image: Tensor, *, pool: bool = True) -> Any:
        """Return the tokens that are given in place of images."""
        return SimpleNamespace(tokens=image)


@torch.no_grad()
def encoded(encoder: Any, images: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Return vectors, and 16 tokens per image: means over 3 x 3 patches."""
    vectors, tokens = [], []
    for start in range(0, len(images), 50):
        batch = torch.stack([encoder.prepare(image) for image in images[start : start + 50]])
        out = encoder.model.vision(batch)
        patches = out.tokens[:, out.prefix :].unflatten(1, out.grid).movedim(-1, 1)
        tokens.append(F.adaptive_avg_pool2d(patches, GRID).flatten(2).transpose(1, 2))
        vectors.append(F.normalize(out.pooled.float(), dim=-1))
    return torch.cat(vectors), torch.cat(tokens).float()


@dataclass(frozen=True)
class Tasks:
    """Test sets: single things plain and in two styles, their colours, and captions."""

    plain: Test
    sketch: Test
    corrupted: Test
    colours: np.ndarray
    captions: list[str]
    captioned: Tensor


def tasks(encoder: Any) -> Tasks:
    rng, texts, number = random.Random(1), dict[str, Any](), 0
    while len(texts) < 400:
        scene = scene_of(NAMES[number % len(NAMES)], derive(7, "retrieval", number), "evaluation")
        texts.setdefault(short_caption(scene, rng), scene)
        number += 1
    scenes = list(texts.values())
    images = encoder.image([render(scene, size=SIDE, truth=False).image for scene in scenes])
    colours = np.array([list(COLOURS).index(scene.things[0].colour) for scene in scenes])
    plain, sketch, corrupted = (
        singles_of(encoder, count, 10_000, style)
        for count, style in ((800, "plain"), (400, "sketch"), (400, "corruption"))
    )
    return Tasks(plain, sketch, corrupted, colours, list(texts), images)


def scores(model: Small, task: Tasks) -> dict[str, float]:
    """Return the seven scores and their mean."""
    right, tail = zero_shot(model, task.plain), task.plain.labels >= len(NAMES) * 2 // 3
    forms = [
        fill_template(form, name, colour) for colour in COLOURS for form in COLOUR_TEMPLATES for name in NAMES[:20]
    ]
    colours = model.texts(forms).unflatten(0, (len(COLOURS), -1)).mean(dim=1)
    images = model.images(task.captioned)
    cosines, own = images @ model.texts(task.captions).T, torch.arange(len(images))
    found = {
        "category": right.mean(), "rarest third": right[tail].mean(), "sketches": zero_shot(model, task.sketch).mean(),
        "corrupted": zero_shot(model, task.corrupted).mean(),
        "colour": ((images @ F.normalize(colours, dim=-1).T).argmax(dim=1).numpy() == task.colours).mean(),
        "text among 400": (cosines.argmax(dim=1) == own).float().mean(),
        "image among 400": (cosines.argmax(dim=0) == own).float().mean(),
    }  # fmt: skip
    plain = {name: float(value) for name, value in found.items()}
    return {**plain, "mean": float(np.mean(list(plain.values())))}


def captioner(
    tokens: Tensor, texts: Sequence[str], clean: tuple[Tensor, list[str]], tokenizer: Tokenizer, steps: int, seed: int
) -> Captioner:
    """Train the codebook and the decoder: a quarter of the steps on the noisy rows, the others on the clean ones."""
    seed_everything(seed)
    decoder = TextConfig(context=CONTEXT, vocabulary=tokenizer.vocab_size, width=64, layers=2, heads=2, output_dim=8)
    tower: Any = Stored()
    task = Captioner(Captioner.Config(codes=CODES), tower, GRID**2, decoder)
    with torch.no_grad():  # entries that begin at tokens of the data are used from the start
        first = task.project(tokens[torch.randint(len(tokens), (CODES,)), torch.randint(GRID**2, (CODES,))])
        task.codebook.entries.copy_(first)
    optimiser = torch.optim.AdamW(
        [each for each in task.parameters() if each.requires_grad], lr=2e-3, weight_decay=0.05
    )
    for images, captions, count in ((tokens, list(texts), steps // 4), (*clean, steps - steps // 4)):
        ids = tokenizer(captions)
        for _ in range(count):
            rows = torch.randint(len(images), (64,))
            part = ids[rows]
            part = part[:, : int(part.argmax(dim=1).max()) + 1]
            optimiser.zero_grad()
            task(ImageText(image=images[rows], tokens=part))["loss"].backward()
            optimiser.step()
    return task.eval()


def run_seed(
    encoder: Any, task: Tasks, clean: tuple[Tensor, list[str]], arguments: Any, seed: int
) -> dict[str, dict[str, float]]:
    """Return scores, rows and shares of every arm."""
    import pyarrow.parquet as pq

    rows = noisy_rows(arguments.rows, Noise(), seed)
    vectors, tokens = encoded(encoder, [row["image"] for row in rows])
    place = {row["key"]: number for number, row in enumerate(rows)}
    rng = random.Random(seed)
    tokenizer = Tokenizer.train([row["caption"] for row in rows] + clean[1], vocab_size=900, context=CONTEXT)
    found: dict[str, dict[str, float]] = {}

    def arm(name: str, chosen: Sequence[int], texts: Sequence[str]) -> Small:
        begin = time.process_time()
        model = train(vectors[list(chosen)], [[text] for text in texts], tokenizer, steps=arguments.steps, seed=seed)
        true = float(np.mean([not rows[number]["mismatch"] for number in chosen]))
        found[name] = {
            **scores(model, task),
            "rows": len(chosen),
            "share": len(chosen) / len(rows),
            "true pairs": true,
            "training s": time.process_time() - begin,
        }
        err.print(seed, name, {key: round(value, 3) for key, value in found[name].items()}, soft_wrap=True)
        return model

    scorer = arm("all rows", range(len(rows)), [row["caption"] for row in rows])
    begin = time.process_time()
    writer = captioner(tokens, [row["caption"] for row in rows], clean, tokenizer, arguments.captioner, seed)
    known = {row["image"]: number for number, row in enumerate(rows)}
    pick = lambda images: [known[image] for image in images]  # noqa: E731

    def captions(images: Sequence[Any]) -> list[str]:
        parts = [tokens[pick(images[start : start + 256])] for start in range(0, len(images), 256)]
        ids = [
            row
            for part in parts
            for row in writer.generate(part, start=tokenizer.start_id, end=tokenizer.end_id, most=24)
        ]
        return [tokenizer.decode(row) for row in ids]

    tools = Tools(
        name="small", dim=64, images=lambda images: scorer.images(vectors[pick(images)]), texts=scorer.texts,
        codes=lambda images: writer.codes(tokens[pick(images)]), num_codes=CODES, captions=captions,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = stored(folder / "source", rows)

        def reduced(title: str, **settings: Any) -> tuple[list[int], list[str]]:
            steps = make_steps(["tldr"], {"tldr": {"clusters": arguments.clusters, "caption": True, **settings}})
            Curation(source=source, out=folder / title, steps=steps, tools=tools, workers=1).run()
            kept = pq.read_table(folder / title / "rows-00000.parquet").to_pylist()
            numbers = [place[row["key"]] for row in kept]
            return numbers, [
                row["caption"].removeprefix(f"{rows[at]['caption']}; ") for at, row in zip(numbers, kept, strict=True)
            ]

        kept, written = reduced("histogram", features="histogram", every=2)
        seconds = time.process_time() - begin
        original = [rows[number]["caption"] for number in kept]
        arm("TL;DR", kept, [f"{one}; {two}" for one, two in zip(original, written, strict=True)])
        arm("TL;DR, original captions only", kept, original)
        arm("TL;DR, generated captions only", kept, written)
        half = [place[row["key"]] for row in _half(source, folder, tools)]
        drawn = sorted(rng.sample(half, min(len(half), len(kept))))
        arm("random rows of the better half", drawn, [rows[number]["caption"] for number in drawn])
        drawn = sorted(rng.sample(range(len(rows)), len(kept)))
        arm("random rows", drawn, [rows[number]["caption"] for number in drawn])
        few, new = reduced("sixth", features="histogram", every=3)
        arm("TL;DR, one in six", few, [f"{rows[at]['caption']}; {text}" for at, text in zip(few, new, strict=True)])
    found["TL;DR"]["selection s"] = seconds
    return found


def _half(source: Path, folder: Path, tools: Tools) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    Curation(
        source=source, out=folder / "half", steps=make_steps(["score"], {"score": {"top": 0.5}}), tools=tools, workers=1
    ).run()
    return pq.read_table(folder / "half" / "rows-00000.parquet").to_pylist()


def clean_captions(encoder: Any, count: int) -> tuple[Tensor, list[str]]:
    """Return the tokens of images, and their right captions."""
    rng = random.Random(5)
    scenes = [scene_of(rng.choice(NAMES), derive(5, "clean", number), "train") for number in range(count)]
    images = [render(one, size=SIDE, truth=False).image for one in scenes]
    return encoded(encoder, images)[1], [short_caption(one, rng) for one in scenes]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument(
        "--clean", type=int, default=1000, help="clean captions that the captioner learns from at the end"
    )
    parser.add_argument("--clusters", type=int, default=40)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--captioner", type=int, default=800, help="steps of the captioner")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json-file", type=Path, default=None)
    arguments = parser.parse_args()
    start, encoder = time.perf_counter(), percept.load("nano", dtype="float32")
    task, clean, runs = tasks(encoder), clean_captions(encoder, arguments.clean), []
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        runs.append(run_seed(encoder, task, clean, arguments, seed))
        result = summary(runs, arguments)
        harness.save(arguments.json_file, {**harness.facts(torch.device("cpu"), start), "result": result})


def summary(runs: Sequence[dict[str, dict[str, float]]], arguments: Any) -> dict[str, Any]:
    """Return the scores of all seeds by arm, and the differences."""
    arms = {name: {key: [round(run[name][key], 4) for run in runs] for key in runs[0][name]} for name in runs[0]}
    against = {
        name: paired(arms["TL;DR"]["mean"], values["mean"]) for name, values in arms.items() if len(runs) > 1 and name != "TL;DR"
    }  # fmt: skip
    setup = {key: getattr(arguments, key) for key in ("rows", "clean", "clusters", "steps", "captioner")}
    return {**setup, "noise": vars(Noise()), "arms": arms, "mean of TL;DR minus arm": against}


if __name__ == "__main__":
    main()
