"""Own images for fine-tuning: class folders or captions, with a part held out that training never sees.

Images that are equal, or nearly so, stay on one side of the split. An image of a separate test folder that is also in the training folder
is refused, because it would make the report better than the model.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from percept.core.errors import PerceptError
from percept.core.io import content_hash
from percept.core.report import notice, track
from percept.core.seed import derive
from percept.data.check.similar import look_of, near_looks, number_of
from percept.data.images import decoded
from percept.data.sources.captions import CaptionChoice
from percept.data.sources.open import open_rows
from percept.data.sources.prepare import CaptionCollate, Captioned, ImageCaption
from percept.data.sources.sample import BadSample, Media, Rows, Sample
from percept.infer.labels import fill
from percept.methods.pretraining.pe_finetune import LabelledText

LOOK = 8
"""Rows that are read to find out whether a source has captions."""
MOST = 2_000
"""Images that are held out at most."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known about an image before it is used."""

    row: int
    key: str
    media: Media
    kind: str
    """Its class or its caption."""
    look: int
    """Hash of what it looks like; 0 if it is blank."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Some rows of a source."""

    rows: Rows
    numbers: tuple[int, ...]

    @property
    def name(self) -> str:
        """What messages call the source."""
        return self.rows.name

    def __len__(self) -> int:
        return len(self.numbers)

    def key(self, index: int) -> str:
        """Return the key of a row."""
        return self.rows.key(self.numbers[index])

    def read(self, index: int) -> Sample:
        """Read a row."""
        return self.rows.read(self.numbers[index])


@dataclass(frozen=True, kw_only=True)
class Own:
    """Own images, split."""

    train: Chosen
    test: tuple[Known, ...]
    classes: tuple[str, ...]
    """Names of the classes; none where images have captions."""

    def identity(self) -> str:
        """Return a hash of which images are trained on: with a different split a resumed run would measure on some of them."""
        keys = map(self.train.key, range(len(self.train)))
        return content_hash("\n".join([*self.classes, *keys]).encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, kw_only=True)
class OwnItem:
    """Makes an item of an image: its pixels, a text, and the number of its class."""

    inner: ImageCaption
    classes: tuple[str, ...]
    templates: tuple[str, ...]

    def __call__(self, sample: Sample, seed: int) -> tuple[Captioned, int]:
        """Read the image; a class becomes a text by a template that is drawn at random."""
        if not self.classes:
            item = self.inner(sample, seed)
            return item, number_of(item.text.strip().lower().encode("utf-8", "surrogatepass")) >> 1
        number = self.classes.index(str(sample.label))
        template = self.templates[derive(seed, "template") % len(self.templates)]
        text = fill(template, spoken(self.classes[number]))
        return self.inner(replace(sample, captions={"caption": (text,)}), seed), number


@dataclass(frozen=True, kw_only=True)
class OwnCollate:
    """Makes batches of these items."""

    inner: CaptionCollate

    def __call__(self, items: list[tuple[Captioned, int]]) -> LabelledText:
        """Stack items."""
        batch = self.inner([item for item, _ in items])
        label = torch.tensor([number for _, number in items])
        return LabelledText(image=batch.image, tokens=batch.tokens, label=label)  # type: ignore[attr-defined]


def spoken(label: str) -> str:
    """Return the name of a class as it is written in a text.

    >>> spoken("fire_truck")
    'fire truck'
    """
    return label.replace("_", " ").strip()


def opened_own(
    data: str,
    test: str,
    *,
    held_out: float,
    seed: int,
    root: Path | None = None,
    choice: CaptionChoice = CaptionChoice(),  # noqa: B008  it is frozen
) -> Own:
    """Open own images and hold a part out.

    Args:
        data: a folder with a subfolder per class, or any source of images with captions.
        test: a source of the same kind that is held out; a part of `data` if empty.
        held_out: share of `data` that is held out, of every class if there are classes.
        seed: of the split.
        choice: of the caption, where there are no classes.

    Raises:
        PerceptError: nothing to learn, nothing to measure, classes that differ, or test images that are also in `data`.
    """
    rows = open_rows(data, root=root)
    classes = classes_of(rows)
    known = look_at(rows, classes, choice)
    if classes:
        classes = tuple(sorted({each.kind for each in known}))
        _check_classes(data, classes)
    if test:
        apart = _known_test(test, classes, root, choice)
        _check_leaks(known, apart)
        return Own(train=_chosen(rows, known), test=_limited(apart, seed), classes=classes)
    apart = split(known, held_out, seed, classes=bool(classes))
    numbers = {each.row for each in apart}
    left = [each for each in known if each.row not in numbers]
    if not left or (held_out and not apart):
        raise PerceptError(
            f"{data} has {len(known)} usable images, too few to train on some and measure on others. Add images, or give --test."
        )
    return Own(train=_chosen(rows, left), test=_limited(apart, seed), classes=classes)


def classes_of(rows: Rows) -> tuple[str, ...]:
    """Return the classes of class folders without captions; none for a source with captions."""
    names: tuple[str, ...] = tuple(getattr(rows, "classes", ()))
    for row in range(min(LOOK, len(rows)) if names else 0):
        try:
            if set(rows.read(row).captions) - {"label"}:
                return ()
        except BadSample:
            continue
    return names


def look_at(rows: Rows, classes: Sequence[str], choice: CaptionChoice) -> list[Known]:
    """Read every row and decode its image once; rows that cannot be used are counted and left out.

    Raises:
        PerceptError: no row can be used.
    """
    known, bad = [], defaultdict(list)
    for row in track(range(len(rows)), "looking at images", total=len(rows)):
        try:
            known.append(_known(rows, row, classes, choice))
        except BadSample as error:
            bad[error.reason].append(error)
    if not known:
        reason, errors = next(iter(bad.items()), ("no rows", []))
        detail = f", for example {errors[0].key}: {errors[0].detail}" if errors else ""
        raise PerceptError(
            f"{rows.name} holds no image that can be used ({reason}{detail}). Give a folder with a subfolder per class, or images with "
            "captions; --captions names their field."
        )
    for reason, errors in bad.items():
        notice(f"{rows.name}: {len(errors)} left out, {reason}, for example {errors[0].key}")
    return known


def _known(rows: Rows, row: int, classes: Sequence[str], choice: CaptionChoice) -> Known:
    sample = rows.read(row)
    if not sample.images:
        raise BadSample("no image", sample.key)
    if classes and sample.label is None:
        raise BadSample("not in a class folder", sample.key)
    kind = str(sample.label) if classes else choice.of(sample, 0)
    try:
        with decoded(sample.images[0]) as image:
            look = look_of(image) or 0
    except PerceptError as error:
        raise BadSample("broken image", sample.key, str(error)) from None
    return Known(row=row, key=sample.key, media=sample.images[0], kind=kind, look=look)


def split(known: Sequence[Known], share: float, seed: int, *, classes: bool) -> list[Known]:
    """Return the images to hold out: about `share` of every class, whole groups of near duplicates, never a whole class."""
    groups: dict[int, list[Known]] = defaultdict(list)
    for each, group in zip(known, groups_of(known), strict=True):
        groups[int(group)].append(each)
    by_class: dict[str, list[list[Known]]] = defaultdict(list)
    for group in groups.values():
        by_class[group[0].kind if classes else ""].append(group)
    held: list[Known] = []
    for kind in sorted(by_class):
        held += _first_groups(by_class[kind], share, seed)
    return held


def _first_groups(groups: list[list[Known]], share: float, seed: int) -> list[Known]:
    """Take groups in random order up to a share of their images; at least one group is left."""
    order = sorted(groups, key=lambda group: derive(seed, "held out", group[0].key))
    wanted, taken = round(share * sum(map(len, groups))), []
    for group in order[:-1]:
        if len(taken) >= wanted:
            break
        taken += group
    return taken


def groups_of(known: Sequence[Known]) -> Int[np.ndarray, " n"]:
    """Group images that look nearly alike."""
    return near_looks(np.array([each.look for each in known], dtype=np.uint64))


def _known_test(test: str, classes: tuple[str, ...], root: Path | None, choice: CaptionChoice) -> list[Known]:
    rows = open_rows(test, root=root)
    known = look_at(rows, classes_of(rows) if classes else (), choice)
    if classes and (new := sorted({each.kind for each in known} - set(classes))):
        raise PerceptError(
            f"{test} has classes that training has not: {', '.join(new[:4])}. Give test images of the {len(classes)} trained classes."
        )
    return known


def _check_leaks(known: Sequence[Known], apart: Sequence[Known]) -> None:
    """Raise a PerceptError if a test image is nearly equal to a training image of its class or caption."""
    both = [*known, *apart]
    trained: dict[tuple[int, str], str] = {}
    groups = groups_of(both).tolist()
    for each, group in zip(known, groups, strict=False):
        trained.setdefault((group, each.kind), each.key)
    leaks = [
        (each.key, trained[group, each.kind])
        for each, group in zip(apart, groups[len(known) :], strict=True)
        if each.look and (group, each.kind) in trained
    ]
    if leaks:
        raise PerceptError(
            f"{len(leaks)} of {len(apart)} test images are also training images, for example {leaks[0][0]} and {leaks[0][1]}. Remove "
            "them from one side, or leave --test out: the split then keeps equal images together."
        )


def _check_classes(data: str, classes: Sequence[str]) -> None:
    if len(classes) < 2:
        raise PerceptError(
            f"{data} has the single class {classes[0]!r}. Give at least two class folders, or images with captions."
        )
    names: dict[str, str] = {}
    for name in classes:
        if (other := names.setdefault(spoken(name).lower(), name)) != name:
            raise PerceptError(
                f"the class folders {other!r} and {name!r} have the same name in texts. Rename one of them."
            )


def _chosen(rows: Rows, known: Iterable[Known]) -> Chosen:
    return Chosen(rows=rows, numbers=tuple(each.row for each in known))


def _limited(apart: Sequence[Known], seed: int) -> tuple[Known, ...]:
    """Return at most `MOST` images to measure on."""
    return tuple(sorted(apart, key=lambda each: derive(seed, "measured", each.key))[:MOST])
