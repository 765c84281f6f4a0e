"""The comparison of two runs as a page: differences, and the samples on which the runs disagree, with their images where these are there."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from percept.core.errors import PerceptError
from percept.core.io import replacing
from percept.core.report import printable
from percept.data.check.page import STYLE
from percept.data.images import read_image
from percept.data.sources.sample import BadSample
from percept.data.video import open_video
from percept.eval import world
from percept.eval.compare import Comparison, Disagreement, Run
from percept.eval.sets.item import EvaluationSet, Request
from percept.eval.table import EVALUATIONS, find
from percept.world.render import render
from percept.world.scene import sample_scene

SHOWN = 48
"""Samples of a task that are shown for each run."""
THUMBNAIL = 160
"""Longer side of an image on the page, in pixels."""
THINGS = {"single": world.ALONE, "multilabel": world.ANY, "dense test": world.ANY}
"""Named sets of the labelled world whose images are drawn again, and how many things these show."""
MORE = """
.sheet { display: grid; margin-top: 12px; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); }
.sheet div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 10px; font-size: 13px; overflow-wrap: anywhere; }
.sheet img { display: block; width: 100%; height: 140px; object-fit: contain; border-radius: 6px; margin-bottom: 8px; background: var(--paper); }
.right { color: var(--accent); } .wrong { color: var(--second); } .key { color: var(--soft); font-size: 12px; }
"""


def write_page(file: Path, comparison: Comparison) -> None:
    """Write the page."""
    with replacing(file) as temporary:
        temporary.write_text(page(comparison), encoding="utf-8")


def page(comparison: Comparison) -> str:
    """Return the page, which needs no other file."""
    images = Images(comparison.a)
    title = f"A: {_text(comparison.names[0])}, B: {_text(comparison.names[1])}"
    body = [f"<h1>{title}</h1>", _head(comparison), _differences(comparison)]
    for task in comparison.differences:
        found = [each for each in comparison.disagreements if each.place == task.place]
        body += _task(comparison, task.place, found, images)
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>{STYLE}{MORE}</style></head><body><main>
{"".join(body)}
</main></body></html>
"""


def _text(value: object) -> str:
    return escape(printable(", ".join(map(str, value)) if isinstance(value, list) else value))


def _head(comparison: Comparison) -> str:
    rows = [
        (f"{side} · {name}", run.card.get("command", ""), run.card["model"].get("image", ""))
        for side, name, run in zip("AB", comparison.names, (comparison.a, comparison.b), strict=True)
    ]
    return _table(("run", "command", "model and preprocessing"), rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    lines = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{lines}</table>"


def _differences(comparison: Comparison) -> str:
    columns = ("task", "n", "A", "B", "B − A, points [95 %]", "better in A", "better in B", "p")
    rows = [
        (
            each.place, f"{each.n:,}", f"{100 * each.a:.1f} %", f"{100 * each.b:.1f} %",
            each.shown, f"{each.only_a:,}", f"{each.only_b:,}", "" if each.p is None else f"{each.p:.3g}",
        )
        for each in comparison.differences
    ]  # fmt: skip
    missing = (
        f" Without samples, so not compared: {_text(comparison.without_samples)}." if comparison.without_samples else ""
    )
    return f"<h2>Differences</h2><p>↓: less is better.{missing}</p>{_table(columns, rows)}"


def _task(comparison: Comparison, title: str, found: Sequence[Disagreement], images: "Images") -> Iterator[str]:
    """Yield the samples of a task that each run has better than the other."""
    for name, letter, side in zip(comparison.names, "AB", (-1, 1), strict=True):
        better = [each for each in found if side * each.gain > 0]
        if not better:
            continue
        more = f", {SHOWN} of {len(better):,}" if len(better) > SHOWN else f", {len(better):,}"
        yield f"<h2>{_text(title)}</h2><p>Better in {letter} · {_text(name)}{more}</p>"
        yield f'<div class="sheet">{"".join(_sample(each, images) for each in better[:SHOWN])}</div>'


def _sample(each: Disagreement, images: "Images") -> str:
    image = images.of(each)
    tag = "" if image is None else f'<img alt="" src="data:image/jpeg;base64,{_jpeg(image)}">'
    classes = ("right", "wrong") if each.gain < 0 else ("wrong", "right")
    answers = "<br>".join(
        f'<span class="{kind}">{letter}: {_text(answer)}{remark}</span>'
        for letter, kind, answer, remark in zip("AB", classes, (each.a, each.b), each.remarks, strict=True)
    )
    return f'<div>{tag}<b>{_text(each.truth)}</b><br>{answers}<br><span class="key">{_text(each.key)}</span></div>'


def _jpeg(image: Image.Image) -> str:
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode()


class Images:
    """Finds the image of a sample again, in the sets that a run measured or in the labelled world; None where it is gone."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._sets: dict[tuple[str, str], EvaluationSet | None] = {}
        self._numbers: dict[tuple[str, str], dict[str, int]] = {}

    def of(self, each: Disagreement) -> Image.Image | None:
        """Return the image of a sample, or the middle frame of a video."""
        if each.data == world.NAME:
            return _of_world(each.key, self._run.card)
        place = each.evaluation, each.data
        data = self._opened(place)
        if data is None:
            return None
        if place not in self._numbers:
            self._numbers[place] = {data.key(number): number for number in range(len(data))}
        number = self._numbers[place].get(each.group or each.key)
        try:
            return None if number is None else _image(data, number)
        except (BadSample, PerceptError, OSError):
            return None

    def _opened(self, place: tuple[str, str]) -> EvaluationSet | None:
        if place not in self._sets:
            self._sets[place] = _reopened(self._run.card, *place)
        return self._sets[place]


def _reopened(card: Mapping[str, Any], evaluation: str, name: str) -> EvaluationSet | None:
    """Open a set again as the card describes it; None if it is gone."""
    described = next(
        (each for each in card.get("data", ()) if each["evaluation"] == evaluation and each["name"] == name), None
    )
    if described is None or evaluation not in EVALUATIONS or (on_sets := find(evaluation).on_sets) is None:
        return None
    values = dict(described.get("request", {}))
    paths = {each: Path(values[each]) for each in ("media", "classes") if each in values}
    try:
        return on_sets.open(Request(**{**values, **paths})).get(name)
    except (PerceptError, OSError, TypeError):
        return None


def _image(data: EvaluationSet, number: int) -> Image.Image:
    item = data.read(number)
    if not data.video:
        return read_image(item.media, at_least=2 * THUMBNAIL)
    with open_video(item.media) as video:
        _, frame = next(iter(video.frames([len(video) // 2])))
        return frame.copy()


def _of_world(key: str, card: Mapping[str, Any]) -> Image.Image | None:
    """Draw a scene of the labelled world again; None for those whose numbers do not give their seeds, such as captioned scenes and clips."""
    name, _, rest = key.partition("/")
    style, _, number = rest.partition("/")
    if name not in THINGS or not number.isdecimal():
        return None
    seed = world.seed_of(int(card.get("seed", 0)), name, style, int(number))
    scene = sample_scene(seed, split=card.get("split", "evaluation"), things=THINGS[name], style=style)
    return Image.fromarray(render(scene, truth=False).image)
