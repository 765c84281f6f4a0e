"""One pass over labelled samples: features of all layers, a probe trained on each layer, and its outcomes on the held-out samples.

A sample whose image or label cannot be used is left out with its reason; a part of which more than half is left out is an error.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.data.files import in_order
from percept.eval.labelled import Labelled, Parts
from percept.eval.probes.chance import CHANCE, Chance
from percept.eval.probes.outcome import Outcome, Sums, join
from percept.eval.probes.probe import Fitted, Probe
from percept.eval.probes.stream import each_layer
from percept.infer.encoder import Encoder
from percept.infer.images import to_tensor

Bank: TypeAlias = dict[int, list[torch.Tensor]]
"""Features of the training samples, by layer."""
Results: TypeAlias = dict[int, dict[str, Outcome]]
"""By layer, or `CHANCE`, and name of the measure."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """Outcomes of all layers, and of the constant answer."""

    validation: Results
    test: Results
    fitted: dict[int, Fitted]


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One pass over the samples of each part."""

    encoder: Encoder
    labelled: Labelled
    layers: list[int]
    seed: int
    bad: dict[int, str] = field(default_factory=dict)
    """Samples whose image or label cannot be used, with the reason; they are left out."""

    def measure(self, probe: Probe, chance: Chance, parts: Parts) -> Measured:
        """Train the probe on every layer, then judge the held-out parts.

        Raises:
            PerceptError: more than half of the samples of a part cannot be used.
        """
        bank, targets = self._bank(probe, chance, parts.train.tolist())
        fitted: dict[int, Fitted] = {}
        for layer in self.layers:
            fitted[layer] = probe.fit(bank.pop(layer), targets, seed=self.seed)  # memory is freed layer by layer
        judge = self._judged_together if probe.whole else self._judged
        validation, test = (
            judge(probe, {**fitted, CHANCE: chance}, numbers.tolist(), name)
            for name, numbers in (("validation", parts.validation), ("test", parts.test))
        )
        return Measured(validation=validation, test=test, fitted=fitted)

    def _bank(self, probe: Probe, chance: Chance, numbers: list[int]) -> tuple[Bank, list[Any]]:
        bank: Bank = {layer: [] for layer in self.layers}
        targets = []
        for number, features, label in self._features(probe, numbers, "training"):
            chance.see(label)
            rng = np.random.default_rng(derive(self.seed, "thin", number))
            kept, target = probe.thin(features, label, rng)
            targets.append(target)
            for layer in self.layers:
                bank[layer].append(kept[layer])
        return bank, targets

    def _features(
        self, probe: Probe, numbers: list[int], part: str
    ) -> Iterator[tuple[int, dict[int, torch.Tensor], Any]]:
        """Yield the number, the features and the label of each sample: of its image, or of its frames or views stacked.

        Raises:
            PerceptError: more than half of the samples cannot be used.
        """
        usable: deque[tuple[int, int, Any]] = deque()

        def images() -> Iterator[torch.Tensor]:
            for number, read in zip(numbers, in_order(self._decoded, map(self._sample, numbers)), strict=True):
                if isinstance(read, PerceptError):
                    self.bad[number] = str(read)
                else:
                    decoded, label = read
                    usable.append((number, len(decoded), label))
                    yield from decoded

        rows = each_layer(self.encoder, images(), self.layers, probe.reduce)
        several = self.labelled.task in ("tracks", "points")
        for first in rows:
            number, length, label = usable.popleft()
            group = [first, *(next(rows) for _ in range(length - 1))]
            stacked = {layer: torch.stack([row[layer] for row in group]) for layer in self.layers} if several else first
            yield number, stacked, label
        if 2 * len(bad := [self.bad[number] for number in numbers if number in self.bad]) > len(numbers):
            raise PerceptError(
                f"{len(bad):,} of {len(numbers):,} {part} samples of {self.labelled.name} cannot be used. The first reason: {bad[0]}"
            )

    def _sample(self, number: int) -> tuple[Sequence[Any], Any] | PerceptError:
        """Return the images and the label of a sample, or why they cannot be used."""
        try:
            return self.labelled.images(number), self.labelled.target(number)
        except PerceptError as error:
            return error

    def _decoded(
        self, sample: tuple[Sequence[Any], Any] | PerceptError
    ) -> tuple[list[torch.Tensor], Any] | PerceptError:
        """Decode the images; this runs in threads."""
        if isinstance(sample, PerceptError):
            return sample
        try:
            return [to_tensor(image, self.encoder.preprocess) for image in sample[0]], sample[1]
        except PerceptError as error:
            return error

    def _judged(self, probe: Probe, fitted: Mapping[int, Fitted], numbers: list[int], part: str) -> Results:
        """Judge sample by sample, so that no features are kept."""
        found: dict[int, dict[str, list[Sums]]] = {layer: {} for layer in fitted}
        for _, features, label in self._features(probe, numbers, part):
            for layer, one in fitted.items():
                for name, outcome in one.judge(_of(layer, [features]), [label]).items():
                    assert isinstance(outcome, Sums)
                    found[layer].setdefault(name, []).append(outcome)
        return {layer: {name: join(parts) for name, parts in of.items()} for layer, of in found.items()}

    def _judged_together(self, probe: Probe, fitted: Mapping[int, Fitted], numbers: list[int], part: str) -> Results:
        """Judge all samples of the part together."""
        rows = list(self._features(probe, numbers, part))
        features, labels = [row for _, row, _ in rows], [label for _, _, label in rows]
        return {layer: dict(one.judge(_of(layer, features), labels)) for layer, one in fitted.items()}


def _of(layer: int, rows: Sequence[Mapping[int, torch.Tensor]]) -> list[torch.Tensor]:
    """Return the features of a layer; none for the constant answer."""
    return [] if layer == CHANCE else [row[layer] for row in rows]
