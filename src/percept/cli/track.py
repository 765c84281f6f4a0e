"""`percept track`: follow objects through a video from a mask of its first frame."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from percept.cli.options import MODEL, Model, Outputs
from percept.cli.output import ENDINGS, is_stdout, save_rows, split_outputs
from percept.cli.show import check_apart, check_output, count, say, writing
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from percept.infer.footage import Footage

FIELDS = {"frame": int, "object": int, "pixels": int}
"""Of a row of --out: size of an object in a frame, counted from 0."""


def track(
    video: tyro.conf.Positional[Path],
    mask: Path,
    out: Outputs = (),
    layer: int | None = None,
    grid: int = 32,
    model: Model = MODEL,
) -> int:
    """Track objects through a video; nothing is trained, their masks follow the features.

    Args:
        video: Video file, or a folder with its frames.
        mask: PNG of the size of the first frame: the number of the object at each pixel, 0 for the background, as in
            DAVIS; or one colour per object on black.
        out: .mp4 file for the video with coloured masks; or a folder for the masks, one PNG per frame, as in DAVIS; or
            both; and .csv, .json, .jsonl or .parquet for the size of each object in each frame, or - for these as json lines on
            standard output.
        layer: Block whose features are compared, counted from 0. Default: at two thirds of the depth.
        grid: Patches along the longer side of a frame. More are more exact and take more time.
    """
    from percept.infer.footage import open_footage, read_mask

    if not out:
        raise PerceptError("--out is missing. Give a .mp4 file, a folder, or both.")
    footage = open_footage(video)
    first = read_mask(mask)
    _check_size(footage, first, mask)
    own = tuple(place for place in out if place.suffix.lower() not in ENDINGS and not is_stdout(place))
    for place in own:
        _check_place(place)
    check_apart(own, (video, mask))
    _, rows = split_outputs([place for place in out if place not in own], ".mp4")
    import numpy as np

    from percept.infer.tracking import track as follow

    encoder = model.open()
    say(
        f"{encoder.name} tracks {count(int((np.unique(first) > 0).sum()), 'object')} through {count(len(footage), 'frame')}"
    )
    masks = follow(encoder, footage.frames(), first, layer=layer, patches=grid)
    areas = list(_written(footage, masks, own))
    for place in own:
        say(f"wrote {place}")
    if not is_stdout(rows):
        _show(areas)
    sizes = (
        {"frame": frame, "object": number, "pixels": area.get(number, 0)}
        for frame, area in enumerate(areas)
        for number in sorted(areas[0].keys() - {0})
    )
    save_rows(rows, sizes, FIELDS, facts={"video": video, "model": str(encoder.identity)})
    return 0


def _check_size(footage: "Footage", mask: "np.ndarray", file: Path) -> None:
    frame = next(footage.frames())
    if mask.shape != (frame.height, frame.width):
        raise PerceptError(
            f"{file} has {mask.shape[1]} × {mask.shape[0]} pixels, but the frames have {frame.width} × {frame.height}. "
            "Give a mask of the size of the frames."
        )


def _check_place(place: Path) -> None:
    if place.suffix.lower() == ".mp4":
        check_output(place, ".mp4")
    elif place.suffix:
        raise PerceptError(f"--out {place} ends in {place.suffix}. Give a .mp4 file, or a folder for masks.")
    else:
        if place.is_file():
            raise PerceptError(f"{place} is a file. Give the name of a folder for the masks.")
        check_output(place / "00000.png", ".png")


def _written(footage: "Footage", masks: "Iterator[np.ndarray]", out: tuple[Path, ...]) -> "Iterator[dict[int, int]]":
    """Write each frame as it is tracked; yield the number of pixels of each object."""
    import numpy as np

    from percept.core.report import track as progress
    from percept.infer.drawing import save_png
    from percept.infer.footage import filming
    from percept.infer.overlay import enlarged_for_view, palette_image, with_masks

    with ExitStack() as stack:
        films = [stack.enter_context(filming(file, footage.rate)) for file in out if file.suffix]
        frames = zip(footage.names, footage.frames(), masks, strict=True)
        for name, frame, mask in progress(frames, "tracking", len(footage)):
            image: Image.Image = with_masks(enlarged_for_view(frame), mask) if films else frame
            for film in films:
                film.add(image)
            for folder in out:
                if not folder.suffix:
                    with writing(folder):
                        save_png(folder / f"{name}.png", palette_image(mask))
            numbers, pixels = np.unique(mask, return_counts=True)
            yield dict(zip(numbers.tolist(), pixels.tolist(), strict=True))


def _show(areas: list[dict[int, int]]) -> None:
    """Print the size of each object in the first frame, on average, and in the last frame."""
    objects = sorted(areas[0].keys() - {0})
    rows = [
        (number, *(f"{area:,.0f}" for area in _sizes([each.get(number, 0) for each in areas]))) for number in objects
    ]
    table("Objects", ("number", "pixels in the first frame", "mean", "in the last frame"), rows)


def _sizes(pixels: list[int]) -> tuple[float, float, float]:
    return float(pixels[0]), sum(pixels) / len(pixels), float(pixels[-1])


COMMAND = track
