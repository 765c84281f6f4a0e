"""`percept heatmap`: show where in an image a text fits."""

from pathlib import Path

import tyro

from percept.cli.options import MODEL, Model
from percept.cli.show import check_output, say, writing
from percept.core.errors import PerceptError
from percept.core.report import table


def heatmap(
    image: tyro.conf.Positional[Path],
    texts: tyro.conf.Positional[tuple[str, ...]],
    out: Path,
    model: Model = MODEL,
) -> int:
    """Draw where in an image texts fit: light where a text fits best.

    Args:
        image: Image.
        texts: One or several texts, such as "a red cup"; each gets a map of its own.
        out: PNG to draw.
    """
    from percept.data.images import read_image

    if not texts:
        raise PerceptError('no text was given. Describe what to look for, such as "a red cup".')
    opened = read_image(image)
    check_output(out, ".png")
    from percept.infer.drawing import Panel, draw_rows, save_png
    from percept.infer.overlay import enlarged_for_view, with_heat
    from percept.infer.zeroshot_dense import heat, shown

    encoder, view = model.open(), enlarged_for_view(opened)
    panels, rows = [Panel(image=view, title=str(image))], []
    for text in texts:
        values = heat(encoder, opened, text)
        highest = float(values.max())
        panels.append(Panel(image=with_heat(view, shown(values)), title=text, remark=f"largest {highest:+.2f}"))
        row, column = divmod(int(values.argmax()), values.shape[1])
        place = _pixel(column, values.shape[1], opened.width), _pixel(row, values.shape[0], opened.height)
        rows.append((text, f"{place[0]}, {place[1]}", f"{highest:+.3f}", f"{float(values.median()):+.3f}"))
    with writing(out):
        save_png(out, draw_rows([panels[start : start + 3] for start in range(0, len(panels), 3)]))
    say(f"wrote {out}")
    table("Cosine with the text minus that with 'a picture'", ("text", "best place, x, y", "there", "median"), rows)
    return 0


def _pixel(cell: int, cells: int, pixels: int) -> int:
    return round((cell + 0.5) / cells * pixels)


COMMAND = heatmap
