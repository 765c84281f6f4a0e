"""The scores of every layer of an encoder on one task: which is best, how far the last one is behind, and what cutting saves."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

from percept.core.report import printable, table
from percept.eval.probes.head import Head
from percept.eval.probes.outcome import Difference
from percept.eval.statistics import Better, Score, with_unit, without_unit
from percept.models.config import TowerConfig

WIDE, HIGH, LEFT, BELOW = 560, 260, 64, 44
"""Size of the plot, and its margins for labels, in its own units."""
FEWEST = 10
"""Minimum number of test samples, or of groups of them, for the claim that a layer is clearly better; with fewer, intervals are too narrow."""
FEWEST_IN_INTERVAL = 5
"""Minimum number of test samples, or of groups of them, for an interval; with fewer, bootstrap resamples hardly differ."""
STYLE = (
    ".paper{fill:#faf9f6}text{font:12px system-ui,sans-serif;fill:#6d6a63}.title{font-size:14px;fill:#1f1f1d}.band{fill:#1f6f78;opacity:.16}"
    ".line{fill:none;stroke:#1f6f78;stroke-width:2}.chance{stroke:#6d6a63;stroke-dasharray:4 4}.dot{fill:#1f6f78}.best{fill:#b5722a}.axis{stroke:#d9d5cb}"
    "@media(prefers-color-scheme:dark){.paper{fill:#151618}text{fill:#9c9a94}.title{fill:#e9e7e2}.band{fill:#6cc1c9}.line{stroke:#6cc1c9}.dot{fill:#6cc1c9}"
    ".best{fill:#d9a861}.axis{stroke:#3a3c40}}"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerCurve:
    """What `percept.eval.layers.layers` returns."""

    task: str
    probe: str
    data: str
    model: Mapping[str, Any]
    """Name and identities of the encoder."""
    layers: tuple[int, ...]
    scores: tuple[Score, ...]
    """On the test samples, one per layer; the measure that chooses the layer."""
    others: Mapping[str, tuple[Score, ...]] = field(default_factory=dict)
    """Further measures on the test samples."""
    validation: tuple[float, ...]
    """The measure on the validation samples, which choose the best layer."""
    chosen: int
    """Layer with the best validation value; the earliest of equal ones."""
    best: int
    """Layer to use (`recommended`): the chosen one; the last one if that is better on the test samples, or if no layer is above the chance level."""
    against_last: Difference
    """Test score of the chosen layer minus that of the last one, paired."""
    chance: tuple[Score, ...]
    """Scores of a constant answer on the test samples: of the measure, then of the others."""
    against_chance: tuple[Difference, ...]
    """Test score of each layer minus that of the constant answer, paired."""
    blocks: int
    """Blocks of the encoder, of which some may not be among `layers`."""
    saved: float
    """Share of the image tower's FLOPs that is saved by cutting after the best layer."""
    samples: Mapping[str, int]
    """Training, validation and test samples."""
    groups: int = 0
    """Groups of test samples, such as rooms, which were resampled; 0 if every sample stands alone."""
    seed: int
    seconds: float
    memory: int
    """Most bytes of features that were kept at once, estimated before the first image was read."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Device, number type, preprocessing, patches per training image."""
    head: Head | None = None
    """Trained on the best layer; None for a probe without a head that can be saved."""

    @property
    def measure(self) -> str:
        """Name of the measure that chooses the layer."""
        return self.scores[0].name

    @property
    def peaks_early(self) -> bool:
        """True if the best layer is before the last one and its lead on enough test samples is clear."""
        return self.best != self.layers[-1] and leads(self.against_last, self.scores[0].better, self._units) and self._units >= FEWEST  # fmt: skip

    @property
    def learned(self) -> bool:
        """True if any layer is above the chance level."""
        return any(leads(each, self.scores[0].better, self._units) for each in self.against_chance)

    @property
    def has_intervals(self) -> bool:
        """True if there are enough test samples, or groups of them, for intervals."""
        return self._units >= FEWEST_IN_INTERVAL

    @property
    def _units(self) -> int:
        """Name of the resampled units: groups, or test samples."""
        return self.groups or self.scores[0].n

    def statement(self) -> str:
        """Return one or two sentences: the best layer, and how it compares with the last one and with the chance level."""
        chosen, last = self._shown(self.chosen), self._shown(self.layers[-1])
        chance = f"{self.measure} {self.chance[0].shown}"
        name = f"the last {'' if self.layers[-1] == self.blocks - 1 else 'scored '}layer, {self.layers[-1]}"
        if not self.learned:
            return f"{self.task}: no layer is above the chance level ({chance}); {name}, is kept ({last})."
        if self.chosen == self.layers[-1]:
            text = f"{name}, is best ({self.measure} {last})."
        elif self.best != self.chosen:
            text = (
                f"{name}, is kept ({self.measure} {last}): layer {self.chosen}, chosen on validation samples, is worse on the test samples "
                f"({chosen}; {self._difference()})."
            )
        else:
            certain = "clearly better than" if self.peaks_early else "not clearly better than"
            text = (
                f"layer {self.best} ({self.measure} {chosen}) is {certain} {name} ({last}; {self._difference()}); "
                f"cutting after it saves {self.saved:.0%} of the FLOPs."
            )
        if not leads(self.against_chance[self.layers.index(self.best)], self.scores[0].better, self._units):
            text += f" It is not above the chance level ({chance})."
        return f"{self.task}: {text}"

    def _shown(self, layer: int) -> str:
        return self.scores[self.layers.index(layer)].shown

    def _difference(self) -> str:
        """Return the difference of the chosen and the last layer with its interval, and whether there are enough samples for it."""
        change, unit = self.against_last, self.scores[0].unit
        ends = f" [{without_unit(change.low, unit)} – {without_unit(change.high, unit)}]" if self.has_intervals else ""
        units = f"{self._units} groups of test samples" if self.groups else f"{self._units} test samples"
        few = "1 test sample is" if units == "1 test samples" else f"{units} are"
        too_few = "" if self._units >= FEWEST else f", and {few} too few {'to tell' if ends else 'for an interval'}"
        return f"difference {without_unit(change.value, unit)}{ends}{too_few}"

    def row(self, score: Score) -> dict[str, Any]:
        """Return a score as plain data; its interval is None if there are too few samples."""
        return asdict(score) | ({} if self.has_intervals else {"low": None, "high": None})

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for json."""
        rows = [
            {"layer": layer, "validation": value, **self.row(score), "others": [self.row(scores[place]) for scores in self.others.values()]}
            for place, (layer, value, score) in enumerate(zip(self.layers, self.validation, self.scores, strict=True))
        ]  # fmt: skip
        return {
            "task": self.task, "probe": self.probe, "data": self.data, "model": dict(self.model), "measure": self.measure,
            "layers": rows, "best": self.best, "chosen on validation": self.chosen, "chosen against last": self._interval(self.against_last),
            "chance": [{"name": score.name, "value": score.value, "n": score.n} for score in self.chance], "above chance": self.learned,
            "against chance": [self._interval(each) for each in self.against_chance],
            "peaks before the last layer": self.peaks_early, "share of FLOPs saved": self.saved,
            "samples": dict(self.samples), "test groups": self.groups or None, "seed": self.seed, "seconds": self.seconds, "memory": self.memory,
            "facts": dict(self.facts), "statement": self.statement(),
        }  # fmt: skip

    def _interval(self, change: Difference) -> dict[str, Any]:
        return asdict(change) | ({} if self.has_intervals else {"low": None, "high": None})

    def show(self) -> None:
        """Print the scores of all layers, and of the constant answer."""
        names, interval = (
            (self.measure, *self.others),
            lambda score: score.interval if self.has_intervals else "too few samples",
        )
        rows = [
            (f"{layer}{' *' if layer == self.best else ''}", score.shown, interval(score), f"{score.n:,}", *(scores[place].shown for scores in self.others.values()), with_unit(self.validation[place], score.unit))
            for place, (layer, score) in enumerate(zip(self.layers, self.scores, strict=True))
        ]  # fmt: skip
        first, *others = self.chance
        rows.append(("chance", first.shown, "", f"{first.n:,}", *(score.shown for score in others), ""))
        counts = ", ".join(f"{number:,} {part}" for part, number in self.samples.items())
        columns = ("layer", names[0], "95 % interval", "n", *names[1:], f"{names[0]}, validation")
        table(
            f"{self.task} by {self.probe}: {self.model['name']}, {counts}, seed {self.seed}, {self.seconds:.0f} s, features of {self.memory / 2**20:.0f} MiB",
            columns,
            rows,
        )


def leads(change: Difference, better: Better, units: int) -> bool:
    """True if a difference favours the first: by its value and, from `FEWEST` units on, by its whole interval."""
    ends = (change.value, change.low, change.high) if units >= FEWEST else (change.value,)
    return max(ends) < 0 if better == "less" else min(ends) > 0


def recommended(chosen: int, last: int, against_last: Difference, *, learned: bool, better: Better) -> int:
    """Return the layer to use: the chosen one, unless it is worse on the test samples or nothing was learned; else the last one."""
    worse = against_last.value > 0 if better == "less" else against_last.value < 0
    return chosen if learned and not worse else last


def tower_flops(config: TowerConfig, patches: int, *, blocks: int, pooled: bool) -> int:
    """Return the FLOPs of an image tower for one image, two per multiplication; norms, activations and softmax do not count.

    Args:
        config: of the tower.
        patches: of an image.
        blocks: blocks that are computed.
        pooled: also count pooling by attention and the projection.
    """
    width, tokens = config.width, patches + config.prefix
    hidden = getattr(config, "mlp_width", 4 * width)
    block = 2 * tokens * (4 * width * width + 2 * width * hidden) + 4 * tokens * tokens * width
    total = 2 * patches * 3 * config.patch_size**2 * width + blocks * block
    if not pooled or config.pool != "attention":
        return total
    pool = 2 * (tokens + 1) * 3 * width * width + 4 * tokens * width + 2 * 9 * width * width
    return total + pool + 2 * width * (config.output_dim or 0)


def saved_share(config: TowerConfig, patches: int, after: int) -> float:
    """Return the share of a tower's FLOPs that is saved by cutting after a block."""
    return 1 - tower_flops(config, patches, blocks=after + 1, pooled=False) / tower_flops(
        config, patches, blocks=config.layers, pooled=True
    )


def svg(curves: Sequence[LayerCurve]) -> str:
    """Return one plot per curve below each other: scores by layer with 95 % intervals, the best layer marked. Light and dark."""
    high = HIGH + BELOW + 40
    plots = "".join(
        f'<g transform="translate(0 {number * high})">{_plot(curve)}</g>' for number, curve in enumerate(curves)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE + LEFT + 24} {high * len(curves)}" role="img" '
        f'aria-label="Scores by layer"><style>{STYLE}</style><rect class="paper" width="100%" height="100%"/>{plots}</svg>\n'
    )


def _plot(curve: LayerCurve) -> str:
    low, top = _range(curve)
    step = WIDE / max(1, len(curve.layers) - 1)
    x = [LEFT + place * step for place in range(len(curve.layers))]
    y = lambda value: 30 + HIGH * (1 - (value - low) / (top - low))  # noqa: E731
    edges = [*((at, y(score.high)) for at, score in zip(x, curve.scores, strict=True)), *((at, y(score.low)) for at, score in reversed(list(zip(x, curve.scores, strict=True))))]  # fmt: skip
    line = _points([(at, y(score.value)) for at, score in zip(x, curve.scores, strict=True)])
    dots = "".join(
        f'<circle class="{"best" if layer == curve.best else "dot"}" cx="{at:.1f}" cy="{y(score.value):.1f}" r="{6 if layer == curve.best else 3.5}">'
        f"<title>layer {layer}: {escape(printable(score if curve.has_intervals else f'{score.name} {score.shown}, n={score.n}'))}</title></circle>"
        for at, layer, score in zip(x, curve.layers, curve.scores, strict=True)
    )
    every = max(1, len(x) // 12)
    ticks = "".join(
        f'<text x="{at:.1f}" y="{30 + HIGH + 18}" text-anchor="middle">{layer}</text>'
        for at, layer in list(zip(x, curve.layers, strict=True))[::every]
    )
    band = f'<polygon class="band" points="{_points(edges)}"/>' if curve.has_intervals else ""
    chance = y(curve.chance[0].value)
    band += f'<line class="chance" x1="{LEFT}" x2="{LEFT + WIDE}" y1="{chance:.1f}" y2="{chance:.1f}"><title>chance level</title></line>'
    return f'{_axes(curve, low, top)}{band}<polyline class="line" points="{line}"/>{dots}{ticks}'


def _axes(curve: LayerCurve, low: float, top: float) -> str:
    unit = curve.scores[0].unit
    better = " (less is better)" if curve.scores[0].better == "less" else ""
    title = f"{curve.task}: {curve.measure}{better}, {curve.model['name']}, best layer {curve.best}"
    grid = "".join(
        f'<line class="axis" x1="{LEFT}" x2="{LEFT + WIDE}" y1="{30 + HIGH * (1 - part):.1f}" y2="{30 + HIGH * (1 - part):.1f}"/>'
        f'<text x="{LEFT - 8}" y="{34 + HIGH * (1 - part):.1f}" text-anchor="end">{escape(with_unit(low + part * (top - low), unit))}</text>'
        for part in (0, 0.25, 0.5, 0.75, 1)
    )
    return (
        f'<text class="title" x="{LEFT}" y="16">{escape(printable(title))}</text>{grid}'
        f'<text x="{LEFT + WIDE / 2}" y="{30 + HIGH + 36}" text-anchor="middle">layer (block, counted from 0); dashed: chance level; n = {curve.scores[0].n:,}{"" if curve.has_intervals else ", too few samples for intervals"}</text>'
    )


def _range(curve: LayerCurve) -> tuple[float, float]:
    """Return the ends of the value axis: all intervals and the chance level, with a little room."""
    ends = [end for one in curve.scores for end in ((one.low, one.high) if curve.has_intervals else (one.value,))]
    low, top = (extreme(*ends, curve.chance[0].value) for extreme in (min, max))
    room = 0.06 * (top - low) or 0.05
    return max(0.0, low - room), top + room


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
