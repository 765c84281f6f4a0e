"""Images by label as one drawing."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from percept.core.errors import PerceptError
from percept.data.files import is_video
from percept.data.images import read_image
from percept.data.video import open_video
from percept.infer.drawing import PAPER, Panel, draw_rows, save_png
from percept.infer.labels import Guess

COLUMNS, SIDE = 8, 150
"""Images in a row, and the longer side of each in pixels."""
MOST = 400
"""Images of a drawing; the others are counted."""


def write_sheet(
    file: Path, paths: Sequence[Path], best: Sequence[Guess], *, jpeg: Callable[[int], bytes | None] | None = None
) -> None:
    """Draw the images as PNG, by label, the most probable first; of many, the first of every label.

    Args:
        file: PNG.
        paths: images and videos.
        best: the best label of each.
        jpeg: returns a small JPEG of the image with a number; where there is none, the file is read.
    """
    order = sorted(range(len(paths)), key=lambda number: (best[number].label, -best[number].probability))
    by_label: dict[str, list[int]] = {}
    for number in order:
        by_label.setdefault(best[number].label, []).append(number)
    most = max(COLUMNS, MOST // len(by_label) // COLUMNS * COLUMNS)
    rows: list[list[Panel]] = []
    for numbers in by_label.values():
        panels = [
            _panel(paths[number], best[number], None if jpeg is None else jpeg(number)) for number in numbers[:most]
        ]
        if len(numbers) > most:
            panels.append(_blank(f"and {len(numbers) - most:,} more"))
        rows += [panels[start : start + COLUMNS] for start in range(0, len(panels), COLUMNS)]
    widest = max(map(len, rows))
    rows[0] += [_blank("")] * (widest - len(rows[0]))
    save_png(file, draw_rows(rows))


def _panel(path: Path, guess: Guess, jpeg: bytes | None) -> Panel:
    return Panel(image=small(path, jpeg), title=str(guess), remark=path.name)


def _blank(title: str) -> Panel:
    return Panel(image=Image.new("RGB", (SIDE, SIDE), PAPER), title=title)


def small(path: Path, jpeg: bytes | None = None) -> Image.Image:
    """Return an image on a square; of a video the frame in its middle. With `jpeg`, the file is not read."""
    square = Image.new("RGB", (SIDE, SIDE), "white")
    try:
        if jpeg is not None:
            image = Image.open(io.BytesIO(jpeg)).convert("RGB")
        else:
            image = _middle(path) if is_video(path) else read_image(path, at_least=SIDE)
    except (PerceptError, OSError):
        return square
    scale = SIDE / max(image.size)
    image = image.resize([max(1, round(scale * side)) for side in image.size], Image.Resampling.LANCZOS)  # type: ignore[arg-type]
    square.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return square


def _middle(path: Path) -> Image.Image:
    with open_video(path) as video:
        return next(image for _, image in video.frames([len(video) // 2]))
