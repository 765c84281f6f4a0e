"""Find the layer of an encoder that is best for a task: every layer is scored in one pass of the tower.

The thesis of Bolya et al. 2025 (Perception Encoder), arXiv:2504.13181, is that the best features are not at the output. A probe is trained on
each layer, the best layer is chosen on validation samples, and all layers are reported on test samples. Each image goes through the
tower once.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.core.machine import total_memory
from percept.core.report import notice
from percept.core.seed import derive
from percept.data.files import in_order
from percept.eval.curve import LayerCurve, saved_share
from percept.eval.dense_sets import open_labels
from percept.eval.labelled import Labelled, Parts, need_task
from percept.eval.probes.grouped import grouped_difference, grouped_score
from percept.eval.probes.outcome import Outcome, Sums, join
from percept.eval.probes.probe import Fitted, Probe, Setup, find_probe
from percept.eval.probes.stream import each_layer, frame_of, squashing
from percept.infer.dense import Layers, check_layers
from percept.infer.encoder import Encoder
from percept.infer.images import to_tensor
from percept.nn.stack import resolve_layer

MOST_SAMPLES = 2000
"""Samples that are used unless asked otherwise."""
MOST_BYTES = 2 << 30
"""Features of training samples that are kept at once; less on a machine with less than four times as much memory."""
FEWEST_PATCHES, MOST_PATCHES = 4, 32
"""Patches of a training image that are kept for linear dense probes."""
Bank: TypeAlias = dict[int, list[torch.Tensor]]
"""Features of the training samples, by layer."""
Results: TypeAlias = dict[int, dict[str, Outcome]]
"""By layer and name of the measure."""


def layers(
    encoder: Encoder,
    data: Labelled | Path | str,
    task: str,
    *,
    probe: str | None = None,
    layers: Layers | None = None,
    samples: int | None = MOST_SAMPLES,
    seed: int = 0,
) -> LayerCurve:
    """Score the layers of an encoder on a task.

    Args:
        encoder: any encoder that gives hidden states; images are squashed to its size.
        data: labelled samples, or a folder or file that `percept.eval.dense_sets.open_labels` recognises.
        task: a name of `PROBES`.
        probe: one of the task's; its first one if None.
        layers: blocks, counted from either end; all if None.
        samples: most samples that are used.
        seed: of the division into parts and of training.

    Raises:
        PerceptError: the data have no labels for the task, labels do not match the images, there are too few samples, the
            features do not fit into memory, or an export, whose graph has no hidden states.
    """
    start = time.perf_counter()
    name, kind = find_probe(task, probe)
    labelled = data if isinstance(data, Labelled) else need_task(open_labels(data), task, data)
    if labelled.task != task:
        raise PerceptError(
            f"{labelled.name} has labels for {labelled.task}, but not for {task}. Ask for {labelled.task}."
        )
    numbers = _layers_of(encoder, layers)
    run = _Run(encoder=squashing(encoder), labelled=_with_texts(encoder, labelled), layers=numbers, seed=seed)
    parts = labelled.parts(seed=seed, most=samples, trains=kind.trains)
    setup = Setup(
        frame=frame_of(run.encoder), classes=labelled.classes, unit=labelled.unit, device=str(encoder.setting.device)
    )  # fmt: skip
    setup, memory = planned(setup, len(parts.train), numbers, name, task)
    measured = run.measure(kind(setup), parts.train.tolist(), parts.validation.tolist(), parts.test.tolist())
    curve = _curve(run, task, name, measured, parts, memory=memory, seconds=time.perf_counter() - start)
    _tell_unseen(run.labelled, parts)
    if run.bad:
        total = len(parts.train) + len(parts.validation) + len(parts.test)
        notice(
            f"{len(run.bad):,} of {total:,} samples cannot be read and are left out, such as {next(iter(run.bad.values()))}"
        )
    numbered = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    counts = {name: len(part) - len(run.bad.keys() & set(part.tolist())) for name, part in numbered.items()}
    facts = {
        "device": str(encoder.setting), "preprocess": to_dict(run.encoder.preprocess), "patches per training image": setup.tokens or "all",
        "samples that cannot be read": len(run.bad),
    }  # fmt: skip
    return replace(curve, samples=counts, facts=facts)


def _layers_of(encoder: Encoder, chosen: Layers | None) -> list[int]:
    count = encoder.model.config.vision.layers
    numbers = range(count) if chosen is None else (resolve_layer(layer, count) for layer in check_layers(chosen, count))
    return sorted(set(numbers))


def _with_texts(encoder: Encoder, labelled: Labelled) -> Labelled:
    """Return captions together with their text vectors. Classes are remembered: they are asked for twice."""
    if labelled.task == "classes":
        return replace(labelled, target=cache(labelled.target))
    if labelled.task != "captions":
        return labelled
    captions = [labelled.target(index) for index in range(len(labelled))]
    vectors = encoder.text(captions)
    return replace(labelled, target=lambda index: (vectors[index], captions[index]))


def _tell_unseen(labelled: Labelled, parts: Parts) -> None:
    """Report test samples that no probe can get right, because no training sample has their class."""
    if labelled.task != "classes":
        return
    trained = {labelled.target(number) for number in parts.train.tolist()}
    unseen = sum(labelled.target(number) not in trained for number in parts.test.tolist())
    if unseen:
        notice(
            f"{unseen} of {len(parts.test)} test samples are of classes without a training sample, so they count as wrong. "
            "Give more images per class."
        )


def planned(setup: Setup, train: int, layers: Sequence[int], probe: str, task: str) -> tuple[Setup, int]:
    """Return the setup with the patches of a training image that fit into memory, and the bytes that are kept.

    Raises:
        PerceptError: even few patches of each image do not fit.
    """
    limit = min(MOST_BYTES, total_memory() // 4)
    frame = setup.frame
    token = 4 * frame.width * len(layers) * max(1, train)
    pooled, linear = task in ("classes", "captions"), task in ("masks", "depth") and probe == "linear"
    fewest = (1 + frame.prefix) if pooled else FEWEST_PATCHES if linear else frame.patches
    if token * fewest > limit:
        raise PerceptError(
            f"the features of {train} training samples in {len(layers)} layers need {token * fewest / 2**30:.1f} GiB, more than the "
            f"{limit / 2**30:.1f} GiB that are used at most. Use fewer samples, or fewer layers."
        )
    if not linear:
        return setup, token * fewest
    tokens = int(min(frame.patches, MOST_PATCHES, limit // token))
    return replace(setup, tokens=tokens), token * tokens


@dataclass(frozen=True, kw_only=True, eq=False)
class _Measured:
    """Outcomes of all layers."""

    validation: Results
    test: Results
    fitted: dict[int, Fitted]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Run:
    """One pass over the samples of each part."""

    encoder: Encoder
    labelled: Labelled
    layers: list[int]
    seed: int
    bad: dict[int, str] = field(default_factory=dict)
    """Samples that cannot be read, with the reason; they are left out."""

    def measure(self, probe: Probe, train: list[int], validation: list[int], test: list[int]) -> _Measured:
        """Train the probe on every layer, then judge the held-out parts."""
        bank, targets = self._bank(probe, train)
        fitted: dict[int, Fitted] = {}
        for layer in self.layers:
            fitted[layer] = probe.fit(bank.pop(layer), targets, seed=self.seed)  # memory is freed layer by layer
        judge = self._judged_together if probe.whole else self._judged
        return _Measured(
            validation=judge(probe, fitted, validation), test=judge(probe, fitted, test), fitted=fitted
        )  # fmt: skip

    def _bank(self, probe: Probe, numbers: list[int]) -> tuple[Bank, list[Any]]:
        bank: Bank = {layer: [] for layer in self.layers}
        targets = []
        for number, features in self._features(probe, numbers):
            rng = np.random.default_rng(derive(self.seed, "thin", number))
            kept, target = probe.thin(features, self.labelled.target(number), rng)
            targets.append(target)
            for layer in self.layers:
                bank[layer].append(kept[layer])
        return bank, targets

    def _features(self, probe: Probe, numbers: list[int]) -> Iterator[tuple[int, dict[int, torch.Tensor]]]:
        """Yield the number and the features of each sample: of its image, or of its frames or views stacked.

        Raises:
            PerceptError: none of the samples can be read.
        """
        usable: deque[tuple[int, int]] = deque()

        def images() -> Iterator[torch.Tensor]:
            decoded = in_order(self._decoded, (self.labelled.images(number) for number in numbers))
            for number, found in zip(numbers, decoded, strict=True):
                if isinstance(found, PerceptError):
                    self.bad[number] = str(found)
                else:
                    usable.append((number, len(found)))
                    yield from found

        rows = each_layer(self.encoder, images(), self.layers, probe.reduce)
        several = self.labelled.task in ("tracks", "points")
        for first in rows:
            number, length = usable.popleft()
            group = [first, *(next(rows) for _ in range(length - 1))]
            yield (
                number,
                {layer: torch.stack([row[layer] for row in group]) for layer in self.layers} if several else first,
            )
        if numbers and len(self.bad.keys() & set(numbers)) == len(numbers):
            raise PerceptError(f"none of {len(numbers)} samples can be read. The first reason: {self.bad[numbers[0]]}.")

    def _decoded(self, images: Sequence[Any]) -> list[torch.Tensor] | PerceptError:
        try:
            return [to_tensor(image, self.encoder.preprocess) for image in images]
        except PerceptError as error:
            return error

    def _judged(self, probe: Probe, fitted: Mapping[int, Fitted], numbers: list[int]) -> Results:
        """Judge sample by sample, so that no features are kept."""
        found: dict[int, dict[str, list[Sums]]] = {layer: {} for layer in self.layers}
        for number, features in self._features(probe, numbers):
            target = self.labelled.target(number)
            for layer in self.layers:
                for name, outcome in fitted[layer].judge([features[layer]], [target]).items():
                    assert isinstance(outcome, Sums)
                    found[layer].setdefault(name, []).append(outcome)
        return {layer: {name: join(parts) for name, parts in of.items()} for layer, of in found.items()}

    def _judged_together(self, probe: Probe, fitted: Mapping[int, Fitted], numbers: list[int]) -> Results:
        """Judge all samples of the part together."""
        rows = list(self._features(probe, numbers))
        targets = [self.labelled.target(number) for number, _ in rows]
        return {layer: dict(fitted[layer].judge([row[layer] for _, row in rows], targets)) for layer in self.layers}


def _curve(
    run: _Run, task: str, probe: str, measured: _Measured, parts: Parts, *, memory: int, seconds: float
) -> LayerCurve:  # fmt: skip
    test, seed, groups = measured.test, run.seed, parts.groups_without(run.bad)
    names = list(test[run.layers[0]])
    scores = {
        name: tuple(grouped_score(test[at][name], groups, name, seed=seed) for at in run.layers) for name in names
    }
    outcomes = {layer: found[names[0]] for layer, found in measured.validation.items()}
    validation = tuple(grouped_score(outcomes[layer], None, names[0], seed=seed).value for layer in run.layers)
    sign = -1 if scores[names[0]][0].better == "less" else 1
    best = run.layers[int(np.argmax([sign * value for value in validation]))]
    config = run.encoder.model.config.vision
    head = measured.fitted[best].head(best)
    identity = run.encoder.identity
    return LayerCurve(
        task=task, probe=probe, data=run.labelled.name, model=to_dict(identity), layers=tuple(run.layers),
        scores=scores[names[0]], others={name: scores[name] for name in names[1:]}, validation=validation, best=best, blocks=config.layers,
        against_last=grouped_difference(test[best][names[0]], test[run.layers[-1]][names[0]], groups, seed=seed),
        saved=saved_share(config, frame_of(run.encoder).patches, best), groups=0 if groups is None else int(groups.max()) + 1,
        samples={}, seed=run.seed, seconds=round(seconds, 1), memory=memory,
        head=None if head is None else replace(head, encoder=identity.image, module=head.module.cpu()),
    )  # fmt: skip


def save_best(folder: Path | str, encoder: Encoder, curve: LayerCurve) -> Path:
    """Write the encoder cut after the best layer as a folder that `percept.load` opens, and the head in `head/`.

    Raises:
        PerceptError: an export, whose graph cannot be cut, or the folder cannot be written.
    """
    from percept.eval.probes.head import save_head
    from percept.weights.folder import save_folder

    folder, cut = Path(folder), encoder.cut(curve.best)
    save_folder(
        folder, cut.model, name=folder.resolve().name, preprocess=encoder.preprocess, tokenizer=None,
        provenance={"cut from": to_dict(encoder.identity), "after layer": curve.best, "layer curve": curve.to_dict()},
    )  # fmt: skip
    if curve.head is not None:
        facts = {"data": curve.data, "score": str(curve.scores[curve.layers.index(curve.best)]), "seed": curve.seed}
        save_head(folder / "head", replace(curve.head, facts=facts))
    return folder
