"""Clips of the labelled world, and images with several categories: few of them, with models whose answers are known."""

import numpy as np
import pytest
import torch
from torch import Tensor

from percept.core.errors import PerceptError
from percept.eval import multilabel, video, world
from percept.eval.table import Plan, Unsuited
from percept.world.clips.planning import plan_clip
from percept.world.objects import CATEGORIES
from tests.eval.fakes import Fake, bag_of_words, chance


class Frames(Fake):
    """Embeds a frame by its mean colour, and texts at random."""

    def __init__(self) -> None:
        super().__init__(lambda _: torch.ones(32), chance().text.__self__._text)

    def pooled(self, frames) -> Tensor:
        rows = [torch.from_numpy(np.resize(np.asarray(frame, float).mean(axis=(0, 1)), 32)).float() for frame in frames]
        return torch.stack(rows)


def test_clips_have_different_captions_and_depend_on_seed_and_split():
    chosen, again = video.clips(Plan(count=30)), video.clips(Plan(count=45))
    assert [seed for seed, _ in chosen] == [seed for seed, _ in again[:10]]
    assert len({video._caption(plan) for _, plan in chosen}) == 10
    assert [seed for seed, _ in video.clips(Plan(count=30, split="validation"))] != [seed for seed, _ in chosen]


def test_an_action_is_the_only_kind_of_event():
    plans = [plan_clip(number, frames=video.FRAMES) for number in range(12)]
    found = [video.action_of(plan) for plan in plans]
    for plan, action in zip(plans, found, strict=True):
        kinds = {event.kind for event in plan.events if event.subjects}
        assert (action is not None) == (len(kinds) == 1)
        assert action is None or kinds == {action}


def test_the_evaluation_of_clips_has_both_directions_and_records():
    result = video.run(Frames(), Plan(count=18))
    names = {score.name: score for score in result.scores}
    assert names["caption→clip R@1"].n == names["clip→caption R@1"].n == 6
    assert [len(records) for records in result.records][:4] == [6] * 4
    assert all(key.startswith("clip/") for key in result.records[1].keys)
    if "action top-1" in names:
        assert names["action top-1"].n == len(result.records[4]) <= 6


def test_a_model_without_frames_is_unsuited():
    with pytest.raises(Unsuited, match="cannot embed videos"):
        video.needs_video(chance())
    video.needs_video(Frames())


def test_a_bag_of_words_lists_the_categories(monkeypatch):
    monkeypatch.setattr(world, "draw", lambda chosen: [np.array(scene, dtype=object) for scene in chosen])
    result = multilabel.run(bag_of_words(), Plan(count=60))
    found = {score.name: score.value for score in result.scores}
    assert found["categories mAP"] > 0.8  # a thing that is alone is nearer to its class than one among six
    assert found["categories average precision per image"] == pytest.approx(1.0)
    assert result.records[0].keys[0] == "multilabel/plain/0"
    assert set(result.records[0].truth[0]) <= set(CATEGORIES)


def test_one_image_and_one_class():
    result = multilabel.judged(np.array([[0.3]]), [[0]], ["a"], ["k"], name="m", data="d")
    assert [score.value for score in result.scores] == [1.0, 1.0]
    with pytest.raises(PerceptError, match="no image has a class"):
        multilabel.judged(np.array([[0.3]]), [[]], ["a"], ["k"], name="m", data="d")
