"""RealSyn on documents of the world: each stage removed, three nested scales, and the cost of the search in clusters.

    python benchmarks/curation_realsyn.py --json-file benchmarks/curation_realsyn.json

A document has three images and eight sentences in random order: a true one per image, two about things that it does not show, boilerplate, and
sentences about nothing. Sentences are found by a small model that was trained on noisy alt text of other images (`small_clip.py`); tags come
from the same model. Every arm trains the small model for the same steps. Scores: category of single things (all, and the rarest third), the
same in the style of sketches, and the text of an image among 500.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import harness
import numpy as np
import torch
from small_clip import (
    CONTEXT,
    NAMES,
    Noise,
    Test,
    jpeg,
    noisy_rows,
    paired,
    scene_of,
    singles_of,
    stored,
    train,
    zero_shot,
)

import percept
from percept.core.report import err
from percept.core.seed import derive
from percept.data.curate import clusters
from percept.data.curate.pipeline import Curation
from percept.data.curate.realsyn import Tagger, fused, retrieve
from percept.data.curate.step import Tools, make_steps
from percept.data.tokenizers import Tokenizer
from percept.world import render, short_caption

NOTHING = (
    "We met again on {} and talked about the plan for the year.", "Nobody knows what {} will bring.", "Read more about {} in the next part.",
    "The price of {} has not changed much.", "It was a matter of {} and of time.", "All rights reserved, {}.",
)  # fmt: skip
WHAT = ("monday", "friday", "opinion", "trust", "winter", "the law", "history", "money", "patience", "the meeting")


def documents(count: int, seed: int) -> list[dict[str, Any]]:
    """Return interleaved documents with the truth: the category of every image."""
    rng = random.Random(derive(seed, "documents"))
    weights = [(rank + 1) ** -1.2 for rank in range(len(NAMES))]
    found = []
    for number in range(count):
        scenes = [scene_of(rng.choices(NAMES, weights)[0], derive(seed, number, place), "train") for place in range(3)]
        others = [scene_of(rng.choice(NAMES), derive(seed, number, place, "other"), "train") for place in range(2)]
        texts = [short_caption(scene, rng) + "." for scene in (*scenes, *others)]
        texts += [rng.choice(NOTHING).format(rng.choice(WHAT)) for _ in range(3)]
        images = [jpeg(render(scene, size=96, truth=False).image, 92) for scene in scenes]
        parts = [(None, text) for text in texts] + [(image, None) for image in images]
        rng.shuffle(parts)
        order = {image: scene.things[0].category for image, scene in zip(images, scenes, strict=True)}
        document = {"id": f"d{number}", "images": [part[0] for part in parts], "texts": [part[1] for part in parts]}
        found.append({**document, "categories": [order[part[0]] for part in parts if part[0] is not None]})
    return found


def text_set(encoder: Any, count: int) -> tuple[torch.Tensor, list[str]]:
    """Return vectors of test images with different captions."""
    rng, texts = random.Random(1), dict[str, np.ndarray]()
    number = 0
    while len(texts) < count:
        scene = scene_of(NAMES[number % len(NAMES)], derive(7, "retrieval", number), "evaluation")
        texts.setdefault(short_caption(scene, rng), render(scene, size=96, truth=False).image)
        number += 1
    return encoder.image(list(texts.values())), list(texts)


class Bench:
    """What all arms of a seed share."""

    def __init__(
        self, encoder: Any, test: Test, sketch: Test, texts: tuple[torch.Tensor, list[str]], arguments: Any, seed: int
    ) -> None:
        self.test, self.sketch, self.texts, self.steps, self.seed = test, sketch, texts, arguments.steps, seed
        noisy = noisy_rows(arguments.teacher, Noise(), derive(seed, "teacher") % 10_000)
        self.pages = documents(arguments.documents, seed)
        self.images = [image for page in self.pages for image in page["images"] if image is not None]
        vectors = encoder.image(self.images)
        self.known = dict(zip(self.images, vectors, strict=True))
        words = [text for page in self.pages for text in page["texts"] if text] + [row["caption"] for row in noisy]
        self.tokenizer = Tokenizer.train(words, vocab_size=1000, context=CONTEXT)
        teacher = encoder.image([row["image"] for row in noisy])
        self.model = train(teacher, [[row["caption"]] for row in noisy], self.tokenizer, steps=self.steps, seed=seed)

    def see(self, images: Sequence[Any]) -> torch.Tensor:
        """Return the vectors of the retrieval model."""
        return self.model.images(torch.stack([self.known[image] for image in images]))

    def tools(self) -> Tools:
        """Return the models of the step."""
        tagger = Tagger(self.see, self.model.texts, list(NAMES), tags=1)
        return Tools(name="small", dim=64, images=self.see, texts=self.model.texts, fuse=tagger)

    def curated(self, folder: Path, pages: Sequence[dict[str, Any]], **settings: Any) -> list[dict[str, Any]]:
        """Run the step and return its rows."""
        import pyarrow.parquet as pq

        plain = [{name: value for name, value in page.items() if name != "categories"} for page in pages]
        source = stored(folder / f"source-{len(pages)}", plain)
        out = folder / f"out-{len(pages)}-{'-'.join(map(str, settings.values()))}"
        steps = make_steps(["realsyn"], {"realsyn": {"synthesise": True, **settings}})
        Curation(source=source, out=out, steps=steps, tools=self.tools(), workers=1).run()
        return [row for file in sorted(out.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]

    def score(self, rows: Sequence[dict[str, Any]], texts: Sequence[list[str]]) -> dict[str, float]:
        """Train on rows with these texts and return the scores."""
        vectors = torch.stack([self.known[row["image"]] for row in rows])
        model = train(vectors, texts, self.tokenizer, steps=self.steps, seed=self.seed)
        right, tail = zero_shot(model, self.test), self.test.labels >= len(NAMES) * 2 // 3
        cosines = model.images(self.texts[0]) @ model.texts(self.texts[1]).T
        found = {
            "zero-shot": float(right.mean()),
            "rarest third": float(right[tail].mean()),
            "sketches": float(zero_shot(model, self.sketch).mean()),
            "text among 500": float((cosines.argmax(dim=1) == torch.arange(len(cosines))).float().mean()),
        }
        return {**found, "mean": float(np.mean(list(found.values()))), "rows": len(rows)}


def arms(bench: Bench, share: float) -> dict[str, dict[str, float]]:
    """Return the scores of the method, of each stage removed, and of half and a quarter of the documents."""
    found: dict[str, dict[str, float]] = {}

    def arm(name: str, rows: Sequence[dict[str, Any]], texts: Sequence[list[str]]) -> None:
        found[name] = bench.score(rows, texts)
        err.print(bench.seed, name, {key: round(value, 3) for key, value in found[name].items()})

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        full = bench.curated(folder, bench.pages, share=share)
        uniform = bench.curated(folder, bench.pages, share=share, power=1.0)
        both = [[*row["captions"], row["synthetic"]] for row in full]
        arm("full", full, both)
        arm("adjacent sentence", full, [[row["adjacent"]] for row in full])
        arm(
            "no retrieval: adjacent and synthetic",
            full,
            [[row["adjacent"], fused(row["synthetic"].split(".")[0], row["adjacent"])] for row in full],
        )
        arm("realistic only", full, [row["captions"] for row in full])
        arm("best sentence only", full, [row["captions"][:1] for row in full])
        arm("synthetic only", full, [[row["synthetic"]] for row in full])
        arm("no balance: random rows", uniform, [[*row["captions"], row["synthetic"]] for row in uniform])
        for part in (4, 2):
            pages = bench.pages[: len(bench.pages) // part]
            rows = bench.curated(folder, pages, share=share)
            arm(f"full, 1/{part} of the documents", rows, [[*row["captions"], row["synthetic"]] for row in rows])
            arm(f"adjacent sentence, 1/{part} of the documents", rows, [[row["adjacent"]] for row in rows])
    return found


def search(bench: Bench) -> list[dict[str, Any]]:
    """Return recall and time of the search in clusters against the exact search."""
    texts = list(dict.fromkeys(text for page in bench.pages for text in page["texts"] if text))
    vectors, images = bench.model.texts(texts).numpy(), bench.see(bench.images).numpy()
    begin = time.perf_counter()
    exact = np.argsort(-(images @ vectors.T), axis=1)[:, :3]
    brute = time.perf_counter() - begin
    found = []
    for count in (16, 64, 256):
        centres = clusters.train(vectors, count, seed=0)
        label = clusters.assign(vectors, centres)
        order = np.argsort(label, kind="stable")
        index = {
            "vectors": vectors[order],
            "centres": centres,
            "begins": np.searchsorted(label[order], np.arange(count + 1)),
        }
        for probes in (1, 4):
            begin = time.perf_counter()
            rows, _ = retrieve(images, index, count=3, probes=probes)
            seconds = time.perf_counter() - begin
            same = [len(set(order[one[one >= 0]]) & set(two)) / 3 for one, two in zip(rows, exact, strict=True)]
            found.append(
                {
                    "clusters": count,
                    "probes": probes,
                    "recall@3": round(float(np.mean(same)), 4),
                    "times faster": round(brute / seconds, 2),
                }
            )
    return [{"sentences": len(texts), "images": len(images)}, *found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=500)
    parser.add_argument(
        "--teacher", type=int, default=1500, help="rows of noisy alt text that the retrieval model learns from"
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json-file", type=Path, default=None)
    arguments = parser.parse_args()
    start, encoder = time.perf_counter(), percept.load("nano")
    test, sketch = singles_of(encoder, 1000, 10_000), singles_of(encoder, 500, 20_000, style="sketch")
    texts = text_set(encoder, 500)
    runs, found = [], []
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        bench = Bench(encoder, test, sketch, texts, arguments, seed)
        found = found or search(bench)
        runs.append(arms(bench, arguments.share))
        result = {"documents": arguments.documents, "steps": arguments.steps, "share": arguments.share, "search": found}
        result |= summary(runs)
        harness.save(arguments.json_file, {**harness.facts(torch.device("cpu"), start), "result": result})


def summary(runs: Sequence[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Return the scores of all seeds by arm, and the differences to the whole method."""
    table = {name: {key: [round(run[name][key], 4) for run in runs] for key in runs[0][name]} for name in runs[0]}
    full = table["full"]
    against = {
        name: {key: paired(full[key], values[key]) for key in values if key != "rows"}
        for name, values in table.items() if name != "full" and len(runs) > 1
    }  # fmt: skip
    return {"arms": table, "full minus arm": against}


if __name__ == "__main__":
    main()
