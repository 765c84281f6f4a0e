"""Generate the files in examples/pictures/: 72 images of the labelled world, like a personal folder of images.

Sizes, shapes and formats differ. All compositions are from the evaluation split.   python examples/make_pictures.py [FOLDER]
"""

import random
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image

from percept.world import CATEGORIES, STYLES, Scene, render, sample_scene
from percept.world.language import counted

COUNT, FIRST_SEED = 72, 900_000
KINDS = ("jpg", "jpg", "jpg", "png", "webp", "jpg", "jpg", "gif", "png", "jpg", "webp", "jpg")
LARGEST_SHORT_SIDE = {"jpg": 480, "webp": 400, "png": 200, "gif": 160}
ASPECTS = (1.0, 1.5, 1.333, 0.75, 1.0, 1.778, 0.667, 1.25, 2.0, 0.5)
COUNTS = ((1, 1), (1, 1), (2, 2), (1, 1), (2, 2), (3, 4), (2, 2))


def scenes() -> Iterator[Scene]:
    """Yield scenes whose first thing has a category that did not occur before, until all categories have occurred."""
    unused, seed, number = set(CATEGORIES), FIRST_SEED, 0
    while True:
        style, aspect = (STYLES[number % 6] if number % 4 == 3 else "plain"), ASPECTS[number % 10]
        scene = sample_scene(seed, split="evaluation", things=COUNTS[number % 7], style=style, aspect=aspect)
        seed += 1
        if scene.things[0].category in unused:
            unused.remove(scene.things[0].category)
            unused = unused or set(CATEGORIES)
            number += 1
            yield scene


def name_of(scene: Scene, number: int) -> str:
    """Return a file name as a person or a camera would choose it."""
    if number % 9 == 4:
        return f"IMG_{number * 37 % 1000:04d}"
    kinds = Counter((thing.category, thing.colour) for thing in scene.things)
    names = [counted(count, *kind).removeprefix("a ").removeprefix("an ") for kind, count in kinds.items()]
    return f"{' and '.join(names[:2])}-{number}".replace(" ", "-")


def frames(scene: Scene, size: int) -> list[Image.Image]:
    """Render a scene four times, with slight rotations of its first thing."""
    first, *rest = scene.things
    turned = [replace(first, angle=first.angle + angle) for angle in (0, 8, 0, -8)]
    renderings = [render(replace(scene, things=(thing, *rest)), size=size, truth=False) for thing in turned]
    return [Image.fromarray(rendering.image) for rendering in renderings]


def save(scene: Scene, path: Path, size: int, number: int) -> None:
    """Write one file. Some GIF files are animated, and some JPEG files are rotated and have an EXIF orientation."""
    image, *further_frames = frames(scene, size)
    if path.suffix == ".gif" and len(scene.things) == 1:
        image.save(path, save_all=True, append_images=further_frames, duration=180, loop=0)
    elif path.suffix == ".jpg" and number % 9 == 4:
        exif = Image.Exif()
        exif[0x0112] = 6  # shown rotated by 90 degrees clockwise
        image.transpose(Image.Transpose.ROTATE_90).save(path, quality=88, exif=exif)
    else:
        image.save(path, quality=86)  # quality has no effect on PNG and GIF


def main(folder: Path) -> None:
    """Write all files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, scene in zip(range(1, COUNT + 1), scenes(), strict=False):
        kind = KINDS[number % len(KINDS)]
        size = random.Random(number).randint(80, LARGEST_SHORT_SIDE[kind])
        save(scene, folder / f"{name_of(scene, number)}.{kind}", size, number)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "pictures"))
