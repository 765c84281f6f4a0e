"""Test beds for adaptation: small labelled image sets outside of what nano was trained on, and the gate that each has to pass.

    PERCEPT_CACHE=... python benchmarks/corpora.py fetch                     # for emoji and openclipart
    PYTHONPATH=benchmarks PERCEPT_CACHE=... python benchmarks/adaptation/beds.py --json-file benchmarks/adaptation/beds.json

The gate: zero-shot with the template of the set is at least 1.5 × chance and at most 90 %; otherwise methods have nothing to improve or
nothing to lose. Sets are drawn once and stored as arrays in $PERCEPT_CACHE/adaptation. Images that may be drawn for training and test images have
different seeds, vendors (emoji) or artists (openclipart).
"""

import argparse
import csv
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import facts, save
from PIL import Image, ImageEnhance, ImageFilter
from scans import GROUND, SCANS, from_above

import percept
from percept.core.io import content_hash, replacing
from percept.core.report import notice, out, table
from percept.core.seed import derive
from percept.data.sources.index import cache_home
from percept.eval.digits import read_digits
from percept.methods.adaptation.few import LabelledSet, Seen, see
from percept.methods.adaptation.measure import measure
from percept.methods.adaptation.texts import TEMPLATE, base_of
from percept.methods.adaptation.zero_shot import ZeroShot
from percept.world import CATEGORIES, render, sample_scene

VERSION = 5
"""Changes with the content of the sets."""
POOL, TEST, SIDE = 20, 12, 96
"""Images of a class that may be drawn for training, and that are tested on; side in pixels."""
LOWEST, HIGHEST = 1.5, 0.9
"""The gate: times chance, and share."""
Draw = Callable[[str, int, random.Random], Image.Image]
"""Draws an image of a class: its name, the number of the image, random numbers."""

KINDS = (
    *("cat", "elephant", "penguin", "owl", "snail", "crab", "car", "bicycle", "airplane", "rocket", "castle", "lighthouse"),
    *("banana", "mushroom", "cactus", "chair", "teapot", "umbrella", "guitar", "robot"),
)  # fmt: skip
SMALL = (
    "dog",
    "rabbit",
    "horse",
    "duck",
    "turtle",
    "frog",
    "bus",
    "boat",
    "helicopter",
    "house",
    "tent",
    "carrot",
    "tree",
    "clock",
    "hat",
    "key",
)
SCANNED = (
    "fish",
    "butterfly",
    "spider",
    "snake",
    "octopus",
    "whale",
    "truck",
    "train",
    "windmill",
    "apple",
    "strawberry",
    "flower",
)


def home() -> Path:
    """Return where sets and vectors are stored."""
    return cache_home().with_name("adaptation")


def single(kind: str, seed: int, *, style: str = "plain", variant: str | None = None, **fields: Any) -> Image.Image:
    """Draw one thing of a category in a style of the labelled world."""
    scene = sample_scene(seed, split="evaluation", things=(1, 1), style=style, variant=variant)
    thing = replace(scene.things[0], category=kind, **fields)
    return Image.fromarray(render(replace(scene, things=(thing,), words=()), size=SIDE, truth=False).image)


def harder(image: Image.Image, rng: random.Random) -> Image.Image:
    """Blur an image, take colour and contrast away, add noise."""
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.8, 1.6)))
    image = ImageEnhance.Contrast(ImageEnhance.Color(image).enhance(rng.uniform(0, 0.6))).enhance(rng.uniform(0.3, 0.7))
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, 18, (image.height, image.width, 1))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def drawn_set(
    name: str, classes: Sequence[str], draw: Draw, *, template: str = TEMPLATE, pool: int | None = None
) -> LabelledSet:
    """Draw a set, or read it from the cache: `pool` images of every class to train on, by default `POOL`, and `TEST` to test on."""
    place = home() / f"{name.replace('/', '_')}-{VERSION}.npz"
    pool = POOL if pool is None else pool
    each = pool + TEST
    labels = np.repeat(np.arange(len(classes)), each)
    if not place.is_file():
        pixels = [
            np.asarray(draw(kind, number, random.Random(derive(0, name, kind, number))), dtype=np.uint8)
            for kind in classes
            for number in range(each)
        ]
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as part, part.open("wb") as file:
            np.savez_compressed(file, images=np.stack(pixels))
    images = np.load(place)["images"]
    inside = np.tile(np.arange(each), len(classes)) < pool
    return of_arrays(name, classes, images, labels, np.flatnonzero(inside), np.flatnonzero(~inside), template=template)


def of_arrays(
    name: str, classes: Sequence[str], images: np.ndarray, labels: np.ndarray, pool: np.ndarray, test: np.ndarray, *, template: str = TEMPLATE
) -> LabelledSet:  # fmt: skip
    """Return a set of images in memory, its classes in a random but fixed order."""
    order = np.random.default_rng(derive(0, "classes", name)).permutation(len(classes))
    place, content = np.argsort(order), content_hash(images.tobytes())[:12]
    names = list(classes)
    return LabelledSet(
        name=name, classes=tuple(names[number] for number in order), image=lambda row: images[row], labels=place[labels], template=template,
        keys=tuple(f"{name}/{content}/{row}" for row in range(len(labels))), pool=pool, test=test, looks=np.arange(len(labels)),
    )  # fmt: skip


def of_files(
    name: str, rows: Sequence[dict[str, str]], tested: Callable[[dict[str, str]], bool], *, least: int, most: int
) -> LabelledSet | None:
    """Return a set of image files of the `most` frequent kinds that have at least `least` images on both sides; None if there are too few."""
    sides = {row["label"]: [0, 0] for row in rows}
    for row in rows:
        sides[row["label"]][tested(row)] += 1
    kinds = sorted(
        (kind for kind, counts in sides.items() if min(counts) >= least), key=lambda kind: -sum(sides[kind])
    )[:most]
    chosen = [row for row in rows if row["label"] in kinds]
    if len(kinds) < 8:
        return None
    images = np.stack(
        [
            np.asarray(Image.open(row["path"]).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
            for row in chosen
        ]
    )
    labels, held = np.array([kinds.index(row["label"]) for row in chosen]), np.array([tested(row) for row in chosen])
    return of_arrays(name, kinds, images, labels, np.flatnonzero(~held), np.flatnonzero(held))


def corpus(name: str) -> list[dict[str, str]]:
    """Return the rows of known categories of a downloaded corpus; none if it is not there."""
    file = cache_home().with_name("corpora") / name / "kinds.csv"
    if not file.is_file():
        notice(f"{name} is skipped: there is no {file}. Run python benchmarks/corpora.py fetch.")
        return []
    with file.open(newline="", encoding="utf-8") as opened:
        return [
            row | {"path": str(file.parent / row["path"])}
            for row in csv.DictReader(opened)
            if row["label"] in CATEGORIES
        ]


def emoji() -> LabelledSet | None:
    """Emoji: drawings by Google, Twitter and Microsoft to train on, by OpenMoji to test on; nano has seen the former, never the latter."""
    return of_files("emoji", corpus("emoji"), lambda row: row["vendor"] == "openmoji", least=1, most=40)


def openclipart() -> LabelledSet | None:
    """Clip art: the artists that nano has seen to train on, the others to test on; a small set."""
    return of_files("openclipart", corpus("openclipart"), lambda row: row["part"] != "train", least=1, most=24)


def digits() -> LabelledSet | None:
    """Handwritten digits of scikit-learn."""
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    pixels, labels = read_digits()
    large = [
        np.asarray(Image.fromarray(each).resize((SIDE, SIDE), Image.Resampling.BICUBIC).convert("RGB"))
        for each in pixels
    ]
    order = np.random.default_rng(0).permutation(len(labels))
    return of_arrays(
        "digits", names, np.stack(large), np.array(labels), order[:600], order[600:1000], template="the digit {}"
    )


def styled(style: str, *variants: str, hard: bool = False) -> Draw:
    def draw(kind: str, number: int, rng: random.Random) -> Image.Image:
        image = single(kind, rng.getrandbits(30), style=style, variant=variants[number % len(variants)])
        return harder(image, rng) if hard else image

    return draw


def _scanned(name: str) -> Draw:
    def draw(kind: str, number: int, rng: random.Random) -> Image.Image:
        return SCANS[name](single(kind, rng.getrandbits(30), colour="grey"), rng)

    return draw


def _aerial(kind: str, number: int, rng: random.Random) -> Image.Image:
    """Draw a thing at any angle on the ground of a place, as seen from above."""
    scene = sample_scene(rng.getrandbits(30), split="evaluation", things=(1, 1))
    thing = replace(scene.things[0], category=kind, x=0.5, y=0.9, scale=0.8, angle=0.0, grounded=True)
    drawn = render(replace(scene, things=(thing,), words=()), size=SIDE)
    assert drawn.masks is not None
    side = rng.randint(26, 44)
    sprite = Image.fromarray(np.dstack([drawn.image, 255 * drawn.masks[0].astype(np.uint8)]), "RGBA")
    sprite = sprite.rotate(rng.uniform(-70, 70), Image.Resampling.BILINEAR).resize(
        (side, side), Image.Resampling.BILINEAR
    )
    ground = from_above(rng.choice(tuple(GROUND)), SIDE, rng)
    ground.paste(sprite, (rng.randint(4, SIDE - sprite.width - 4), rng.randint(4, SIDE - sprite.height - 4)), sprite)
    return ImageEnhance.Contrast(ground.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))).enhance(
        rng.uniform(0.6, 1.0)
    )


def _pair(words: str, number: int, rng: random.Random) -> Image.Image:
    colour, kind = words.split(" ", 1)
    return harder(
        single(kind, rng.getrandbits(30), style="rendition", variant="halftone", colour=colour, fill="plain"), rng
    )


def _filled(words: str, number: int, rng: random.Random) -> Image.Image:
    fill, kind = words.split(" ", 1)
    image = single(
        kind, rng.getrandbits(30), style="rendition", variant="comic", fill={"shaded": "gradient"}.get(fill, fill)
    )
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.0)))


PAIRS = tuple(
    f"{colour} {kind}" for kind in ("car", "bird", "cup", "house") for colour in ("red", "blue", "green", "yellow")
)
SEEN_FROM_ABOVE = (
    "car",
    "bus",
    "truck",
    "boat",
    "airplane",
    "helicopter",
    "house",
    "tent",
    "bridge",
    "tree",
    "train",
    "tractor",
    "castle",
    "umbrella",
)
FILLED = tuple(
    f"{fill} {kind}"
    for kind in ("shirt", "ball", "teapot", "fish")
    for fill in ("striped", "dotted", "checked", "shaded")
)

DRAWN: dict[str, tuple[Sequence[str], Draw]] = {
    "chalk": (KINDS, styled("sketch", "chalk", "blueprint", hard=True)),
    "fog": (SMALL, styled("corruption", "fog", "motion", hard=True)),
    "pixels": (KINDS, styled("rendition", "pixel art", "comic", hard=True)),
    "psychedelic": (SMALL, styled("unusual", "psychedelic", "spotlight", hard=True)),
    "foreshortened": (SCANNED, styled("viewpoint", "foreshortened", "cropped", hard=True)),
    "colours": (PAIRS, _pair),
    "fills": (FILLED, _filled),
    "satellite": (SEEN_FROM_ABOVE, _aerial),
    **{name: (SCANNED, _scanned(name)) for name in SCANS},
}
"""Name to class names and the function that draws an image of one."""


def drawn(name: str, pool: int | None = None) -> LabelledSet:
    """Draw a set of `DRAWN`, or read it from the cache; one with a different pool is a set of its own."""
    return drawn_set(name if pool is None else f"{name}-{pool}", *DRAWN[name], pool=pool)


BEDS: dict[str, Callable[[], LabelledSet | None]] = {
    **{name: lambda name=name: drawn(name) for name in DRAWN},
    "emoji": emoji,
    "openclipart": openclipart,
    "digits": digits,
}
"""Name to a function that draws the set, or reads it; None where something it needs is missing."""
FAMILY = (
    "chalk",
    "fog",
    "pixels",
    "psychedelic",
    "foreshortened",
    "colours",
    "fills",
    "satellite",
    "emoji",
    "openclipart",
    "x-ray",
    "histology",
)
"""Sets of the comparisons of the prompt family that have to pass the gate."""


def seen_by(encoder: Any, data: LabelledSet) -> Seen:
    """Return a set with its vectors. Crops are at least half of an image: the things of these drawings are small."""
    return see(encoder, data, cache=home(), least=0.5)


def gate(encoder: Any, data: LabelledSet) -> dict[str, Any]:
    """Measure zero-shot among all classes of a set, and whether it leaves room to gain and to lose."""
    start = time.perf_counter()
    seen = seen_by(encoder, data)
    method = ZeroShot(ZeroShot.Config(), base_of(encoder), data.classes, data.template).eval()
    found = measure(method, seen, np.zeros(0, dtype=np.int64), ("all", "base", "new")).scores
    chance = 1 / len(data.classes)
    passes = LOWEST * chance <= found["all"].value <= HIGHEST
    counts = np.bincount(data.labels[data.pool], minlength=len(data.classes))
    return {
        "set": data.name, "classes": len(data.classes), "pool": len(data.pool), "fewest per class": int(counts.min()), "test": len(data.test),
        "zero-shot": round(found["all"].value, 4), "interval": [round(found["all"].low, 4), round(found["all"].high, 4)], "base": round(found["base"].value, 4),
        "new": round(found["new"].value, 4), "chance": round(chance, 4), "passes": passes, "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip


def about(start: float) -> dict[str, Any]:
    """Return the facts of a run with the command as it is typed."""
    found = facts(torch.device("cpu"), start)
    return found | {
        "command": f"PYTHONPATH=benchmarks {found['command'].replace('benchmarks/', 'benchmarks/adaptation/', 1)}"
    }


def main() -> None:
    """Print the table of the gate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--sets", default=",".join(BEDS))
    parser.add_argument("--json-file", type=Path)
    options = parser.parse_args()
    start, rows = time.perf_counter(), []
    encoder = percept.load(options.model, dtype="float32")
    for name in options.sets.split(","):
        data = BEDS[name]()
        if data is None:
            continue
        rows.append(gate(encoder, data))
        out.print(
            f"{name}: {rows[-1]['zero-shot']:.1%} of chance {rows[-1]['chance']:.1%}, {rows[-1]['seconds']} s",
            soft_wrap=True,
        )
    columns = ("set", "classes", "pool", "test", "zero-shot", "base", "new", "chance", "passes")
    table(
        f"{options.model}: zero-shot on the test beds",
        columns,
        [[str(row[column]) for column in columns] for row in rows],
    )
    save(options.json_file, {**about(start), "model": options.model, "results": rows})


if __name__ == "__main__":
    main()
