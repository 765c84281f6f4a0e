"""Questions about clips: answers follow from the plan, all kinds occur, and yes is as frequent as no."""

from collections import Counter

from percept.world.clips import Clip, Question
from percept.world.clips.language import TOWARDS, sentence
from percept.world.clips.questions import FASTER, KINDS
from percept.world.language import NUMBERS, noun

from .corpus import asked


def of_kind(kind: str) -> list[tuple[Clip, Question]]:
    return [(clip, each) for clip, questions in asked() for each in questions if each.kind == kind]


def test_all_kinds_occur() -> None:
    counts = Counter(each.kind for _, questions in asked() for each in questions)
    assert set(counts) == set(KINDS)
    assert min(counts.values()) > 30, counts


def test_yes_and_no_are_balanced_in_every_kind() -> None:
    answers: dict[str, Counter] = {}
    for _, questions in asked():
        for each in questions:
            closed = each.text.startswith(("is ", "does ")) or ", is " in each.text
            if closed and each.answer in ("yes", "no"):
                answers.setdefault(each.kind, Counter())[each.answer] += 1
    assert {"action", "direction", "order", "existence", "camera", "frame"} <= answers.keys()
    total = sum(answers.values(), Counter())
    assert 0.46 < total["yes"] / total.total() < 0.54
    for kind, counts in answers.items():
        off = abs(counts["yes"] - counts["no"])
        assert off < 3 * counts.total() ** 0.5, (kind, counts)  # three standard deviations of a fair coin


def test_wrong_answers_are_different_and_events_exist() -> None:
    for clip, questions in asked():
        for each in questions:
            assert each.answer
            assert each.wrong != each.answer
            assert all(0 <= number < len(clip.events) for number in each.events)
            assert each.text.endswith("?")
        texts = [each.text for each in questions]
        assert len(set(texts)) == len(texts), clip.plan.seed


def mover(clip: Clip, text: str) -> int:
    """Return the track that is named in a text."""
    (number,) = [track.number for track in clip.tracks if f"the {noun(track.thing)}" in text]
    return number


def test_directions() -> None:
    open_ones = [(clip, each) for clip, each in of_kind("direction") if each.text.startswith("in which direction")]
    assert len(open_ones) > 50
    for clip, each in open_ones:
        track = mover(clip, each.text)
        spins = each.text.endswith("spin?")
        ways = {
            event.direction
            for event in clip.events
            if (event.kind == "spins") == spins and event.direction
            if event.subjects[:1] == (track,) or (event.kind == "collides" and track in event.subjects)
        }
        assert {TOWARDS[way] for way in ways} == {each.answer}


def test_order() -> None:
    pairs = [(clip, each) for clip, each in of_kind("order") if each.text.startswith("which happens first")]
    assert len(pairs) > 50
    first = 0
    for clip, each in pairs:
        spans = {sentence(clip.plan, event): event for event in clip.events}
        assert spans[each.answer].end < spans[each.wrong].start
        first += each.text.index(each.answer) < each.text.index(each.wrong)
    assert 0.3 < first / len(pairs) < 0.7
    for clip, each in of_kind("order"):
        if " before " in each.text:
            early, late = (clip.events[number] for number in each.events)
            assert early.end < late.start
            assert each.text.endswith(f"before {sentence(clip.plan, late if each.answer == 'yes' else early)}?")


def test_speed() -> None:
    pairs = [(clip, each) for clip, each in of_kind("speed") if each.text.startswith("which moves faster")]
    assert len(pairs) > 5
    for clip, each in pairs:
        one, two = (clip.events[number] for number in each.events)
        fast, slow = (one, two) if one.speed > two.speed else (two, one)
        assert fast.speed >= FASTER * slow.speed
        assert each.answer == f"the {noun(clip.tracks[fast.subjects[0]].thing)}"
        steps = [float(abs(clip.tracks[event.subjects[0]].path.x[event.start : event.end + 1].max()
                           - clip.tracks[event.subjects[0]].path.x[event.start : event.end + 1].min())
                       + abs(clip.tracks[event.subjects[0]].path.y[event.start : event.end + 1].max()
                             - clip.tracks[event.subjects[0]].path.y[event.start : event.end + 1].min()))
                 / (event.end - event.start) for event in (fast, slow)]  # fmt: skip
        assert steps[0] > 1.5 * steps[1]


def test_counts() -> None:
    for clip, each in of_kind("count"):
        number = 0 if each.answer == "none" else NUMBERS.index(each.answer)
        if each.text == "how many objects are in the clip?":
            assert number == len(clip.tracks)
        elif each.text == "how many cuts are in the clip?":
            assert number == len(clip.cuts)
        elif each.text == "how many objects spin?":
            assert number == len({event.subjects for event in clip.events if event.kind == "spins"})
        elif each.text.startswith("how many times"):
            assert number == len(each.events) >= 1


def test_reading_and_existence_agree_with_the_plan() -> None:
    for clip, each in of_kind("reading"):
        assert [word.text for place in clip.plan.places for word in place.words] == [each.answer]
        assert clip.word_boxes.any()
    for clip, each in of_kind("existence"):
        named = [f" {noun(track.thing)} in" in each.text for track in clip.tracks]
        assert any(named) == (each.answer == "yes")


def test_attributes_and_partners() -> None:
    for clip, each in of_kind("attribute"):
        if each.text.startswith("what colour"):
            (track,) = [track for track in clip.tracks if each.text == f"what colour is the {track.thing.category}?"]
            assert track.thing.colour == each.answer
        else:
            (number,) = each.events
            assert each.answer == f"the {noun(clip.tracks[clip.events[number].subjects[0]].thing)}"
    for clip, each in of_kind("partner"):
        event = clip.events[each.events[0]]
        names = [f"the {noun(clip.tracks[number].thing)}" for number in event.subjects]
        assert (each.answer == names[0]) == each.text.startswith("what hits")
        assert each.answer in names


def test_frame_questions_count_what_is_visible() -> None:
    seen = 0
    for clip, each in of_kind("frame"):
        if each.text.endswith("how many things are there?"):
            frame = 0 if "first" in each.text else len(clip.frames) - 1
            visible = int((clip.shares()[frame] > 0.02).sum())
            assert NUMBERS[visible] == each.answer
            seen += 1
    assert seen > 20
