"""Clips with queries: each set is what it says, spans lie inside, and splits differ."""

import numpy as np
import pytest

from percept.core.errors import PerceptError
from percept.world.clips import is_held_out
from percept.world.clips.queries import KINDS, LENGTHS, SHORTEST, _changes_view, _plan, queried_clip


@pytest.mark.parametrize("kind", KINDS)
def test_spans_lie_inside_and_sentences_are_unique(kind: str) -> None:
    for number in range(3):
        asked = queried_clip(kind, number, size=32)
        assert len(asked.frames) == LENGTHS[number]
        assert asked.moments
        assert all(0 <= each.start <= each.end < len(asked.frames) for each in asked.moments)
        texts = [each.text for each in asked.moments]
        assert len(set(texts)) == len(texts)


def test_the_same_number_is_the_same_clip_and_splits_differ() -> None:
    for kind in KINDS:
        first, again = (queried_clip(kind, 4, size=32) for _ in range(2))
        other = queried_clip(kind, 4, split="evaluation", size=32)
        np.testing.assert_array_equal(first.frames, again.frames)
        assert first.moments == again.moments != other.moments


def test_sets_differ_in_the_view_and_evaluation_is_held_out() -> None:
    for kind in ("actions", "camera"):
        for number in range(3):
            assert _changes_view(_plan(kind, number, "train")) == (kind == "camera")
            plan = _plan(kind, number, "evaluation")
            assert any(is_held_out(plan, event) for event in plan.events)


def test_the_spans_of_an_album_follow_each_other_and_the_image_changes_between_them() -> None:
    asked = queried_clip("albums", 1, size=32)
    for one, other in zip(asked.moments, asked.moments[1:], strict=False):
        assert one.end < other.start
    assert all(each.end - each.start + 1 >= SHORTEST for each in asked.moments)
    steps = np.abs(np.diff(asked.frames.astype(int), axis=0)).mean((1, 2, 3))
    changes = [each.start - 1 for each in asked.moments if each.start > 0]
    inside = [frame for each in asked.moments for frame in range(each.start, each.end)]
    assert steps[changes].min() > steps[inside].max()


def test_an_unknown_set_is_refused() -> None:
    with pytest.raises(PerceptError, match="albums"):
        queried_clip("album", 0)
