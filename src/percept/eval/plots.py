"""Plots of a report as inline SVG: scores with their intervals, and the reliability of confidences. Colours come from the page."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from percept.eval.statistics import Score

COLOURS = 6
"""Colours of models, --m0 to --m5 of the page; a seventh model gets the first one again."""
NAMES, AXIS, VALUES, LINE, GAP = 268, 430, 150, 17, 9
"""Width of names, axis and values, height of a model's line, and space between scores; in units of the plot."""
SIDE, EDGE = 300, 44
"""Side of the reliability plot, and the space for its labels."""


def dots(order: Sequence[str], models: Sequence[Mapping[str, Score]], names: Sequence[str]) -> str:
    """Return scores that are shares as dots with intervals on an axis from 0 to 100 %, one line per model.

    Args:
        order: names of the scores from top to bottom.
        models: scores of every model by name; one that is missing is not drawn.
        names: of the models, for the titles that appear under the pointer.
    """
    body, top = [], 6.0
    for score in order:
        found = [(place, each[score]) for place, each in enumerate(models) if score in each]
        middle = top + LINE * len(found) / 2
        arrow = " ↓" if found[0][1].better == "less" else ""
        body.append(f'<text x="{NAMES - 14}" y="{middle + 4:.1f}" text-anchor="end">{escape(score)}{arrow}</text>')
        for line, (place, value) in enumerate(found):
            body.append(_line(value, place, names[place], top + LINE * line + LINE / 2))
        top += LINE * len(found) + GAP
    wide, high = NAMES + AXIS + VALUES, top + 18
    return f'<svg viewBox="0 0 {wide} {high:g}" role="img" aria-label="scores in percent">{_grid(top)}{"".join(body)}</svg>'


def _place(share: float) -> float:
    return NAMES + AXIS * min(1.0, max(0.0, share))


def _grid(bottom: float) -> str:
    ticks = (0, 25, 50, 75, 100)
    return "".join(
        f'<line class="grid" x1="{_place(tick / 100):.1f}" x2="{_place(tick / 100):.1f}" y1="4" y2="{bottom:g}"/>'
        f'<text class="soft" x="{_place(tick / 100):.1f}" y="{bottom + 13:g}" text-anchor="middle">{tick}{" %" if tick == 100 else ""}</text>'
        for tick in ticks
    )


def _line(score: Score, model: int, name: str, middle: float) -> str:
    colour = f"var(--m{model % COLOURS})"
    title = escape(f"{name}: {score}")
    return (
        f'<g><title>{title}</title><line x1="{_place(score.low):.1f}" x2="{_place(score.high):.1f}" y1="{middle:.1f}" y2="{middle:.1f}" '
        f'style="stroke: {colour}; stroke-width: 3; stroke-opacity: .45"/>'
        f'<circle cx="{_place(score.value):.1f}" cy="{middle:.1f}" r="4.5" style="fill: {colour}"/></g>'
        f'<text x="{NAMES + AXIS + 14}" y="{middle + 4:.1f}">{escape(score.shown)} <tspan class="soft">{escape(score.interval)}</tspan></text>'
    )


def reliability(curves: Sequence[Sequence[Mapping[str, Any]]], names: Sequence[str]) -> str:
    """Return accuracy over confidence, one line per model; the size of a dot grows with the number of answers in its bin.

    Args:
        curves: per model, bins with `confidence` and `accuracy` from 0 to 1 and `n`; empty for a model without.
        names: of the models.
    """
    drawn = "".join(
        _curve(bins, place, name) for place, (bins, name) in enumerate(zip(curves, names, strict=True)) if bins
    )
    ticks = "".join(
        f'<text class="soft" x="{EDGE + SIDE * tick / 100}" y="{SIDE + 26}" text-anchor="middle">{tick}</text>'
        f'<text class="soft" x="{EDGE - 8}" y="{SIDE * (1 - tick / 100) + 14}" text-anchor="end">{tick}</text>'
        for tick in (0, 50, 100)
    )
    frame = f'<rect x="{EDGE}" y="10" width="{SIDE}" height="{SIDE}" class="grid" style="fill: none"/>'
    diagonal = f'<line class="diagonal" x1="{EDGE}" y1="{SIDE + 10}" x2="{EDGE + SIDE}" y2="10"/>'
    words = (
        f'<text class="soft" x="{EDGE + SIDE / 2}" y="{SIDE + 42}" text-anchor="middle">confidence, %</text>'
        f'<text class="soft" transform="translate(11 {SIDE / 2 + 10}) rotate(-90)" text-anchor="middle">accuracy, %</text>'
    )
    return (
        f'<svg viewBox="0 0 {EDGE + SIDE + 20} {SIDE + 50}" role="img" aria-label="accuracy over confidence">'
        f"{frame}{diagonal}{drawn}{ticks}{words}</svg>"
    )


def _curve(bins: Sequence[Mapping[str, Any]], model: int, name: str) -> str:
    colour, total = f"var(--m{model % COLOURS})", sum(each["n"] for each in bins)
    places = [(EDGE + SIDE * each["confidence"], 10 + SIDE * (1 - each["accuracy"])) for each in bins]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    circles = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{2.5 + 6 * (each["n"] / total) ** 0.5:.1f}" style="fill: {colour}; fill-opacity: .6">'
        f"<title>{escape(name)}: confidence {each['confidence']:.0%}, accuracy {each['accuracy']:.0%}, n={each['n']:,}</title></circle>"
        for (x, y), each in zip(places, bins, strict=True)
    )
    return f'<polyline points="{line}" style="fill: none; stroke: {colour}; stroke-width: 1.5"/>{circles}'
