"""Several models on a person's own class folders: zero-shot, and labels taught from a few images of each class, compared in pairs.

All models see the same files and the same training images. Files of equal content count once; files of equal content in two classes
are left out; images that look nearly the same as a training image (64-bit hashes of their looks, which no model decides) are not tested on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.data.check.similar import look_of, near_looks
from percept.data.files import BadFile, is_video, read_each
from percept.data.images import read_image
from percept.eval.class_files import Folders, class_files, different_contents
from percept.eval.compare import Difference, difference
from percept.eval.record import Records
from percept.eval.resampling import group_numbers, share
from percept.eval.statistics import Score
from percept.eval.teach_fit import Prior, fit
from percept.eval.zeroshot import hits
from percept.infer.clips import Sampling
from percept.infer.labels import class_vectors

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder

REPEATS = 5
"""Draws of training images."""
ZERO_SHOT = "zero-shot"


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """The files, and which are trained on."""

    found: Folders
    paths: tuple[Path, ...]
    labels: Int[np.ndarray, " n"]
    looks: Int[np.ndarray, " n"]
    """Number of the first image that looks nearly the same."""
    left_out: int
    """Files that are copies, or whose content is in two classes."""
    bad: tuple[BadFile, ...]
    conflicts: tuple[tuple[Path, ...], ...] = ()
    """Files of equal content in different classes; all are left out."""

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.found.path.name

    def key(self, row: int) -> str:
        """Return the path of an image within the folder."""
        return self.paths[row].relative_to(self.found.path).as_posix()

    def training(self, shots: int, draw: int, seed: int) -> Int[np.ndarray, " k"]:
        """Return the training images of one draw: `shots` of each class, at random.

        Raises:
            PerceptError: a class has too few images to leave some for the test.
        """
        rng = np.random.default_rng(derive(seed, "shots", shots, draw))
        rows = []
        for number, name in enumerate(self.found.classes):
            own = np.flatnonzero(self.labels == number)
            if len(own) <= shots:
                raise PerceptError(
                    f"the class {name} has {len(own)} different images, so {shots} shots leave none for the test. Use fewer shots, or add images."
                )
            rows.append(rng.permutation(own)[:shots])
        return np.concatenate(rows)

    def tested(self, training: Int[np.ndarray, " k"]) -> Int[np.ndarray, " m"]:
        """Return the images that are tested on: all that do not look like a training image."""
        return np.flatnonzero(~np.isin(self.looks, self.looks[training]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """One model: its records by task, and the scores."""

    model: str
    records: dict[str, Records]
    scores: dict[str, Score]


def open_task(folder: Path | str) -> Task:
    """Read a folder of class folders; hash contents and looks.

    Raises:
        PerceptError: as `percept.eval.class_files.class_files`, or no file can be read.
    """
    found = class_files(Path(folder))
    labels = dict(zip(found.files, found.labels, strict=True))
    different, copies, conflicts = different_contents(found)

    def look(path: Path) -> tuple[Path, int]:
        return path, 0 if is_video(path) else look_of(read_image(path, at_least=32)) or 0

    results = list(read_each(different, look))
    read = [each for each in results if not isinstance(each, BadFile)]
    bad = tuple(each for each in results if isinstance(each, BadFile))
    if not read:
        raise PerceptError(
            f"no file of {folder} can be read, such as: {bad[0].reason if bad else 'all are copies'}. Check the files."
        )
    paths = tuple(path for path, _ in read)
    return Task(
        found=found, paths=paths, labels=np.array([labels[path] for path in paths]),
        looks=near_looks(np.array([value for _, value in read], dtype=np.uint64)),
        left_out=len(copies) + sum(map(len, conflicts)), bad=bad, conflicts=conflicts,
    )  # fmt: skip


def measure(
    encoder: "Encoder",
    task: Task,
    *,
    shots: Sequence[int] = (),
    templates: Sequence[str] | None = None,
    sampling: Sampling | None = None,
    seed: int = 0,
    name: str | None = None,
) -> Outcome:
    """Measure one model; its image vectors are computed once.

    Args:
        encoder: the model.
        task: the files.
        shots: training images of each class, as many tasks.
        templates: texts with {} for the label.
        sampling: which frames stand for a video.
        seed: of the draws of training images.
        name: what the model is called; its own name if None.

    Raises:
        PerceptError: an image cannot be read, a class is too small for the shots, or neither texts nor shots can be measured.
    """
    name = name or encoder.name
    prior = None
    if encoder.model.config.text is not None and encoder.tokenizer is not None:
        prior = Prior(texts=class_vectors(encoder, list(task.found.classes), templates).float(), scale=encoder.scale)
    if prior is None and not shots:
        raise PerceptError(f"{name} reads no texts. Give a number of shots to teach it the labels.")
    read = encoder.files(task.paths, sampling=sampling)
    if read.bad:
        raise PerceptError(f"{read.bad[0].path} {read.bad[0].reason}. Take it out of {task.found.path}.")
    records = {}
    if prior is not None:
        records[ZERO_SHOT] = _records(task, ZERO_SHOT, [(0, np.arange(len(task.paths)), prior.logits(read.vectors))])
    for count in shots:
        records[_shots(count)] = _records(task, _shots(count), _taught(task, read.vectors, prior, count, seed))
    scores = {
        kind: share(kind, each.value > 0.5, group_numbers(each.group), seed=seed) for kind, each in records.items()
    }
    return Outcome(model=name, records=records, scores=scores)


def _shots(count: int) -> str:
    return f"{count} shot{'' if count == 1 else 's'}"


def _taught(
    task: Task, vectors: Float[Tensor, "n d"], prior: Prior | None, shots: int, seed: int
) -> list[tuple[int, Int[np.ndarray, " m"], Float[Tensor, "m c"]]]:
    """Return, of each draw, the images that were tested and their logits."""
    found = []
    for draw in range(REPEATS):
        training = task.training(shots, draw, seed)
        rows = task.tested(training)
        labels = torch.from_numpy(task.labels[training])
        head = fit(vectors[training], labels, prior, len(task.found.classes), groups=task.looks[training], seed=seed)
        found.append((draw, rows, head(vectors[rows])))
    if not any(len(rows) for _, rows, _ in found):
        raise PerceptError(
            f"with {shots} shots every image looks like one that is trained on. Use fewer shots, or add images."
        )
    return found


def _records(
    task: Task, name: str, parts: Sequence[tuple[int, Int[np.ndarray, " m"], Float[Tensor, "m c"]]]
) -> Records:
    """Return the outcome of every image in every draw; all draws of images that look nearly the same belong together."""
    classes, keys, groups, truth, guesses, values = task.found.classes, [], [], [], [], []
    for draw, rows, logits in parts:
        labels = torch.from_numpy(task.labels[rows])
        keys += [f"{draw}/{task.key(row)}" for row in rows.tolist()]
        groups += [task.key(look) for look in task.looks[rows].tolist()]
        truth += [classes[label] for label in labels.tolist()]
        guesses += [classes[guess] for guess in logits.argmax(dim=1).tolist()]
        values.append(hits(logits, labels, 1).numpy().astype(float))
    return Records(
        task=name, data=task.name, keys=keys, truth=truth, prediction=guesses, value=np.concatenate(values), group=groups
    )  # fmt: skip


def compared(a: Outcome, b: Outcome, *, seed: int = 0) -> dict[str, Difference]:
    """Return the difference of two models in every task that both have, B minus A, on the same images."""
    return {
        name: difference(("folder", each.data, name), a.records[name], each, seed=seed)
        for name, each in b.records.items()
        if name in a.records
    }
