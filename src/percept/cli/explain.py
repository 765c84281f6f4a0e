"""`percept explain`: draw what in an image speaks for which label."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from percept.cli.classify import open_for, read_labels
from percept.cli.options import MODEL, Model, Outputs
from percept.cli.output import is_stdout, save_rows, split_outputs
from percept.cli.show import say, writing
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    from percept.infer.explanation import Explanation

FIELDS = {
    "label": str, "probability": float, "x": int, "y": int, "agreement": float, "deletion": float, "deletion_at_random": float,
    "insertion": float, "insertion_at_random": float,
}  # fmt: skip
"""Of a row of --out: the place with most evidence in pixels, the correlation with covering, and the checks; null with --no-check."""


def explain(
    image: tyro.conf.Positional[Path],
    labels: str,
    out: Outputs = (),
    top: int = 4,
    check: bool = True,
    model: Model = MODEL,
) -> int:
    """Draw what in an image speaks for which label, and check it by covering parts of the image.

    Args:
        image: Image.
        labels: Labels to compare: cat,dog or @FILE with one label per line; or a folder that percept teach wrote.
        out: .png to draw; .csv, .json, .jsonl or .parquet for the numbers, or - for json lines on standard output; or both.
        top: Labels that are drawn and listed, the most probable ones.
        check: Also measure the probability while the parts with most evidence are removed or added first.
    """
    from percept.data.images import read_image

    if top < 1:
        raise PerceptError(f"--top must be at least 1, got {top}.")
    names = read_labels(labels)
    opened = read_image(image)
    drawings, rows = split_outputs(out, ".png", read=[image])
    from percept.infer.drawing import save_png
    from percept.infer.explanation import drawing, explain
    from percept.infer.labeller import labeller

    encoder = open_for(model, names)
    found = explain(encoder, opened, labeller(encoder, names), check=check)
    for file in drawings:
        with writing(file):
            save_png(file, drawing(found, title=image.name, top=top))
        say(f"wrote {file}")
    values = [
        _values(found, label) for label in found.probabilities.argsort(descending=True, stable=True)[:top].tolist()
    ]
    if not is_stdout(rows):
        _show(values, image, check)
    save_rows(rows, values, FIELDS, facts={"image": image, "model": str(encoder.identity)})
    return 0


def _values(found: "Explanation", label: int) -> dict[str, Any]:
    x, y = found.place(label)
    values = {
        "label": found.names[label], "probability": float(found.probabilities[label]), "x": x, "y": y,
        "agreement": found.agreement(label),
    }  # fmt: skip
    return {**values, **(vars(found.checks[label]) if found.checks else {})}


def _show(values: list[dict[str, Any]], image: Path, check: bool) -> None:
    rows = []
    for each in values:
        row = [each["label"], f"{each['probability']:.1%}", f"{each['x']}, {each['y']}", f"{each['agreement']:+.2f}"]
        if check:
            row += [f"{each[name]:.1%} ({each[f'{name}_at_random']:.1%})" for name in ("deletion", "insertion")]
        rows.append(row)
    checked = ("without it (at random)", "with it alone (at random)") if check else ()
    columns = ("label", "probability", "most evidence, x, y", "agrees with covering", *checked)
    table(f"What speaks for which label in {image.name}", columns, rows)


COMMAND = explain
