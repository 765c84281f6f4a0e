"""Run methods over sets, foundations and seeds, keep one record per run, and compare methods in pairs.

A run is one line of a json-lines file, so an interrupted bench goes on where it stopped, with the same weights and settings only. Paired differences are taken
between runs of one set, foundation and seed, whose training images are equal; the interval is a bootstrap over these cells, or over sets.
"""

import hashlib
import json
import resource
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from percept.core.config import to_dict
from percept.core.errors import PerceptError, unknown_name
from percept.core.io import append_json_line
from percept.core.seed import derive
from percept.eval.statistics import Score, mean
from percept.methods.adaptation import ADAPTATIONS
from percept.methods.adaptation.contract import Adaptation, Shots, Training
from percept.methods.adaptation.few import CROPS, Seen
from percept.methods.adaptation.measure import Measured, harmonic, measure
from percept.methods.adaptation.trainer import Progress, Trained, fit, with_steps


def adaptation_class(name: str) -> type[Adaptation]:
    """Return the class of an adaptation method or baseline.

    Raises:
        PerceptError: unknown name.
    """
    if name not in ADAPTATIONS:
        raise unknown_name("adaptation method", name, ADAPTATIONS)
    module, _, attribute = ADAPTATIONS[name].partition(":")
    return getattr(import_module(module), attribute)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One column of a comparison: a method with its configuration and optimisation."""

    method: str
    label: str = ""
    """Name in tables; that of the method if empty."""
    config: Any = None
    """Of the method; its defaults if None."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Training` that differ from those of the paper."""

    @property
    def name(self) -> str:
        """Name in tables and records."""
        return self.label or self.method


@dataclass(frozen=True, kw_only=True)
class Case:
    """How a run is drawn and split."""

    split: str = "base"
    """Classes that are trained on: base, then measured on base, new and all; or all."""
    shots: int = 16
    seed: int = 1
    crops: int = CROPS
    steps: int = 0
    """Optimiser steps that every trained arm takes, nearly; 0 for the epochs of each paper."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts that are measured."""
        return ("base", "new", "all") if self.split == "base" else ("all",)


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A trained method with its measurements."""

    method: Adaptation
    trained: Trained
    measured: Measured
    record: dict[str, Any]


def config_of(arm: Arm) -> Any:
    """Return the configuration of the method of an arm."""
    return adaptation_class(arm.method).Config() if arm.config is None else arm.config  # type: ignore[attr-defined]


def training_of(arm: Arm, case: Case, images: int) -> Training:
    """Return the optimisation of an arm: that of the paper with the arm's own fields, then with the number of steps of the case.

    Args:
        images: that are trained on.
    """
    own = replace(adaptation_class(arm.method).recipe_of(config_of(arm), case.shots), **dict(arm.training))
    return with_steps(own, images, case.steps) if case.steps else own


def images_of(seen: Seen, case: Case) -> int:
    """Return how many images are trained on."""
    drawn = seen.data.drawn(case.shots, case.seed, smaller=True)
    return int(np.isin(seen.data.labels[drawn], list(seen.data.part(case.split))).sum())


def settings_of(arm: Arm, seen: Seen, case: Case) -> str:
    """Return a short hash of what decides a run besides the fields of `KEY` and the weights of the foundation."""
    data, training = seen.data, to_dict(training_of(arm, case, images_of(seen, case)))
    return digest([to_dict(config_of(arm)), training, case.crops, seen.least, data.keys, data.template, data.sentences])


def build(arm: Arm, encoder: Any, shots: Shots, seed: int) -> Adaptation:
    """Return an untrained method on the classes of the shots; its random values depend on the seed only."""
    kind, config = adaptation_class(arm.method), config_of(arm)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "method", arm.method))
        return kind.from_encoder(config, encoder, shots.names, shots.template)


def run(arm: Arm, seen: Seen, case: Case, *, progress: Progress = iter, smaller: bool = True) -> Run:
    """Draw shots, train a method on them, and measure it.

    Raises:
        PerceptError: there are too few images, or the method or the encoder cannot be used.
    """
    drawn = seen.data.drawn(case.shots, case.seed, smaller=smaller)
    shots = seen.shots(drawn, case.split, crops=case.crops)
    method = build(arm, seen.encoder, shots, case.seed)
    training = training_of(arm, case, len(shots))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(case.seed, "training", arm.name))
        trained = fit(method, shots, training, seed=case.seed, progress=progress)
    measured = measure(method, seen, drawn, case.parts)
    method.use(shots.names, shots.template)
    return Run(
        method=method,
        trained=trained,
        measured=measured,
        record=record_of(arm, seen, case, method, shots, trained, measured),
    )


def record_of(
    arm: Arm, seen: Seen, case: Case, method: Adaptation, shots: Shots, trained: Trained, measured: Measured
) -> dict[str, Any]:  # fmt: skip
    """Return the record of a run as plain data; shares are from 0 to 1."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
    return {
        "method": arm.method, "label": arm.name, "foundation": seen.encoder.name, "data": seen.data.name, "split": case.split,
        "shots": case.shots, "seed": case.seed, "steps": trained.steps, "seconds": round(trained.seconds, 2), "processor": round(trained.processor, 3),
        "peak MB": round(peak),
        "trainable": trained.trainable, "loss": {name: round(value, 5) for name, value in trained.losses.items()},
        "scores": rounded(replace(each, name=name) for name, each in measured.scores.items()),
        "per class": per_class(seen, measured), "leaks": list(method.leaks), "settings": settings_of(arm, seen, case), "shots hash": digest(shots.keys),
        "vectors": vectors_hash(seen),
    }  # fmt: skip


def rounded(scores: Iterable[Score]) -> dict[str, list[float]]:
    """Return value and interval of scores by name."""
    return {each.name: [round(value, 5) for value in (each.value, each.low, each.high)] for each in scores}


def per_class(seen: Seen, measured: Measured) -> dict[str, dict[str, float]]:
    """Return the accuracy of every class by part."""
    return {
        part: {
            seen.data.classes[number]: round(float(each.right[each.truth == number].mean()), 4)
            for number in seen.data.part(part)
        }
        for part, each in measured.answers.items()
    }


def digest(value: Any) -> str:
    """Return a short hash of plain data."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()


def vectors_hash(seen: Seen) -> str:
    """Return a short hash of what decides the vectors of a foundation: weights, configuration, preprocessing, tokenizer."""
    identity = seen.encoder.identity
    return digest([identity.image, identity.text])


# many runs

KEY = ("label", "foundation", "data", "split", "shots", "seed")
"""Fields that identify a run."""
Known: TypeAlias = dict[tuple[Any, ...], dict[str, Any]]
"""Records by the values of `KEY`."""
FEWEST = 6
"""Cells below which the bootstrap of their mean says little."""
CELL = ("data", "foundation", "seed", "split", "shots")
"""Fields that two runs of a pair share."""


def read_records(file: Path) -> list[dict[str, Any]]:
    """Return the records of a bench; none if there is no file yet."""
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def run_all(
    arms: Sequence[Arm], sets: Iterable[Seen], cases: Sequence[Case], file: Path, *, told: Callable[[str], None] = lambda _: None,
    more: Callable[[Run, Seen, Case], Iterable[Score]] = lambda *_: (),
) -> list[dict[str, Any]]:  # fmt: skip
    """Run what the file does not hold yet, set by set, and return all of its records.

    Args:
        told: called with a line about each run.
        more: returns further scores of a trained method; they are stored with the others, by name.

    Raises:
        PerceptError: the file has runs of a foundation of the same name with different weights, or of the same arm with different settings.
    """
    known = by_key(read_records(file))
    for seen in sets:
        for case in cases:
            for arm in missing(arms, seen, case, known, file):
                result = run(arm, seen, case)
                result.record["scores"] |= rounded(more(result, seen, case))
                append_json_line(file, result.record)
                scores = " ".join(f"{name} {score.value:.1%}" for name, score in result.measured.scores.items())
                told(f"{' '.join(map(str, key_of(arm, seen, case)))}: {scores}, {result.trained.seconds:.0f} s")
    return read_records(file)


def key_of(arm: Arm, seen: Seen, case: Case) -> tuple[Any, ...]:
    """Return the values of `KEY` of a run."""
    return arm.name, seen.encoder.name, seen.data.name, case.split, case.shots, case.seed


def by_key(records: Iterable[dict[str, Any]]) -> Known:
    """Return records by the fields that identify a run; of several the first one.

    Raises:
        PerceptError: runs of one key have different settings, or runs of one foundation different weights.
    """
    known, weights = {}, {}
    for record in records:
        key, own = tuple(record[name] for name in KEY), record.get("vectors")
        first = known.setdefault(key, record)
        if first.get("settings") != record.get("settings") or weights.setdefault(record["foundation"], own) != own:
            name = " ".join(map(str, key))
            raise PerceptError(f"runs of {name} have different settings or weights. Give files of one comparison.")
    return known


def missing(arms: Sequence[Arm], seen: Seen, case: Case, known: Known, file: Path) -> list[Arm]:
    """Return the arms that have no run of a case yet.

    Args:
        known: runs of `file`, as `by_key` returns them.

    Raises:
        PerceptError: a known run of the foundation has different weights, or one of an arm different settings.
    """
    found = {record.get("vectors") for record in known.values() if record["foundation"] == seen.encoder.name}
    if found - {vectors_hash(seen)}:
        raise PerceptError(
            f"{file} has runs of {seen.encoder.name} with different weights, or without a hash of its weights. Give a new file."
        )
    keys = {arm.name: key_of(arm, seen, case) for arm in arms}
    for arm in arms:
        if (key := keys[arm.name]) in known and known[key].get("settings") != settings_of(arm, seen, case):
            name = " ".join(map(str, key))
            raise PerceptError(f"{file} has a run of {name} with different settings. Give a new file.")
    return [arm for arm in arms if keys[arm.name] not in known]


def value_of(record: Mapping[str, Any], score: str) -> float | None:
    """Return a score of a run, or a number of its record such as seconds; None if there is neither."""
    found = record["scores"].get(score, (record.get(score),))[0]
    return None if found is None else float(found)


def paired(
    records: Sequence[Mapping[str, Any]], label: str, than: str, score: str, *, ratio: bool = False, than_shots: int = 0,
    over: Literal["cells", "sets"] = "cells", seed: int = 0,
) -> Score | None:  # fmt: skip
    """Return the mean difference of two arms over the cells that both have, with a bootstrap interval; None without cells.

    Args:
        ratio: return the mean ratio in place of the difference.
        than_shots: shots of the second arm if they are others than those of the first, which may then be the same arm.
        over: what the bootstrap resamples: cells, or sets, whose cells are averaged first. Cells of one set are not independent.

    Raises:
        AssertionError: two runs of one cell were trained on different images.
    """
    by_set: dict[str, list[float]] = {}
    for one, other in _pairs(records, label, than, score, than_shots):
        values = [value_of(each, score) or 0.0 for each in (one, other)]
        by_set.setdefault(one["data"], []).append(values[0] / values[1] if ratio else values[0] - values[1])
    if not by_set:
        return None
    groups = [[np.mean(each)] for each in by_set.values()] if over == "sets" else by_set.values()
    return mean(f"{label} {'/' if ratio else '-'} {than}, {score}", np.concatenate(list(groups)), seed=seed)


def _pairs(
    records: Sequence[Mapping[str, Any]], label: str, than: str, score: str, than_shots: int
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Yield the runs of both arms for every cell that both have."""
    fields = [name for name in CELL if not (than_shots and name == "shots")]
    ones, others = {}, {}
    for record in records:
        if value_of(record, score) is not None:
            cell = tuple(record[name] for name in fields)
            if record["label"] == label and record["shots"] != than_shots:
                ones[cell] = record
            if record["label"] == than and (not than_shots or record["shots"] == than_shots):
                others[cell] = record
    for cell, one in ones.items():
        if cell in others:
            same = one["shots hash"] == others[cell]["shots hash"]
            assert than_shots or same, f"the runs of {cell} have different shots"
            yield one, others[cell]


def verdict(difference: Score | None, *, sign: int = 1, margin: float = 0.0, fewest: int = 1) -> str:
    """Return whether a difference, or a ratio, is on the claimed side of `margin`: holds, does not hold, within noise, or too few cells.

    Args:
        sign: 1 if it is claimed to be above, -1 if below.
        fewest: cells below which nothing is said; `FEWEST` for bootstraps over cells or sets.
    """
    if difference is None:
        return "not measured"
    if difference.n < fewest:
        return "too few cells"
    low, high = sorted((sign * (difference.low - margin), sign * (difference.high - margin)))
    return "holds" if low > 0 else "does not hold" if high < 0 else "within noise"


def averages(records: Sequence[Mapping[str, Any]], label: str) -> dict[str, float]:
    """Return the mean scores of an arm, with both harmonic means: of the mean base and new, and the mean of those of the runs."""
    chosen = [record["scores"] for record in records if record["label"] == label]
    names = {name for scores in chosen for name in scores}
    found = {name: float(np.mean([scores[name][0] for scores in chosen if name in scores])) for name in sorted(names)}
    if {"base", "new"} <= found.keys():
        found["harmonic of means"] = harmonic(found["base"], found["new"])
    return found
