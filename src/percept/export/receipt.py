"""A receipt: proof that two backends, number types, exports or checkpoints compute the same, or where they part.

Layers are compared on the same pixels and the same ids, so that the first stage that departs is where it happens;
embeddings and the nearest texts each with the side's own preprocessing and tokenizer, as a user gets them.
"""

import platform
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from percept.core import VERSION
from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.core.io import write_json
from percept.export.difference import Difference, Gather
from percept.export.probes import Probes
from percept.fast import repack
from percept.infer.encoder import Encoder
from percept.infer.pictures import to_tensor
from percept.models.onnx import Absent, OnnxTower
from percept.models.towers import VisionOut

TOLERANCES = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1, "int8": 2e-1}
"""Largest length of a difference over that of the vector, by the coarser number type of the two sides."""
SCALE = 1e-4
"""Largest difference of the logit scales, over the larger one: they are read before any cast, so types do not move them."""
BATCH = 4
"""Pictures or texts whose layers are held at once."""


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What was found, and everything needed to find it again."""

    a: dict[str, Any]
    b: dict[str, Any]
    inputs: dict[str, Any]
    tolerance: float
    differences: list[Difference]
    """In the order of the computation: pictures first, then texts."""
    findings: list[str]
    """What makes the two sides disagree, in words."""
    notes: list[str]
    """What was not compared, and why."""
    top1: dict[str, int] | None
    """Pictures whose nearest text is the same on both sides (`same`), of how many (`of`)."""
    seconds: float
    versions: dict[str, str] = field(default_factory=dict)
    command: str = ""
    """What was typed to get it, if it was."""

    @property
    def agrees(self) -> bool:
        """Tell whether nothing departs."""
        return not self.findings

    @property
    def verdict(self) -> str:
        """Say in words whether they agree, and no more than was compared."""
        if self.findings:
            return "they depart"
        stages = f"{len(self.differences)} {'stage' if len(self.differences) == 1 else 'stages'}"
        return f"they agree at {stages}, not all was compared" if self.notes else "they agree"

    @property
    def first_departure(self) -> str | None:
        """Name the first stage beyond the tolerance; None if there is none."""
        return next((one.stage for one in self.differences if not one.within(self.tolerance)), None)

    def difference(self, stage: str) -> Difference | None:
        """Return what was found at a stage; None if it was not compared."""
        return next((one for one in self.differences if one.stage == stage), None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for json."""
        found = {"agrees": self.agrees, "verdict": self.verdict, "first_departure": self.first_departure}
        return {**found, **asdict(self), "differences": [to_dict(one) for one in self.differences]}

    def save(self, path: Path | str) -> None:
        """Write the receipt as json."""
        write_json(path, self.to_dict())


@dataclass(kw_only=True)
class _Work:
    """Both sides and what is found about them on the way."""

    a: Encoder
    b: Encoder
    probes: Probes
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    vectors: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Unit vectors of pictures and of texts, where both sides gave them."""

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
    """Compare two sides on the same pictures and texts.

    Args:
        tolerance: the largest length of a difference, over the length of the vector; by the number types when None.
        sizes: heights and widths in pixels at which the layers of pictures are compared too, beside the size of A.

    Raises:
        PerceptError: a tolerance that is none, sides that have no tower in common, or nothing to compare them on.
    """
    start = time.perf_counter()
    limit = _tolerance(a, b) if tolerance is None else tolerance
    if not limit >= 0:
        raise PerceptError(f"a tolerance of {limit} lets nothing agree; give 0 or more")
    for side in (a, b):
        repack(side.model)  # packed weights may be older than the weights
    work = _Work(a=a, b=b, probes=probes)
    vision, text = (_shared(work, tower) for tower in ("vision", "text"))
    if not vision and not text:
        raise PerceptError(f"{a.identity.name} and {b.identity.name} have no tower in common: nothing to compare")
    pictures, texts = vision and _given(work, "pictures"), text and _given(work, "texts")
    if not pictures and not texts:
        raise PerceptError(
            f"{a.identity.name} and {b.identity.name} share {_towers(vision=vision, text=text)}, but the probes hold "
            f"{len(probes.pictures)} pictures and {len(probes.texts)} texts; give some of what they take"
        )
    if vision:
        _compare_preprocessing(work)
    if pictures:
        _compare_pictures(work, sizes)
    if texts:
        _compare_texts(work)
    if text:
        _compare_scales(work)
    work.findings += [_words(one, limit) for one in work.differences if not one.within(limit)][:1]
    return Receipt(
        a=_facts(a), b=_facts(b), tolerance=limit, differences=work.differences, findings=work.findings,
        notes=work.notes, top1=_nearest(work), seconds=round(time.perf_counter() - start, 2), versions=versions(),
        inputs={"source": probes.source, "pictures": len(probes.pictures), "texts": len(probes.texts),
                "left out": [f"{one.path}: {one.reason}" for one in probes.bad]},
    )  # fmt: skip


def versions() -> dict[str, str]:
    """Return the versions of what computes."""
    found = {"percept": VERSION, "torch": torch.__version__, "python": platform.python_version()}
    try:
        import onnxruntime
    except ImportError:
        return found
    return {**found, "onnxruntime": onnxruntime.__version__}


def kind(encoder: Encoder) -> str:
    """Return the number type that an encoder computes in; int8 where an export is quantised."""
    return str(encoder.setting).rpartition(" ")[2]


def _tolerance(a: Encoder, b: Encoder) -> float:
    return max(TOLERANCES.get(kind(one), TOLERANCES["float32"]) for one in (a, b))


def _facts(encoder: Encoder) -> dict[str, Any]:
    setting = encoder.setting
    return {
        **to_dict(encoder.identity),
        "device": str(setting.device),
        "dtype": kind(encoder),
        "backend": setting.backend,
    }


def _words(one: Difference, limit: float) -> str:
    return (
        f"{one.stage} is the first to depart: a vector is off by {one.relative:.3g} of its length, {limit:g} is "
        f"tolerated (largest difference {one.max:.3g}, mean {one.mean:.3g})"
    )


def _shared(work: _Work, tower: str) -> bool:
    """Tell whether both sides have a tower; note it where only one has."""
    have = [side for side in (work.a, work.b) if not isinstance(getattr(side.model, tower), Absent | None)]
    if len(have) == 1:
        work.notes.append(f"only {have[0]} has a {tower} tower, so it is not compared")
    return len(have) == 2


def _given(work: _Work, what: str) -> bool:
    """Tell whether there are pictures or texts to compare; note it where there are none."""
    some = len(getattr(work.probes, what)) > 0
    if not some:
        work.notes.append(f"no {what} were given, so what both sides make of {what} is not compared")
    return some


def _towers(*, vision: bool, text: bool) -> str:
    return "both towers" if vision and text else f"only the {'vision' if vision else 'text'} tower"


def _compare_preprocessing(work: _Work) -> None:
    one, other = work.both(lambda side: to_dict(side.preprocess))
    parts = [f"{name} {one[name]} against {other[name]}" for name in one if one[name] != other[name]]
    if parts:
        work.findings.append(f"preprocessing differs: {', '.join(parts)}")
    gather = Gather("preprocessed pixels")
    for picture in work.probes.pictures:
        a, b = work.both(lambda side: side.preprocess.normalise(to_tensor(picture, side.preprocess)))  # noqa: B023
        if a.shape == b.shape:
            gather.add(a.flatten(), b.flatten())
    if gather.vectors:
        work.differences.append(gather.result())


def _compare_pictures(work: _Work, sizes: Sequence[tuple[int, int]]) -> None:
    """Compare the tokens after every block, the normed tokens and the vectors."""
    count = _layers(work, "vision")
    for shape in (None, *sizes):
        preprocess = work.a.preprocess if shape is None else replace(work.a.preprocess, size=shape)
        pixels = [to_tensor(picture, preprocess) for picture in work.probes.pictures]
        suffix = "" if shape is None else f" at {shape[0]}x{shape[1]}"
        _stages(work, "image", suffix, [preprocess.normalise(batch) for batch in _batches(pixels)], count)
    _ends(work, "image", lambda side: _embedded(side, work.probes.pictures))


def _batches(pixels: list[Tensor]) -> list[Tensor]:
    """Stack pictures of one size each; those in their own shapes have several."""
    groups: dict[torch.Size, list[Tensor]] = {}
    for picture in pixels:
        groups.setdefault(picture.shape, []).append(picture)
    return [batch for group in groups.values() for batch in torch.stack(group).split(BATCH)]


def _embedded(side: Encoder, pictures: Sequence[Any]) -> Tensor | None:
    return side.image(pictures) if side.dim else None


def _compare_texts(work: _Work) -> None:
    """Compare ids, then as for pictures."""
    ids, others = work.both(lambda side: None if side.tokenizer is None else side.tokenizer(list(work.probes.texts)))
    if ids is None or others is None:
        work.notes.append("a side has no tokenizer, so the texts are random ids and their tokenizers are not compared")
        ids = others = _random_ids(work.a, len(work.probes.texts))
    elif ids.shape != others.shape or not torch.equal(ids, others):
        work.findings.append("the tokenizers give different ids for the same texts")
    ends = int(ids.argmax(dim=-1).max()) + 1  # what follows the last end token cannot change anything
    _stages(work, "text", "", list(ids[:, :ends].split(BATCH)), _layers(work, "text"))
    _ends(work, "text", lambda side: side.text(ids if side is work.a else others))


def _compare_scales(work: _Work) -> None:
    """Compare what cosines are multiplied with before the softmax over labels: no vector shows it.

    A side whose logarithm was stored in a narrow type has it rounded; the other's may differ by that and no more.
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
    """Return a scale as it is when its logarithm is stored in a number type."""
    return float(torch.tensor(scale).log().to(dtype).float().exp())


def _random_ids(side: Encoder, count: int) -> Tensor:
    assert side.model.text is not None
    config = side.model.text.config
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, config.vocabulary - 1, (count, config.context), generator=generator)
    ids[:, -1] = config.vocabulary - 1
    return ids


def _layers(work: _Work, tower: str) -> int:
    """Return how many blocks can be compared; say why where they are not all."""
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
    """Run both towers on the same input and gather the differences of what they give, stage by stage."""
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
    except PerceptError as error:  # a size or a length that one of them does not take
        work.findings.append(f"{name} layers{suffix} cannot be compared: {error}")
        return
    work.differences += [gather.result() for gather in gathers.values()]


def _find_lone(work: _Work, name: str, ones: AbstractSet[str], others: AbstractSet[str]) -> None:
    """Find what only one side gives: the other has no such vector, or tokens without the final norm."""
    for side, lone in ((work.a, ones - others), (work.b, others - ones)):
        work.findings += [f"only {side} gives {name} {stage}, which cannot be compared" for stage in sorted(lone)]


@torch.no_grad()
def _run(side: Encoder, name: str, batch: Tensor, count: int) -> dict[str, Tensor]:
    """Return what a tower gives, by stage, in the order in which it is computed.

    "final tokens" have passed a final norm; "last tokens" are those of a tower without one.
    """
    with side.own_type():
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
    """Count the pictures whose nearest text is the same on both sides, each in its own space."""
    if not {"image", "text"} <= work.vectors.keys():
        return None
    pairs = zip(work.vectors["image"], work.vectors["text"], strict=True)
    one, other = ((pictures @ texts.T).argmax(dim=1) for pictures, texts in pairs)
    return {"same": int((one == other).sum()), "of": len(one)}
