"""`percept segment`: label the pixels of an image by texts, by a trained head, or find its objects without labels."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tyro

from percept.cli.options import MODEL, Model, Outputs
from percept.cli.output import is_stdout, save_rows, split_outputs
from percept.cli.show import count, say, split_labels, writing
from percept.core.errors import PerceptError
from percept.core.report import notice, table

if TYPE_CHECKING:
    from PIL import Image

    from percept.infer.encoder import Encoder

FIELDS = {"number": int, "label": str, "pixels": int, "share": float}
"""Of a row of --out: number in the mask, 0 for the background; the labels that are in the image, the largest first."""
NAMED = 10
"""Most labels without pixels that are named; more are counted."""


def segment(
    image: tyro.conf.Positional[Path],
    out: Outputs = (),
    labels: str | None = None,
    template: tuple[str, ...] = (),
    head: Path | None = None,
    objects: int | None = None,
    layer: int | None = None,
    grid: int = 24,
    model: Model = MODEL,
) -> int:
    """Segment an image: by texts, by a trained head, or into objects without labels. Give one of --labels, --head, --objects.

    Args:
        image: Image.
        out: One or two .png files: the first is the image with colours and names, the second the mask, as numbers with a
            palette: 0 for the background. And .csv, .json, .jsonl or .parquet for the size of each label, or - for json lines on
            standard output.
        labels: What to look for: cat,"red cup",background or @FILE with one label per line. With background among them,
            pixels that no label fits get it.
        template: Texts with {} in place of the label; several are averaged.
        head: Folder of a head for masks: percept layers DATA --task masks --save FOLDER.
        objects: Find at most this many objects, most salient first, without labels or training.
        layer: With --objects, block whose features are compared, counted from 0. Default: at two thirds of the depth.
        grid: With --objects, patches along the longer side of the image.
    """
    from percept.data.images import read_image

    if sum(each is not None for each in (labels, head, objects)) != 1:
        raise PerceptError("give exactly one of --labels cat,dog,background, --head FOLDER and --objects 1.")
    if not out:
        raise PerceptError("--out is missing. Give a .png file to look at, and optionally a second one for the mask.")
    names = None if labels is None else split_labels(labels)
    opened = read_image(image)
    drawings, rows = split_outputs(out, ".png", most=2, read=[image])
    encoder = model.open()
    if names is not None:
        mask, shown = _by_labels(encoder, opened, names, template)
    elif head is not None:
        mask, shown = _by_head(encoder, opened, head)
    else:
        assert objects is not None
        mask, shown = _objects(encoder, opened, objects, layer, grid)
    _write(drawings, opened, mask, shown)
    found = _sizes(mask, shown)
    if not is_stdout(rows):
        _show(found, shown)
    save_rows(rows, found, FIELDS, facts={"image": image, "model": str(encoder.identity)})
    return 0


def _by_labels(
    encoder: "Encoder", image: "Image.Image", names: list[str], templates: tuple[str, ...]
) -> tuple[np.ndarray, list[str]]:
    """Return the mask, numbered from 1, and the names of its numbers."""
    from percept.infer.zeroshot_dense import BACKGROUND, segment

    found = segment(encoder, image, names, templates=templates or None)
    if len(names) == 1:
        notice("with a single label, every pixel gets it. Add other labels, or background.")
    kept = [name for name in found.labels if name != BACKGROUND]
    table_of = np.array([kept.index(name) + 1 if name != BACKGROUND else 0 for name in found.labels])
    return _small(table_of[found.numbers], kept)


def _by_head(encoder: "Encoder", image: "Image.Image", folder: Path) -> tuple[np.ndarray, list[str]]:
    from torch.nn import functional as F

    from percept.eval.probes.head import open_head

    trained = open_head(folder)
    if trained.task != "masks":
        raise PerceptError(f"{folder} holds a head for {trained.task}, not for masks. Give a head for masks.")
    maps = F.interpolate(
        trained.maps(encoder, [image]), (image.height, image.width), mode="bilinear", align_corners=False
    )
    background = bool(trained.classes) and trained.classes[0] == "background"
    numbers = maps[0].argmax(dim=0).numpy() + (0 if background else 1)
    return _small(numbers, list(trained.classes[1 if background else 0 :]))


def _objects(
    encoder: "Encoder", image: "Image.Image", most: int, layer: int | None, grid: int
) -> tuple[np.ndarray, list[str]]:
    from percept.infer.masks import object_masks

    masks = object_masks(encoder, image, count=most, layer=layer, patches=grid, size=(image.height, image.width))
    if not len(masks):
        raise PerceptError("no object was found: all patches are alike. Try another --layer.")
    numbers = np.zeros((image.height, image.width), np.int64)
    for place, mask in enumerate(masks, start=1):
        numbers[mask] = place
    return _small(numbers, [f"object {place}" for place in range(1, len(masks) + 1)])


def _small(numbers: np.ndarray, names: list[str]) -> tuple[np.ndarray, list[str]]:
    if len(names) > 255:
        raise PerceptError(f"a mask can hold 255 labels, got {len(names)}. Give fewer labels.")
    return numbers.astype(np.uint8), names


def _write(out: tuple[Path, ...], image: "Image.Image", mask: np.ndarray, names: list[str]) -> None:
    from percept.infer.drawing import save_png
    from percept.infer.overlay import enlarged_for_view, palette_image, with_legend, with_masks

    found = set(np.unique(mask).tolist())
    entries = [(number, name) for number, name in enumerate(names, start=1) if number in found]
    drawn = with_legend(with_masks(enlarged_for_view(image), mask), entries or [(0, "no label was found")])
    for file, drawing in zip(out, (drawn, palette_image(mask)), strict=False):
        with writing(file):
            save_png(file, drawing)
        say(f"wrote {file}")


def _sizes(mask: np.ndarray, names: list[str]) -> list[dict[str, Any]]:
    """Return the labels that are in a mask, the largest first."""
    pixels = np.bincount(mask.ravel(), minlength=len(names) + 1).tolist()
    rows = [
        {"number": number, "label": name, "pixels": pixels[number], "share": pixels[number] / mask.size}
        for number, name in enumerate(["background", *names])
        if pixels[number]
    ]
    return sorted(rows, key=lambda row: -row["pixels"])


def _show(rows: list[dict[str, Any]], names: list[str]) -> None:
    missing = [name for number, name in enumerate(names, start=1) if number not in {row["number"] for row in rows}]
    shown = [(row["number"], row["label"], f"{row['share']:.1%}") for row in rows[:20]]
    table("Pixels", ("number in the mask", "label", "share"), shown)
    if missing:
        named = ", ".join(missing) if len(missing) <= NAMED else f"{len(missing)} of {count(len(names), 'label')}"
        say(f"not found: {named}")


COMMAND = segment
