"""Draw the files of examples/pictures/ again: 72 pictures of the labelled world, as a person's folder might look.

Sizes, shapes and formats differ; every composition is from the evaluation split.   python examples/make_pictures.py [FOLDER]
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
    """Sample scenes whose first thing is of a category not shown yet, as long as there are any."""
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
    """Name a file as a person would, or as a camera does."""
    if number % 9 == 4:
        return f"IMG_{number * 37 % 1000:04d}"
    kinds = Counter((thing.category, thing.colour) for thing in scene.things)
    names = [counted(count, *kind).removeprefix("a ").removeprefix("an ") for kind, count in kinds.items()]
    return f"{' and '.join(names[:2])}-{number}".replace(" ", "-")


def frames(scene: Scene, size: int) -> list[Image.Image]:
    """Draw a scene, and three more times with its first thing turned a little."""
    first, *rest = scene.things
    turned = [replace(first, angle=first.angle + angle) for angle in (0, 8, 0, -8)]
    drawn = [render(replace(scene, things=(thing, *rest)), size=size, truth=False) for thing in turned]
    return [Image.fromarray(picture.image) for picture in drawn]


def save(scene: Scene, path: Path, size: int, number: int) -> None:
    """Write one file; some GIFs are animated, and some photos lie on their side with a note to turn them."""
    image, *others = frames(scene, size)
    if path.suffix == ".gif" and len(scene.things) == 1:
        image.save(path, save_all=True, append_images=others, duration=180, loop=0)
    elif path.suffix == ".jpg" and number % 9 == 4:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
        image.transpose(Image.Transpose.ROTATE_90).save(path, quality=88, exif=exif)
    else:
        image.save(path, quality=86)  # of no effect on PNG and GIF


def main(folder: Path) -> None:
    """Draw all files."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, scene in zip(range(1, COUNT + 1), scenes(), strict=False):
        kind = KINDS[number % len(KINDS)]
        size = random.Random(number).randint(80, LARGEST_SHORT_SIDE[kind])
        save(scene, folder / f"{name_of(scene, number)}.{kind}", size, number)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "pictures"))
