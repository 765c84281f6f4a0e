"""The plot of an ablation as an SVG file: one panel per score, one row per point, seeds as dots, interval as a line."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from percept.eval.statistics import without_unit

LEFT, WIDE, ROW, RIGHT = 190, 420, 26, 100
"""Width of the names, of the axis and of the figures, and height of a row, in pixels."""
STYLE = """
svg { background: #faf9f6; font: 13px system-ui, sans-serif; } text { fill: #1f1f1d; } .soft { fill: #6d6a63; font-size: 11px; }
.interval { stroke: #1f6f78; stroke-width: 3; } .seed { fill: #1f6f78; fill-opacity: .45; } .mean { fill: #1f6f78; }
.first { stroke: #b5722a; stroke-dasharray: 4 3; } .axis { stroke: #e2dfd7; }
@media (prefers-color-scheme: dark) { svg { background: #151618; } text { fill: #e9e7e2; } .soft { fill: #9c9a94; }
.interval { stroke: #6cc1c9; } .seed, .mean { fill: #6cc1c9; } .first { stroke: #d9a861; } .axis { stroke: #303237; } }
"""


def draw(results: Mapping[str, Any]) -> str:
    """Return the plot."""
    body, top = [], 0
    for score in results["scores"]:
        panel, height = _panel(results, score, top)
        body.append(panel)
        top += height
    wide = LEFT + WIDE + RIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {max(top, 1)}" width="{wide}" role="img" '
        f'aria-label="{escape(results["ablation"])}"><style>{STYLE}</style>{"".join(body)}</svg>\n'
    )


def _panel(results: Mapping[str, Any], score: str, top: int) -> tuple[str, int]:
    """Return the drawing of one score from `top` on, and its height."""
    facts = results["scores"][score]
    rows = [(point, each["scores"][score]) for point, each in results["points"].items()]
    rows = [(point, found) for point, found in rows if "mean" in found]
    if not rows:
        return "", 0
    low, high = _range([found for _, found in rows])

    def place(value: float) -> float:
        return LEFT + WIDE * (value - low) / (high - low)

    bottom = top + 34 + ROW * len(rows)
    first = place(rows[0][1]["mean"])
    unit = {"share": " (%)", "": ""}.get(facts["unit"], f" ({facts['unit']})")
    parts = [
        f'<text x="12" y="{top + 22}" font-weight="600">{escape(score)}{unit}, {facts["better"]} is better</text>',
        f'<line class="axis" x1="{LEFT}" x2="{LEFT + WIDE}" y1="{bottom}" y2="{bottom}"/>',
        f'<line class="first" x1="{first:.1f}" x2="{first:.1f}" y1="{top + 34}" y2="{bottom}"/>',
        f'<text class="soft" x="{LEFT}" y="{bottom + 14}">{without_unit(low, facts["unit"])}</text>',
        f'<text class="soft" x="{LEFT + WIDE}" y="{bottom + 14}" text-anchor="end">{without_unit(high, facts["unit"])}</text>',
    ]
    for index, (point, found) in enumerate(rows):
        parts.append(_row(point, found, top + 34 + ROW * index + ROW // 2, place, facts["unit"]))
    return "".join(parts), bottom + 30 - top


def _range(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return the ends of the axis: all seeds and all intervals, unless an interval is many times wider than the seeds."""
    values = [value for found in rows for value in found["values"].values()]
    spread = max(values) - min(values)
    ends = [found[end] for found in rows for end in ("low", "high") if found[end] is not None]
    low = min([*values, *(end for end in ends if end > min(values) - 2 * spread)])
    high = max([*values, *(end for end in ends if end < max(values) + 2 * spread)])
    margin = 0.04 * (high - low) or max(0.01, 0.04 * abs(high))
    return low - margin, high + margin


def _row(point: str, found: Mapping[str, Any], middle: int, place: Any, unit: Any) -> str:
    ends = [] if found["low"] is None else [min(max(place(found[end]), LEFT), LEFT + WIDE) for end in ("low", "high")]
    line = f'<line class="interval" x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{middle}" y2="{middle}"/>' if ends else ""
    dots = "".join(
        f'<circle class="seed" cx="{place(value):.1f}" cy="{middle}" r="4"><title>seed {seed}: '
        f"{without_unit(value, unit)}</title></circle>"
        for seed, value in found["values"].items()
    )
    return (
        f'<text x="{LEFT - 12}" y="{middle + 5}" text-anchor="end">{escape(point)}</text>{line}{dots}'
        f'<circle class="mean" cx="{place(found["mean"]):.1f}" cy="{middle}" r="3"/>'
        f'<text class="soft" x="{LEFT + WIDE + 12}" y="{middle + 4}">{without_unit(found["mean"], unit)}</text>'
    )
