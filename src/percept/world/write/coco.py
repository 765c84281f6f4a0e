"""Images as in COCO (Lin et al. 2014, arXiv:1405.0312): boxes, masks in run-length form, categories and captions.

Boxes are x, y, width and height in pixels. The splits validation and evaluation are both named val2017.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from percept.core.seed import derive
from percept.world.elements import Scene
from percept.world.language import long_caption, short_caption
from percept.world.objects import CATEGORIES
from percept.world.render import Rendering
from percept.world.write.encode import near_far_png, png, run_lengths
from percept.world.write.folder import taken_lines, write_object
from percept.world.write.images import rendering_of, texts_of
from percept.world.write.job import INDEX, Job, Lines, index_line, key_of

MOST = 1000
"""Annotations of an image have the ids from MOST times its id on."""
_PARTS = (".images", ".instances", ".captions")
"""Files of lines, from which the json files are made."""


def write_images(job: Job, numbers: range) -> Lines:
    """Write images and depth; return the lines of images and annotations."""
    lines: dict[str, list[str]] = {name: [] for name in (*_PARTS, INDEX)}
    for number in numbers:
        rendering, name = rendering_of(job, number), f"{key_of(number)}.png"
        assert rendering.depth is not None
        file = job.put(f"{job.subset}2017/{name}", png(rendering.image))
        depth = job.put(f"depth/{job.subset}2017/{name}", near_far_png(rendering.depth))
        height, width = rendering.image.shape[:2]
        image = {"id": number + 1, "file_name": name, "width": width, "height": height, "seed": job.seed + number}
        captions = list(_captions(job, rendering.scene, number))
        lines[INDEX].append(index_line(file, **_by_language(captions), depth=depth))
        made = ([image], instances(rendering, number + 1), captions)
        for part, entries in zip(_PARTS, made, strict=True):
            lines[part] += [json.dumps(entry) + "\n" for entry in entries]
    return lines


def instances(rendering: Rendering, image: int) -> Iterator[dict[str, Any]]:
    """Yield the annotations of the visible things; `image` is the id of the image."""
    assert rendering.masks is not None
    names = list(CATEGORIES)
    height, width = rendering.image.shape[:2]
    for index, (thing, mask) in enumerate(zip(rendering.scene.things, rendering.masks, strict=True)):
        if not mask.any():
            continue
        left, top, right, bottom = (rendering.boxes[index] * [width, height, width, height]).round().tolist()
        yield {
            "id": image * MOST + index,
            "image_id": image,
            "category_id": names.index(thing.category) + 1,
            "bbox": [left, top, right - left, bottom - top],
            "area": int(mask.sum()),
            "iscrowd": 0,
            "segmentation": run_lengths(mask),
            "colour": thing.colour,
            "fill": thing.fill,
            "visible": round(float(rendering.visible[index]), 4),
        }


def _captions(job: Job, scene: Scene, number: int) -> Iterator[dict[str, Any]]:
    """Yield the captions of an image: two, or one with noise, and one in each language."""
    rng = random.Random(derive(scene.seed, "coco", scene.split, scene.style))
    texts = texts_of(job, scene, number)
    if job.noise is None:
        entries = [{"caption": short_caption(scene, rng)}, {"caption": long_caption(scene, rng)}]
    else:
        entries = [{name: texts[name] for name in ("caption", "clean_caption", "noise")}]
    entries += [{"caption": texts[f"caption_{language}"], "language": language} for language in job.languages]
    for place, entry in enumerate(entries):
        yield {"id": (number + 1) * MOST + place, "image_id": number + 1, **entry}


def _by_language(captions: list[dict[str, Any]]) -> dict[str, Any]:
    """Return `captions`, a list of the English ones, and `caption_de` and the like."""
    english = [each["caption"] for each in captions if "language" not in each]
    return {"captions": english} | {
        f"caption_{each['language']}": each["caption"] for each in captions if "language" in each
    }


def write_annotations(job: Job) -> None:
    """Write the json files of all images."""
    folder = Path(job.folder)
    head = {
        "info": {"description": "percept world", "split": job.split, "style": job.style, "seed": job.seed},
        "licenses": [],
    }
    categories = [
        {"id": number, "name": name, "supercategory": CATEGORIES[name].group}
        for number, name in enumerate(CATEGORIES, start=1)
    ]
    images = list(taken_lines(folder / ".images"))
    for name, more in (("instances", {"categories": categories}), ("captions", {})):
        file = folder / "annotations" / f"{name}_{job.subset}2017.json"
        write_object(file, head | more, {"images": iter(images), "annotations": taken_lines(folder / f".{name}")})
