"""How well queries of a new model search the vectors of an old one: percept index upgrade and XBT, beside simpler ways.

    python benchmarks/upgrade.py --train --folder runs/upgrade      # three small encoders, about 8 minutes of one core each
    python benchmarks/upgrade.py --folder runs/upgrade --json-file benchmarks/upgrade.json

Old models are three small encoders of different seeds (width 192, 4 layers, 192 numbers; nano has width 256, 6 layers and 256 numbers); the new
one is nano, or the next small encoder ("sibling"). Images and captions are of the world: GALLERY images of its evaluation split with one short
caption each; everything is learned on its training split. Scores are R@10, from text to image (the gallery is old images) and from image to
text (the gallery is old texts); an image with an equal caption is right too. "mixed" ranks a gallery of which every second image is encoded by the
new model; there R@10 would hide that one half stands above the other, so R@1 counts, and the share of the 10 best that are those of the new
model alone. Both commands resume: models, vectors and the hits of every run are kept in the folder.
"""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from harness import facts, save
from torch import Tensor

import percept
from percept.core.io import load_metadata, load_tensors, save_tensors
from percept.core.report import out, table
from percept.infer.encoder import Encoder
from percept.methods.compatibility import xbt
from percept.models.clip import unit
from percept.nn.across import MapAcross, procrustes
from percept.search.bridge import Bridge
from percept.world import generate, long_caption, names_caption, sample_scene, short_caption

GALLERY, PAIRS, FEW, SAMPLE, TEXTS = 500, 1000, 100, 400, 4000
"""Images measured; pairs of the pair-only map; pairs of stage 2; images of the upgrade, half of them for the scale; texts."""
RANK = 10
SMALL = (
    "--vision.width 192 --vision.layers 4 --vision.heads 3 --vision.output-dim 192 --vision.image-size 64 --text-width 128 --text-layers 3 "
    "--data.pairs 2500 --settings.steps 850 --settings.batch 64 --settings.hold 450 --settings.warmup 30 "
    "--stages regions 48 0.5 0.4 scenes 64 0.5 0.6"
)
"""Options of percept train pe/nano."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the benchmark."""

    folder: Path = Path("runs/upgrade")
    """Folder of the small encoders and of vectors."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the small encoders."""
    train: bool = False
    """Train the small encoders and end."""
    json_file: Path | None = None
    """File for the result."""


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """Everything a model embeds once: images and captions of the gallery and of the training pairs, and texts."""

    gallery_image: Tensor
    gallery_text: Tensor
    pair_image: Tensor
    pair_text: Tensor
    text: Tensor


def train(options: Options) -> None:
    """Train the small encoders one after another; those that are finished are left alone."""
    for seed in options.seeds:
        place = str(options.folder / f"small-{seed}")
        command = [sys.executable, "-m", "percept", "train", "pe/nano", "--out", place, "--settings.seed", str(seed)]
        subprocess.run([*command, *SMALL.split()], check=True)


def captioned(split: str, count: int) -> tuple[list[np.ndarray], list[str]]:
    """Return images of a split with one short caption each."""
    drawn = [generate(number, split=split, style="mixed", things=(1, 3), truth=False) for number in range(count)]
    return [each.image for each in drawn], [short_caption(each.scene, random.Random(n)) for n, each in enumerate(drawn)]


def texts() -> list[str]:
    """Return different captions of scenes that are not among the pairs."""
    write, rng, found = (names_caption, short_caption, long_caption), random.Random(0), {}
    for number in range(PAIRS, PAIRS + 4 * TEXTS):
        found[write[number % 3](sample_scene(number, split="train", style="mixed"), rng)] = None
        if len(found) == TEXTS:
            break
    return list(found)


def vectors(folder: Path, name: str, load: Callable[[], Encoder], content: Callable[[], dict[str, Any]]) -> Vectors:
    """Return what a model embeds, from the folder if it is there."""
    file = folder / f"vectors-{name}.safetensors"
    if not file.exists():
        model = load()
        made = {
            key: unit((model.text if key.endswith("text") else model.image)(value)) for key, value in content().items()
        }
        save_tensors(file, made)
    return Vectors(**load_tensors(file))


def content() -> dict[str, Any]:
    """Return images and texts by the field of `Vectors`."""
    gallery, pairs = captioned("evaluation", GALLERY), captioned("train", PAIRS)
    return {
        "gallery_image": gallery[0], "gallery_text": gallery[1], "pair_image": pairs[0], "pair_text": pairs[1],
        "text": texts(),
    }  # fmt: skip


Ways = dict[str, dict[str, np.ndarray]]
"""Way → direction → score of each query, such as whether it finds a right answer among the best RANK."""
RECALL, MIXED = ("text→image", "image→text"), ("R@1", "overlap")


def hits(scores: Tensor, same: Tensor, rank: int = RANK) -> np.ndarray:
    """Return 1 for each query with a right answer among the best `rank`."""
    best = scores.topk(rank, dim=1).indices
    return same.gather(1, best).any(1).float().numpy()


def both(queries: tuple[Tensor, Tensor], gallery: tuple[Tensor, Tensor], same: Tensor) -> dict[str, np.ndarray]:
    """Return the hits from text to image and from image to text; queries and gallery are (images, texts)."""
    return {"text→image": hits(queries[1] @ gallery[0].T, same), "image→text": hits(queries[0] @ gallery[1].T, same)}


def padded(x: Tensor, dim: int) -> Tensor:
    """Return vectors cut or filled with zeros."""
    return unit(torch.nn.functional.pad(x, (0, max(0, dim - x.shape[1])))[:, :dim])


def straight(matrix: Tensor) -> MapAcross:
    """Return a linear map."""
    made = MapAcross(matrix.shape[1], matrix.shape[0]).requires_grad_(False)
    made.linear.weight.copy_(matrix)
    return made


def maps(new: Vectors, old: Vectors, seed: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """Learn all maps from the new to the old space."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(PAIRS, generator=generator)
    few, sample = chosen[:FEW], chosen[: SAMPLE // 2]
    of_texts = new.text, old.text

    def of_pairs(rows: Tensor) -> list[xbt.Group]:
        return [(new.pair_text[rows], old.pair_text[rows]), (new.pair_image[rows], old.pair_image[rows])]

    stage_1 = xbt.learn([of_texts], seed=seed)
    first = stage_1.merged()  # a copy: the old model and its vectors are not used from here to the end of stage 2
    stage_2 = xbt.adapt(stage_1, new.pair_image[few], new.pair_text[few], seed=seed).merged()
    joined = [torch.cat([group[side] for group in of_pairs(chosen)]) for side in (0, 1)]
    return {
        "Procrustes, texts": straight(procrustes(*of_texts)),
        f"Procrustes, {PAIRS} pairs": straight(procrustes(joined[0], joined[1])),
        f"pair-only map, {FEW} pairs": xbt.learn(of_pairs(few), seed=seed).merged(),
        f"pair-only map, {PAIRS} pairs": xbt.learn(of_pairs(chosen), seed=seed).merged(),
        "XBT stage 1, texts": first,
        f"XBT stages 1 and 2, {FEW} pairs": stage_2,
        f"upgrade, texts and {SAMPLE // 2} images": xbt.learn(
            [of_texts, (new.pair_image[sample], old.pair_image[sample])], seed=seed
        ).merged(),
    }


@torch.no_grad()
def measure(new: Vectors, old: Vectors, same: Tensor, seed: int) -> Ways:
    """Return the hits of all ways."""
    own = new.gallery_image, new.gallery_text
    then = old.gallery_image, old.gallery_text
    dim = old.text.shape[1]
    with torch.enable_grad():
        learned = maps(new, old, seed)
    ways: Ways = {"old → old": both(then, then, same)}
    ways["naive, no map"] = both((padded(own[0], dim), padded(own[1], dim)), then, same)
    ways |= {name: both((map_(own[0]), map_(own[1])), then, same) for name, map_ in learned.items()}
    ways["new → new, encoded again"] = both(own, own, same)
    ways |= mixed(new, old, same, learned[f"upgrade, texts and {SAMPLE // 2} images"], seed)
    return ways


def mixed(new: Vectors, old: Vectors, same: Tensor, map_: Any, seed: int) -> Ways:
    """Return R@1, and the share of the best RANK of the new model that is found, where every second image is encoded again."""
    held = torch.randperm(PAIRS, generator=torch.Generator().manual_seed(seed))[SAMPLE // 2 : SAMPLE]
    bridge = Bridge(map=map_, new=new.pair_image[held].numpy(), old=old.pair_image[held].numpy())
    queries, done = new.gallery_text, torch.arange(GALLERY) % 2 == 0
    now, then = queries @ new.gallery_image.T, map_(queries) @ old.gallery_image.T
    lines = [bridge.calibration(*(each.numpy() for each in pair)) for pair in zip(queries, map_(queries), strict=True)]
    scaled = torch.stack([torch.from_numpy(line(row.numpy())) for line, row in zip(lines, then, strict=True)])
    naive = padded(queries, old.text.shape[1]) @ old.gallery_image.T
    ways = {"one scale": scaled, "scores as they are": then, "naive, no map": naive}
    halves = {f"mixed, {name}": torch.where(done, now, each) for name, each in ways.items()} | {
        "all through the map": then
    }
    return {
        name: {"R@1": hits(scores, same, 1), "overlap": overlap(scores, now)}
        for name, scores in {**halves, "all encoded again": now}.items()
    }


def overlap(scores: Tensor, wanted: Tensor) -> np.ndarray:
    """Return the share of the best RANK by `wanted` that is among the best RANK by `scores`, per query."""
    pairs = zip(scores.topk(RANK, dim=1).indices, wanted.topk(RANK, dim=1).indices, strict=True)
    return torch.stack([torch.isin(a, b).float().mean() for a, b in pairs]).numpy()


def interval(rows: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """Return the mean over seeds and queries, with a 95 % bootstrap interval that resamples seeds and queries."""
    values, rng = np.stack(rows), np.random.default_rng(0)
    means = [
        values[rng.integers(0, len(values), len(values))][:, rng.integers(0, values.shape[1], values.shape[1])].mean()
        for _ in range(1000)
    ]
    low, high = np.quantile(means, (0.025, 0.975))
    return round(float(values.mean()), 4), round(float(low), 4), round(float(high), 4)


def summary(runs: Sequence[Ways]) -> dict[str, Any]:
    """Return mean, interval and every seed of each way and direction."""
    return {
        way: {
            direction: dict(zip(("mean", "low", "high"), interval(rows), strict=True))
            | {"seeds": [round(float(row.mean()), 4) for row in rows]}
            for direction in runs[0][way]
            for rows in [[run[way][direction] for run in runs]]
        }
        for way in runs[0]
    }


def marks(runs: Sequence[Ways]) -> dict[str, Any]:
    """Return differences that the claims are about, with intervals; a mark is met if its lower end is above 0."""
    first, second = "XBT stage 1, texts", f"XBT stages 1 and 2, {FEW} pairs"
    third, full = f"upgrade, texts and {SAMPLE // 2} images", "new → new, encoded again"
    pairs = {
        "stage 1 above old → old": (first, "old → old"),
        "stages 1 and 2 above old → old": (second, "old → old"),
        "upgrade above old → old": (third, "old → old"),
        f"{FEW} pairs of stage 2 above {PAIRS} pairs alone": (second, f"pair-only map, {PAIRS} pairs"),
        "upgrade above naive": (third, "naive, no map"),
        "upgrade against encoding again": (third, full),
        "mixed, one scale above the map alone": ("mixed, one scale", "all through the map"),
        "mixed, one scale above scores as they are": ("mixed, one scale", "mixed, scores as they are"),
        "mixed, one scale above naive": ("mixed, one scale", "mixed, naive, no map"),
        "mixed, one scale against encoding again": ("mixed, one scale", "all encoded again"),
    }
    found: dict[str, Any] = {}
    for name, (a, b) in pairs.items():
        for direction in runs[0][a]:
            mean, low, high = interval([run[a][direction] - run[b][direction] for run in runs])
            found[f"{name}, {direction}"] = {"points": mean, "low": low, "high": high, "met": low > 0}
    return found


def main(options: Options) -> None:
    """Train, or measure and print the tables."""
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.train:
        train(options)
        return
    start, made = time.perf_counter(), {}

    def once() -> dict[str, Any]:
        return made or made.update(content()) or made

    small = {
        seed: vectors(options.folder, f"small-{seed}", lambda seed=seed: load(options.folder, seed), once)
        for seed in options.seeds
    }
    nano = vectors(options.folder, "nano", lambda: percept.load("nano"), once)
    captions = captioned("evaluation", GALLERY)[1]
    same = torch.tensor([[a == b for b in captions] for a in captions])
    follows = dict(zip(options.seeds, (*options.seeds[1:], options.seeds[0]), strict=True))
    news = {"small → nano": dict.fromkeys(options.seeds, nano)}
    if len(options.seeds) > 1:
        news["small → sibling"] = {seed: small[follows[seed]] for seed in options.seeds}
    kinds = {
        name: [
            kept(options.folder / f"hits-{name}-{seed}.safetensors", new, small[seed], same, seed)
            for seed, new in each.items()
        ]
        for name, each in news.items()
    }
    result = {name: {"recall": summary(runs), "marks": marks(runs)} for name, runs in kinds.items()}
    for name, each in result.items():
        show(name, each)
    device = torch.device("cpu")
    save(
        options.json_file, {**facts(device, start), "gallery": GALLERY, "rank": RANK, "texts": TEXTS, "results": result}
    )


def kept(file: Path, new: Vectors, old: Vectors, same: Tensor, seed: int) -> Ways:
    """Return the hits of all ways, from a file if it is there."""
    if not file.exists():
        ways = measure(new, old, same, seed)
        flat = {f"{way}|{name}": torch.from_numpy(row) for way, each in ways.items() for name, row in each.items()}
        save_tensors(file, flat, {"order": "\n".join(flat)})
    stored, ways = load_tensors(file), {}
    for key in load_metadata(file)["order"].splitlines():
        way, name = key.split("|")
        ways.setdefault(way, {})[name] = stored[key].numpy()
    return ways


def load(folder: Path, seed: int) -> Encoder:
    """Load a small encoder."""
    return percept.load(str(folder / f"small-{seed}"))


def show(name: str, result: dict[str, Any]) -> None:
    """Print recall and marks."""

    def cell(value: dict[str, float]) -> str:
        return f"{value['mean']:.1%} ({value['low']:.1%} to {value['high']:.1%})"

    for title, columns in ((f"R@{RANK} among {GALLERY}", RECALL), ("half of the images encoded again", MIXED)):
        ways = {way: each for way, each in result["recall"].items() if columns[0] in each}
        table(
            f"{name}: {title}",
            ("way", *columns),
            [(way, *(cell(each[key]) for key in columns)) for way, each in ways.items()],
        )
    lines = [
        (mark, f"{each['points']:+.1%} ({each['low']:+.1%} to {each['high']:+.1%})", "yes" if each["met"] else "no")
        for mark, each in result["marks"].items()
    ]
    table(f"{name}: differences", ("difference", "points", "above 0"), lines)
    out.print()


if __name__ == "__main__":
    main(tyro.cli(Options))
