"""Readers of public layouts, on files written here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.chat.conversation import ImageInput, VideoInput
from percept.eval.vlm.item import Item, text_of
from percept.eval.vlm.readers import images, videos
from percept.eval.vlm.readers.files import Place, rows_of
from percept.eval.vlm.tasks import PUBLIC
from tests.data.video.films import film, number_on


def picture(path: Path, width: int = 40, height: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), "red").save(path)
    return path


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.suffix == ".jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in value) if lines else json.dumps(value))
    return path


def place(data: Path, **more: Any) -> Place:
    return Place(data=data, media=data.parent, **more)


def only(items: Any) -> Item:
    (item,) = items
    return item


def image_of(item: Item) -> Path:
    (medium,) = item.prompt.media
    assert isinstance(medium, ImageInput)
    return medium.source


def video_of(item: Item) -> VideoInput:
    (medium,) = item.prompt.media
    assert isinstance(medium, VideoInput)
    return medium


def test_vqav2(tmp_path):
    asked = {"data_subtype": "val2014", "questions": [{"question_id": 7, "image_id": 42, "question": "What colour?"}]}
    people = [{"answer": "red", "answer_id": number} for number in range(10)]
    data = write(tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json", asked)
    write(tmp_path / "v2_mscoco_val2014_annotations.json", {"annotations": [{"question_id": 7, "answers": people}]})
    with pytest.raises(PerceptError, match=r"question 7: the image .*COCO_val2014_000000000042.jpg or .* is missing"):
        list(images.vqav2(place(data)))
    picture(tmp_path / "COCO_val2014_000000000042.jpg")
    item = only(images.vqav2(place(data)))
    assert (item.key, item.reference) == ("7", ["red"] * 10)
    assert text_of(item.prompt).startswith("What colour?\n")
    write(tmp_path / "v2_mscoco_val2014_annotations.json", {"annotations": []})
    with pytest.raises(PerceptError, match="question 7 has no answers in"):
        list(images.vqav2(place(data)))


def test_textvqa(tmp_path):
    row = {"question_id": 1, "image_id": "abc", "question": "What does it say?", "answers": ["stop"] * 10}
    data = write(tmp_path / "TextVQA.json", {"data": [row]})
    path = picture(tmp_path / "train_images" / "abc.jpg")
    item = only(images.textvqa(place(data)))
    assert (image_of(item), item.reference) == (path, ["stop"] * 10)


def test_docvqa_and_infovqa(tmp_path):
    rows = [
        {"questionId": 5, "question": "Who?", "image": "documents/a.png", "answers": ["Ann", "ann"]},
        {"questionId": 6, "question": "When?", "image_local_name": "b.jpeg", "answers": ["1999"]},
    ]
    data = write(tmp_path / "val.json", {"dataset_name": "docvqa", "data": rows})
    first, second = picture(tmp_path / "documents" / "a.png"), picture(tmp_path / "b.jpeg")
    items = list(images.docvqa(place(data)))
    assert [image_of(item) for item in items] == [first, second]
    assert [item.key for item in items] == ["5", "6"]
    assert items[0].reference == ["Ann", "ann"]


def test_chartqa(tmp_path):
    data = write(tmp_path / "test_human.json", [{"imgname": "c.png", "query": "How much?", "label": "12%"}])
    path = picture(tmp_path / "png" / "c.png")
    item = only(images.chartqa(place(data)))
    assert (image_of(item), item.reference) == (path, "12%")


def test_pope(tmp_path):
    rows = [{"question_id": 1, "image": "a.jpg", "text": "Is there a dog in the image?", "label": "No"}]
    data = write(tmp_path / "coco_pope_random.jsonl", rows)
    picture(tmp_path / "a.jpg")
    item = only(images.pope(place(data)))
    assert (item.reference, item.chance) == ("no", 0.5)
    write(data, [{**rows[0], "label": "maybe"}])
    with pytest.raises(PerceptError, match=r"coco_pope_random.jsonl:1: the label is 'maybe'"):
        list(images.pope(place(data)))


def test_refcoco_in_both_layouts(tmp_path):
    picture(tmp_path / "a.jpg", 40, 20)
    coco = {
        "images": [{"id": 3, "file_name": "a.jpg", "width": 40, "height": 20, "caption": "the left cup"}],
        "annotations": [{"image_id": 3, "bbox": [10, 5, 20, 10]}],
    }
    item = only(images.refcoco(place(write(tmp_path / "finetune_refcoco_val.json", coco))))
    rows = [{"image": "train2014/a.jpg", "sent": "the left cup", "bbox": [10, 5, 30, 15]}]
    other = only(images.refcoco(place(write(tmp_path / "refcoco_val.jsonl", rows))))
    assert item.reference == other.reference == [0.25, 0.25, 0.75, 0.75]
    assert text_of(item.prompt).endswith("the left cup")
    write(tmp_path / "refcoco_val.jsonl", [{**rows[0], "bbox": [1, 2]}])
    with pytest.raises(PerceptError, match="should be four numbers"):
        list(images.refcoco(place(tmp_path / "refcoco_val.jsonl")))


def test_coco_captions_and_karpathys_file(tmp_path):
    path = picture(tmp_path / "val2014" / "a.jpg")
    coco = {
        "images": [{"id": 3, "file_name": "val2014/a.jpg"}],
        "annotations": [{"image_id": 3, "caption": "a cup"}, {"image_id": 3, "caption": "a red cup"}],
    }
    item = only(images.captions(place(write(tmp_path / "captions_val2014.json", coco))))
    sentences = [{"raw": "a cup"}, {"raw": "a red cup"}]
    karpathy = {
        "images": [
            {"filepath": "val2014", "filename": "a.jpg", "split": "test", "cocoid": 3, "sentences": sentences},
            {"filepath": "val2014", "filename": "gone.jpg", "split": "train", "cocoid": 4, "sentences": sentences},
        ]
    }
    other = only(images.captions(place(write(tmp_path / "dataset_coco.json", karpathy))))
    assert item.reference == other.reference == ["a cup", "a red cup"]
    assert image_of(item) == image_of(other) == path
    write(tmp_path / "captions_val2014.json", {**coco, "annotations": []})
    with pytest.raises(PerceptError, match="image 3 has no captions"):
        list(images.captions(place(tmp_path / "captions_val2014.json")))


@pytest.mark.parametrize(("answer", "number"), [("B", 1), ("(b)", 1), (0, 0), ("blue", 1)])
def test_multiple_choice(tmp_path, answer, number):
    picture(tmp_path / "a.jpg")
    rows = [{"id": "x", "image": "a.jpg", "question": "What colour?", "options": ["red", "blue"], "answer": answer}]
    item = only(images.choice(place(write(tmp_path / "mc.jsonl", rows))))
    assert (item.reference, item.options, item.chance) == (number, ("red", "blue"), 0.5)
    assert "(B) blue" in text_of(item.prompt)


def test_multiple_choice_of_several_images_and_wrong_answers(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    row = {"image": ["a.jpg", "b.jpg"], "question": "Same?", "choices": ["yes", "no"], "answer": "C"}
    data = write(tmp_path / "mc.jsonl", [row])
    with pytest.raises(PerceptError, match=r"mc.jsonl:1: the answer 'C' is none of the options"):
        list(images.choice(place(data)))
    item = only(images.choice(place(write(data, [{**row, "answer": "no"}]))))
    assert item.prompt.turns[0].parts[:2] == (0, 1)
    with pytest.raises(PerceptError, match="has the options"):
        list(images.choice(place(write(data, [{**row, "choices": ["one"]}]))))


def fgqa_row(**more: Any) -> dict[str, Any]:
    return {
        "uid": "u1", "qa_uid": "q1", "video": "segment.mp4", "question": "Which hand?", "answer": "left",
        "options": {"option_0": "right", "option_1": "left"}, "answer_index": 1,
        "metadata": {"source_video_id": "whole", "source_start_time": 1.0, "source_end_time": 2.0}, **more,
    }  # fmt: skip


def test_fgqa_from_a_segment_or_the_source(tmp_path):
    data = write(tmp_path / "fgqa.jsonl", [fgqa_row()])
    with pytest.raises(PerceptError, match=r"fgqa.jsonl:1: the video .*segment.mp4 or"):
        list(videos.fgqa(place(data)))
    (tmp_path / "whole.mp4").touch()
    item = only(videos.fgqa(place(data)))
    assert (item.reference, item.group, item.options) == (1, "q1", ("right", "left"))
    assert (video_of(item).start, video_of(item).end) == (1.0, 2.0)
    (tmp_path / "segment.mp4").touch()
    assert video_of(only(videos.fgqa(place(data)))).source == tmp_path / "segment.mp4"


def test_parquet_is_read_like_json_lines(tmp_path):
    import pyarrow
    from pyarrow import parquet

    (tmp_path / "segment.mp4").touch()
    parquet.write_table(pyarrow.Table.from_pylist([fgqa_row()]), tmp_path / "fgqa.parquet")
    item = only(videos.fgqa(place(tmp_path / "fgqa.parquet")))
    assert (item.key, item.options) == ("u1", ("right", "left"))


def test_sgqa(tmp_path):
    (tmp_path / "v.mp4").touch()
    rows = [{"uid": "s", "video": "v.mp4", "question": "What is this?", "answer": "A cup.", "domain": "x"}]
    item = only(videos.sgqa(place(write(tmp_path / "sgqa.jsonl", rows))))
    assert item.reference == {"question": "What is this?", "answer": "A cup."}
    assert PUBLIC["sgqa"].most_tokens("published") == 16
    assert PUBLIC["sgqa"].most_tokens("fixed") > 40


@pytest.fixture
def tube(tmp_path) -> Path:
    film(tmp_path / "sav.mp4", 60, rate=6)
    boxes = {str(frame): [frame, 2, frame + 20, 22] if frame >= 30 else None for frame in range(60)}
    write(tmp_path / "metadata" / "metadata_test.jsonl", [{"video": "sav.mp4", "masklet_id": 4, "bbox": boxes}])
    return tmp_path


TUBE = {"uid": "r", "video": "sav.mp4", "masklet_id": 4, "total_frames": 60}


def test_rcap_names_frames_and_draws_boxes(tube):
    row = {**TUBE, "caption": "It moves.", "start_frame": 15, "end_frame": 45}
    data = write(tube / "rcap.jsonl", [row])
    item = only(videos.rcap(place(data)))
    assert item.reference == "It moves."
    assert "has 32 frames" in text_of(item.prompt)
    assert "from frame 8 to frame 24" in text_of(item.prompt)
    assert "has 60 frames" in text_of(only(videos.rcap(place(data, version="published"))).prompt)
    video = video_of(item)
    expected = [round(number * 59 / 31) for number in range(32)]
    assert [number_on(frame) for frame in video.source] == expected
    assert video.boxes == {n: (f, 2, f + 20, 22) if f >= 30 else None for n, f in enumerate(expected)}


def test_files_of_24_frames_per_second_are_thinned_out(tube):
    film(tube / "sav.mp4", 240, rate=24)
    row = {**TUBE, "caption": "It moves", "start_frame": 0, "end_frame": 59}
    item = only(videos.rtloc(place(write(tube / "rtloc.jsonl", [row]))))
    assert [number_on(frame) for frame in video_of(item).source] == [4 * round(n * 59 / 31) for n in range(32)]
    assert item.reference == [0, 31]
    assert "It moves." in text_of(item.prompt)


def test_frames_are_read_again_and_out_of_order(tube):
    frames = videos.UniformFrames(tube / "sav.mp4", 5)
    assert len(frames) == 5
    assert [number_on(frames[number]) for number in (0, 1, 4, 3, 0)] == [0, 15, 59, 44, 0]
    with pytest.raises(IndexError):
        frames.__getitem__(5)
    assert len(videos.UniformFrames(tube / "sav.mp4", 100)) == 60
    with pytest.raises(PerceptError, match="has 60 frames, but its annotations count 90"):
        videos.UniformFrames(tube / "sav.mp4", 5, 90).__getitem__(0)


def test_rdcap(tube):
    dense = [
        {"start_frame": 0, "end_frame": 29, "caption": "out of frame"},
        {"start_frame": 30, "end_frame": 59, "caption": "moves"},
    ]
    item = only(videos.rdcap(place(write(tube / "rdcap.jsonl", [{**TUBE, "dense_captions": dense}]))))
    assert item.reference == [{"span": [0, 15], "text": "out of frame"}, {"span": [16, 31], "text": "moves"}]
    write(tube / "metadata" / "metadata_test.jsonl", [])
    with pytest.raises(PerceptError, match=r"has no boxes for the masklet 4 of sav.mp4"):
        list(videos.rdcap(place(tube / "rdcap.jsonl")))
    (tube / "metadata" / "metadata_test.jsonl").unlink()
    with pytest.raises(PerceptError, match=r"Put metadata_test.jsonl beside"):
        list(videos.rdcap(place(tube / "rdcap.jsonl")))


def test_charades(tube):
    (tube / "charades_sta_test.txt").write_text("sav 2.0 6.5##a person opens a door.\n\n")
    item = only(videos.charades(place(tube / "charades_sta_test.txt")))
    assert item.reference == {"span": [2.0, 6.5], "duration": pytest.approx(10.0)}
    (tube / "charades_sta_test.txt").write_text("sav 2.0 6.5 a person\n")
    with pytest.raises(PerceptError, match="A line is: VIDEO start end##sentence"):
        list(videos.charades(place(tube / "charades_sta_test.txt")))


def test_broken_files_say_what_is_wrong(tmp_path):
    with pytest.raises(PerceptError, match="there is no file"):
        list(rows_of(tmp_path / "none.jsonl"))
    (tmp_path / "bad.jsonl").write_text('{"a": 1}\n{"b"\n')
    with pytest.raises(PerceptError, match=r"line 2 of .*bad.jsonl is not json"):
        list(rows_of(tmp_path / "bad.jsonl"))
    with pytest.raises(PerceptError, match=r"list.json:1 is int, not a json object"):
        list(rows_of(write(tmp_path / "list.json", [1])))
    picture(tmp_path / "a.jpg")
    with pytest.raises(PerceptError, match="the field 'text' is missing"):
        list(images.pope(place(write(tmp_path / "p.jsonl", [{"label": "yes", "image": "a.jpg"}]))))
    picture(tmp_path / "abc.jpg")
    with pytest.raises(PerceptError, match="the field 'answers' has no answers"):
        list(images.textvqa(place(write(tmp_path / "t.jsonl", [{"image_id": "abc", "question": "?", "answers": [1]}]))))


def test_every_public_task_has_a_reader():
    assert all(task.read is not None for task in PUBLIC.values())
    assert np.unique([task.summary for task in PUBLIC.values()]).size == len(PUBLIC)
