"""The scores of every layer of an encoder on one task: which is best, how far the last one is behind, and what cutting saves."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

from percept.core.report import printable, table
from percept.eval.probes.head import Head
from percept.eval.probes.outcome import Difference
from percept.eval.statistics import Score, with_unit, without_unit
from percept.models.config import TowerConfig

WIDE, HIGH, LEFT, BELOW = 560, 260, 64, 44
"""Size of the plot, and its margins for labels, in its own units."""
FEWEST = 10
"""Least test samples, or groups of them, for a claim that a layer is clearly better: intervals of fewer are too narrow."""
STYLE = (
    ".paper{fill:#faf9f6}text{font:12px system-ui,sans-serif;fill:#6d6a63}.title{font-size:14px;fill:#1f1f1d}.band{fill:#1f6f78;opacity:.16}"
    ".line{fill:none;stroke:#1f6f78;stroke-width:2}.dot{fill:#1f6f78}.best{fill:#b5722a}.axis{stroke:#d9d5cb}"
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
    best: int
    """Layer with the best validation value; the earliest of equal ones."""
    against_last: Difference
    """Test score of the best layer minus that of the last one, paired."""
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
        lead = -self.against_last.high if self.scores[0].better == "less" else self.against_last.low
        return self.best != self.layers[-1] and lead > 0 and self._units >= FEWEST

    @property
    def _units(self) -> int:
        """What is resampled: groups of test samples, or these themselves."""
        return self.groups or self.scores[0].n

    def statement(self) -> str:
        """Return one sentence: the best layer, and whether it is better than the last one."""
        score, last = self.scores[self.layers.index(self.best)], self.scores[-1]
        name = "last layer" if self.layers[-1] == self.blocks - 1 else "last scored layer"
        if self.best == self.layers[-1]:
            return f"{self.task}: the {name}, {self.best}, is best ({self.measure} {score.shown})."
        change, unit = self.against_last, score.unit
        lead = f"difference {without_unit(change.value, unit)} [{without_unit(change.low, unit)} – {without_unit(change.high, unit)}]"
        certain = "clearly better than" if self.peaks_early else "not clearly better than"
        units = f"{self._units} {'groups of ' if self.groups else ''}test samples"
        few = "" if self._units >= FEWEST else f", and {units} are too few to tell"
        return (
            f"{self.task}: layer {self.best} ({self.measure} {score.shown}) is {certain} the {name}, {self.layers[-1]} "
            f"({last.shown}; {lead}{few}); cutting after it saves {self.saved:.0%} of the FLOPs."
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for json."""
        rows = [
            {"layer": layer, "validation": value, **asdict(score), "others": [asdict(scores[place]) for scores in self.others.values()]}
            for place, (layer, value, score) in enumerate(zip(self.layers, self.validation, self.scores, strict=True))
        ]  # fmt: skip
        return {
            "task": self.task, "probe": self.probe, "data": self.data, "model": dict(self.model), "measure": self.measure,
            "layers": rows, "best": self.best, "best against last": asdict(self.against_last),
            "peaks before the last layer": self.peaks_early, "share of FLOPs saved": self.saved,
            "samples": dict(self.samples), "test groups": self.groups or None, "seed": self.seed, "seconds": self.seconds, "memory": self.memory,
            "facts": dict(self.facts), "statement": self.statement(),
        }  # fmt: skip

    def show(self) -> None:
        """Print the scores of all layers."""
        names = (self.measure, *self.others)
        rows = [
            (f"{layer}{' *' if layer == self.best else ''}", score.shown, score.interval, *(scores[place].shown for scores in self.others.values()), with_unit(self.validation[place], score.unit))
            for place, (layer, score) in enumerate(zip(self.layers, self.scores, strict=True))
        ]  # fmt: skip
        counts = ", ".join(f"{number:,} {part}" for part, number in self.samples.items())
        columns = ("layer", names[0], "95 % interval", *names[1:], f"{names[0]}, validation")
        table(
            f"{self.task} by {self.probe}: {self.model['name']}, {counts}, seed {self.seed}, {self.seconds:.0f} s, features of {self.memory / 2**20:.0f} MiB",
            columns,
            rows,
        )


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
        f"<title>layer {layer}: {escape(printable(score))}</title></circle>"
        for at, layer, score in zip(x, curve.layers, curve.scores, strict=True)
    )
    every = max(1, len(x) // 12)
    ticks = "".join(
        f'<text x="{at:.1f}" y="{30 + HIGH + 18}" text-anchor="middle">{layer}</text>'
        for at, layer in list(zip(x, curve.layers, strict=True))[::every]
    )
    return f'{_axes(curve, low, top)}<polygon class="band" points="{_points(edges)}"/><polyline class="line" points="{line}"/>{dots}{ticks}'


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
        f'<text x="{LEFT + WIDE / 2}" y="{30 + HIGH + 36}" text-anchor="middle">layer (block, counted from 0)</text>'
    )


def _range(curve: LayerCurve) -> tuple[float, float]:
    """Return the ends of the value axis: all intervals, with a little room."""
    low, top = min(score.low for score in curve.scores), max(score.high for score in curve.scores)
    room = 0.06 * (top - low) or 0.05
    return max(0.0, low - room), top + room


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
