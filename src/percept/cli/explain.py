"""`percept explain`: draw what in an image speaks for which label."""

from pathlib import Path

import tyro

from percept.cli.classify import open_for, read_labels
from percept.cli.options import MODEL, Model
from percept.cli.show import check_output, say, writing
from percept.core.errors import PerceptError
from percept.core.report import table


def explain(
    image: tyro.conf.Positional[Path],
    labels: str,
    out: Path,
    top: int = 4,
    check: bool = True,
    model: Model = MODEL,
) -> int:
    """Draw what in an image speaks for which label, and check it by covering parts of the image.

    Args:
        image: Image.
        labels: Labels to compare: cat,dog or @FILE with one label per line; or a folder that percept teach wrote.
        out: PNG to draw.
        top: Labels that are drawn, the most probable ones.
        check: Also measure the probability while the parts with most evidence are removed or added first.
    """
    from percept.data.images import read_image

    if top < 1:
        raise PerceptError(f"--top must be at least 1, got {top}.")
    names = read_labels(labels)
    opened = read_image(image)
    check_output(out, ".png")
    from percept.infer.drawing import save_png
    from percept.infer.explanation import drawing, explain
    from percept.infer.labeller import labeller

    encoder = open_for(model, names)
    found = explain(encoder, opened, labeller(encoder, names), check=check)
    with writing(out):
        save_png(out, drawing(found, title=image.name, top=top))
    say(f"wrote {out}")
    rows = []
    for label in found.probabilities.argsort(descending=True, stable=True)[:top].tolist():
        x, y = found.place(label)
        row = [
            found.names[label],
            f"{float(found.probabilities[label]):.1%}",
            f"{x}, {y}",
            f"{found.agreement(label):+.2f}",
        ]
        if check:
            each = found.checks[label]
            row += [f"{each.deletion:.1%} ({each.deletion_at_random:.1%})"]
            row += [f"{each.insertion:.1%} ({each.insertion_at_random:.1%})"]
        rows.append(row)
    checked = ("without it (at random)", "with it alone (at random)") if check else ()
    columns = ("label", "probability", "most evidence, x, y", "agrees with covering", *checked)
    table(f"What speaks for which label in {image.name}", columns, rows)
    return 0


COMMAND = explain
