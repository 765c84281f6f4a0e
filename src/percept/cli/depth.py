"""`percept depth`: estimate depth with a head that was trained on the features of an encoder; nano comes with one."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tyro

from percept.cli.options import MODEL, Model, Outputs, typed
from percept.cli.output import is_stdout, save_rows, split_outputs
from percept.cli.show import say, writing
from percept.core.errors import PerceptError
from percept.core.report import notice, table

if TYPE_CHECKING:
    from PIL import Image

    from percept.eval.probes.head import Head
    from percept.infer.encoder import Encoder

FIELDS = {"image": str, "unit": str, "nearest": float, "median": float, "farthest": float}
"""Of the row of --out."""
QUANTILES = {"nearest": 0.0, "median": 0.5, "farthest": 1.0}


def depth(
    image: tyro.conf.Positional[Path],
    head: Path | None = None,
    out: Outputs = (),
    model: Model = MODEL,
) -> int:
    """Estimate the depth of each pixel.

    Args:
        image: Image.
        head: Folder of a head for depth, trained on the same encoder: percept layers DATA --task depth --save FOLDER; with
            --world in place of DATA, on rooms of the labelled world. Default: the head that comes with nano, trained on these rooms.
        out: Default: depth.png. .png to look at (light is near; the colours span 1 % to 99 % of the pixels), .npy for the depth of each
            pixel, or both; and .csv, .json, .jsonl or .parquet for the least, median and largest depth, or - for these as a json line on
            standard output.
    """
    from percept.data.images import read_image

    files, out_rows = split_outputs(out or (Path("depth.png"),), ".png", ".npy", most=2, read=[image])
    opened = read_image(image)
    from torch.nn import functional as F

    trained, encoder = _head(head, model)
    maps = trained.maps(encoder, [opened])
    values = F.interpolate(maps, (opened.height, opened.width), mode="bilinear", align_corners=False)[0, 0].numpy()
    unit = trained.unit or "share of the largest depth"
    for file in files:
        _write(file, opened, values, unit)
    row = {name: float(np.quantile(values, share)) for name, share in QUANTILES.items()}
    if not is_stdout(out_rows):
        table(f"Depth of {image}", ("", unit), [(name, f"{value:.3f}") for name, value in row.items()])
    save_rows(out_rows, [{"image": image, "unit": unit, **row}], FIELDS, facts={"model": str(encoder.identity)})
    return 0


def _head(folder: Path | None, model: Model) -> "tuple[Head, Encoder]":
    """Return the head and the encoder.

    Raises:
        PerceptError: the folder holds no head for depth, or none is given and none comes with the model.
    """
    from percept.eval.probes.head import open_head, packaged_head

    if folder is not None:
        trained = open_head(folder)
        if trained.task != "depth":
            raise PerceptError(f"{folder} holds a head for {trained.task}, not for depth. Give a head for depth.")
        return trained, model.open()
    encoder = model.open()
    packaged = packaged_head(encoder, "depth")
    if packaged is None:
        command = shlex.join(["percept", "layers", "--world", "--task", "depth", "--save", "HEAD", *typed(model)])
        raise PerceptError(
            f"no head for depth comes with {encoder.name}, or not with these options. Train one: {command}; then add --head HEAD here."
        )
    notice(
        f"the head was trained on rooms of the labelled world, {packaged.facts['score']}; other images were not measured"
    )
    return packaged, encoder


def _write(file: Path, image: "Image.Image", values: np.ndarray, unit: str) -> None:
    from percept.core.io import replacing
    from percept.infer.drawing import Panel, draw_rows, save_png
    from percept.infer.overlay import depth_colours, enlarged_for_view

    with writing(file):
        if file.suffix.lower() == ".npy":
            with replacing(file) as temporary, temporary.open("wb") as stream:
                np.save(stream, values.astype(np.float32))
        else:
            coloured, near, far = depth_colours(values)
            remark = f"light {near:.2f} {unit} or less (1 % of the pixels), dark {far:.2f} or more (1 %)"
            panels = [
                Panel(image=enlarged_for_view(image), title="image"),
                Panel(image=enlarged_for_view(coloured), title="depth", remark=remark),
            ]
            save_png(file, draw_rows([panels]))
    say(f"wrote {file}")


COMMAND = depth
