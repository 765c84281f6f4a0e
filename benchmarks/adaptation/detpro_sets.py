"""Labelled things for detection: hard styles of the labelled world, and emoji on its backgrounds; with boxes and masks, drawn once."""

import random
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from beds import corpus, harder, home
from PIL import Image, ImageChops, ImageDraw

from percept.core.io import replacing
from percept.core.seed import derive
from percept.eval.probes.masks import MaskTruth
from percept.world import render, sample_scene
from percept.world.backgrounds import BACKGROUNDS, draw_background

VERSION, SIDE = 1, 96
BASE = (
    *("cat", "elephant", "owl", "snail", "car", "bicycle", "rocket", "castle", "banana", "mushroom", "chair", "teapot"),
    *("guitar", "robot", "dog", "horse", "turtle", "bus", "boat", "house", "carrot", "hat", "key", "butterfly"),
)  # fmt: skip
NEW = (
    *("penguin", "crab", "airplane", "lighthouse", "cactus", "umbrella", "rabbit", "frog", "helicopter", "tent", "clock", "apple"),
)  # fmt: skip
NAMES = (*BASE, *NEW)
RARE = 0.15
"""Share of things in training images that belong to new classes; they are not labelled there."""
STYLES = {
    "comic": ("rendition", "comic"),
    "halftone": ("rendition", "halftone"),
    "psychedelic": ("unusual", "psychedelic"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """One image with its things."""

    image: np.ndarray
    """Pixels [y, x, 3]."""
    boxes: np.ndarray
    """xyxy in [0, 1], [k, 4]."""
    label: np.ndarray
    """Numbers in `NAMES`."""
    masks: np.ndarray
    """Visible pixels [k, y, x]."""

    @property
    def truth(self) -> MaskTruth:
        """As the metric takes it."""
        return MaskTruth(boxes=self.boxes, labels=self.label, crowd=np.zeros(len(self.label), bool), masks=self.masks)


def scene(style: str, seed: int, *, rare: float | None) -> Drawn | None:
    """Draw a scene; None if a thing is mostly hidden. `rare`: share of new classes, None for all classes alike."""
    rng = random.Random(derive(seed, style, "things"))
    kind, variant = STYLES[style]
    drawn = sample_scene(seed, split="evaluation", style=kind, variant=variant, things=(1, 4))
    pool = lambda: NAMES if rare is None else NEW if rng.random() < rare else BASE  # noqa: E731
    things = tuple(replace(thing, category=rng.choice(pool())) for thing in drawn.things)
    found = render(replace(drawn, things=things, words=()), size=SIDE)
    assert found.masks is not None
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    if found.visible.min() < 0.4 or sides.min() < 0.06:
        return None
    label = np.array([NAMES.index(thing.category) for thing in things])
    image = np.asarray(harder(Image.fromarray(found.image), rng))
    return Drawn(image=image, boxes=found.boxes, label=label, masks=found.masks)


def emoji_scene(seed: int, files: dict[str, list[str]]) -> Drawn | None:
    """Draw one to four emoji on a background; None if one is mostly hidden."""
    rng = random.Random(derive(seed, "emoji"))
    name = rng.choice(tuple(BACKGROUNDS))
    canvas = draw_background(name, seed, width=SIDE, height=SIDE, horizon=0.5).resize((SIDE, SIDE)).convert("RGB")
    ids, labels = np.zeros((SIDE, SIDE), np.int64), []
    for number in range(1, rng.randint(1, 4) + 1):
        label = rng.choice(tuple(files))
        side = rng.randint(20, 48)
        with Image.open(rng.choice(files[label])) as opened:
            drawing = opened.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
        place = rng.randint(0, SIDE - side), rng.randint(0, SIDE - side)
        mask = cut_out(drawing)
        canvas.paste(drawing, place, mask)
        part = ids[place[1] : place[1] + side, place[0] : place[0] + side]
        part[np.asarray(mask) > 0] = number
        labels.append((NAMES.index(label), int((np.asarray(mask) > 0).sum())))
    masks = np.stack([ids == number for number in range(1, len(labels) + 1)])
    if any(mask.sum() < 0.4 * max(60, area) for mask, (_, area) in zip(masks, labels, strict=True)):
        return None
    boxes = np.array([box_of(mask) for mask in masks], np.float32)
    image = np.asarray(harder(canvas, rng))
    return Drawn(image=image, boxes=boxes, label=np.array([label for label, _ in labels]), masks=masks)


def cut_out(drawing: Image.Image) -> Image.Image:
    """Return the mask of a drawing on white: what cannot be reached from the corners through white."""
    framed = Image.new("RGB", (drawing.width + 2, drawing.height + 2), "white")
    framed.paste(drawing, (1, 1))
    ImageDraw.floodfill(framed, (0, 0), (255, 0, 255), thresh=24)
    outside = ImageChops.difference(framed, Image.new("RGB", framed.size, (255, 0, 255))).convert("L")
    return outside.point([0] + [255] * 255).crop((1, 1, drawing.width + 1, drawing.height + 1))


def box_of(mask: np.ndarray) -> tuple[float, float, float, float]:
    """Return the box of a mask, xyxy in [0, 1]."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0] / SIDE, rows[0] / SIDE, (columns[-1] + 1) / SIDE, (rows[-1] + 1) / SIDE


def scenes(style: str, part: str, count: int) -> list[Drawn]:
    """Return the images of a set, drawn or read from the cache; none of emoji if the corpus is not there."""
    place = home() / "detpro" / f"{style}-{part}-{count}-{VERSION}.npz"
    if not place.is_file():
        drawn = _drawn(style, part, count)
        if not drawn:
            return []
        _write(place, drawn)
    stored = np.load(place)
    ends = np.cumsum(stored["things"])
    starts = ends - stored["things"]
    return [
        Drawn(image=image, boxes=stored["boxes"][low:high], label=stored["label"][low:high], masks=stored["masks"][low:high])
        for image, low, high in zip(stored["images"], starts, ends, strict=True)
    ]  # fmt: skip


def _drawn(style: str, part: str, count: int) -> list[Drawn]:
    files: dict[str, list[str]] = {}
    if style == "emoji":
        for row in corpus("emoji"):
            if row["label"] in NAMES:
                files.setdefault(row["label"], []).append(row["path"])
        if not files:
            return []
    result, seed = [], {"train": 0, "test": 1_000_000}[part]
    while len(result) < count:
        one = emoji_scene(seed, files) if style == "emoji" else scene(style, seed, rare=RARE if part == "train" else None)  # fmt: skip
        seed += 1
        if one is not None:
            result.append(one)
    return result


def _write(place: Path, drawn: list[Drawn]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with replacing(place) as part, part.open("wb") as file:
        np.savez_compressed(
            file, images=np.stack([one.image for one in drawn]), things=np.array([len(one.label) for one in drawn]),
            boxes=np.concatenate([one.boxes for one in drawn]), label=np.concatenate([one.label for one in drawn]),
            masks=np.concatenate([one.masks for one in drawn]),
        )  # fmt: skip
