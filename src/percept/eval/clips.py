"""Short clips of things that act: what they show, the caption of a clip, and which way a thing moves.

A clip is the mean of the unit vectors of its 8 frames, as published for retrieval; such a mean does not know the order of the
frames, so that the direction of a movement is a matter of chance unless single frames give it away.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count, islice

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from percept.core.parallel import map_processes
from percept.core.report import track
from percept.core.seed import derive
from percept.eval.retrieval import RANKS, ranks, same
from percept.eval.statistics import Score, proportion
from percept.eval.table import Evaluation, Plan, Result
from percept.eval.world import FEW
from percept.eval.zeroshot import needs_text, prompts
from percept.infer.contracts import Embeds
from percept.infer.labels import averaged
from percept.world.clips import Clip, Event, generate_clip
from percept.world.clips.language import sentence, short_caption
from percept.world.language import CLASS_TEMPLATES
from percept.world.objects import CATEGORIES

FRAMES = 8
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
SHARE = 10
"""One clip for so many images of the main set."""


def clips(number: int, *, seed: int, split: str) -> list[Clip]:
    """Return clips with captions that all differ, so that the caption of a clip fits no other one."""
    chosen: dict[str, Clip] = {}
    seeds = (derive(seed, "eval", "clips", each) for each in count())
    while len(chosen) < number:
        for clip in _drawn([(next(seeds), split) for _ in range(number - len(chosen))]):
            chosen.setdefault(caption_of(clip), clip)
    return list(islice(chosen.values(), number))


def _drawn(jobs: Sequence[tuple[int, str]]) -> list[Clip]:
    processes = 1 if len(jobs) <= FEW else None
    return list(track(map_processes(_draw, jobs, processes=processes, chunk=8), "drawing clips", len(jobs)))


def _draw(job: tuple[int, str]) -> Clip:
    seed, split = job
    return generate_clip(seed, split=split, frames=FRAMES, truth=False)


def caption_of(clip: Clip) -> str:
    """Return the short caption."""
    return short_caption(clip.plan, clip.rng("short"))


def vectors_of(model: Embeds, videos: Sequence[np.ndarray]) -> Float[Tensor, "n d"]:
    """Return the mean of the unit vectors of the frames of each clip."""
    vectors = model.image([frame for video in videos for frame in video]).float()
    return torch.stack([part.mean(dim=0) for part in vectors.split([len(video) for video in videos])])


def movement(clip: Clip) -> Event | None:
    """Return the first movement with a direction that has an opposite."""
    moving = (event for event in clip.events if event.kind == "moves" and event.direction in OPPOSITE)
    return next(moving, None)


def run(model: Embeds, plan: Plan) -> Result:
    """Classify and retrieve clips, and compare right captions of movements with reversed ones."""
    data = clips(max(1, plan.count // SHARE), seed=plan.seed, split=plan.split)
    vectors = vectors_of(model, [clip.frames for clip in data])
    shown = _category(model, vectors, data)
    return Result(
        scores=[
            proportion("category of a thing in the clip", shown),
            *_found(model, vectors, data),
            *_ways(model, vectors, data),
        ]
    )


def _category(model: Embeds, vectors: Float[Tensor, "n d"], data: Sequence[Clip]) -> Bool[np.ndarray, " n"]:
    """True where the most likely category is that of a thing of the clip."""
    names = list(CATEGORIES)
    best = (vectors @ averaged(model, prompts(names, CLASS_TEMPLATES)).T).argmax(dim=1).tolist()
    pairs = zip(best, data, strict=True)
    return np.array([names[place] in {each.thing.category for each in clip.tracks} for place, clip in pairs])


def _found(model: Embeds, vectors: Float[Tensor, "n d"], data: Sequence[Clip]) -> list[Score]:
    captions = [caption_of(clip) for clip in data]
    similarity, positive = model.text(captions).float() @ vectors.T, same(captions)
    ways = {"caption→clip": ranks(similarity, positive), "clip→caption": ranks(similarity.T, positive.T)}
    return [proportion(f"{way} R@{k}", (rank < k).numpy()) for way, rank in ways.items() for k in RANKS]


def _ways(model: Embeds, vectors: Float[Tensor, "n d"], data: Sequence[Clip]) -> list[Score]:
    """Return how often the caption of a movement beats the same caption with the opposite direction."""
    moving = [(place, clip.plan, event) for place, clip in enumerate(data) if (event := movement(clip)) is not None]
    if not moving:
        return []
    right = [sentence(plan, event) for _, plan, event in moving]
    wrong = [sentence(plan, replace(event, direction=OPPOSITE[event.direction])) for _, plan, event in moving]
    own = vectors[[place for place, _, _ in moving]]
    better = torch.linalg.vecdot(own, model.text(right).float()) > torch.linalg.vecdot(own, model.text(wrong).float())
    return [proportion("direction of a movement", better.numpy())]


EVALUATION = Evaluation(name="video", summary=__doc__, run=run, needs=needs_text)
