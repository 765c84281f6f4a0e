"""`percept match`: find the same points in two images."""

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from percept.cli.options import MODEL, Model, Outputs
from percept.cli.output import is_stdout, save_rows, split_outputs
from percept.cli.show import count, say, writing
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    from PIL import Image

    from percept.infer.encoder import Encoder
    from percept.infer.matching import Matches

FIELDS = {"x1": float, "y1": float, "x2": float, "y2": float, "cosine": float, "elsewhere": float}
"""Of a row of --out: a point of the first image and one of the second, in pixels from the left and from the top; their cosine, and the largest
cosine elsewhere in the second image."""


def match(
    first: tyro.conf.Positional[Path],
    second: tyro.conf.Positional[Path],
    out: Outputs = (),
    points: str | None = None,
    show: int = 25,
    layer: int | None = None,
    grid: int = 32,
    model: Model = MODEL,
) -> int:
    """Match points of two images by their features: patches that are each other's nearest neighbours, or given points.

    Args:
        first: First of the two images.
        second: Second of the two images, of any size.
        out: .png to draw: both images, with a line between the points of each pair; .csv, .json, .jsonl or .parquet for all pairs in
            pixels, or - for json lines on standard output; or a drawing and one of these.
        points: Points of the first image to find in the second, across and down in pixels: "120,80 300,45", or @FILE with
            a json list of pairs.
        show: Most pairs that are drawn; given points are all drawn. The rows of --out hold all pairs.
        layer: Block whose features are compared, counted from 0. Default: at two thirds of the depth.
        grid: Patches along the longer side of each image. More are more exact and take more time.
    """
    from percept.data.images import read_image

    if show < 1:
        raise PerceptError(f"--show must be at least 1, got {show}.")
    images = read_image(first), read_image(second)
    asked = None if points is None else split_points(points, images[0].size)
    drawings, rows = split_outputs(out, ".png", read=[first, second])
    import torch

    from percept.infer.matching import match as find

    encoder = model.open()
    given = None if asked is None else torch.tensor(asked) / torch.tensor(images[0].size)
    found = find(encoder, *images, points=given, layer=layer, patches=grid)
    say(f"{encoder.name} matches {count(len(found), 'point')}")
    _write(rows, encoder, (first, second), images, found)
    for file in drawings:
        _draw(file, images, found.spread(show) if asked is None else found)
    if not is_stdout(rows):
        _show(images, found.spread(min(show, 10)) if asked is None else found, len(found))
    return 0


def split_points(text: str, size: tuple[int, int]) -> list[tuple[float, float]]:
    """Return points in pixels.

    >>> split_points("12,8 30,4.5", (64, 48))
    [(12.0, 8.0), (30.0, 4.5)]

    Raises:
        PerceptError: not a list of points, or one outside the image.
    """
    try:
        if text.startswith("@"):
            rows = json_format.loads(Path(text[1:]).read_text(encoding="utf-8"))
        else:
            rows = [part.split(",") for part in text.split()]
        points = [(float(x), float(y)) for x, y in rows]
    except OSError as error:
        raise PerceptError(
            f"{text[1:]} cannot be read: {error.strerror}. Give a json list of points [[x, y], ...]."
        ) from None
    except (ValueError, TypeError):
        raise PerceptError(
            f'--points is not a list of points: {text[:60]!r}. Give "120,80 300,45" or @FILE.json.'
        ) from None
    if not points:
        raise PerceptError("--points holds no point. Leave it out to match all patches.")
    for x, y in points:
        if not (0 <= x <= size[0] and 0 <= y <= size[1]):
            raise PerceptError(
                f"the point {x:g},{y:g} is outside the first image, which has {size[0]} × {size[1]} pixels."
            )
    return points


def _pixels(matches: "Matches", images: "tuple[Image.Image, Image.Image]") -> list[tuple[list[float], list[float]]]:
    sides = [(image.width, image.height) for image in images]
    rows = zip(matches.first.tolist(), matches.second.tolist(), strict=True)
    return [(_scaled(one, sides[0]), _scaled(other, sides[1])) for one, other in rows]


def _scaled(point: list[float], size: tuple[int, int]) -> list[float]:
    return [round(point[0] * size[0], 2), round(point[1] * size[1], 2)]


def _write(
    file: Path | None,
    encoder: "Encoder",
    paths: tuple[Path, Path],
    images: "tuple[Image.Image, Image.Image]",
    found: "Matches",
) -> None:
    from percept.core.config import to_dict

    cosines = zip(found.cosine.tolist(), found.elsewhere.tolist(), strict=True)
    pairs = (
        {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "cosine": round(cosine, 4), "elsewhere": round(elsewhere, 4)}
        for ((x1, y1), (x2, y2)), (cosine, elsewhere) in zip(_pixels(found, images), cosines, strict=True)
    )
    save_rows(file, pairs, FIELDS, facts={"model": to_dict(encoder.identity), "images": paths})


def _draw(file: Path, images: "tuple[Image.Image, Image.Image]", found: "Matches") -> None:
    from percept.infer.drawing import save_png
    from percept.infer.overlay import enlarged_for_view, with_matches

    with writing(file):
        save_png(file, with_matches(enlarged_for_view(images[0]), enlarged_for_view(images[1]), found))
    say(f"wrote {file}")


def _show(images: "tuple[Image.Image, Image.Image]", found: "Matches", total: int) -> None:
    cosines = [f"{cosine:.3f}" for cosine in found.cosine]
    elsewhere = [
        ("-" if cosine.isinf() else f"{cosine:.3f}") + (", ambiguous" if ambiguous else "")
        for cosine, ambiguous in zip(found.elsewhere, found.ambiguous, strict=True)
    ]
    points = [[f"{x:g}, {y:g}" for x, y in pair] for pair in _pixels(found, images)]
    rows = [(*pair, *values) for pair, *values in zip(points, cosines, elsewhere, strict=True)]
    title = (
        f"{len(rows)} of {count(total, 'pair')}, the most distinctive first"
        if len(rows) < total
        else count(total, "pair")
    )
    table(title, ("first image, x, y", "second image, x, y", "cosine", "best elsewhere"), rows)


COMMAND = match
