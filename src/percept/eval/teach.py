"""Learning labels from folders of classes on a frozen encoder, and measuring them on images that were held out.

Copies must not be on both sides of a measurement: files of equal content count once, files of equal content in two classes are left
out, and images with nearly equal vectors are held out together. All images of up to `LARGE` are held out once, in five parts, each by
classifiers that never saw them; of more images a fifth is. Intervals resample whole groups of nearly equal images. The labels that are saved
are learned from all images.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from percept.core.errors import PerceptError
from percept.data.copies import groups_of, near_pairs
from percept.data.files import BadFile
from percept.eval.calibration import ece
from percept.eval.class_files import Folders, class_files, different_contents
from percept.eval.compare import Difference, difference
from percept.eval.probes.linear import fit_linear
from percept.eval.record import Records
from percept.eval.resampling import group_numbers, share
from percept.eval.statistics import Score
from percept.eval.table import Confusion
from percept.eval.teach_fit import LARGE, Prior, fit, folds_of, splits, temperature_of
from percept.eval.teach_none import NoneOfThese, learn_none
from percept.eval.zeroshot import hits, worst
from percept.infer.clips import Sampling
from percept.infer.labels import Templates, class_vectors
from percept.infer.taught import Taught

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder

FOLDS = 5
ABOVE = 0.95
"""Cosine from which two images count as nearly the same."""
FEWEST, FEW = 2, 5
"""Different images that a class must have, and number below which the report warns."""
KEPT = 0.95
"""Share of held-out images whose probability is above the threshold of "none" where that cannot be learned."""
LISTED = 20
"""Pairs of nearly equal images of different classes that are named."""
ZERO_SHOT, PROBE, TAUGHT = "zero-shot", "linear probe", "taught"


@dataclass(frozen=True, kw_only=True)
class Leakage:
    """Copies that were found, and what was done about them."""

    copies: tuple[tuple[Path, Path], ...] = ()
    """Files of equal content in one class, after the first; each counts once."""
    conflicts: tuple[tuple[Path, ...], ...] = ()
    """Files of equal content in different classes; all are left out."""
    near: tuple[tuple[Path, Path, float], ...] = ()
    """Pairs of different classes that are nearly the same, and their cosines; they were held out together. The first 20."""
    grouped: int = 0
    """Images that were held out together with a nearly equal one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """Images that can be learned from."""

    paths: tuple[Path, ...] = field(repr=False)
    vectors: Float[Tensor, "n d"] = field(repr=False)
    labels: Int[Tensor, " n"] = field(repr=False)
    groups: Int[np.ndarray, " n"] = field(repr=False)
    """Images of one group are nearly the same."""
    leakage: Leakage
    bad: tuple[BadFile, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """Labels that were learned, and how well they do on images that were held out."""

    taught: Taught
    images: Images
    scores: tuple[Score, ...]
    """Of the taught labels, of a plain linear probe, and of zero-shot labels where the model reads texts."""
    differences: tuple[Difference, ...]
    """Taught labels against each of the others, on the same images."""
    confusions: tuple[Confusion, ...]
    few: tuple[tuple[str, int], ...]
    """Classes with fewer than five different images."""
    held_out: int
    parts: int
    """Parts that were held out in turn."""
    none: NoneOfThese | None
    """How well images of other classes are told from these; None where that could not be learned, as with two classes."""


def teach(
    encoder: "Encoder",
    folder: Path | str,
    *,
    templates: Templates = None,
    above: float = ABOVE,
    sampling: Sampling | None = None,
    seed: int = 0,
    model: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Lesson:
    """Learn labels from a folder of class folders.

    Args:
        encoder: its image vectors are used as they are.
        folder: every subfolder is a class; its name, with spaces for _, is the label.
        templates: texts with {} for the label, as for `Encoder.classify`.
        above: cosine from which two images count as nearly the same.
        sampling: which frames stand for a video.
        seed: of the division into parts.
        model: name or path that `percept.load` opens the encoder by, remembered with the labels; that of the encoder if None.
        options: further options of `percept.load` for this encoder, remembered too.

    Raises:
        PerceptError: no classes, a class with fewer than two different images, or no file can be read.
    """
    if not 0 < above <= 1:
        raise PerceptError(f"above must be a cosine above 0 and at most 1, got {above}.")
    found = class_files(Path(folder))
    images = _images(encoder, found, above, sampling)
    few = _check_counts(found, images)
    prior = _prior(encoder, found.classes, templates)
    measured = _measure(images, len(found.classes), prior, seed)
    head = fit(images.vectors, images.labels, prior, len(found.classes), groups=images.groups, seed=seed)
    logits, truth = measured.logits[TAUGHT], images.labels[measured.rows]
    temperature = temperature_of(logits, truth)
    best = (logits.double() / temperature).softmax(dim=1).max(dim=1).values
    groups = group_numbers(measured.groups)
    scores = tuple(
        share(name, hits(rows, truth, 1).numpy(), groups, seed=seed) for name, rows in measured.logits.items()
    )
    none = learn_none(
        logits, images.vectors, images.labels, prior, head, rows=measured.rows, groups=images.groups, seed=seed
    )
    taught = Taught(
        classes=found.classes, weight=head.weight, bias=head.bias, temperature=temperature,
        least=int(1e4 * float(best.quantile(1 - KEPT))) / 1e4, model=model or encoder.name, image=encoder.identity.image,
        known=None if none is None else none.known, options=dict(options or {}),
        facts={
            "images": len(images), "held out": len(truth), "seed": seed, "share of zero-shot": head.share, "decay": head.decay,
            "calibration error": _calibration_error(logits, truth, groups, seed),
            "scores": {each.name: [each.value, each.low, each.high] for each in scores},
            "none of these": None if none is None else {each.name: [each.value, each.low, each.high] for each in (none.kept, none.found)},
        },
    )  # fmt: skip
    return Lesson(
        taught=taught, images=images, scores=scores, differences=_differences(found, images, measured, seed),
        confusions=tuple(worst(truth, logits.argmax(dim=1), found.classes)), few=few, held_out=len(truth), parts=measured.parts,
        none=none,
    )  # fmt: skip


def _images(encoder: "Encoder", found: Folders, above: float, sampling: Sampling | None) -> Images:
    """Encode the files of different content, and group those that are nearly the same."""
    labels = dict(zip(found.files, found.labels, strict=True))
    different, copies, conflicts = different_contents(found)
    read = encoder.files(different, sampling=sampling)
    if not read.paths:
        reason = read.bad[0].reason if read.bad else "all are copies of files in other classes"
        raise PerceptError(f"no file of {found.path} can be used, such as: {reason}. Check the files.")
    vectors = read.vectors.numpy()
    pairs, near = [], []
    for some, cosines in near_pairs(vectors, above):
        pairs.append(some)
        for (first, second), cosine in zip(some, cosines, strict=True) if len(near) < LISTED else ():
            if labels[read.paths[first]] != labels[read.paths[second]]:
                near.append((read.paths[first], read.paths[second], float(cosine)))
    groups = groups_of(pairs, len(vectors))
    return Images(
        paths=tuple(read.paths), vectors=read.vectors, labels=torch.tensor([labels[path] for path in read.paths]),
        groups=groups, bad=tuple(read.bad),
        leakage=Leakage(
            copies=copies, conflicts=conflicts, near=tuple(near[:LISTED]),
            grouped=int((np.bincount(groups)[groups] > 1).sum()),
        ),
    )  # fmt: skip


def _check_counts(found: Folders, images: Images) -> tuple[tuple[str, int], ...]:
    counts = torch.bincount(images.labels, minlength=len(found.classes)).tolist()
    named = dict(zip(found.classes, counts, strict=True))
    if short := [f"{name} ({count})" for name, count in named.items() if count < FEWEST]:
        raise PerceptError(
            f"these classes have fewer than {FEWEST} different images that can be read: {', '.join(short)}. Add images, or take the "
            "folders out."
        )
    return tuple((name, count) for name, count in named.items() if count < FEW)


def _prior(encoder: "Encoder", classes: Sequence[str], templates: Templates) -> Prior | None:
    """Return the zero-shot classifier; None for a model without texts."""
    if encoder.model.config.text is None or encoder.tokenizer is None:
        if templates is not None:
            raise PerceptError(f"{encoder.name} reads no texts, so a template has no effect. Leave it out.")
        return None
    return Prior(texts=class_vectors(encoder, list(classes), templates).float(), scale=encoder.scale)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Measured:
    rows: Int[Tensor, " m"]
    """Images that were held out."""
    logits: dict[str, Float[Tensor, "m c"]]
    groups: tuple[str, ...]
    """First image of the group of each image."""
    parts: int


def _measure(images: Images, classes: int, prior: Prior | None, seed: int) -> _Measured:
    """Return the logits of held-out images by classifiers that did not see them."""
    folds = folds_of(images.labels.numpy(), images.groups, FOLDS, seed)
    rows, found = [], defaultdict(list)
    for train, held in splits(folds, len(images) > LARGE):
        known, labels = images.vectors[train], images.labels[train]
        head = fit(known, labels, prior, classes, groups=images.groups[train.numpy()], seed=seed)
        vectors = images.vectors[held]
        found[TAUGHT].append(head(vectors))
        found[PROBE].append(fit_linear(known, labels, classes, seed=seed)(vectors))
        if prior is not None:
            found[ZERO_SHOT].append(prior.logits(vectors))
        rows.append(torch.nonzero(held)[:, 0])
    if not rows:
        raise PerceptError(
            "no image can be held out: in every class all images are nearly the same. Add different images, or raise above."
        )
    every = torch.cat(rows)
    return _Measured(
        rows=every, logits={name: torch.cat(parts) for name, parts in found.items()}, parts=len(rows),
        groups=tuple(str(images.paths[group]) for group in images.groups[every.numpy()].tolist()),
    )  # fmt: skip


def _calibration_error(
    logits: Float[Tensor, "m c"], truth: Int[Tensor, " m"], groups: Int[np.ndarray, " m"], seed: int
) -> float | None:
    """Return the calibration error, each image with the temperature of the images in other folds; None with a single fold."""
    folds = folds_of(truth.numpy(), groups, FOLDS, seed)
    if len(np.unique(folds)) == 1:
        return None
    best = torch.empty(len(truth), dtype=torch.float64)
    for fold in np.unique(folds):
        own = torch.from_numpy(folds == fold)
        temperature = temperature_of(logits[~own], truth[~own])
        best[own] = (logits[own].double() / temperature).softmax(dim=1).amax(dim=1)
    return round(ece(best.clamp(max=1).numpy(), hits(logits, truth, 1).numpy()), 4)


def _differences(found: Folders, images: Images, measured: _Measured, seed: int) -> tuple[Difference, ...]:
    truth = images.labels[measured.rows]
    records = {
        name: Records(
            task=name, data=found.path.name, keys=[str(images.paths[int(row)]) for row in measured.rows],
            truth=truth.tolist(), prediction=logits.argmax(dim=1).tolist(), value=hits(logits, truth, 1).numpy().astype(float),
            group=measured.groups,
        )
        for name, logits in measured.logits.items()
    }  # fmt: skip
    task = ("teach", found.path.name, "top-1")
    return tuple(
        difference((task[0], task[1], name), records[name], records[TAUGHT], seed=seed)
        for name in (ZERO_SHOT, PROBE)
        if name in records
    )
