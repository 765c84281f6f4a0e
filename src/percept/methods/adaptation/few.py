"""Labelled image sets for adaptation, their vectors by a frozen encoder, and the few-shot samples that methods are trained on."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.io import load_tensors, save_tensors
from percept.core.seed import derive
from percept.data.augment.recipe import Augment, augmented
from percept.data.few_shot import base_and_new, few_shot
from percept.data.transforms import read_pixels
from percept.methods.adaptation.contract import Shots
from percept.methods.adaptation.texts import TEMPLATE, check_names

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder

CROPS = 1
"""Random crops of a training image whose vectors are computed; a step uses one of them."""
LEAST = 0.08
"""Least share of an image in a random crop, as in the literature; crops may be mirrored too."""
PARTS = ("base", "new", "all")
PART = 64
"""Images that are encoded together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledSet:
    """Labelled images with class names; which may be trained on, and which are tested on."""

    name: str
    classes: tuple[str, ...]
    image: Callable[[int], Any]
    """Returns image number i: a path, a PIL image or a uint8 array [y, x, 3]."""
    labels: Int[np.ndarray, " n"]
    keys: tuple[str, ...]
    """Identify the images, in every run the same."""
    pool: Int[np.ndarray, " k"]
    """Images that may be drawn for training."""
    test: Int[np.ndarray, " m"]
    looks: Int[np.ndarray, " n"]
    """Images of one number look nearly the same; those that look like a drawn one are not tested on."""
    template: str = TEMPLATE
    sentences: tuple[tuple[str, ...], ...] = ()
    """Several sentences about each class, if there are some."""
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_names(self.classes)
        if "{}" not in self.template:
            raise PerceptError(f"the template {self.template!r} has no {{}} for the class name.")

    def part(self, part: str) -> range:
        """Return the class numbers of base, new or all.

        Raises:
            PerceptError: there are too few classes to divide.
        """
        if part == "all":
            return range(len(self.classes))
        return base_and_new(len(self.classes))[PARTS.index(part)]

    def names(self, part: str) -> tuple[str, ...]:
        """Return the class names of base, new or all."""
        return tuple(self.classes[number] for number in self.part(part))

    def drawn(self, shots: int, seed: int, *, smaller: bool = False) -> Int[np.ndarray, " k"]:
        """Return the images drawn for training: `shots` of every class, whatever the split.

        Args:
            smaller: take all images of a class that has fewer, in place of an error.

        Raises:
            PerceptError: a class has fewer images than shots.
        """
        counts = np.bincount(self.labels[self.pool], minlength=len(self.classes))
        short = [
            f"{name} ({count})" for name, count in zip(self.classes, counts.tolist(), strict=True) if count < shots
        ]
        if short and not smaller:
            raise PerceptError(
                f"these classes have fewer than {shots} different images to train on: {', '.join(short[:8])}. Use fewer shots, or add images."
            )
        return self.pool[few_shot(self.labels[self.pool], shots, seed)]

    def tested(self, drawn: Int[np.ndarray, " k"], part: str) -> Int[np.ndarray, " m"]:
        """Return the test images of some classes that look like none of the drawn ones.

        Raises:
            PerceptError: a class has no test images.
        """
        inside = np.isin(self.labels[self.test], list(self.part(part)))
        rows = self.test[inside & ~np.isin(self.looks[self.test], self.looks[drawn])]
        if empty := [self.classes[number] for number in self.part(part) if not (self.labels[rows] == number).any()]:
            raise PerceptError(
                f"the class {empty[0]} of {self.name} has no image left to test on that does not look like a training image. Use fewer shots, or "
                "add images."
            )
        return rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """A labelled set with the vectors that a frozen encoder gives its images."""

    data: LabelledSet
    encoder: "Encoder"
    vectors: Float[Tensor, "n d"]
    """Of the whole images."""
    folder: Path | None = None
    """Where vectors of crops are kept; nowhere if None."""
    least: float = LEAST
    """Least share of an image in a random crop."""

    def pixels(self, rows: Sequence[int], seed: int | None) -> Float[Tensor, "b 3 y x"]:
        """Return preprocessed images: whole, or with a seed one random crop of each."""
        images = [self._pixels(row, None if seed is None else derive(seed, row)) for row in rows]
        return self.encoder.preprocess.normalise(torch.stack(images))

    def _pixels(self, row: int, seed: int | None) -> Tensor:
        image = self.data.image(row)
        source = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        if seed is None:
            return read_pixels(source, self.encoder.preprocess)
        augment = Augment(scale=(self.least, 1.0), brightness=0.0, saturation=0.0)
        return augmented(source, self.encoder.preprocess, augment, seed).pixels[0]

    def crops(self, rows: Int[np.ndarray, " k"], count: int) -> Float[Tensor, "v k d"]:
        """Return the vectors of `count` random crops of some images; the same crops in every run."""
        if self.folder is None:
            found = [self._crop_vectors(rows, number) for number in range(count)]
        else:
            places = {row: place for place, row in enumerate(self.data.pool.tolist())}
            chosen = [places[row] for row in rows.tolist()]
            found = [self._stored_crops(number)[chosen] for number in range(count)]
        return torch.stack(found) if found else torch.zeros(0, len(rows), self.vectors.shape[1])

    def _crop_vectors(self, rows: Int[np.ndarray, " k"], number: int) -> Float[Tensor, "k d"]:
        seed = derive(0, "crop", number)
        return _kept(None, lambda: [self.encoder.image(self.pixels(part, seed)) for part in _parts(rows)])

    def _stored_crops(self, number: int) -> Float[Tensor, "p d"]:
        """Return the vectors of a crop of every image that may be drawn."""
        assert self.folder is not None
        place, seed = self.folder / f"crops-{self.least:g}-{number}.safetensors", derive(0, "crop", number)
        return _kept(place, lambda: [self.encoder.image(self.pixels(part, seed)) for part in _parts(self.data.pool)])

    def shots(self, drawn: Int[np.ndarray, " k"], part: str, *, crops: int = CROPS) -> Shots:
        """Return what a method may read, on the device of the encoder: the drawn images of some classes, with labels counted from 0."""
        classes, device = self.data.part(part), next(self.encoder.model.parameters()).device
        vectors = torch.cat([self.vectors[drawn].float()[None], self.crops(drawn, crops)])
        kept = np.flatnonzero(np.isin(self.data.labels[drawn], list(classes)))
        rows, sentences = drawn[kept], self.data.sentences
        return Shots(
            names=self.data.names(part), template=self.data.template,
            label=torch.from_numpy(self.data.labels[rows] - classes.start).to(device), keys=tuple(self.data.keys[row] for row in rows),
            vectors=vectors[:, kept].to(device), pixels=lambda some, crop: self.pixels([int(rows[each]) for each in some], crop).to(device),
            sentences=tuple(sentences[number] for number in classes) if sentences else (),
        )  # fmt: skip


def see(
    encoder: "Encoder",
    data: LabelledSet,
    *,
    cache: Path | None = None,
    least: float = LEAST,
    progress: Callable[[Sequence[list[int]]], Iterable[list[int]]] = iter,
) -> Seen:
    """Encode all images of a set once, or read their vectors from `cache`, where they are stored in float16.

    Args:
        cache: folder of vectors.
        least: least share of an image in a random crop.
        progress: yields the parts that are encoded together.
    """
    folder = None
    if cache is not None:
        folder = cache / f"{data.name.replace('/', '_')}-{_digest(encoder.identity.image, *data.keys)}"
        folder.mkdir(parents=True, exist_ok=True)
    place = None if folder is None else folder / "whole.safetensors"
    everything = np.arange(len(data.labels))
    vectors = _kept(
        place, lambda: [encoder.image([data.image(row) for row in part]) for part in progress(_parts(everything))]
    )
    return Seen(data=data, encoder=encoder, vectors=vectors, folder=folder, least=least)


def _parts(rows: Int[np.ndarray, " k"]) -> list[list[int]]:
    return [part.tolist() for part in np.split(rows, range(PART, len(rows), PART))] if len(rows) else []


def _kept(place: Path | None, compute: Callable[[], Sequence[Tensor]]) -> Float[Tensor, "n d"]:
    """Return vectors rounded to float16, so that stored ones and new ones are equal."""
    if place is not None and place.is_file():
        return load_tensors(place)["vectors"].float()
    vectors = torch.cat(list(compute())).half()
    if place is not None:
        save_tensors(place, {"vectors": vectors})
    return vectors.float()


def _digest(*parts: object) -> str:
    return hashlib.blake2b("\n".join(map(str, parts)).encode(), digest_size=8).hexdigest()
