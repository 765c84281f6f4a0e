"""`percept heatmap`: show where in an image a text fits."""

from pathlib import Path

import tyro

from percept.cli.options import MODEL, Model, Outputs
from percept.cli.output import is_stdout, save_rows, split_outputs
from percept.cli.show import say, writing
from percept.core.errors import PerceptError
from percept.core.report import table

FIELDS = {"text": str, "x": int, "y": int, "highest": float, "median": float, "weak": bool}
"""Of a row of --out: the place where the text fits best, in pixels; cosines with the text minus those with "a picture"; whether the match is
so weak that the text may not be in the image."""


def heatmap(
    image: tyro.conf.Positional[Path],
    texts: tyro.conf.Positional[tuple[str, ...]],
    out: Outputs = (),
    model: Model = MODEL,
) -> int:
    """Draw how well texts fit at each place of an image, from dark to light; all maps have one scale of colours.

    Args:
        image: Image.
        texts: One or several texts, such as "a red cup"; each gets a map of its own.
        out: .png to draw; .csv, .json, .jsonl or .parquet for the numbers, or - for json lines on standard output; or both.
    """
    from percept.data.images import read_image

    if not texts:
        raise PerceptError('no text was given. Describe what to look for, such as "a red cup".')
    opened = read_image(image)
    drawings, out_rows = split_outputs(out, ".png", read=[image])
    from percept.infer.drawing import Panel, draw_rows, save_png
    from percept.infer.overlay import enlarged_for_view, with_heat
    from percept.infer.zeroshot_dense import heat, is_weak, shown

    encoder, view = model.open(), enlarged_for_view(opened)
    panels, rows = [Panel(image=view, title=image.name)], []
    maps = [heat(encoder, opened, text) for text in texts]
    for text, values, scaled in zip(texts, maps, shown(encoder, maps), strict=True):
        highest = float(values.max())
        weak = is_weak(encoder, highest)
        title = f"weak match: {text}" if weak else text
        panels.append(Panel(image=with_heat(view, scaled), title=title, remark=f"largest {highest:+.2f}"))
        row, column = divmod(int(values.argmax()), values.shape[1])
        place = _pixel(column, values.shape[1], opened.width), _pixel(row, values.shape[0], opened.height)
        found = {"highest": highest, "median": float(values.median()), "weak": weak}
        rows.append({"text": text, "x": place[0], "y": place[1], **found})
    for file in drawings:
        with writing(file):
            save_png(file, draw_rows([panels[start : start + 3] for start in range(0, len(panels), 3)]))
        say(f"wrote {file}")
    if not is_stdout(out_rows):
        cells = [
            (
                row["text"],
                f"{row['x']}, {row['y']}",
                f"{row['highest']:+.3f}" + (", weak" if row["weak"] else ""),
                f"{row['median']:+.3f}",
            )
            for row in rows
        ]
        table(
            "Cosine with the text minus that with 'a picture'", ("text", "best place, x, y", "there", "median"), cells
        )
    save_rows(out_rows, rows, FIELDS, facts={"image": image, "model": str(encoder.identity)})
    return 0


def _pixel(cell: int, cells: int, pixels: int) -> int:
    return round((cell + 0.5) / cells * pixels)


COMMAND = heatmap
