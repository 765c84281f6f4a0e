"""Find the image of a caption, and the caption of an image; with --data, images or videos of a set by their captions and the other way.

Images of one to six things; all long captions differ. R@k: a right one is among the k nearest.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from percept.core.errors import PerceptError
from percept.eval import world
from percept.eval.record import Records
from percept.eval.resampling import group_numbers, median, share
from percept.eval.sets import EvaluationSet, Request, open_set
from percept.eval.sets.stream import Pass, chunks, unit_vectors
from percept.eval.statistics import Score
from percept.eval.table import Evaluation, OnSets, Plan, Result
from percept.eval.zeroshot import needs_text
from percept.infer.clips import Sampling
from percept.infer.contracts import Embeds

RANKS = (1, 5, 10)
ROWS = 512
"""Queries that are compared with all candidates at a time."""
TEXTS = 4096
"""Captions that are embedded at a time."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Images or clips and their captions; one image may have several."""

    keys: Sequence[str]
    """Of the images."""
    captions: Sequence[str]
    owner: Sequence[int]
    """The image that each caption was written for."""
    thing: str = "image"
    """What the images are called in the names of scores."""

    def texts(self) -> list[int]:
        """Return a number for each caption; equal captions, in lower case without surrounding blanks, have equal numbers."""
        numbers: dict[str, int] = {}
        return [numbers.setdefault(caption.strip().lower(), len(numbers)) for caption in self.captions]

    def right(self) -> tuple[list[list[int]], list[list[int]]]:
        """Return the right images of each caption, and the right captions of each image.

        An image is right for every caption that equals one of its own.
        """
        texts = self.texts()
        images_of: dict[int, list[int]] = {}
        captions_of: dict[int, list[int]] = {}
        for caption, (text, image) in enumerate(zip(texts, self.owner, strict=True)):
            images_of.setdefault(text, []).append(image)
            captions_of.setdefault(text, []).append(caption)
        own: list[set[int]] = [set() for _ in self.keys]
        for text, image in zip(texts, self.owner, strict=True):
            own[image].add(text)
        return (
            [images_of[text] for text in texts],
            [sorted({caption for text in texts for caption in captions_of[text]}) for texts in own],
        )


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Where the best right answer to each query is, and the best answer of all."""

    ranks: Int[np.ndarray, " q"]
    """From 0; wrong answers of equal similarity come first."""
    best: Int[np.ndarray, " q"]


def retrieval(model: Embeds, images: Any, captions: Sequence[str], *, name: str = "") -> list[Score]:
    """Return R@1, R@5, R@10 and the median rank in both directions; images with equal captions are right answers for each other.

    Raises:
        PerceptError: the numbers of images and captions differ, or there are none.
    """
    vectors = model.image(images)
    if len(vectors) != len(captions) or not len(vectors):
        raise PerceptError(f"got {len(captions)} captions for {len(vectors)} images. Give one caption per image.")
    keys = [str(number) for number in range(len(captions))]
    pairs = Pairs(keys=keys, captions=captions, owner=range(len(captions)))
    return list(both_ways(vectors, model.text(list(captions)), pairs, name=name).scores)


def same(captions: Sequence[str]) -> Bool[Tensor, "n n"]:
    """True for pairs of equal captions, compared in lower case without surrounding blanks."""
    ids = torch.tensor(Pairs(keys=captions, captions=captions, owner=range(len(captions))).texts())
    return ids[:, None] == ids[None]


def both_ways(
    images: Float[Tensor, "n d"],
    texts: Float[Tensor, "m d"],
    pairs: Pairs,
    *,
    name: str = "",
    data: str = world.NAME,
    dual: bool = False,
) -> Result:
    """Score both directions by the products of vectors.

    Args:
        images: one vector per image, of unit length, or the mean of unit vectors of frames.
        texts: one unit vector per caption.
        pairs: which belong together.
        name: precedes the names of the scores.
        data: name of the set.
        dual: also score with `dual_softmax`.

    Intervals come from a bootstrap over images where images have several captions.
    """
    images, texts = images.float(), texts.float()
    right_images, right_captions = pairs.right()
    caption_keys = _caption_keys(pairs)
    owners = [pairs.keys[image] for image in pairs.owner]
    prefix, result = f"{name} " if name else "", Result(scores=[])
    for step in (False, True) if dual else (False,):
        words = f"{prefix}dual softmax " if step else prefix
        forth, back = f"{words}caption→{pairs.thing}", f"{words}{pairs.thing}→caption"
        to_image = ranked(texts, images, right_images, dual=step)
        to_text = ranked(images, texts, right_captions, dual=step)
        scores = [*_scores(forth, to_image, owners), *_scores(back, to_text, pairs.keys)]
        best_images = [pairs.keys[int(each)] for each in to_image.best]
        best_captions = [pairs.captions[int(each)] for each in to_text.best]
        first = [captions[0] for captions in _of_images(pairs)]
        records = [
            _records(f"{forth} R@1", data, caption_keys, owners, owners, best_images, to_image),
            _records(f"{back} R@1", data, pairs.keys, pairs.keys, first, best_captions, to_text),
        ]
        result = Result(scores=[*result.scores, *scores], records=[*result.records, *records])
    return result


def _scores(name: str, found: Ranking, groups: Sequence[str]) -> list[Score]:
    numbers = group_numbers(groups)
    recalls = [share(f"{name} R@{k}", found.ranks < k, numbers) for k in RANKS]
    return [*recalls, median(f"{name} median rank", found.ranks + 1, numbers)]


def _records(
    task: str, data: str, keys: Sequence[str], groups: Sequence[str], truth: Sequence[str], best: Sequence[str], found: Ranking
) -> Records:  # fmt: skip
    return Records(
        task=task, data=data, keys=keys, truth=truth, prediction=best, value=(found.ranks < 1).astype(float),
        rank=(found.ranks + 1).tolist(), group=groups,
    )  # fmt: skip


def _caption_keys(pairs: Pairs) -> list[str]:
    """Return a key for each caption: that of its image, and its number among the image's captions."""
    counts = [0] * len(pairs.keys)
    keys = []
    for image in pairs.owner:
        keys.append(f"{pairs.keys[image]}#{counts[image]}")
        counts[image] += 1
    return keys


def _of_images(pairs: Pairs) -> list[list[str]]:
    captions: list[list[str]] = [[] for _ in pairs.keys]
    for caption, image in zip(pairs.captions, pairs.owner, strict=True):
        captions[image].append(caption)
    return captions


def ranked(
    queries: Float[Tensor, "q d"],
    candidates: Float[Tensor, "c d"],
    right: Sequence[Sequence[int]],
    *,
    dual: bool = False,
) -> Ranking:
    """Rank all candidates for each query, some queries at a time.

    Args:
        queries: one vector each.
        candidates: one vector each.
        right: the right candidates of each query, at least one.
        dual: weigh similarities by `dual_softmax`.
    """
    parts, best = [], []
    for rows, similarity in _similarities(queries, candidates, dual=dual):
        positive = torch.zeros(similarity.shape, dtype=torch.bool)
        for row, number in enumerate(range(rows.start, rows.stop)):
            positive[row, list(right[number])] = True
        parts.append(ranks(similarity, positive))
        best.append(similarity.argmax(dim=1))
    return Ranking(ranks=torch.cat(parts).numpy(), best=torch.cat(best).numpy())


def _similarities(
    queries: Float[Tensor, "q d"], candidates: Float[Tensor, "c d"], *, dual: bool
) -> Iterator[tuple[range, Float[Tensor, "r c"]]]:
    """Yield the similarities of some queries at a time with all candidates."""
    blocks = [range(start, min(start + ROWS, len(queries))) for start in range(0, len(queries), ROWS)]
    total = torch.full((len(candidates),), float("-inf"))
    for rows in blocks if dual else ():
        total = torch.logaddexp(total, (queries[rows.start : rows.stop] @ candidates.T).logsumexp(dim=0))
    for rows in blocks:
        similarity = queries[rows.start : rows.stop] @ candidates.T
        yield rows, dual_softmax(similarity, total) if dual else similarity


def dual_softmax(similarity: Float[Tensor, "r c"], total: Float[Tensor, " c"]) -> Float[Tensor, "r c"]:
    """Return S · softmax of S over the queries of each candidate; `total` is the logsumexp of S over all queries.

    As in the published evaluations of the Perception Encoder (arXiv:2504.13181), with scale 1. It looks at all queries at once,
    so a number obtained with it cannot be compared with one obtained without.
    """
    return similarity * (similarity - total).exp()


def ranks(similarity: Float[Tensor, "q c"], positive: Bool[Tensor, "q c"]) -> Int[Tensor, " q"]:
    """Return the rank, from 0, of each query's best right answer; wrong answers of equal similarity come first."""
    best = similarity.masked_fill(~positive, float("-inf")).amax(dim=1, keepdim=True)
    return (~(similarity < best) & ~positive).sum(dim=1)  # not ">=": NaN must never win


def retrieval_of_set(model: Embeds, data: EvaluationSet, *, sampling: Sampling | None = None) -> Result:
    """Retrieve the images or videos of a set by their captions and the other way; vectors are kept, images are not.

    The vector of a video is the mean of the unit vectors of its frames, as published.

    Raises:
        PerceptError: no sample can be read, or the model cannot embed videos.
    """
    if data.video and not hasattr(model, "pooled"):
        raise PerceptError(f"{type(model).__name__} cannot embed videos. Use an encoder, such as 'nano'.")
    seen = Pass(data=data, captioned=True)
    vectors = [rows for _, rows in chunks(seen, model, unit_vectors(model, data, "retrieval"), sampling=sampling)]
    facts = seen.done().facts()
    items = seen.items
    owner = [number for number, item in enumerate(items) for _ in item.captions]
    captions = [caption for item in items for caption in item.captions]
    texts = torch.cat([model.text(captions[start : start + TEXTS]) for start in range(0, len(captions), TEXTS)])
    pairs = Pairs(
        keys=[item.key for item in items], captions=captions, owner=owner, thing="video" if data.video else "image"
    )
    found = both_ways(torch.cat(vectors), texts, pairs, name=data.name, data=data.name, dual=True)
    return Result(scores=found.scores, records=found.records, data=[facts])


def open_captioned(request: Request) -> dict[str, EvaluationSet]:
    """Open a set with captions.

    Raises:
        PerceptError: as `open_set`, or there are none.
    """
    data = open_set(request).check("captions")
    return {data.name: data}


def run_on_sets(model: Embeds, sets: Mapping[str, EvaluationSet], request: Request) -> Result:
    """Retrieve in the set."""
    (data,) = sets.values()
    return retrieval_of_set(model, data, sampling=request.sampling)


def run(model: Embeds, plan: Plan) -> Result:
    """Retrieve by the long captions, then by the short ones."""
    data = world.captioned(plan.third, seed=plan.seed, split=plan.split)
    vectors = model.image(data.images)
    keys = [f"captioned/plain/{number}" for number in range(len(data.images))]
    found = [
        both_ways(vectors, model.text(texts), Pairs(keys=keys, captions=texts, owner=range(len(texts))), name=name)
        for name, texts in {"": data.long, "short": data.short}.items()
    ]
    return Result(
        scores=[score for each in found for score in each.scores],
        records=[records for each in found for records in each.records],
    )


EVALUATION = Evaluation(
    name="retrieval",
    summary=__doc__,
    run=run,
    needs=needs_text,
    on_sets=OnSets(open=open_captioned, run=run_on_sets),
    targets={"caption→image R@1": 0.50, "caption→image R@5": 0.80},
)
