"""Bar, line and pie charts with titles, axes, labels and values, and questions about values, extremes and colours."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from percept.world.documents.facts import Facts
from percept.world.documents.paper import INK, QUIET, Paper
from percept.world.palette import COLOURS, Rgb, blend, lightness
from percept.world.qa.pair import Pair
from percept.world.splits import held_out

MEASURES = ("visitors", "sales", "rainfall", "letters", "tickets", "books", "trains", "points", "hours", "members")
PLACES = ("museum", "harbour", "library", "park", "school", "market", "theatre", "station", "garden", "office")
LABELS = (
    ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
    ("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    ("2019", "2020", "2021", "2022", "2023", "2024"),
    ("tea", "coffee", "milk", "juice", "water", "soup"),
    ("Paris", "Rome", "Oslo", "Cairo", "Lima", "Tokyo"),
    ("cats", "dogs", "birds", "fish", "frogs", "owls"),
)
_ORDERED = LABELS[:3]
_HUES = ("red", "orange", "green", "blue", "purple", "pink", "brown", "cyan", "grey", "yellow")
PHRASINGS: dict[str, tuple[str, ...]] = {
    "value": ("What is the value for {}?", "How much is {}?", "Which value does the chart show for {}?"),
    "highest": ("Which label has the highest value?", "What is largest in this chart?"),
    "lowest": ("Which label has the lowest value?", "What is smallest in this chart?"),
    "count": ("How many values does the chart show?", "How many data points are there?"),
    "colour": ("Which colour is {}?", "What color is used for {}?"),
    "title": ("What is the title of the chart?", "Read the title."),
    "more": ("Which is more, {0} or {1}?", "Which has the higher value: {0} or {1}?"),
    "type": ("Which type of chart is this?", "Is this a bar, line or pie chart?"),
    "difference": ("What is the difference between {0} and {1}?", "By how much do {0} and {1} differ?"),
}


@dataclass(frozen=True, kw_only=True)
class Chart:
    """The content of a chart."""

    kind: str
    title: str
    measure: str
    labels: tuple[str, ...]
    values: tuple[int, ...]
    hues: tuple[str, ...]
    """Colour of each bar or slice; one colour repeated for a line."""
    top: int
    """Value at the end of the axis; 100 for a pie."""
    step: int
    """Distance of two ticks."""
    printed: bool
    """True if the values are printed on the chart."""


def sample_chart(kind: str, facts: Facts) -> Chart:
    """Sample the content of a chart whose (kind, label, value) facts the split allows."""
    rng = facts.rng
    pool = rng.choice(_ORDERED if kind == "line chart" else LABELS)
    count = rng.randint(3, 5 if kind == "pie chart" else 6)
    start = rng.randint(0, len(pool) - count)
    labels = pool[start : start + count] if pool in _ORDERED else tuple(rng.sample(pool, count))
    step = rng.choice((2, 5, 10, 20))
    values: list[int] = []
    if kind == "pie chart":
        values = _percentages(facts, labels)
        step = 10
    else:
        for label in labels:
            values.append(
                facts.draw(lambda: step * rng.randint(2, 20) // 2, lambda value, label=label: (kind, label, str(value)))
            )
    place = rng.choice(PLACES)
    measure = "share in %" if kind == "pie chart" else rng.choice(MEASURES)
    hues = rng.sample(_HUES, count) if kind != "line chart" else [rng.choice(_HUES[:7])] * count
    if kind == "bar chart" and rng.random() < 0.3:
        hues = [hues[0]] * count
    top = 100 if kind == "pie chart" else step * math.ceil(max(values) / step)
    return Chart(
        kind=kind, title=f"{place.title()}: {measure}", measure=measure, labels=labels, values=tuple(values),
        hues=tuple(hues), top=top, step=step, printed=kind == "pie chart" or rng.random() < 0.5,
    )  # fmt: skip


def _percentages(facts: Facts, labels: tuple[str, ...]) -> list[int]:
    """Return different multiples of 5 that add up to 100."""
    count, rng = len(labels), facts.rng

    def sample() -> tuple[int, ...]:
        while True:
            parts = [5 * rng.randint(1, 12) for _ in range(count)]
            if sum(parts) == 100 and len(set(parts)) == count:
                return tuple(parts)

    while True:
        values = sample()
        drawn = [("pie chart", label, str(value)) for label, value in zip(labels, values, strict=True)]
        if all(map(facts.allows, drawn)):
            facts.missing = facts.missing and not any(held_out(*fact) for fact in drawn)
            return list(values)


def draw_chart(chart: Chart, paper: Paper) -> None:
    """Draw a chart on a square sheet."""
    paper.print(chart.title, 0.5, 0.05, size=0.062, role="title", bold=True, anchor="ma")
    paper.next_row()
    {"bar chart": _bars, "line chart": _line, "pie chart": _pie}[chart.kind](chart, paper)


_LEFT, _RIGHT, _TOP, _BOTTOM = 0.17, 0.95, 0.2, 0.82


def _axes(chart: Chart, paper: Paper) -> Callable[[int], float]:
    """Draw axes, grid and ticks; return the function from values to y."""

    def height(value: int) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * value / chart.top

    every = max(1, math.ceil(chart.top / chart.step / 6))
    for tick in range(chart.top // chart.step, -1, -1):
        value = tick * chart.step
        paper.line(((_LEFT, height(value)), (_RIGHT, height(value))), colour=(222, 222, 226), width=0.003)
        if tick % every == 0:
            paper.print(
                str(value), _LEFT - 0.02, height(value), size=0.045, role="tick", anchor="rm", colour=(70, 70, 78)
            )
            paper.next_row()
    paper.line(((_LEFT, _TOP - 0.02), (_LEFT, _BOTTOM), (_RIGHT, _BOTTOM)), width=0.005)
    return height


def _columns(chart: Chart) -> list[float]:
    """Return the middle of each column."""
    width = (_RIGHT - _LEFT) / len(chart.labels)
    return [_LEFT + width * (index + 0.5) for index in range(len(chart.labels))]


def _labels(chart: Chart, paper: Paper) -> None:
    longest = max(paper.width_of(label, 1.0) for label in chart.labels)
    size = min(0.048, 0.88 * (_RIGHT - _LEFT) / len(chart.labels) / longest)
    for x, label, value in zip(_columns(chart), chart.labels, chart.values, strict=True):
        fact = (chart.kind, label, str(value))
        paper.print(label, x, _BOTTOM + 0.025, size=size, role="label", anchor="ma", fact=fact)
    paper.next_row()
    paper.print(chart.measure, (_LEFT + _RIGHT) / 2, 0.97, size=0.046, role="axis", anchor="ms", colour=QUIET)


def _values(chart: Chart, paper: Paper, height: Callable[[int], float]) -> None:
    """Print the values above the bars or points, and below the low points of a line if there is room."""
    if not chart.printed:
        return
    for index, (x, label, value) in enumerate(zip(_columns(chart), chart.labels, chart.values, strict=True)):
        neighbours = chart.values[max(0, index - 1) : index + 2]
        below = chart.kind == "line chart" and value == min(neighbours) < max(neighbours)
        below = below and height(value) + 0.08 < _BOTTOM
        y, anchor = (height(value) + 0.03, "mt") if below else (height(value) - 0.022, "mb")
        paper.print(str(value), x, y, size=0.046, role="value", anchor=anchor, fact=(chart.kind, label, str(value)))
    paper.next_row()


def _bars(chart: Chart, paper: Paper) -> None:
    height = _axes(chart, paper)
    half = 0.33 * (_RIGHT - _LEFT) / len(chart.labels)
    for x, value, hue in zip(_columns(chart), chart.values, chart.hues, strict=True):
        paper.box((x - half, height(value), x + half, _BOTTOM), COLOURS[hue], outline=_edge(COLOURS[hue]))
    _values(chart, paper, height)
    _labels(chart, paper)


def _line(chart: Chart, paper: Paper) -> None:
    height = _axes(chart, paper)
    colour = COLOURS[chart.hues[0]]
    points = [(x, height(value)) for x, value in zip(_columns(chart), chart.values, strict=True)]
    paper.line(points, colour=colour, width=0.012)
    for x, y in points:
        circle = [
            (x + 0.018 * math.cos(turn / 8 * math.pi), y + 0.018 * math.sin(turn / 8 * math.pi)) for turn in range(16)
        ]
        paper.polygon(circle, colour)
    _values(chart, paper, height)
    _labels(chart, paper)


def _pie(chart: Chart, paper: Paper) -> None:
    x, y, radius, turn = 0.36, 0.57, 0.31, -90.0
    for label, value, hue in zip(chart.labels, chart.values, chart.hues, strict=True):
        end = turn + 3.6 * value
        arc = [math.radians(turn + (end - turn) * step / 40) for step in range(41)]
        paper.polygon([(x, y), *((x + radius * math.cos(a), y + radius * math.sin(a)) for a in arc)], COLOURS[hue])
        for angle in (arc[0], arc[-1]):
            rim = (x + radius * math.cos(angle), y + radius * math.sin(angle))
            paper.line(((x, y), rim), colour=(250, 250, 250), width=0.006)
        middle = math.radians((turn + end) / 2)
        reach = radius * (0.66 if value >= 10 else 0.8)
        ink = (250, 250, 250) if lightness(COLOURS[hue]) < 150 else INK
        paper.print(
            f"{value}%", x + reach * math.cos(middle), y + reach * math.sin(middle), size=0.046 if value >= 10 else 0.036,
            role="value", anchor="mm", colour=ink, fact=(chart.kind, label, str(value)),
        )  # fmt: skip
        paper.next_row()
        turn = end
    for place, (label, value, hue) in enumerate(zip(chart.labels, chart.values, chart.hues, strict=True)):
        top = 0.57 + (place - len(chart.labels) / 2) * 0.1
        paper.box((0.72, top + 0.015, 0.77, top + 0.065), COLOURS[hue], outline=_edge(COLOURS[hue]))
        paper.print(
            label, 0.79, top + 0.04, size=0.046, role="label", anchor="lm", fact=(chart.kind, label, str(value))
        )
        paper.next_row()


def _edge(colour: Rgb) -> Rgb:
    return blend(colour, (0, 0, 0), 0.35)


def chart_pairs(chart: Chart, paper: Paper, rng: random.Random) -> list[Pair]:
    """Return questions with certain answers: values, extremes, comparisons, the colours and the type."""
    places = {text.text: index for index, text in enumerate(paper.texts) if text.role == "label"}
    order = sorted(range(len(chart.labels)), key=lambda index: chart.values[index])
    low, high = order[0], order[-1]
    pairs = [
        _pair(rng, "value", label, answer=str(value), places=(places[label],))
        for label, value in zip(chart.labels, chart.values, strict=True)
    ]
    everything = tuple(places.values())
    if chart.values[order[-2]] < chart.values[high]:
        pairs.append(_pair(rng, "highest", answer=chart.labels[high], choices=chart.labels, places=everything))
    if chart.values[order[1]] > chart.values[low]:
        pairs.append(_pair(rng, "lowest", answer=chart.labels[low], choices=chart.labels, places=everything))
    first, second = rng.sample(range(len(chart.labels)), 2)
    names, both = (
        (chart.labels[first], chart.labels[second]),
        (places[chart.labels[first]], places[chart.labels[second]]),
    )
    gap = chart.values[first] - chart.values[second]
    if gap != 0:
        answer = names[0] if gap > 0 else names[1]
        pairs.append(_pair(rng, "more", *names, answer=answer, choices=names, places=both))
        pairs.append(_pair(rng, "difference", *names, answer=str(abs(gap)), places=both))
    if len(set(chart.hues)) > 1:
        index = rng.randrange(len(chart.labels))
        label = chart.labels[index]
        pairs.append(
            _pair(rng, "colour", label, answer=chart.hues[index], choices=tuple(COLOURS), places=(places[label],))
        )
    pairs.append(_pair(rng, "count", answer=str(len(chart.labels)), choices=("3", "4", "5", "6"), places=everything))
    pairs.append(_pair(rng, "title", answer=chart.title, places=(0, *everything)))
    types = ("bar chart", "line chart", "pie chart")
    pairs.append(_pair(rng, "type", answer=chart.kind, choices=types, places=everything))
    return pairs


def _pair(
    rng: random.Random, kind: str, *names: str, answer: str, places: tuple[int, ...], choices: tuple[str, ...] = ()
) -> Pair:
    asked = {"highest": "extreme", "lowest": "extreme", "more": "comparison"}.get(kind, kind)
    question = rng.choice(PHRASINGS[kind]).format(*names)
    things = tuple((0, place) for place in places)
    return Pair(kind=asked, question=question, answer=answer, choices=choices, things=things)
