"""What a step is, and what it may use: an encoder, a captioner, a writer, passed in by the caller."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from percept.core.config import from_source
from percept.core.errors import PerceptError, unknown_name
from percept.data.curate import STEPS
from percept.data.curate.store import Arrays, Chunk, Decision, Parts, load_arrays, save_arrays

Images = Sequence[str | bytes]


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Models that steps use. They run in the process that started the curation."""

    name: str = ""
    """Identity of the models; results made with other models are not reused."""
    dim: int = 0
    """Length of the vectors of images and texts."""
    images: Callable[[Images], Any] | None = None
    """Returns one unit vector per image."""
    texts: Callable[[Sequence[str]], Any] | None = None
    """Returns one unit vector per text, in the space of the images."""
    codes: Callable[[Images], Any] | None = None
    """Returns the codebook indices of every image [n, t]."""
    num_codes: int = 0
    """Size of the codebook."""
    captions: Callable[[Images], Sequence[str]] | None = None
    """Writes one caption per image."""
    fuse: Callable[[Images, Sequence[Sequence[str]]], Sequence[str]] | None = None
    """Writes one caption per image from the image and from sentences about it."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a step runs."""

    root: Path
    """Folder that paths of images are relative to."""
    vectors: Path
    """Folder for the vectors of images."""
    step: Path
    """Folder of the step."""
    tools: Tools

    def measured(self, number: int, kind: str) -> Arrays:
        """Return what an earlier pass of the step, such as "measured-0", measured in a chunk."""
        return load_arrays(self.step / kind / f"{number:06d}.npz")


@dataclass(frozen=True)
class Pass:
    """A pass over all chunks before a step decides."""

    measure: Callable[[Chunk, Arrays, Place], Arrays]
    """Measures one chunk; the arrays are what the previous pass of this step combined."""
    combine: Callable[[Parts, Arrays], Arrays]
    """Combines what was measured in all chunks; the arrays are what the previous pass combined."""
    tools: bool = False
    """The measurement calls a model."""


@runtime_checkable
class Step(Protocol):
    """A step: a frozen dataclass of settings with three methods. `passes` measure; then every chunk is decided alone."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Fields of `Tools` that must be given."""
        ...

    def passes(self) -> Sequence[Pass]:
        """Return the passes that precede the decision."""
        ...

    def decide(self, chunk: Chunk, measured: Arrays, state: Arrays) -> Decision:
        """Decide about the rows of a chunk, given what the last pass measured in it and combined."""
        ...

    def describe(self, measured: Parts, decided: Sequence[Any], state: Arrays) -> dict[str, Any]:
        """Return facts for the report, as plain data."""
        ...

    def files(self) -> Sequence[Path]:
        """Return the files that the settings name."""
        ...


class Plain:
    """Defaults of a step that needs no pass, no model and no facts in the report."""

    @property
    def needs(self) -> tuple[str, ...]:
        """No model."""
        return ()

    def passes(self) -> Sequence[Pass]:
        """Return no pass."""
        return ()

    def describe(self, measured: Parts, decided: Sequence[Any], state: Arrays) -> dict[str, Any]:
        """Return no facts."""
        return {}

    def files(self) -> Sequence[Path]:
        """Return no files."""
        return ()


def make_step(name: str, settings: Any, source: object = "settings") -> Step:
    """Return the step of a name with these settings.

    Raises:
        PerceptError: unknown step, unknown setting, or a setting out of range.
    """
    if name not in STEPS:
        raise unknown_name("step", name, STEPS)
    module, _, kind = STEPS[name].partition(":")
    return from_source(getattr(import_module(module), kind), settings, f"{source}, step {name}")


def make_steps(names: Sequence[str], settings: Mapping[str, Any], source: object = "settings") -> dict[str, Step]:
    """Return the steps by name, in the order given.

    Raises:
        PerceptError: as `make_step`; settings for a step that is not used; or a step given twice.
    """
    if not isinstance(settings, Mapping):
        raise PerceptError(f"{source} must hold an object: step name to its settings.")
    if unused := [name for name in settings if name not in names]:
        raise PerceptError(f"{source} has settings for {unused[0]!r}, which is not among the steps {', '.join(names)}.")
    if repeated := next((name for name in names if list(names).count(name) > 1), None):
        raise PerceptError(f"step {repeated} is given twice. Give every step once.")
    if not names:
        raise PerceptError(f"no step was given. Choose from {', '.join(STEPS)}.")
    return {name: make_step(name, settings.get(name, {}), source) for name in names}


def located(images: Sequence[str | bytes | None], root: Path) -> list[str | bytes]:
    """Return images with their paths made absolute to `root`; an empty path where there is no image."""
    return [str(root / image) if isinstance(image, str) else image or "" for image in images]


def as_numpy(vectors: Any) -> np.ndarray:
    """Return vectors as a float32 array."""
    return np.asarray(getattr(vectors, "cpu", lambda: vectors)(), dtype=np.float32)


def image_vectors(chunk: Chunk, place: Place) -> np.ndarray:
    """Return a unit vector per row, computed once per chunk and kept for later steps; NaN where there is no usable image."""
    file = place.vectors / f"{chunk.number:06d}.npz"
    if file.is_file():
        stored = load_arrays(file)
        places = np.searchsorted(stored["rows"], chunk.rows)
        if len(stored["rows"]) and (stored["rows"][np.minimum(places, len(stored["rows"]) - 1)] == chunk.rows).all():
            return stored["vectors"][places].astype(np.float32)
    vectors = _of_images(place.tools, located(chunk.images, place.root))
    save_arrays(file, {"rows": chunk.rows, "vectors": vectors.astype(np.float16)})
    return vectors.astype(np.float16).astype(np.float32)


def _of_images(tools: Tools, images: Sequence[str | bytes]) -> np.ndarray:
    """Return vectors in the order of `images`; NaN for those that cannot be read."""
    assert tools.images is not None
    vectors = np.full((len(images), tools.dim), np.nan, dtype=np.float32)
    readable = [number for number, image in enumerate(images) if is_readable(image)]
    if not readable:
        return vectors
    try:
        vectors[readable] = as_numpy(tools.images([images[number] for number in readable]))
    except PerceptError:  # one of them is damaged behind its header: try each alone
        for number in readable:
            with suppress(PerceptError):
                vectors[number] = as_numpy(tools.images([images[number]]))[0]
    return vectors


def is_readable(image: str | bytes) -> bool:
    """True if there is an image whose header can be read."""
    from percept.data.images import upright_size

    if not image:
        return False
    try:
        upright_size(image)
    except PerceptError:
        return False
    return True
