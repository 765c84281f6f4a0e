"""The report of a model: all evaluations of the bundled suite that it is suited for, with speed and memory, as one card."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from percept.core import VERSION
from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.core.io import content_hash
from percept.core.machine import device_name, usable_cores
from percept.core.report import notice, printable
from percept.eval import memory
from percept.eval.card import Card
from percept.eval.statistics import Score
from percept.eval.table import Evaluation, Plan, Result, Unsuited, find

SUITE = ("zeroshot", "retrieval", "video", "robustness", "artists", "dense", "correspondence", "calibration", "speed")
"""Evaluations of a report, in its order; memory follows."""


@dataclass(kw_only=True)
class Measured:
    """What was measured, by evaluation, and what was not."""

    results: dict[str, Result] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    """Evaluation: why there is no result."""


def measure(model: Any, plan: Plan, evaluations: Sequence[str] = SUITE) -> Measured:
    """Run evaluations; one that the model is not suited for, or that fails, is left out with the reason.

    Args:
        model: an encoder or a trained classifier.
        plan: how much to measure.
        evaluations: names of the table.
    """
    measured = Measured()
    for evaluation in map(find, evaluations):
        start = time.perf_counter()
        try:
            evaluation.needs(model)
            measured.results[evaluation.name] = evaluation.run(model, plan)
        except Unsuited as error:
            _leave_out(measured, evaluation, f"left out: {error}")
        except PerceptError as error:
            _leave_out(measured, evaluation, f"failed: {error}")
        else:
            measured.seconds[evaluation.name] = round(time.perf_counter() - start, 1)
    return measured


def _leave_out(measured: Measured, evaluation: Evaluation, reason: str) -> None:
    measured.missing[evaluation.name] = reason
    notice(f"{evaluation.name} {reason}")


def add_memory(measured: Measured, scores: Sequence[Score], seconds: float) -> None:
    """Add the scores of `percept.eval.memory`."""
    if scores:
        measured.results[memory.NAME] = Result(scores=scores)
        measured.seconds[memory.NAME] = round(seconds, 1)
    else:
        measured.missing[memory.NAME] = "failed: the process that measures it ended with an error"


def card(model: Any, measured: Measured, plan: Plan, *, command: str, suffix: str = "") -> Card:
    """Return the card.

    Args:
        suffix: added to the name of the model, such as "@float32".

    Raises:
        PerceptError: nothing was measured.
    """
    results = measured.results
    if not results:
        reasons = " ".join(measured.missing.values())
        raise PerceptError(f"{model.identity.name}: no evaluation could be run. {reasons}")
    targets = {score: value for name in results if name != memory.NAME for score, value in find(name).targets.items()}
    return Card(
        model={
            **to_dict(model.identity),
            "name": printable(model.identity.name + suffix),
            "preprocessing": preprocessing(model),
        },
        command=command,
        seed=plan.seed,
        split=plan.split,
        seconds=measured.seconds,
        scores={name: result.scores for name, result in results.items()},
        targets=targets,
        confusions=[each for result in results.values() for each in result.confusions],
        curves={name: curve for result in results.values() for name, curve in result.curves.items()},
        data=[{"evaluation": name, **each} for name, result in results.items() for each in result.data],
        facts=facts(model) | {name: printable(reason) for name, reason in measured.missing.items()},
    )


def preprocessing(model: Any) -> str:
    """Return how images are brought to size, with a hash of all its numbers."""
    preprocess = getattr(model, "preprocess", None) or model.encoder.preprocess
    digest = content_hash(json.dumps(to_dict(preprocess), sort_keys=True).encode())
    return f"{preprocess.resize} to {' × '.join(map(str, preprocess.shape))}, hash {digest[:12]}"


def facts(model: Any) -> dict[str, Any]:
    """Return preprocessing, device, machine and versions."""
    device = model.setting.device
    return {
        "preprocessing": preprocessing(model),
        "device": f"{device}, {str(model.setting.dtype).removeprefix('torch.')}",
        "machine": f"{device_name(device)}, {usable_cores():g} cores, threads: {torch.get_num_threads()}",
        "versions": f"percept {VERSION}, torch {torch.__version__}",
    }
