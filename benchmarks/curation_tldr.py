"""TL;DR on a noisy and on a cleaner corpus: the reduced set with generated captions against all rows, random rows, and each part removed.

    python benchmarks/curation_tldr.py --json-file benchmarks/curation_tldr.json

The captioner (`percept.methods.curation.tldr`) reads 17 tokens of nano's image tower, which is locked. It is trained once, on noisy rows of its own
and then on clean captions, as the paper's on COCO, and serves all seeds. The match of image and caption is that of a small dual encoder
which learned from all noisy rows. Every arm trains three kinds of models (`curation_models.py`; on the cleaner corpus only the dual encoder) for the
same steps, each scored on seven tasks.
The arm "TL;DR, equal epochs" trains as many steps fewer as it has rows fewer.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from curation_models import GRID, KINDS, Images, Tasks, coloured, encoded, named, scores, train
from curation_seeds import Scores, by_seed, columns, compared, judged
from small_clip import CONTEXT, NAMES, SIDE, Noise, noisy_rows, paired, scene_of, stored
from torch import Tensor, nn

import percept
from percept.core.report import err
from percept.core.seed import derive, seed_everything
from percept.data.batch import ImageText
from percept.data.curate.pipeline import Curation
from percept.data.curate.step import Tools, make_steps
from percept.data.tokenizers import Tokenizer
from percept.methods.curation.tldr import Captioner
from percept.models.config import TextConfig
from percept.world import render, short_caption

CODES, TOKENS = 512, GRID**2 + 1
CORPORA = {"noisy": Noise(), "cleaner": Noise(mismatched=0.05, boilerplate=0.0)}
REDUCED = {"noisy": {"every": 3, "top": 0.45}, "cleaner": {"every": 2, "top": 0.45}}
"""Settings of the step; with them at most 16.7 and 24 % of the rows remain."""
KINDS_OF = {"noisy": KINDS, "cleaner": KINDS[:1]}
ALL, OURS, RANDOM = "all rows", "TL;DR", "random rows"
ORIGINAL, GENERATED, SHORT = "selection, original captions", "selection, generated captions", "TL;DR, equal epochs"


class Stored(nn.Module):
    """Stands for a locked image tower whose tokens were computed before."""

    config = SimpleNamespace(width=256)

    def forward(self, image: Tensor, *, pool: bool = True) -> Any:
        """Return the tokens that are given in place of images."""
        return SimpleNamespace(tokens=image)


@dataclass(frozen=True)
class Writer:
    """The trained captioner with its tokenizer."""

    task: Captioner
    tokenizer: Tokenizer
    seconds: float

    def write(self, images: Images) -> list[str]:
        """Return a caption per image."""
        ends = {"start": self.tokenizer.start_id, "end": self.tokenizer.end_id, "most": 16}
        ids = [row for part in images.tokens.split(256) for row in self.task.generate(part, **ends)]
        return [self.tokenizer.decode(row) for row in ids]

    def facts(self, tasks: Tasks) -> dict[str, float]:
        """Return how often its captions name the right category and colour, and the share of the codebook that is used."""
        plain, captioned = self.write(tasks.plain), self.write(tasks.captioned)
        codes = self.task.codes(tasks.plain.tokens)
        return {
            "category": round(float(np.mean(np.array([named(text) for text in plain]) == tasks.labels)), 4),
            "colour": round(float(np.mean(np.array([coloured(text) for text in captioned]) == tasks.colours)), 4),
            "codes used": codes.unique().numel(),
            "seconds of its training": round(self.seconds, 1),
        }


def clean_captions(encoder: Any, count: int) -> tuple[Images, list[str]]:
    """Return images of the training split, and their right captions."""
    rng = random.Random(5)
    scenes = [scene_of(rng.choice(NAMES), derive(5, "clean", number), "train") for number in range(count)]
    images = [render(one, size=SIDE, truth=False).image for one in scenes]
    return encoded(encoder, images), [short_caption(one, rng) for one in scenes]


def captioner(encoder: Any, arguments: Any) -> Writer:
    """Train the codebook and the decoder: a quarter of the steps on noisy rows, the others on clean captions."""
    rows = noisy_rows(arguments.clean // 4, Noise(), 4711)
    noisy, clean = (
        (encoded(encoder, [row["image"] for row in rows]), [row["caption"] for row in rows]),
        clean_captions(encoder, arguments.clean),
    )
    tokenizer = Tokenizer.train(noisy[1] + clean[1], vocab_size=900, context=CONTEXT)
    seed_everything(0)
    decoder = TextConfig(context=CONTEXT, vocabulary=tokenizer.vocab_size, width=96, layers=2, heads=3, output_dim=8)
    tower: Any = Stored()
    task = Captioner(Captioner.Config(codes=CODES), tower, TOKENS, decoder)
    with torch.no_grad():  # entries that begin at tokens of the data are used from the start
        tokens = clean[0].tokens
        first = tokens[
            torch.randint(len(tokens), (CODES,)), torch.randint(TOKENS, (CODES,)) * (torch.rand(CODES) < 0.6)
        ]
        task.codebook.entries.copy_(task.project(first))
    begin = time.process_time()
    _fit(
        task, [(*noisy, arguments.captioner // 4), (*clean, arguments.captioner - arguments.captioner // 4)], tokenizer
    )
    return Writer(task.eval(), tokenizer, time.process_time() - begin)


def cached(file: Path | None, make: Callable[[], Writer]) -> Writer:
    """Return the captioner of a file, or make it and write the file."""
    if file is not None and file.is_file():
        return torch.load(file, weights_only=False)
    writer = make()
    if file is not None:
        torch.save(writer, file)
    return writer


def _fit(task: Captioner, stages: Sequence[tuple[Images, list[str], int]], tokenizer: Tokenizer) -> None:
    total = sum(count for _, _, count in stages)
    optimiser = torch.optim.AdamW([one for one in task.parameters() if one.requires_grad], lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=total, pct_start=0.05)
    for images, texts, count in stages:
        ids = tokenizer(texts)
        for _ in range(count):
            rows = torch.randint(len(ids), (64,))
            part = ids[rows]
            part = part[:, : int(part.argmax(dim=1).max()) + 1]
            optimiser.zero_grad()
            task(ImageText(image=images.tokens[rows], tokens=part))["loss"].backward()
            optimiser.step()
            schedule.step()


Chosen = tuple[list[int], list[list[str]]]
"""Numbers of rows, and the captions of each."""


class Corpus:
    """The rows of a seed with one kind of noise, and the models that reduce them."""

    def __init__(self, rows: list[dict[str, Any]], images: Images, writer: Writer, scorer: Any) -> None:
        self.rows, self.images, self.writer, self.scorer = rows, images, writer, scorer
        self.place = {row["key"]: number for number, row in enumerate(rows)}
        self.known = {row["image"]: number for number, row in enumerate(rows)}

    def tools(self) -> Tools:
        """Return the models of the steps."""
        pick: Callable[[Sequence[Any]], Images] = lambda images: self.images[[self.known[image] for image in images]]  # noqa: E731
        return Tools(
            name="small", dim=64, num_codes=CODES,
            images=lambda images: self.scorer.images(pick(images).vectors), texts=self.scorer.texts,
            codes=lambda images: self.writer.task.codes(pick(images).tokens), captions=lambda images: self.writer.write(pick(images)),
        )  # fmt: skip

    def run(self, step: str, **settings: Any) -> list[dict[str, Any]]:
        """Run a step and return its rows."""
        import pyarrow.parquet as pq

        with tempfile.TemporaryDirectory() as name:
            source = stored(Path(name) / "source", self.rows)
            steps = make_steps([step], {step: settings})
            Curation(source=source, out=Path(name) / "out", steps=steps, tools=self.tools(), workers=1).run()
            return pq.read_table(Path(name) / "out" / "rows-00000.parquet").to_pylist()

    def originals(self, numbers: Sequence[int]) -> Chosen:
        """Return rows with their own captions."""
        return list(numbers), [[self.rows[number]["caption"]] for number in numbers]

    def true_pairs(self, numbers: Sequence[int]) -> float:
        """Return the share of rows whose caption is that of their image."""
        return round(float(np.mean([not self.rows[number]["mismatch"] for number in numbers])), 4)


def arms(corpus: Corpus, noise: str, seed: int) -> tuple[dict[str, Chosen], float]:
    """Return rows and captions of every arm, and the processor seconds of the selection and of the captions."""
    rng, count, begin = random.Random(seed), len(corpus.rows), time.process_time()
    reduced = corpus.run("tldr", features="histogram", clusters=40, caption=True, **REDUCED[noise])
    seconds = time.process_time() - begin
    kept, own = corpus.originals([corpus.place[row["key"]] for row in reduced])
    new = [row["caption"].removeprefix(f"{original[0]}; ") for row, original in zip(reduced, own, strict=True)]
    found = {
        ALL: corpus.originals(range(count)),
        RANDOM: corpus.originals(sorted(rng.sample(range(count), len(kept)))),
        OURS: (kept, [[row["caption"]] for row in reduced]),
        ORIGINAL: (kept, own),
        GENERATED: (kept, [[text] for text in new]),
    }
    if noise == "cleaner":
        del found[GENERATED]
    return found, seconds


def trained(corpus: Corpus, arm: Chosen, tasks: Tasks, kind: str, steps: int, seed: int) -> dict[str, Any]:
    """Train a model of a kind on an arm and return its scores."""
    begin = time.process_time()
    model = train(kind, corpus.images[arm[0]], arm[1], corpus.writer.tokenizer, steps=steps, seed=seed)
    seconds = time.process_time() - begin
    facts = {
        "rows": len(arm[0]),
        "share": round(len(arm[0]) / len(corpus.rows), 4),
        "true pairs": corpus.true_pairs(arm[0]),
    }
    return {**scores(kind, model, tasks), **facts, "steps": steps, "training s": round(seconds, 2)}


def run_seed(encoder: Any, writer: Writer, tasks: Tasks, arguments: Any, seed: int) -> Scores:
    """Return the scores of every arm, named "corpus / kind / arm"."""
    found: Scores = {"captioner": writer.facts(tasks)}
    images, scorer = None, None
    for noise, settings in CORPORA.items():
        rows = noisy_rows(arguments.rows, settings, seed)
        images = images or encoded(encoder, [row["image"] for row in rows])  # both corpora have the same images
        if scorer is None:
            scorer = train(
                "dual", images, [[row["caption"]] for row in rows], writer.tokenizer, steps=arguments.steps, seed=seed
            )
        corpus = Corpus(rows, images, writer, scorer)
        every, seconds = arms(corpus, noise, seed)
        found[f"{noise} / selection"] = {"seconds": round(seconds, 2)}
        for kind in KINDS_OF[noise]:
            plans = {name: (arm, arguments.steps) for name, arm in every.items()}
            plans[SHORT] = (every[OURS], max(1, round(arguments.steps * len(every[OURS][0]) / len(rows))))
            for name, (arm, steps) in plans.items():
                title = f"{noise} / {kind} / {name}"
                found[title] = trained(corpus, arm, tasks, kind, steps, seed)
                err.print(seed, title, found[title]["mean"], found[title]["rows"], soft_wrap=True)
    return found


def averaged(runs: Sequence[Scores], noise: str) -> list[Scores]:
    """Return for every seed the mean of the three kinds, by arm."""
    names = [title.rpartition(" / ")[2] for title in runs[0] if title.startswith(f"{noise} / {KINDS[0]} / ")]
    return [
        {
            name: {"mean": float(np.mean([run[f"{noise} / {kind} / {name}"]["mean"] for kind in KINDS_OF[noise]]))}
            for name in names
        }
        for run in runs
    ]


def of_kind(runs: Sequence[Scores], noise: str, kind: str) -> list[Scores]:
    """Return the arms of one corpus and kind, by their names."""
    start = f"{noise} / {kind} / "
    return [{title.removeprefix(start): run[title] for title in run if title.startswith(start)} for run in runs]


def claims(runs: Sequence[Scores]) -> dict[str, Any]:
    """Return the differences of the reduced set to the other arms, with verdicts."""
    others = [name for name in runs[0] if name not in (OURS, SHORT)]
    return {
        "means": {name: [round(value, 4) for value in columns(runs, name, "mean")] for name in runs[0]},
        "TL;DR minus all rows, at least -0.01": compared(runs, OURS, ALL, "mean", margin=-0.01),
        "TL;DR with equal epochs minus all rows, at least -0.01": compared(runs, SHORT, ALL, "mean", margin=-0.01),
        "TL;DR minus arm": {name: compared(runs, OURS, name, "mean") for name in others},
    }


def summary(runs: Sequence[Scores]) -> dict[str, Any]:
    """Return the claims by corpus: over the three kinds, and for each; and shares, true pairs and times."""
    found: dict[str, Any] = {"captioner": runs[0]["captioner"]}
    for noise in CORPORA:
        found[noise] = {"mean of the kinds": claims(averaged(runs, noise))}
        found[noise] |= {kind: claims(of_kind(runs, noise, kind)) for kind in KINDS_OF[noise]} | facts(runs, noise)
    return found


def facts(runs: Sequence[Scores], noise: str) -> dict[str, Any]:
    """Return the share of rows, the true pairs, and the time of selection and training against training on all rows."""
    dual = of_kind(runs, noise, KINDS[0])
    times = {
        name: np.sum([columns(of_kind(runs, noise, kind), name, "training s") for kind in KINDS_OF[noise]], axis=0)
        for name in (ALL, OURS, SHORT)
    }
    chosen = np.array(columns(runs, f"{noise} / selection", "seconds"))
    spent = {
        name: [round(float(value), 1) for value in seconds + (name != ALL) * chosen] for name, seconds in times.items()
    }
    less = (
        [judged(paired(list(times[ALL]), list(times[name] + chosen))) for name in (OURS, SHORT)]
        if len(runs) > 1
        else []
    )
    return {
        "share of the rows": columns(dual, OURS, "share"),
        "true pairs, all rows": columns(dual, ALL, "true pairs"),
        "true pairs, TL;DR": columns(dual, OURS, "true pairs"),
        "processor seconds of all kinds": spent,
        "time of all rows minus TL;DR with its selection": dict(
            zip(("equal steps", "equal epochs"), less, strict=False)
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument(
        "--clean", type=int, default=2000, help="clean captions that the captioner learns from at the end"
    )
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--captioner", type=int, default=1500, help="steps of the captioner")
    parser.add_argument(
        "--cache", type=Path, default=None, help="file of the trained captioner: read if it exists, else written"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json-file", type=Path, default=None)
    arguments = parser.parse_args()
    encoder = percept.load("nano", dtype="float32")
    tasks, writer = Tasks.make(encoder), cached(arguments.cache, lambda: captioner(encoder, arguments))
    err.print("captioner", writer.facts(tasks), writer.write(tasks.captioned[list(range(8))]), tasks.captions[:8])
    setup = {key: getattr(arguments, key) for key in ("rows", "clean", "steps", "captioner")} | {"reduced": REDUCED}
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    by_seed(arguments.json_file, setup, seeds, lambda seed: run_seed(encoder, writer, tasks, arguments, seed), summary)


if __name__ == "__main__":
    main()
