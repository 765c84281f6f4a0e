"""A receipt: proof that two backends, number types, exports or checkpoints compute the same, or the first difference.

Layers are compared on the same pixels and the same ids, so that the first stage that departs is the cause; embeddings and
the nearest texts are compared with each side's own preprocessing and tokenizer, as a user gets them.
"""

import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.export.difference import Difference, Gather
from percept.export.probes import Probes
from percept.export.record import Receipt, facts, kind, versions
from percept.infer.encoder import Encoder
from percept.infer.images import to_tensor
from percept.models.onnx import Absent, OnnxTower
from percept.models.towers import VisionOut

TOLERANCES = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1, "int8": 2e-1}
"""Largest length of a difference, relative to the length of its vector, by the coarser number type of the two sides."""
SCALE = 1e-4
"""Relative tolerance for the logit scale; it is read before casting, so independent of the number type."""
BATCH = 4
"""Images or texts whose layers are held at once."""


@dataclass(kw_only=True)
class _Work:
    """Both sides, and the results so far."""

    a: Encoder
    b: Encoder
    probes: Probes
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    vectors: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Unit vectors of images and of texts, if both sides gave them."""

    def both(self, ask: Callable[[Encoder], Any]) -> tuple[Any, Any]:
        return ask(self.a), ask(self.b)


def compare(
    a: Encoder,
    b: Encoder,
    probes: Probes,
    *,
    tolerance: float | None = None,
    sizes: Sequence[tuple[int, int]] = (),
) -> Receipt:
    """Compare two sides on the same images and texts.

    Args:
        a: one side; its preprocessing makes the pixels on which layers are compared.
        b: the other side.
        probes: images and texts.
        tolerance: largest length of a difference, relative to the length of its vector; by the number types when None.
        sizes: further heights and widths in pixels at which the layers of images are compared.

    Raises:
        PerceptError: the tolerance is negative, the sides have no tower in common, or there is nothing to compare.
    """
    start = time.perf_counter()
    limit = _tolerance(a, b) if tolerance is None else tolerance
    if not limit >= 0:
        raise PerceptError(f"tolerance must be at least 0, got {limit}")
    work = _Work(a=a, b=b, probes=probes)
    vision, text = (_shared(work, tower) for tower in ("vision", "text"))
    if not vision and not text:
        raise PerceptError(
            f"{a.identity.name} and {b.identity.name} have no tower in common. Compare models that share one."
        )
    images, texts = vision and _given(work, "images"), text and _given(work, "texts")
    if not images and not texts:
        raise PerceptError(
            f"{a.identity.name} and {b.identity.name} share {_towers(vision=vision, text=text)}, but the probes hold "
            f"{len(probes.images)} images and {len(probes.texts)} texts. Give images, or texts, that they take."
        )
    if vision:
        _compare_preprocessing(work)
    if images:
        _compare_images(work, sizes)
    if texts:
        _compare_texts(work)
    if text:
        _compare_scales(work)
    work.findings += [_words(one, limit) for one in work.differences if not one.within(limit)][:1]
    return Receipt(
        a=facts(a), b=facts(b), tolerance=limit, differences=work.differences, findings=work.findings,
        notes=work.notes, top1=_nearest(work), seconds=round(time.perf_counter() - start, 2), versions=versions(),
        inputs={"source": probes.source, "images": len(probes.images), "texts": len(probes.texts),
                "left out": [f"{one.path}: {one.reason}" for one in probes.bad]},
    )  # fmt: skip


def _tolerance(a: Encoder, b: Encoder) -> float:
    return max(TOLERANCES.get(kind(one), TOLERANCES["float32"]) for one in (a, b))


def _words(one: Difference, limit: float) -> str:
    return (
        f"{one.stage} is the first to depart: a vector is off by {one.relative:.3g} of its length, {limit:g} is "
        f"tolerated (largest difference {one.max:.3g}, mean {one.mean:.3g})"
    )


def _shared(work: _Work, tower: str) -> bool:
    """True if both sides have a tower; a tower that only one has is noted."""
    have = [side for side in (work.a, work.b) if not isinstance(getattr(side.model, tower), Absent | None)]
    if len(have) == 1:
        work.notes.append(f"only {have[0]} has a {tower} tower, so it is not compared")
    return len(have) == 2


def _given(work: _Work, what: str) -> bool:
    """True if there are images or texts to compare; noted if there are none."""
    given = len(getattr(work.probes, what)) > 0
    if not given:
        work.notes.append(f"no {what} were given, so {what} are not compared")
    return given


def _towers(*, vision: bool, text: bool) -> str:
    return "both towers" if vision and text else f"only the {'vision' if vision else 'text'} tower"


def _compare_preprocessing(work: _Work) -> None:
    one, other = work.both(lambda side: to_dict(side.preprocess))
    parts = [f"{name} {one[name]} against {other[name]}" for name in one if one[name] != other[name]]
    if parts:
        work.findings.append(f"preprocessing differs: {', '.join(parts)}")
    gather = Gather("preprocessed pixels")
    for image in work.probes.images:
        a, b = work.both(lambda side: side.preprocess.normalise(to_tensor(image, side.preprocess)))  # noqa: B023
        if a.shape == b.shape:
            gather.add(a.flatten(), b.flatten())
    if gather.vectors:
        work.differences.append(gather.result())


def _compare_images(work: _Work, sizes: Sequence[tuple[int, int]]) -> None:
    """Compare the tokens after every block, the normed tokens and the vectors."""
    count = _layers(work, "vision")
    for shape in (None, *sizes):
        preprocess = work.a.preprocess if shape is None else replace(work.a.preprocess, size=shape)
        pixels = [to_tensor(image, preprocess) for image in work.probes.images]
        suffix = "" if shape is None else f" at {shape[0]}x{shape[1]}"
        _stages(work, "image", suffix, [preprocess.normalise(batch) for batch in _batches(pixels)], count)
    _ends(work, "image", lambda side: _embedded(side, work.probes.images))


def _batches(pixels: list[Tensor]) -> list[Tensor]:
    """Stack images of equal size; with keep and native there are several sizes."""
    groups: dict[torch.Size, list[Tensor]] = {}
    for image in pixels:
        groups.setdefault(image.shape, []).append(image)
    return [batch for group in groups.values() for batch in torch.stack(group).split(BATCH)]


def _embedded(side: Encoder, images: Sequence[Any]) -> Tensor | None:
    return side.image(images) if side.dim else None


def _compare_texts(work: _Work) -> None:
    """Compare ids, then the layers and vectors as for images."""
    ids, others = work.both(lambda side: None if side.tokenizer is None else side.tokenizer(list(work.probes.texts)))
    if ids is None or others is None:
        work.notes.append("a side has no tokenizer, so the texts are random ids and their tokenizers are not compared")
        ids = others = _random_ids(work.a, len(work.probes.texts))
    elif ids.shape != others.shape or not torch.equal(ids, others):
        work.findings.append("the tokenizers give different ids for the same texts")
    ends = int(ids.argmax(dim=-1).max()) + 1  # tokens after the last end token have no effect
    _stages(work, "text", "", list(ids[:, :ends].split(BATCH)), _layers(work, "text"))
    _ends(work, "text", lambda side: side.text(ids if side is work.a else others))


def _compare_scales(work: _Work) -> None:
    """Compare the logit scales, which multiply cosines before the softmax over labels and show in no vector.

    If one side stored the logarithm in a narrow type, the scales may differ by that rounding.
    """
    one, other = work.both(lambda side: side.scale)
    if _near(one, other):
        return
    types = {side.scale_dtype for side in (work.a, work.b)}
    if not any(_near(_rounded(one, dtype), _rounded(other, dtype)) for dtype in types):
        work.findings.append(f"the logit scale is {one:.6g} against {other:.6g}: probabilities of labels differ")


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= SCALE * max(abs(one), abs(other))


def _rounded(scale: float, dtype: torch.dtype) -> float:
    """Return a scale whose logarithm is stored in a number type."""
    return float(torch.tensor(scale).log().to(dtype).float().exp())


def _random_ids(side: Encoder, count: int) -> Tensor:
    assert side.model.text is not None
    config = side.model.text.config
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, config.vocabulary - 1, (count, config.context), generator=generator)
    ids[:, -1] = config.vocabulary - 1
    return ids


def _layers(work: _Work, tower: str) -> int:
    """Return the number of blocks that can be compared, -1 if no tokens can; the reason is noted if not all can."""
    towers = work.both(lambda side: getattr(side.model, tower))
    widths, counts = ([getattr(one.config, name) for one in towers] for name in ("width", "layers"))
    if widths[0] != widths[1]:
        work.findings.append(
            f"the {tower} towers are {widths[0]} and {widths[1]} wide: their tokens are not comparable"
        )
        return -1
    if counts[0] != counts[1]:
        work.findings.append(f"the {tower} towers have {counts[0]} and {counts[1]} blocks; the first are compared")
    silent = [tower for tower in towers if isinstance(tower, OnnxTower) and not tower.has_layers]
    if silent:
        work.notes.append(
            f"an export gives no tokens between the blocks of its {tower} tower: only its ends are compared"
        )
        return 0
    return min(counts)


def _stages(work: _Work, name: str, suffix: str, batches: list[Tensor], count: int) -> None:
    """Run both towers on the same input and gather the differences of their outputs, stage by stage."""
    if count < 0:
        return
    gathers: dict[str, Gather] = {}
    try:
        for batch in batches:
            ones, others = work.both(lambda side: _run(side, name, batch, count))  # noqa: B023
            if batch is batches[0] and not suffix:
                _find_lone(work, name, ones.keys(), others.keys())
            for stage in (stage for stage in ones if stage in others):
                if ones[stage].shape != others[stage].shape:
                    one, other = list(ones[stage].shape[1:]), list(others[stage].shape[1:])
                    work.findings.append(f"{name} {stage}{suffix} has the shape {one} against {other}")
                    return
                gathers.setdefault(stage, Gather(f"{name} {stage}{suffix}")).add(ones[stage], others[stage])
    except PerceptError as error:  # one of them does not accept the size or the length
        work.findings.append(f"{name} layers{suffix} cannot be compared: {error}")
        return
    work.differences += [gather.result() for gather in gathers.values()]


def _find_lone(work: _Work, name: str, ones: AbstractSet[str], others: AbstractSet[str]) -> None:
    """Report stages of only one side: the other has no such vector, or tokens without the final norm."""
    for side, lone in ((work.a, ones - others), (work.b, others - ones)):
        work.findings += [f"only {side} gives {name} {stage}, which cannot be compared" for stage in sorted(lone)]


@torch.no_grad()
def _run(side: Encoder, name: str, batch: Tensor, count: int) -> dict[str, Tensor]:
    """Return the outputs of a tower by stage, in the order in which they are computed.

    "final tokens" have passed a final norm; "last tokens" are those of a tower without one.
    """
    with torch.autocast(side.setting.device.type, enabled=False):
        if name == "image":
            given = batch.to(side.setting.device, side.setting.dtype)
            out: Any = side.model.vision(given, layers=range(count))
        else:
            assert side.model.text is not None
            out = side.model.text(batch.to(side.setting.device), layers=range(count))
    last = "final tokens" if _normed(out, side) else "last tokens"
    stages = {f"block {layer}": tokens for layer, tokens in out.hidden.items()} | {last: out.tokens}
    return stages if out.pooled is None else {**stages, "vector": out.pooled}


def _normed(out: Any, side: Encoder) -> bool:
    return not isinstance(out, VisionOut) or side.model.config.vision.norm_post


def _ends(work: _Work, name: str, embed: Callable[[Encoder], Tensor | None]) -> None:
    """Compare the unit vectors as a user gets them."""
    try:
        one, other = work.both(embed)
    except PerceptError as error:
        work.findings.append(f"{name} embeddings cannot be compared: {error}")
        return
    if one is None or other is None:
        if one is not other:
            work.findings.append(f"only {work.a if other is None else work.b} gives {name} embeddings")
        return
    work.vectors[name] = one, other
    if one.shape != other.shape:
        work.findings.append(f"{name} embeddings have {one.shape[1]} numbers against {other.shape[1]}")
        return
    gather = Gather(f"{name} embedding")
    gather.add(one, other)
    work.differences.append(gather.result())


def _nearest(work: _Work) -> dict[str, int] | None:
    """Count the images whose nearest text is the same on both sides, each in its own space."""
    if not {"image", "text"} <= work.vectors.keys():
        return None
    pairs = zip(work.vectors["image"], work.vectors["text"], strict=True)
    one, other = ((images @ texts.T).argmax(dim=1) for images, texts in pairs)
    return {"same": int((one == other).sum()), "of": len(one)}
