"""RealSyn on documents of the world: each stage removed, three nested scales, the written sets, and the cost of the search in clusters.

    python benchmarks/curation_realsyn.py --json-file benchmarks/curation_realsyn.json

A document has three images of things and two that extraction should remove (a logo that many pages repeat, an icon or a banner), in random order
with eight sentences (a true one per image, two about things that it does not show, three about nothing) and eight of navigation and boilerplate.
Sentences are found, and tags given, by nano, as the paper uses a large encoder that was trained before. Every arm trains the small model of
`small_clip.py` for the same steps on as many images. Scores: category of single things (all, and the rarest third), the same in the style of
sketches, and retrieval among 300 images and texts. The vectors of the locked tower tell the categories apart by themselves, so a linear probe on
what is learned from them says little; the probe is that of a second model, which learns its image vectors from the patches after the second of
the tower's six blocks.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from curation_seeds import Scores, by_seed, columns, compared
from PIL import Image
from small_clip import CONTEXT, NAMES, SIDE, Small, Test, jpeg, scene_of, stored, train, zero_shot
from torch import Tensor
from torch.nn import functional as F

import percept
from percept.core.io import file_hash
from percept.core.report import err
from percept.core.seed import derive
from percept.data import open_source
from percept.data.curate import clusters
from percept.data.curate.pipeline import Curation
from percept.data.curate.realsyn import Tagger, fused, retrieve
from percept.data.curate.step import Tools, make_steps
from percept.data.tokenizers import Tokenizer
from percept.world import render, sample_scene, short_caption

NOTHING = (
    "We met again on {} and talked about the plan for the year.", "Nobody knows what {} will bring.", "Read more about {} in the next part.",
    "The price of {} has not changed much.", "It was a matter of {} and of time.", "All of it belongs to {}.",
)  # fmt: skip
WHAT = ("monday", "friday", "opinion", "trust", "winter", "the law", "history", "money", "patience", "the meeting")
JUNK = (
    "Click here to enlarge", "IMG_{}.jpg", "https://www.example.org/page/{}", "Image {}", "Read more", "All rights reserved, part {}.",
    "Cookie policy of page {}", "{} | {} | {}", "Untitled", "Next",
)  # fmt: skip
EXTRACTION = {"image-sizes": {"min_side": 64}, "exact-images": {}, "near-images": {}}
TAIL = len(NAMES) * 2 // 3
KEYS = ("zero-shot", "rarest third", "sketches", "text among 300", "image among 300")
PROBE = "linear probe"
FULL, RAW = "full", "adjacent sentence"
REMOVED = (
    RAW, "no extraction", "no retrieval: adjacent and synthetic", "realistic only", "synthetic only", "no balance: random rows",
)  # fmt: skip


def logo(number: int) -> Image.Image:
    """Return one of a few images that many pages repeat."""
    pixels = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST)


def junk_image(rng: random.Random, pixels: np.ndarray) -> bytes:
    """Return an image that extraction should remove: a logo in some quality, an icon, or a banner."""
    kind = rng.choice(("logo", "icon", "banner"))
    image = logo(rng.randrange(5)) if kind == "logo" else Image.fromarray(pixels)
    if kind != "logo":
        image = image.resize((24, 24) if kind == "icon" else (SIDE * 2, 24))
    return jpeg(np.asarray(image), rng.randint(50, 95))


def document(number: int, seed: int) -> tuple[dict[str, Any], dict[bytes, str]]:
    """Return an interleaved document, and the categories of its images of things."""
    rng = random.Random(derive(seed, "document", number))
    names = rng.choices(NAMES, [(rank + 1) ** -1.2 for rank in range(len(NAMES))], k=3)
    scenes = [scene_of(name, derive(seed, number, place), "train") for place, name in enumerate(names)]
    others = [scene_of(rng.choice(NAMES), derive(seed, number, place, "other"), "train") for place in range(2)]
    texts = [short_caption(scene, rng) + "." for scene in (*scenes, *others)]
    texts += [rng.choice(NOTHING).format(rng.choice(WHAT)) for _ in range(3)]
    texts += [rng.choice(JUNK).format(*(rng.randrange(9999) for _ in range(3))) for _ in range(8)]
    pixels = [render(scene, size=SIDE, truth=False).image for scene in scenes]
    images = [jpeg(some, 92) for some in pixels]
    parts: list[tuple[Any, Any]] = [(None, text) for text in texts] + [(image, None) for image in images]
    parts += [(junk_image(rng, rng.choice(pixels)), None) for _ in range(2)]
    rng.shuffle(parts)
    found = {"id": f"d{number}", "images": [part[0] for part in parts], "texts": [part[1] for part in parts]}
    return found, dict(zip(images, names, strict=True))


@torch.no_grad()
def encoded(encoder: Any, images: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Return the vectors of images, and early features: means over quarters of the image after the second block."""
    vectors, early = [], []
    for start in range(0, len(images), 50):
        out = encoder.model.vision(
            torch.stack([encoder.prepare(image) for image in images[start : start + 50]]), layers=(1,)
        )
        patches = out.hidden[1][:, out.prefix :].float().unflatten(1, out.grid).movedim(-1, 1)
        early.append(F.layer_norm(F.adaptive_avg_pool2d(patches, 2).flatten(1), (4 * patches.shape[1],)))
        vectors.append(F.normalize(out.pooled.float(), dim=-1))
    return torch.cat(vectors), torch.cat(early)


@dataclass(frozen=True)
class Tests:
    """Test sets that all seeds share; training and test set of the linear probe, with early features."""

    plain: Test
    sketch: Test
    learn: Test
    probed: Test
    images: Tensor
    texts: list[str]


def singles(encoder: Any, count: int, seed: int, style: str = "plain") -> tuple[Test, Test]:
    """Return test images of one thing each, with vectors and with early features."""
    labels = np.arange(count) % len(NAMES)
    scenes = [
        scene_of(NAMES[label], derive(seed, "test", place), "evaluation", style) for place, label in enumerate(labels)
    ]
    vectors, early = encoded(encoder, [render(scene, size=SIDE, truth=False).image for scene in scenes])
    return Test(vectors, labels), Test(early, labels)


def tests(encoder: Any) -> Tests:
    """Make the test sets."""
    rng, texts, number = random.Random(1), dict[str, np.ndarray](), 0
    while len(texts) < 300:
        scene = scene_of(NAMES[number % len(NAMES)], derive(7, "retrieval", number), "evaluation")
        texts.setdefault(short_caption(scene, rng), render(scene, size=SIDE, truth=False).image)
        number += 1
    plain, probed = singles(encoder, 500, 10_000)
    sketch, learn = singles(encoder, 200, 20_000, "sketch")[0], singles(encoder, 500, 30_000)[1]
    return Tests(plain, sketch, learn, probed, encoded(encoder, list(texts.values()))[0], list(texts))


def probe(model: Small, learn: Test, test: Test) -> float:
    """Return the accuracy of a linear classifier on the image vectors of a model."""
    vectors, labels = model.images(learn.vectors), torch.from_numpy(learn.labels)
    weight = torch.zeros(len(NAMES), vectors.shape[1], requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(vectors @ weight.T, labels) + 1e-5 * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)  # type: ignore[arg-type]
    guess = (model.images(test.vectors) @ weight.detach().T).argmax(dim=1).numpy()
    return float((guess == test.labels).mean())


class Bench:
    """What all arms of a seed share."""

    def __init__(self, encoder: Any, test: Tests, arguments: Any, seed: int) -> None:
        self.encoder, self.test, self.steps, self.share, self.seed = (
            encoder,
            test,
            arguments.steps,
            arguments.share,
            seed,
        )
        pairs = [document(number, seed) for number in range(arguments.documents)]
        self.pages = [page for page, _ in pairs]
        self.truth = {image: name for _, names in pairs for image, name in names.items()}
        self.images = list(dict.fromkeys(image for page in self.pages for image in page["images"] if image))
        vectors, early = encoded(encoder, self.images)
        self.known, self.early = (dict(zip(self.images, some, strict=True)) for some in (vectors, early))
        self.tokenizer = Tokenizer.train(self.texts(), vocab_size=1000, context=CONTEXT)

    def texts(self) -> list[str]:
        """Return all sentences, each once."""
        return list(dict.fromkeys(text for page in self.pages for text in page["texts"] if text))

    def see(self, images: Sequence[Any]) -> Tensor:
        """Return the vectors of the retrieval model."""
        return torch.stack([self.known[image] for image in images])

    def tools(self) -> Tools:
        """Return the models of the step."""
        tagger = Tagger(self.see, self.encoder.text, list(NAMES), tags=1)
        return Tools(name="nano", dim=self.encoder.dim, images=self.see, texts=self.encoder.text, fuse=tagger)

    def write(self, out: Path, count: int, **settings: Any) -> None:
        """Write the set that the steps make of the first documents."""
        source = stored(out.parent / f"source-{count}", self.pages[:count])
        settings = {"synthesise": True, "share": self.share, "image_clusters": 100, **settings}
        every = {**(EXTRACTION if settings.get("extract", True) else {}), "realsyn": settings}
        Curation(source=source, out=out, steps=make_steps(list(every), every), tools=self.tools(), workers=1).run()

    def score(self, rows: Sequence[dict[str, Any]], texts: Sequence[Sequence[str]]) -> dict[str, float]:
        """Train on rows with these texts and return the scores."""
        vectors = torch.stack([self.known[row["image"]] for row in rows])
        model = train(vectors, texts, self.tokenizer, steps=self.steps, batch=64, seed=self.seed)
        right, tail = zero_shot(model, self.test.plain), self.test.plain.labels >= TAIL
        cosines = model.images(self.test.images) @ model.texts(self.test.texts).T
        own = torch.arange(len(cosines))
        scores = {
            "zero-shot": float(right.mean()),
            "rarest third": float(right[tail].mean()),
            "sketches": float(zero_shot(model, self.test.sketch).mean()),
            "text among 300": float((cosines.argmax(dim=1) == own).float().mean()),
            "image among 300": float((cosines.argmax(dim=0) == own).float().mean()),
        }
        return {**scores, "mean": float(np.mean([scores[key] for key in KEYS])), **self.facts(rows, texts)}

    def probed(self, rows: Sequence[dict[str, Any]], texts: Sequence[Sequence[str]]) -> float:
        """Train on rows with these texts from early features, and return the accuracy of a linear probe."""
        vectors = torch.stack([self.early[row["image"]] for row in rows])
        model = train(vectors, texts, self.tokenizer, steps=self.steps, batch=64, seed=self.seed)
        return probe(model, self.test.learn, self.test.probed)

    def facts(self, rows: Sequence[dict[str, Any]], texts: Sequence[Sequence[str]]) -> dict[str, float]:
        """Return the number of images, of those of rare things, and the share of the texts that name the thing."""
        named = [
            [self.truth.get(row["image"], "-") in text for text in some] for row, some in zip(rows, texts, strict=True)
        ]
        rare = sum(self.truth.get(row["image"]) in NAMES[TAIL:] for row in rows)
        share = float(np.mean([each for some in named for each in some]))
        return {"rows": len(rows), "rows of the rarest third": rare, "texts that name the thing": share}


def rows_of(out: Path) -> list[dict[str, Any]]:
    """Read a written set."""
    import pyarrow.parquet as pq

    return [row for file in sorted(out.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def every_text(row: dict[str, Any]) -> list[str]:
    """Return the retrieved sentences and the written caption of a row."""
    return [*row["captions"], row["synthetic"]]


def without_retrieval(row: dict[str, Any]) -> list[str]:
    """Return the adjacent sentence, and the caption written from it."""
    return [row["adjacent"], fused(row["synthetic"].split(".")[0], row["adjacent"])]


def set_facts(out: Path) -> dict[str, Any]:
    """Return what a written set holds, read back by `open_source`."""
    source = open_source(str(out), batch=8, seed=0)
    rows = rows_of(out)
    return {
        "images": len(rows),
        "texts": sum(len(every_text(row)) for row in rows),
        "MB": round(sum(file.stat().st_size for file in out.glob("*.parquet")) / 1e6, 2),
        "files": sorted(file.name for file in out.iterdir() if file.is_file() and not file.name.startswith(".")),
        "hash of the manifest": file_hash(out / "curation.json"),
        "keys of the first batch, read back": source.keys(0)[:2],
    }


def stages(bench: Bench, folder: Path) -> dict[str, tuple[list[dict[str, Any]], list[list[str]]]]:
    """Return rows and texts of the method, of each stage removed, and of half and a quarter of the documents."""
    count = len(bench.pages)
    bench.write(folder / "full", count)
    bench.write(folder / "uniform", count, power=1.0)
    full, uniform = rows_of(folder / "full"), rows_of(folder / "uniform")
    total = sum(image is not None for page in bench.pages for image in page["images"])
    bench.write(folder / "plain", count, extract=False, share=len(full) / total)
    plain = rows_of(folder / "plain")
    found = {
        FULL: (full, [every_text(row) for row in full]),
        RAW: (full, [[row["adjacent"]] for row in full]),
        "no extraction": (plain, [every_text(row) for row in plain]),
        "no retrieval: adjacent and synthetic": (full, [without_retrieval(row) for row in full]),
        "realistic only": (full, [row["captions"] for row in full]),
        "synthetic only": (full, [[row["synthetic"]] for row in full]),
        "no balance: random rows": (uniform, [every_text(row) for row in uniform]),
    }
    for part in (2, 4):
        bench.write(folder / f"part-{part}", count // part)
        rows = rows_of(folder / f"part-{part}")
        found[f"{FULL}, 1/{part} of the documents"] = (rows, [every_text(row) for row in rows])
        found[f"{RAW}, 1/{part} of the documents"] = (rows, [[row["adjacent"]] for row in rows])
    return found


def run_seed(encoder: Any, test: Tests, arguments: Any, seed: int) -> Scores:
    """Return the scores of every arm, the search and the written sets."""
    bench = Bench(encoder, test, arguments, seed)
    found: Scores = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for arm, (rows, texts) in stages(bench, folder).items():
            values = bench.score(rows, texts) | ({PROBE: bench.probed(rows, texts)} if arm in (FULL, *REMOVED) else {})
            found[arm] = {key: round(value, 4) for key, value in values.items()}
            err.print(seed, arm, found[arm], soft_wrap=True)
        found["written sets"] = {scale: set_facts(folder / scale) for scale in ("full", "part-2", "part-4")}
    if seed == arguments.seed:
        found["search"] = search(bench, arguments.sentences)
    return found


def search(bench: Bench, count: int) -> dict[str, Any]:
    """Return recall and time of the search in clusters against the exact search, with more sentences of the world."""
    rng, texts = random.Random(bench.seed), dict.fromkeys(bench.texts())
    for number in range(4 * count):
        if len(texts) >= count:
            break
        texts[
            short_caption(
                sample_scene(derive(bench.seed, "sentence", number) % 2**31, split="train", things=(1, 3)), rng
            )
        ] = None
    vectors = bench.encoder.text(list(texts)).numpy()
    images = bench.see([image for image in bench.images if image in bench.truth][:1000]).numpy()
    begin = time.perf_counter()
    scores = images @ vectors.T
    best = np.argpartition(-scores, 3, axis=1)[:, :3]
    brute = time.perf_counter() - begin
    found = {f"{size} clusters, {probes} searched": _searched(images, vectors, best, brute, size, probes)
             for size in (16, 64, 256) for probes in (1, 4)}  # fmt: skip
    return {"sentences": len(texts), "images": len(images), "exact search s": round(brute, 4), **found}


def _searched(
    images: np.ndarray, vectors: np.ndarray, exact: np.ndarray, brute: float, size: int, probes: int
) -> dict[str, float]:
    centres = clusters.train(vectors, size, seed=0)
    label = clusters.assign(vectors, centres)
    order = np.argsort(label, kind="stable")
    index = {
        "vectors": vectors[order],
        "centres": centres,
        "begins": np.searchsorted(label[order], np.arange(len(centres) + 1)),
    }
    begin = time.perf_counter()
    rows, _ = retrieve(images, index, count=3, probes=probes)
    seconds = time.perf_counter() - begin
    same = [len(set(order[one[one >= 0]]) & set(two)) / 3 for one, two in zip(rows, exact, strict=True)]
    return {"recall@3": round(float(np.mean(same)), 4), "times faster": round(brute / seconds, 2)}


def slopes(runs: Sequence[Scores], arm: str, key: str) -> list[float]:
    """Return the gain of a score per doubling of the documents, one value per seed."""
    parts = [f"{arm}, 1/4 of the documents", f"{arm}, 1/2 of the documents", arm]
    values = np.array([columns(runs, part, key) for part in parts])
    return [float(np.polyfit(range(len(parts)), one, 1)[0]) for one in values.T]


def summary(runs: Sequence[Scores]) -> dict[str, Any]:
    """Return the differences of the method to each stage removed, and the slopes over the scales, with verdicts."""
    every = (*KEYS, "mean")
    tables: list[Scores] = [
        {arm: {key: slope[number] for key, slope in by_key.items()} for arm, by_key in
         {arm: {key: slopes(runs, arm, key) for key in every} for arm in (FULL, RAW)}.items()} for number in range(len(runs))
    ]  # fmt: skip
    rising = [{**table, "level": dict.fromkeys(every, 0.0)} for table in tables]
    return {
        "means over the seeds": {
            arm: {key: round(float(np.mean(columns(runs, arm, key))), 4) for key in runs[0][arm]}
            for arm in runs[0] if arm not in ("search", "written sets")
        },
        "full minus arm": {arm: {key: compared(runs, FULL, arm, key) for key in (*every, PROBE)} for arm in REMOVED},
        "gain per doubling of the documents": {key: compared(rising, FULL, "level", key) for key in every},
        "the same minus that of adjacent sentences": {key: compared(rising, FULL, RAW, key) for key in every},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=360)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument(
        "--share", type=float, default=0.33, help="share of the extracted images that the balance keeps"
    )
    parser.add_argument("--sentences", type=int, default=5000, help="sentences in the comparison of the searches")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json-file", type=Path, default=None)
    arguments = parser.parse_args()
    encoder = percept.load("nano")
    test = tests(encoder)
    setup = {key: getattr(arguments, key) for key in ("documents", "steps", "share", "sentences")}
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    by_seed(arguments.json_file, setup, seeds, lambda seed: run_seed(encoder, test, arguments, seed), summary)


if __name__ == "__main__":
    main()
