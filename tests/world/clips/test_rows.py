"""Rows of clips have the schemas of the field, and their frame numbers are those of the sampled frames."""

import json
import re
from collections import Counter

import numpy as np
import pytest

from percept.core.errors import PerceptError
from percept.data.chat.regions import box_text
from percept.data.video.choice import choose
from percept.world.clips import clip_rows, generate_clip, plan_clip, pvd_record, render_clip
from percept.world.clips.rows import TASKS, Row, sampled_frame

CLIPS = [generate_clip(seed, frames=frames, size=48) for seed, frames in ((1, 16), (2, 32), (7, 64), (9, 40))]


def rows(task: str) -> list[tuple[int, Row]]:
    return [(index, row) for index, clip in enumerate(CLIPS) for row in clip_rows(clip, video="a/b.mp4", tasks=(task,))]


def test_every_row_is_a_video_conversation() -> None:
    tasks = Counter()
    for clip in CLIPS:
        for row in clip_rows(clip, video="a/b.mp4"):
            data = json.loads(json.dumps(row.data))
            assert data == row.data
            assert data["video"] == "a/b.mp4"
            assert [turn["from"] for turn in data["conversations"]] == ["human", "assistant"]
            assert all(turn["value"] for turn in data["conversations"])
            tasks[row.task] += 1
    assert set(tasks) == set(TASKS)


def test_frames_are_rescaled_by_the_rule_of_plm() -> None:
    assert [sampled_frame(frame, 100) for frame in (0, 3, 4, 50, 99)] == [0, 0, 1, 16, 31]
    assert [sampled_frame(frame, 16) for frame in (0, 1, 15)] == [0, 2, 30]
    assert [sampled_frame(frame, 64, 8) for frame in (0, 8, 63)] == [0, 1, 7]


def test_boxes_of_region_rows_are_pixels_of_original_frames() -> None:
    for task in ("rcap", "rtloc", "rdcap"):
        for index, row in rows(task):
            clip, data = CLIPS[index], row.data
            assert clip.boxes is not None
            assert list(data["bbox_map"]) == [str(frame) for frame in range(clip.plan.frames)]
            assert data["total_frames"] == clip.plan.frames
            for frame, box in data["bbox_map"].items():
                truth = clip.boxes[int(frame), data["masklet_id"]]
                assert (box is None) == (not truth.any())
                assert box is None or np.allclose(np.array(box), truth * 48, atol=0.06)


def test_spans_of_region_rows_are_those_of_the_events() -> None:
    for index, row in rows("rtloc"):
        start, end = (int(number) for number in re.findall(r"\d+", row.data["conversations"][1]["value"]))
        total = CLIPS[index].plan.frames
        assert start == sampled_frame(row.data["start_frame"], total)
        assert end == sampled_frame(row.data["end_frame"], total)
        assert 0 <= start <= end <= 31
        assert row.data["caption"] in row.data["conversations"][0]["value"]
    for index, row in rows("rcap"):
        clip = CLIPS[index]
        assert row.data["conversations"][1]["value"] == row.data["caption"]
        assert any(
            event.start <= row.data["start_frame"] <= row.data["end_frame"] <= event.end for event in clip.events
        )


def test_a_description_locates_one_span_of_its_object() -> None:
    for index, clip in enumerate(CLIPS):
        for track in clip.tracks:
            captions = [
                row.data["caption"]
                for at, row in rows("rtloc")
                if at == index and row.data["masklet_id"] == track.number
            ]
            assert len(set(captions)) == len(captions)


def test_dense_captions_cover_the_clip_with_out_of_frame_segments() -> None:
    hidden = 0
    for index, row in rows("rdcap"):
        lines = row.data["conversations"][1]["value"].splitlines()
        dense, total = row.data["dense_captions"], CLIPS[index].plan.frames
        assert [each["start_frame"] for each in dense] == [0, *(each["end_frame"] + 1 for each in dense[:-1])]
        assert dense[-1]["end_frame"] == total - 1
        assert len(lines) == len(dense)
        for line, each in zip(lines, dense, strict=True):
            start, end, text = re.fullmatch(r"\[(\d+), (\d+)\]: (.+)", line).groups()  # type: ignore[union-attr]
            assert (int(start), int(end)) == tuple(
                sampled_frame(each[key], total) for key in ("start_frame", "end_frame")
            )
            assert text == each["caption"]
            hidden += text == "out of frame"
    assert hidden > 0


def test_choices_hold_the_answer_at_its_letter() -> None:
    letters = Counter()
    for _, row in rows("choice"):
        data = row.data
        assert data["options"][f"option_{data['answer_index']}"] == data["answer"]
        letter = "ab"[data["answer_index"]]
        assert data["conversations"][1]["value"] == f"({letter})"
        assert f"({letter}) {data['answer']}" in data["conversations"][0]["value"]
        letters[letter] += 1
    assert min(letters.values()) > 5


def test_pvd_record() -> None:
    clip = CLIPS[1]
    record = pvd_record(clip, frames_per_second=8.0)
    assert record["video_duration_in_s"] == 4.0
    assert record["human_caption"].endswith(".")


def test_mistakes_are_refused() -> None:
    with pytest.raises(PerceptError, match="rdcap"):
        list(clip_rows(CLIPS[0], video="a.mp4", tasks=("rdcpa",)))
    with pytest.raises(PerceptError, match="sampled"):
        list(clip_rows(CLIPS[0], video="a.mp4", sampled=0))
    bare = render_clip(plan_clip(1, frames=8), size=32, truth=False)
    with pytest.raises(PerceptError, match="truth=True"):
        list(clip_rows(bare, video="a.mp4", tasks=("rcap",)))


def test_places_are_those_of_the_boxes_in_the_frames_that_a_model_sees() -> None:
    hidden = 0
    for clip in CLIPS:
        total = clip.plan.frames
        seen = choose(np.arange(total, dtype=float), float(total), 8, "plm")
        assert [sampled_frame(frame, total, 8) for frame in seen] == list(range(8))
        made = list(clip_rows(clip, video="a.mp4", tasks=("place",), sampled=8))
        assert len(made) == 2 * len(clip.tracks)
        assert clip.boxes is not None
        for number, row in enumerate(made):
            thing = clip.tracks[number // 2].thing
            question, answer = (turn["value"] for turn in row.data["conversations"])
            found = re.search(rf"In frame (\d) of 8: Give the box of the {thing.colour}.* {thing.category}", question)
            assert found is not None
            box = clip.boxes[seen[int(found[1])], number // 2]
            hidden += answer == "out of frame"
            assert answer == ("out of frame" if not box.any() else box_text(tuple(box.tolist())))
    assert hidden
