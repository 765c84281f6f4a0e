"""Clips by their captions, and what happens in them, from the mean of their frames; with --data, the captions and classes of the videos of a set.

The order of frames does not reach an averaged vector, so actions that differ in direction or time alone look the same.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count as numbers
from itertools import islice
from random import Random
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.parallel import map_processes
from percept.core.report import track
from percept.core.seed import derive
from percept.eval import world
from percept.eval.retrieval import Pairs, both_ways, retrieval_of_set
from percept.eval.sets import EvaluationSet, Request, open_set
from percept.eval.sets.stream import frame_vectors
from percept.eval.table import Evaluation, OnSets, Plan, Result, Unsuited
from percept.eval.zeroshot import judge, needs_text, zeroshot_of_set
from percept.infer.clips import averaged as mean_of_frames
from percept.infer.labels import averaged
from percept.world.clips import ACTIONS, generate_clip
from percept.world.clips.elements import Plan as ClipPlan
from percept.world.clips.language import long_caption, short_caption
from percept.world.clips.planning import plan_clip

FRAMES = 8
"""Frames of a clip, all of which are averaged."""
SIZE = 96
"""Side of a clip in pixels."""
FEW = 100
"""Up to this many clips are rendered by one process, because starting others takes longer."""
ACTS = tuple(ACTIONS)
SENTENCES = ("a thing {}", "something {}", "a clip in which something {}")


def needs_video(model: Any) -> None:
    """Raise if the model cannot embed frames and texts.

    Raises:
        Unsuited: it is not an encoder, or has no text tower.
    """
    needs_text(model)
    if not hasattr(model, "pooled"):
        raise Unsuited(f"{type(model).__name__} cannot embed videos. Use an encoder, such as 'nano'.")


def action_of(plan: ClipPlan) -> str | None:
    """Return the only kind of event of objects in a clip; None if there are several."""
    kinds = {event.kind for event in plan.events if event.subjects}
    return kinds.pop() if len(kinds) == 1 else None


def _seed(seed: int, split: str, number: int) -> int:
    return derive(seed, "eval", "clip", split, number)


def _frames(seed: int, split: str) -> np.ndarray:
    return generate_clip(seed, split=split, frames=FRAMES, size=SIZE, truth=False).frames


def clips(plan: Plan) -> list[tuple[int, ClipPlan]]:
    """Return seeds and plans of clips whose captions all differ."""
    chosen: dict[str, tuple[int, ClipPlan]] = {}
    for seed in (_seed(plan.seed, plan.split, number) for number in numbers()):
        drawn = plan_clip(seed, split=plan.split, frames=FRAMES)
        chosen.setdefault(_caption(drawn).lower(), (seed, drawn))
        if len(chosen) == plan.third:
            return list(chosen.values())
    raise AssertionError


def _caption(plan: ClipPlan) -> str:
    return long_caption(plan, Random(derive(plan.seed, "caption")))


def _short(plan: ClipPlan) -> str:
    return short_caption(plan, Random(derive(plan.seed, "short caption")))


def _vectors(model: Any, seeds: list[int], split: str) -> list[Float[Tensor, "t d"]]:
    """Return the raw vectors of the frames of each clip; clips are rendered as they are needed."""
    processes = 1 if len(seeds) <= FEW else None
    frames = map_processes(partial(_frames, split=split), seeds, processes=processes, chunk=world.CHUNK)
    shown = iter(track(frames, "drawing clips", len(seeds)))
    parts = (
        frame_vectors(model, (list(clip) for clip in islice(shown, len(part))))
        for part in (seeds[start : start + world.CHUNK] for start in range(0, len(seeds), world.CHUNK))
    )
    return [rows for part in parts for rows in part]


def run(model: Any, plan: Plan) -> Result:
    """Retrieve clips by their long captions, then by the short ones; classify those with one kind of event by it."""
    chosen = clips(plan)
    rows = _vectors(model, [seed for seed, _ in chosen], plan.split)
    texts = {"": [_caption(drawn) for _, drawn in chosen], "short": [_short(drawn) for _, drawn in chosen]}
    keys = [f"clip/{seed}" for seed, _ in chosen]
    vectors = torch.stack([mean_of_frames(each, "retrieval") for each in rows])
    parts = [
        both_ways(
            vectors,
            model.text(captions),
            Pairs(keys=keys, captions=captions, owner=range(len(keys)), thing="clip"),
            name=name,
        )
        for name, captions in texts.items()
    ]
    found = _joined(parts)
    actions = [action_of(drawn) for _, drawn in chosen]
    acting = [number for number, action in enumerate(actions) if action is not None]
    if not acting:
        return found
    labels = torch.tensor([ACTS.index(str(actions[number])) for number in acting])
    weights = averaged(model, [[form.replace("{}", name) for form in SENTENCES] for name in ACTS])
    vectors = torch.stack([mean_of_frames(rows[number], "zero-shot") for number in acting])
    judged = judge(vectors @ weights.T, labels, ACTS, name="action")
    records = judged.records([keys[number] for number in acting], data=world.NAME, task="action top-1")
    return Result(scores=[*found.scores, *judged.scores], records=[*found.records, records])


def open_videos(request: Request) -> dict[str, EvaluationSet]:
    """Open a set of videos with classes or captions.

    Raises:
        PerceptError: as `open_set`, or it holds images, or neither classes nor captions.
    """
    data = open_set(request).check("class", "captions")
    if not data.video:
        raise PerceptError(f"{request.path} ({data.layout}) holds images, not videos. Use zeroshot or retrieval.")
    return {data.name: data}


def run_on_sets(model: Any, sets: Mapping[str, EvaluationSet], request: Request) -> Result:
    """Classify the videos, or retrieve them by their captions, or both, as the set allows."""
    (data,) = sets.values()
    parts = [zeroshot_of_set(model, data, sampling=request.sampling)[0]] if "class" in data.holds else []
    parts += [retrieval_of_set(model, data, sampling=request.sampling)] if "captions" in data.holds else []
    return _joined(parts)


def _joined(parts: Sequence[Result]) -> Result:
    """Return the results of one set, or of the world, as one."""
    return Result(
        scores=[score for part in parts for score in part.scores],
        confusions=[confusion for part in parts for confusion in part.confusions],
        records=[records for part in parts for records in part.records],
        data=parts[0].data,
    )


EVALUATION = Evaluation(
    name="video",
    summary=__doc__,
    run=run,
    needs=needs_video,
    on_sets=OnSets(open=open_videos, run=run_on_sets),
)
