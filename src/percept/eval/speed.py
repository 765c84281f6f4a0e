"""Images and texts per second, and as a share of the matrix-product peak of the machine.

In every turn products of matrices are measured, then the model, because the speed of a shared machine changes from one second to the
next; on a CPU both are compared in processor time. The peak is that of the fastest product, of a large matrix or of one that fits a
cache, by `torch.mm` or with packed weights. Images are given preprocessed, texts as ids that fill the context.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from percept import fast
from percept.core.machine import peak_side, wait
from percept.eval.statistics import Score, mean
from percept.eval.table import Evaluation, Plan, Result, Unsuited
from percept.models.clip import CLIP

TURNS, SECONDS = 5, 0.25
"""Turns, and least seconds of a burst of passes in each."""
CACHED = 512
"""Side of the smaller matrix of the peak."""


def needs(model: Any) -> None:
    """Raise if the model is not an encoder.

    Raises:
        Unsuited: it has no towers to measure.
    """
    if not isinstance(getattr(model, "model", None), torch.nn.Module) or not hasattr(model, "setting"):
        raise Unsuited(f"{type(model).__name__} has no towers to measure. Use an encoder, such as 'nano'.")


def run(model: Any, plan: Plan) -> Result:
    """Measure the image tower, and the text tower if there is one."""
    setting, vision = model.setting, model.model.config.vision
    size = vision.image_size
    images = torch.zeros(setting.batch, 3, size, size)
    embed = model.image if model.dim else lambda images: list(model.hidden(images, -1))  # some give tokens only
    scores = _measured(model, "images", setting.batch, lambda: embed(images), operations_of(model, "vision"), plan)
    text = model.model.config.text
    if text is not None:
        texts = torch.ones(setting.batch, text.context, dtype=torch.int64)
        texts[:, -1] = text.vocabulary - 1  # the end token, which is the largest id
        scores += _measured(
            model, "texts", setting.batch, lambda: model.text(texts), operations_of(model, "text"), plan
        )
    return Result(scores=scores)


def operations_of(model: Any, tower: str) -> int:
    """Return the floating-point operations of the matrix products for one image or text; 0 for an exported graph."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from percept.train.meters import operations

    if model.setting.backend != "torch":
        return 0
    config = model.model.config
    with torch.device("meta"), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        plain = CLIP(config).eval()
        if tower == "vision":
            size = config.vision.image_size
            return operations(lambda: plain.vision(torch.empty(1, 3, size, size), pool=bool(model.dim)))
        context, width = config.text.context, config.text.width
        embeddings, ends = torch.empty(1, context, width), torch.zeros(1, dtype=torch.int64)
        assert plain.text is not None
        text = plain.text
        return operations(lambda: text(embeddings=embeddings, ends=ends))


@torch.no_grad()  # the packed form is for inference
def _measured(model: Any, things: str, count: int, work: Callable[[], Any], operations: int, plan: Plan) -> list[Score]:
    device = model.setting.device
    products = _products(device, model.setting.dtype)
    for job in (work, *(product for _, product in products)):
        job()
    rates, shares = [], []
    for _ in range(TURNS):
        peak = max(amount / _timed(product, device, SECONDS / 8).busy for amount, product in products)
        own = _timed(work, device, SECONDS)
        rates.append(count / own.clock)
        shares.append(count * operations / own.busy / peak)
    scores = [mean(f"{things} per second", rates, unit="/s", seed=plan.seed)]
    return [*scores, mean(f"{things}, share of the peak", shares, seed=plan.seed)] if operations else scores


def _products(device: torch.device, dtype: torch.dtype) -> list[tuple[int, Callable[[], Any]]]:
    """Return products of two matrices, each with its number of operations."""
    jobs: list[tuple[int, Callable[[], Any]]] = []
    for side in (peak_side(device), CACHED):
        matrix = torch.ones(side, side, device=device, dtype=dtype)
        jobs.append((2 * side**3, partial(torch.mm, matrix, matrix)))
        if device.type == "cpu":
            packed = torch.nn.Sequential(torch.nn.Linear(side, side, dtype=dtype)).requires_grad_(False)
            fast.adopt(packed, pack=True)
            jobs.append((2 * side**3, partial(packed, matrix)))
    return jobs


@dataclass(frozen=True)
class Pass:
    """Mean seconds of a pass."""

    clock: float
    busy: float
    """In which the device computed: processor time on a CPU, which other programs on the machine do not lengthen."""


def _timed(work: Callable[[], Any], device: torch.device, seconds: float) -> Pass:
    """Repeat the work for at least `seconds`."""
    clock, processor, passes = time.perf_counter(), time.process_time(), 0
    while not passes or time.perf_counter() - clock < seconds:
        work()
        passes += 1
        wait(device)
    clock = (time.perf_counter() - clock) / passes
    return Pass(clock, (time.process_time() - processor) / passes if device.type == "cpu" else clock)


EVALUATION = Evaluation(name="speed", summary=__doc__, run=run, needs=needs)
