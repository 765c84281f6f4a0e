"""What fine-tuning gained on own images, and what it kept of the zero-shot accuracy on the generated world, with intervals."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from percept.core.report import table
from percept.eval.retrieval import ranks, same
from percept.eval.statistics import Score, paired_interval, proportion
from percept.eval.world import singles_by_style
from percept.eval.zeroshot import classifier, prompts
from percept.infer.encoder import Encoder
from percept.recipes.pe_own import Own, spoken
from percept.world.language import CLASS_TEMPLATES
from percept.world.objects import CATEGORIES
from percept.world.variants import STYLES


@dataclass(frozen=True, kw_only=True)
class Change:
    """A measure before and after fine-tuning on the same images."""

    name: str
    before: Score
    after: Score
    change: Score
    """Difference on the same images."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for json."""
        scores = {name: asdict(getattr(self, name)) for name in ("before", "after", "change")}
        return {"name": self.name, **scores}

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table."""
        change = f"{100 * self.change.value:+.1f} [{self.change.interval}]"
        return self.name, self.before.shown, self.after.shown, change, f"{self.change.n:,}"


def changed(name: str, before: np.ndarray, after: np.ndarray) -> Change:
    """Compare right answers before and after on the same images."""
    return Change(
        name=name,
        before=proportion("before", before),
        after=proportion("after", after),
        change=paired("change", before, after),
    )


def paired(name: str, before: np.ndarray, after: np.ndarray) -> Score:
    """Return the difference of two shares of right answers to the same questions, with its 95 % interval.

    >>> print(paired("change", np.array([True, True]), np.array([True, True])))
    change 0.0 % [-49.0 – 49.0], n=2
    """
    n, gained, lost = len(before), float((after & ~before).sum()), float((before & ~after).sum())
    low, high = paired_interval(lost, gained, n)
    return Score(name=name, value=(gained - lost) / n, n=n, low=low, high=high)


def compare(before: Encoder, after: Encoder, own: Own, templates: Sequence[str], *, world_images: int) -> list[Change]:
    """Measure both models on the held-out own images, and on single things of the world in six styles.

    Args:
        templates: of the texts of own classes.
        world_images: images of the world, all styles together; 0 for none.
    """
    rows: list[Change] = []
    if own.test:
        name = "own images, top-1" if own.classes else "own images, caption→image R@1"
        rows.append(changed(name, *(own_right(model, own, templates) for model in (before, after))))
    if world_images:
        first, second = (world_right(model, world_images) for model in (before, after))
        rows.append(changed("zero-shot on the world, plain style", first["plain"], second["plain"]))
        joined = [np.concatenate([right[style] for style in STYLES]) for right in (first, second)]
        rows.append(changed("zero-shot on the world, all styles", *joined))
    return rows


def own_right(model: Encoder, own: Own, templates: Sequence[str]) -> np.ndarray:
    """Return for each held-out image whether its class, or its caption, is the nearest one."""
    media, kinds = [each.media for each in own.test], [each.kind for each in own.test]
    if not own.classes:
        similarity = model.text(kinds).float() @ model.image(media).float().T
        return (ranks(similarity, same(kinds)) == 0).numpy()
    texts = prompts([spoken(name) for name in own.classes], templates)
    wanted = torch.tensor([own.classes.index(kind) for kind in kinds])
    return (classifier(model, texts)(media).argmax(dim=1) == wanted).numpy()


def world_right(model: Encoder, images: int) -> dict[str, np.ndarray]:
    """Return for single things of each style of the world whether their category is the nearest one."""
    counts: dict[str, int] = dict.fromkeys(STYLES, max(1, images // len(STYLES)))
    classify = classifier(model, prompts(list(CATEGORIES), CLASS_TEMPLATES))
    return {
        style: (classify(data.images).argmax(dim=1) == torch.tensor(data.categories)).numpy()
        for style, data in singles_by_style(counts).items()
    }


def show(title: str, rows: Sequence[Change]) -> None:
    """Print the comparison."""
    table(title, ("measure", "before", "after", "change in points [95 %]", "n"), [row.cells() for row in rows])
