"""Items of the generated world: seeded, held out, and answered perfectly by who knows the truth."""

from functools import cache

import pytest

from percept.core.errors import PerceptError
from percept.data.chat.conversation import VideoInput
from percept.data.chat.regions import box_text
from percept.eval.vlm import world
from percept.eval.vlm.graders import Grading
from percept.eval.vlm.item import Answered, Item
from percept.eval.vlm.run import chance_of
from percept.eval.vlm.tasks import CLIPS, IMAGES, WORLD, world_tasks
from percept.world.qa import KINDS

PLAN = world.Plan(count=4, size=64)


@cache
def made() -> dict[str, list[Item]]:
    return world.items(list(WORLD), PLAN)


def truth(item: Item, name: str) -> str:
    """Return the text of the right answer."""
    reference = item.reference
    if name == "fgqa":
        return f"({'ab'[reference]})"
    if name == "referring":
        return box_text(tuple(reference))
    if name == "region_caption":
        return reference["caption"]
    if name == "sgqa":
        return reference["answer"]
    if name in ("dense", "rdcap"):
        return "\n".join(f"[{event['span'][0]}, {event['span'][1]}]: {event['text']}" for event in reference)
    if name in ("moments", "rtloc"):
        return f"[{reference[0]:g}, {reference[1]:g}]"
    return reference if isinstance(reference, str) else reference[0]


def graded(name: str, texts: list[str]) -> list:
    items = made()[name]
    return list(
        WORLD[name].grade([Answered(item=i, text=t) for i, t in zip(items, texts, strict=True)], Grading()).scores
    )


@pytest.mark.parametrize("name", [name for name in WORLD if not name.endswith("_caption") or name == "region_caption"])
def test_the_truth_scores_full_marks_and_silence_none(name):
    assert len(made()[name]) == 4
    assert graded(name, [truth(item, name) for item in made()[name]])[0].value == pytest.approx(1.0)
    assert graded(name, [""] * 4)[0].value == 0.0


@pytest.mark.parametrize("name", ["short_caption", "long_caption"])
def test_captions_score_more_the_nearer_they_are(name):
    right = graded(name, [truth(item, name) for item in made()[name]])
    cut = graded(name, [" ".join(truth(item, name).split()[:3]) for item in made()[name]])
    assert all(one.value > other.value for one, other in zip(right, cut, strict=True))
    assert right[1].value == pytest.approx(1.0)


def test_every_kind_of_question_has_a_task():
    assert set(IMAGES) == set(KINDS)
    assert not set(IMAGES) & set(CLIPS)


def test_items_depend_on_the_seed_alone():
    again = world.items(["rcap", "side"], PLAN)
    for name, items in again.items():
        assert [item.key for item in items] == [item.key for item in made()[name]]
        assert [item.reference for item in items] == [item.reference for item in made()[name]]
    other = world.items(["side"], world.Plan(count=4, size=64, seed=1))["side"]
    assert [item.prompt.turns for item in other] != [item.prompt.turns for item in made()["side"]]
    keys = [item.key for items in made().values() for item in items]
    assert len(set(keys)) == len(keys)


def test_items_are_about_held_out_compositions():
    number = next(n for n in range(50) if world.clip_items(["rcap"], PLAN, n)["rcap"])
    train = world.Plan(count=4, size=64, split="train")
    assert made()["rcap"][0].key.startswith("rcap/evaluation/0/")
    assert world.clip_items(["rcap"], train, number)["rcap"] != world.clip_items(["rcap"], PLAN, number)["rcap"]


def test_chances():
    assert chance_of(made()["side"]) == 0.25
    assert chance_of(made()["fgqa"]) == 0.25
    assert chance_of(made()["region_caption"]) is None
    shares = [item.chance for item in made()["reading"]]
    assert len(set(shares)) == 1
    whole = graded("moments", ["[0, 7]"] * 4)[0].value
    assert chance_of(made()["moments"]) == pytest.approx(whole)


def test_marked_objects_are_drawn_in_pixels_of_the_clip():
    (video,) = made()["rcap"][0].prompt.media
    assert isinstance(video, VideoInput)
    boxes = [box for box in video.boxes.values() if box]
    assert boxes
    assert all(0 <= side <= 64 for box in boxes for side in box)
    assert len(video.source) == PLAN.frames


def test_texts_count_the_frames_that_the_model_sees():
    plan = world.Plan(count=3, size=64, frames=16, sampled=4)
    for name in ("moments", "rcap"):
        for item in world.items([name], plan)[name]:
            (video,) = item.prompt.media
            assert len(video.source) == 16
            assert "The video has 4 frames" in item.prompt.turns[0].text
    spans = [item.reference for item in world.items(["moments"], plan)["moments"]]
    assert all(0 <= start <= end <= 3 for start, end in spans)
    assert world.Plan(frames=8, sampled=32).seen == 8


def test_both_orders_of_the_options_form_a_group():
    first, second, *_ = made()["fgqa"]
    assert first.group == second.group
    assert first.options == second.options[::-1]
    assert first.reference != second.reference
    assert graded("fgqa", ["(a)"] * 4)[0].value == 0.0


def test_wrong_plans_and_names():
    with pytest.raises(PerceptError, match="at least 1 item and 2 frames"):
        world.Plan(count=0)
    with pytest.raises(PerceptError, match="did you mean 'colour'"):
        world_tasks(["color"])
