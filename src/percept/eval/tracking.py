"""Objects tracked by label propagation from the masks of the first frame: region similarity J, contour accuracy F and their mean, as in DAVIS.

Perazzi et al. 2016, CVPR, "A benchmark dataset and evaluation methodology for video object segmentation"; Pont-Tuset et al. 2017,
arXiv:1704.00675. The tracker is that of `percept track` with its defaults. Means are over objects; intervals resample clips.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, hypot
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Bool, UInt8

from percept.core.errors import PerceptError
from percept.eval.dense import needs_maps
from percept.eval.record import Records
from percept.eval.resampling import group_numbers, mean_share
from percept.eval.sets.item import EvaluationSet, Item, Request
from percept.eval.statistics import Score
from percept.eval.table import Evaluation, OnSets, Plan, Result

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder

TOLERANCE = 0.008
"""Largest distance of matching contours, as a share of the diagonal of the image; rounded up to whole pixels."""
CLIPS = 300
"""Images of a plan for one clip: 10 clips for 3,000 images."""


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """How well one object was tracked: means over the frames."""

    j: float
    """Region similarity: intersection over union."""
    f: float
    """Contour accuracy."""

    @property
    def both(self) -> float:
        """The mean of J and F."""
        return (self.j + self.f) / 2


def region_similarity(found: Bool[np.ndarray, "y x"], truth: Bool[np.ndarray, "y x"]) -> float:
    """Return J, intersection over union; 1 if both masks are empty."""
    union = np.count_nonzero(found | truth)
    return np.count_nonzero(found & truth) / union if union else 1.0


def contour(mask: Bool[np.ndarray, "y x"]) -> Bool[np.ndarray, "y x"]:
    """Return the pixels that differ from their neighbour to the right, below, or diagonally below to the right."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask ^ padded[:-1, 1:]) | (mask ^ padded[1:, :-1]) | (mask ^ padded[1:, 1:])


def contour_accuracy(found: Bool[np.ndarray, "y x"], truth: Bool[np.ndarray, "y x"]) -> float:
    """Return F, the harmonic mean of the precision and recall of contour pixels within a tolerance."""
    radius = ceil(TOLERANCE * hypot(*truth.shape))
    ours, theirs = contour(found), contour(truth)
    precision, recall = _covered(ours, theirs, radius), _covered(theirs, ours, radius)
    if not ours.any() or not theirs.any():  # one of the contours is empty: only empty against empty is right
        return float(ours.any() == theirs.any())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _covered(pixels: Bool[np.ndarray, "y x"], others: Bool[np.ndarray, "y x"], radius: int) -> float:
    """Return the share of `pixels` that have one of `others` within `radius`."""
    total = np.count_nonzero(pixels)
    return np.count_nonzero(pixels & _dilated(others, radius)) / total if total else 0.0


def _dilated(mask: Bool[np.ndarray, "y x"], radius: int) -> Bool[np.ndarray, "y x"]:
    """Return the pixels within `radius` of the mask."""
    height, width = mask.shape
    padded, wide = np.pad(mask, radius), np.zeros_like(mask)
    for down in range(-radius, radius + 1):
        for across in range(-radius, radius + 1):
            if down * down + across * across <= radius * radius:
                wide |= padded[radius + down : radius + down + height, radius + across : radius + across + width]
    return wide


def tracked(found: Sequence[UInt8[np.ndarray, "_ _"]], truth: Sequence[UInt8[np.ndarray, "_ _"]]) -> dict[int, Tracked]:
    """Return the scores of each object of the first true mask.

    The first and the last frame are not counted, as in the evaluation of DAVIS 2017: the first mask is given.

    Raises:
        PerceptError: masks of different number or size, fewer than three frames, or no object.
    """
    _check(found, truth)
    objects = sorted(set(np.unique(truth[0]).tolist()) - {0})
    pairs = list(zip(found, truth, strict=True))[1:-1]
    scores = {}
    for number in objects:
        masks = [(one == number, other == number) for one, other in pairs]
        j = float(np.mean([region_similarity(*both) for both in masks]))
        scores[number] = Tracked(j=j, f=float(np.mean([contour_accuracy(*both) for both in masks])))
    return scores


def _check(found: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> None:
    if len(found) != len(truth) or len(truth) < 3:
        raise PerceptError(
            f"got {len(found)} masks for {len(truth)} true ones. Give one per frame, of at least 3 frames."
        )
    sizes = {each.shape for each in (*found, *truth)}
    if len(sizes) > 1:
        raise PerceptError(f"the masks have different sizes: {sorted(sizes)}. Give masks of the size of the true ones.")
    if not truth[0].any():
        raise PerceptError("the first true mask marks no object, so there is nothing to track.")


Clips: TypeAlias = Mapping[str, Mapping[int, Tracked]]
"""Name of a clip: number of an object: its scores."""


def scores_of(clips: Clips, *, seed: int = 0) -> list[Score]:
    """Return the means of J&F, J and F over objects; for the intervals whole clips are resampled.

    Args:
        clips: scores of the objects of each clip.
        seed: of the bootstrap.

    Raises:
        PerceptError: there are no objects.
    """
    return [
        mean_share(each.task, each.value, group_numbers(each.group), seed=seed) for each in records_of(clips, data="")
    ]


def records_of(clips: Clips, *, data: str) -> list[Records]:
    """Return J&F, J and F of each object; the objects of a clip are a group.

    Raises:
        PerceptError: there are no objects.
    """
    rows = [(name, number, each) for name, objects in clips.items() for number, each in objects.items()]
    if not rows:
        raise PerceptError("no clip has an object in its first frame. Give masks with at least one.")
    values = {
        "J&F": [each.both for *_, each in rows], "J": [each.j for *_, each in rows], "F": [each.f for *_, each in rows],
    }  # fmt: skip
    return [
        Records(
            task=task, data=data, keys=[f"{name}/{number}" for name, number, _ in rows], truth=[1.0] * len(rows),
            prediction=column, value=np.array(column), group=[name for name, *_ in rows],
        )
        for task, column in values.items()
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Shot:
    """Frames with true masks."""

    name: str
    frames: Sequence[Any]
    masks: Sequence[UInt8[np.ndarray, "y x"]]
    """Number of the object at each pixel, 0 for the background."""


def world_sequences(count: int, *, split: str, frames: int = 16, size: int = 192, first: int = 0) -> Iterator[Shot]:
    """Yield clips of the labelled world with a single shot; numbers count from `first`."""
    from itertools import count as numbers

    from percept.world.clips import generate_clip, plan_clip

    found = 0
    for number in numbers(first):
        if found == count:
            return
        if len(plan_clip(number, split=split, frames=frames).shots) > 1:
            continue
        clip = generate_clip(number, split=split, frames=frames, size=size)
        assert clip.ids is not None
        masks = [np.where(ids == 255, 0, ids).astype(np.uint8) for ids in clip.ids]
        if masks[0].any():
            found += 1
            yield Shot(name=f"{split} {number}", frames=list(clip.frames), masks=masks)


def evaluate(encoder: "Encoder", sequences: Iterable[Shot], **options: Any) -> dict[str, dict[int, Tracked]]:
    """Track all objects of the first frame of each sequence; return the scores by sequence and number of the object.

    Args:
        encoder: computes the features.
        sequences: frames with truth, of different names.
        options: of `percept.infer.tracking.track`.

    Raises:
        PerceptError: as `tracked`.
    """
    from percept.infer.tracking import track

    return {
        each.name: tracked(list(track(encoder, each.frames, each.masks[0], **options)), each.masks)
        for each in sequences
    }


def run(model: Any, plan: Plan) -> Result:
    """Track the objects of clips of the labelled world."""
    clips = evaluate(model, world_sequences(max(2, plan.count // CLIPS), split=plan.split, first=plan.seed * 10_000))
    return Result(scores=scores_of(clips, seed=plan.seed), records=records_of(clips, data="world"))


def open_davis(request: Request) -> dict[str, EvaluationSet]:
    """Open a folder in the format of DAVIS.

    Raises:
        PerceptError: the folder is not a DAVIS folder, or an option is given that has no effect on one.
    """
    from percept.eval.davis_sets import read_davis

    path = Path(request.path)
    if "tracks" not in (found := read_davis(path)):
        raise PerceptError(f"{path} has no JPEGImages/ and Annotations/. Give a folder in the format of DAVIS.")
    if request.subset or request.media:
        option = "--subset" if request.subset else "--media"
        raise PerceptError(f"{option} has no effect on a DAVIS folder. Name the sequences in ImageSets/2017/val.txt.")
    folders = [found["tracks"].images(number)[0].parent for number in range(len(found["tracks"]))]
    data = EvaluationSet(
        name=path.resolve().name, path=str(path), layout="sequences of DAVIS", holds=("tracks",), count=len(folders),
        key=lambda number: folders[number].name, read=lambda number: Item(key=folders[number].name, media=folders[number]),
    )  # fmt: skip
    return {data.name: data.limited(request.limit, request.seed)}


def run_on_davis(model: Any, sets: Mapping[str, EvaluationSet], request: Request) -> Result:
    """Track the objects of each sequence."""
    from percept.eval.davis_sets import read_davis
    from percept.eval.sets.stream import Pass

    (data,) = sets.values()
    tracks, seen = read_davis(Path(request.path))["tracks"], Pass(data=data)
    numbers = {tracks.images(number)[0].parent.name: number for number in range(len(tracks))}

    def sequences() -> Iterator[Shot]:
        for item in map(data.read, range(len(data))):
            number = numbers[item.key]
            masks = tracks.target(number)
            seen.add(item, sum(each.stat().st_size for each in tracks.images(number)))
            yield Shot(name=item.key, frames=tracks.images(number), masks=list(masks.astype(np.uint8)))

    clips = evaluate(model, sequences())
    return Result(
        scores=scores_of(clips, seed=request.seed),
        records=records_of(clips, data=data.name),
        data=[seen.done().facts()],
    )


EVALUATION = Evaluation(
    name="tracking", summary=__doc__, run=run, needs=needs_maps, on_sets=OnSets(open=open_davis, run=run_on_davis)
)
