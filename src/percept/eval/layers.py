"""Find the layer of an encoder that is best for a task: every layer is scored in one pass of the tower.

The thesis of Bolya et al. 2025 (Perception Encoder), arXiv:2504.13181, is that the best features are not at the output. A probe is trained on
each layer, the best layer is chosen on validation samples, and all layers are reported on test samples. Each image goes through the
tower once.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.core.machine import total_memory
from percept.core.report import notice
from percept.eval.curve import LayerCurve, leads, recommended, saved_share
from percept.eval.dense_sets import open_labels
from percept.eval.labelled import Labelled, Parts, need_task
from percept.eval.probes.chance import CHANCE, CHANCES
from percept.eval.probes.grouped import counted, grouped_difference, grouped_score
from percept.eval.probes.probe import Setup, find_probe
from percept.eval.probes.run import Measured, Run
from percept.eval.probes.stream import frame_of, squashing
from percept.infer.dense import Layers, check_layers
from percept.infer.encoder import Encoder
from percept.nn.stack import resolve_layer

MOST_SAMPLES = 2000
"""Samples that are used unless asked otherwise."""
MOST_BYTES = 2 << 30
"""Features of training samples that are kept at once; less on a machine with less than four times as much memory."""
FEWEST_PATCHES, MOST_PATCHES = 4, 32
"""Patches of a training image that are kept for linear dense probes."""


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
        PerceptError: the data have no labels for the task, images or labels of more than half of the samples cannot be used, there are
            too few samples, the features do not fit into memory, or an export, whose graph has no hidden states.
    """
    start = time.perf_counter()
    name, kind = find_probe(task, probe)
    labelled = data if isinstance(data, Labelled) else need_task(open_labels(data), task, data)
    if labelled.task != task:
        raise PerceptError(
            f"{labelled.name} has labels for {labelled.task}, but not for {task}. Ask for {labelled.task}."
        )
    numbers = _layers_of(encoder, layers)
    run = Run(encoder=squashing(encoder), labelled=_with_texts(encoder, labelled), layers=numbers, seed=seed)
    parts = labelled.parts(seed=seed, most=samples, trains=kind.trains)
    setup = Setup(
        frame=frame_of(run.encoder), classes=labelled.classes, unit=labelled.unit, device=str(encoder.setting.device)
    )  # fmt: skip
    setup, memory = planned(setup, len(parts.train), numbers, name, task)
    chance = CHANCES[task](setup)
    measured = run.measure(kind(setup), chance, parts)
    curve = _curve(run, task, name, measured, parts, memory=memory, seconds=time.perf_counter() - start)
    _tell_unseen(run.labelled, parts)
    if run.bad:
        total = len(parts.train) + len(parts.validation) + len(parts.test)
        notice(
            f"{len(run.bad):,} of {total:,} samples are left out, because their image or label cannot be used, such as {next(iter(run.bad.values()))}"
        )
    numbered = {"train": parts.train, "validation": parts.validation, "test": parts.test}
    counts = {name: len(part) - len(run.bad.keys() & set(part.tolist())) for name, part in numbered.items()}
    facts = {
        "device": str(encoder.setting), "preprocess": to_dict(run.encoder.preprocess), "patches per training image": setup.tokens or "all",
        "left out": list(run.bad.values()), "chance": chance.answer,
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
    captions = [_caption(labelled, index) for index in range(len(labelled))]
    vectors = encoder.text([caption or "" for caption in captions])
    return replace(labelled, target=lambda index: (vectors[index], captions[index] or labelled.target(index)))


def _caption(labelled: Labelled, index: int) -> str | None:
    """Return a caption; None if it cannot be read, which is reported when the sample is used."""
    try:
        return labelled.target(index)
    except PerceptError:
        return None


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


def _curve(
    run: Run, task: str, probe: str, measured: Measured, parts: Parts, *, memory: int, seconds: float
) -> LayerCurve:  # fmt: skip
    test, seed, groups = measured.test, run.seed, parts.groups_without(run.bad)
    last, names = run.layers[-1], list(test[run.layers[0]])
    main = {at: next(iter(found.values())) for at, found in test.items()}
    scores = {
        name: tuple(grouped_score(test[at][name], groups, name, seed=seed) for at in run.layers) for name in names
    }
    chance = tuple(
        grouped_score(outcome, groups, name, seed=seed)
        for name, outcome in zip(names, test[CHANCE].values(), strict=True)
    )
    outcomes = {layer: found[names[0]] for layer, found in measured.validation.items() if layer != CHANCE}
    validation = tuple(grouped_score(outcomes[layer], None, names[0], seed=seed).value for layer in run.layers)
    sign = -1 if chance[0].better == "less" else 1
    chosen = run.layers[int(np.argmax([sign * value for value in validation]))]
    against_last = grouped_difference(main[chosen], main[last], groups, seed=seed)
    against_chance = tuple(grouped_difference(main[at], main[CHANCE], groups, seed=seed) for at in run.layers)
    count = 0 if groups is None else len(np.unique(groups[counted(main[last])]))
    better, units = chance[0].better, count or chance[0].n
    learned = any(leads(each, better, units) for each in against_chance)
    best = recommended(chosen, last, against_last, learned=learned, better=better)
    config = run.encoder.model.config.vision
    head = measured.fitted[best].head(best)
    identity = run.encoder.identity
    return LayerCurve(
        task=task, probe=probe, data=run.labelled.name, model=to_dict(identity), layers=tuple(run.layers),
        scores=scores[names[0]], others={name: scores[name] for name in names[1:]}, validation=validation, best=best, chosen=chosen,
        blocks=config.layers, against_last=against_last, chance=chance, against_chance=against_chance,
        saved=saved_share(config, frame_of(run.encoder).patches, best), groups=count, samples={}, seed=run.seed, seconds=round(seconds, 1), memory=memory,
        head=None if head is None else replace(head, encoder=identity.image, module=head.module.cpu()),
    )  # fmt: skip


def save_best(folder: Path | str, encoder: Encoder, curve: LayerCurve) -> Path:
    """Write the encoder cut after the best layer as a folder that `percept.load` opens, and the head in `head/`.

    Raises:
        PerceptError: of several layers, none is above the chance level; an export, whose graph cannot be cut; or the folder cannot be
            written.
    """
    from percept.eval.probes.head import save_head
    from percept.weights.folder import save_folder

    if len(curve.layers) > 1 and not curve.learned:
        raise PerceptError(
            f"no layer is above the chance level of {curve.task}, so no encoder and no head is saved. Give more samples, or only one layer, such as "
            f"--layers {curve.best}, to save it anyway."
        )
    folder, cut = Path(folder), encoder.cut(curve.best)
    save_folder(
        folder, cut.model, name=folder.resolve().name, preprocess=encoder.preprocess, tokenizer=None,
        provenance={"cut from": to_dict(encoder.identity), "after layer": curve.best, "layer curve": curve.to_dict()},
    )  # fmt: skip
    if curve.head is not None:
        facts = {"data": curve.data, "score": str(curve.scores[curve.layers.index(curve.best)]), "seed": curve.seed}
        save_head(folder / "head", replace(curve.head, facts=facts))
    return folder
