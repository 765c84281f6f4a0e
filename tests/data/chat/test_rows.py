"""Rows of PLM, LLaVA and ShareGPT, regions, and the processor on real images and videos."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.chat.batch import ChatBatch, chat_batch
from percept.data.chat.conversation import ImageInput, VideoInput, converse
from percept.data.chat.processor import Processor
from percept.data.chat.rank_file import llama_specials
from percept.data.chat.regions import box_text, check_box, draw_box, parse_box
from percept.data.chat.rows import ChatItem, conversation_of
from percept.data.chat.template import TEMPLATES
from percept.data.chat.tiles import Tiler, stretched
from percept.data.chat.vocabulary import LanguageTokenizer
from percept.data.sources.fields import Fields
from percept.data.sources.open import open_source
from percept.data.sources.sample import BadSample, Sample
from percept.data.transforms import pixels_of

ASKED = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "assistant", "value": "A cup."}]


@pytest.fixture(scope="module")
def processor() -> Processor:
    tokenizer = LanguageTokenizer.train(["what is this"], vocab_size=520, specials=llama_specials())
    return Processor(tokenizer=tokenizer, template=TEMPLATES["plm"], tiler=Tiler(size=16, most=4), per_tile=4, frames=8)


def sample(row: dict, root: str | Path = "clips") -> Sample:
    return Fields(root=Path(root)).sample("row 1", row)


def texts(row: dict) -> list[tuple[str, tuple]]:
    return [(turn.role, turn.parts) for turn in conversation_of(sample(row)).turns]


def test_an_image_row_of_each_schema() -> None:
    expected = [("user", (0, "What?")), ("assistant", ("A cup.",))]
    llava = [{"from": "human", "value": "What?\n<image>"}, {"from": "gpt", "value": "A cup."}]
    sharegpt = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "A cup."}]
    assert texts({"image": "a.jpg", "conversations": [{"from": "human", "value": "What?"}, ASKED[1]]}) == expected
    assert texts({"image": "a.jpg", "messages": sharegpt}) == expected
    assert texts({"image": ["a.jpg"], "conversations": llava}) == expected
    assert texts({"image": "a.jpg", "conversations": ASKED}) == expected
    assert texts({"image": "a.jpg", "text": "A cup."}) == [("user", (0,)), ("assistant", ("A cup.",))]
    hello = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    assert texts({"conversations": hello})[0] == ("user", ("Hi",))


def test_content_in_parts() -> None:
    content = [{"type": "image"}, {"type": "text", "text": "What?"}]
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "A cup."}]
    assert texts({"images": ["a.jpg"], "messages": messages})[0] == ("user", (0, "What?"))


def test_several_images_take_the_places_of_their_tags() -> None:
    turns = [{"from": "human", "value": "Is <image> like <image>?"}, {"from": "assistant", "value": "No."}]
    row = {"image": ["a.jpg", "b.jpg"], "conversations": turns}
    assert texts(row)[0] == ("user", ("Is ", 0, " like ", 1, "?"))
    for images, words in ((["a", "b", "c"], "More images"), (["a"], "more tags"), (["a", "b"], "More images")):
        if len(images) == 2:
            turns = [{"from": "human", "value": "Is <image> large?"}, turns[1]]
        with pytest.raises(BadSample, match=words):
            texts({"image": images, "conversations": turns})
    with pytest.raises(BadSample, match="no <image> tag"):
        texts({"image": ["a", "b"], "conversations": [{"from": "human", "value": "Same?"}, ASKED[1]]})


def test_a_video_row() -> None:
    boxes = {"3": [1, 2, 3, 4], "4": None}
    row = {"video": "a.mp4", "start_time": 1, "end_time": 2.5, "bbox_map": boxes, "conversations": ASKED}
    media = conversation_of(sample(row)).media[0]
    expected = VideoInput(source=Path("clips/a.mp4"), start=1, end=2.5, boxes={3: (1.0, 2.0, 3.0, 4.0), 4: None})
    assert media == expected


def test_boxes_are_written_into_the_text() -> None:
    turns = [{"from": "human", "value": "Where is the cup?"}, {"from": "assistant", "value": "At <|bbox0|>."}]
    row = {"image": "a.jpg", "bbox": [[100, 50, 33, 21]], "width": 640, "height": 480, "conversations": turns}
    assert texts(row)[1] == ("assistant", ("At [156,104,207,147].",))
    assert parse_box("no box") is None
    assert parse_box(box_text((0, 0, 640, 480), 640, 480)) == (0.0, 0.0, 0.999, 0.999)
    assert texts({**row, "bbox": [[-5, 50, 138, 500]]})[1] == ("assistant", ("At [000,104,207,999].",))
    cases = (({"bbox": []}, "box 0"), ({"width": None}, "width and height"), ({"bbox": [["x"]]}, "box 0"))
    for change, words in (*cases, ({"bbox": [[700, 0, 9, 9]]}, "does not lie")):
        with pytest.raises(BadSample, match=words):
            texts({**row, **change})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "no conversation"),
        ({"image": "a.jpg"}, "no conversation"),
        ({"text": "  "}, "no conversation"),
        ({"conversations": []}, "wrong type"),
        ({"conversations": [{"from": "robot", "value": "x"}]}, "wrong type"),
        ({"video": "b.mp4", "start_time": "soon", "conversations": ASKED}, "wrong type"),
        ({"video": "b.mp4", "bbox_map": {"x": [1]}, "conversations": ASKED}, "wrong type"),
        ({"image": "a.jpg", "conversations": ASKED[1:]}, "wrong turns"),
    ],
)
def test_a_row_that_is_wrong_says_why(row: dict, reason: str) -> None:
    with pytest.raises(BadSample) as caught:
        conversation_of(sample(row))
    assert caught.value.reason == reason


def test_rows_of_a_file_become_batches(processor: Processor, tmp_path: Path) -> None:
    Image.new("RGB", (20, 16), "red").save(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    long = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "a cup " * 200}]
    half = [{"from": "human", "value": "Hi \ud83d"}, {"from": "gpt", "value": "Hello"}]
    rows = [
        *({"image": name, "conversations": ASKED} for name in ("a.png", "missing.png", "broken.png")),
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        {"image": "a.png", "conversations": [ASKED[0]]},
        {"image": "a.png", "conversations": long},
        {"image": "a.png", "conversations": half},
    ]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare = ChatItem(processor=processor, limit=90)
    source = open_source(tmp_path / "own.jsonl", batch=7, prepare=prepare, collate=chat_batch, max_bad=5)
    batch = source.batch(0)
    assert isinstance(batch, ChatBatch)
    assert len(batch) == 7
    assert len(batch.tiles) == batch.tile_counts.sum() > 0
    reasons = {"missing file": 1, "broken image or video": 1, "wrong turns": 2, "too long": 1}
    assert source.bad.counts == reasons
    again = source.batch(0)
    assert isinstance(again, ChatBatch)
    assert torch.equal(batch.ids, again.ids)


def test_media_need_a_user_turn() -> None:
    with pytest.raises(PerceptError, match="no user turn"):
        converse([("assistant", "x")], [ImageInput(source="a")])


def test_an_image_becomes_tiles_and_tokens(processor: Processor, tmp_path: Path) -> None:
    image = Image.effect_noise((40, 30), 90).convert("RGB")
    image.save(tmp_path / "a.png")
    chat = conversation_of(sample({"image": "a.png", "conversations": ASKED}, tmp_path))
    prepared = processor(chat)
    tiles = Tiler(size=16, most=4)(image)
    assert torch.equal(prepared.stacked, tiles)
    assert prepared.rendered.ids.count(processor.tokenizer.special("<|image|>")) == 4 * len(tiles)
    assert len(processor.changed(tiles=0)(chat).stacked) == 1
    assert len(processor.changed(budget=12)(chat).stacked) <= 3
    assert len(processor.changed(mode="single")(chat).stacked) == 1


def test_several_images_take_one_tile_each(processor: Processor) -> None:
    image = Image.new("RGB", (40, 30))
    chat = converse([("user", "<image> or <image>?")], [ImageInput(source=image)] * 2)
    assert [len(tiles) for tiles in processor(chat, ask=True).tiles] == [1, 1]


def test_a_list_of_frames_is_a_video(processor: Processor) -> None:
    frames = [np.full((20, 20, 3), 10 * number, dtype=np.uint8) for number in range(20)]
    chat = converse([("user", "what happens?")], [VideoInput(source=frames, boxes={0: (2, 2, 15, 15)})])
    prepared = processor(chat, ask=True)
    assert prepared.stacked.shape == (8, 3, 16, 16)
    marked = draw_box(Image.fromarray(frames[0]), (2, 2, 15, 15))
    assert torch.equal(prepared.stacked[0], stretched(pixels_of(marked), 16, 16))
    assert prepared.stacked[-1].unique().tolist() == [190]
    part = VideoInput(source=frames, start=12, end=15)
    assert processor(converse([("user", "?")], [part]), ask=True).stacked.flatten(1).float().mean(1).tolist() == [
        120,
        130,
        140,
    ]
    with pytest.raises(PerceptError, match="begins after the end"):
        processor(converse([("user", "?")], [VideoInput(source=frames, start=30, end=40)]), ask=True)
    with pytest.raises(PerceptError, match="no frames"):
        processor(converse([("user", "?")], [VideoInput(source=[])]), ask=True)


def test_a_part_of_a_video_file(processor: Processor, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "0"})
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv444p"
        for number in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 6 * number, dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    chat = converse([("user", "what?")], [VideoInput(source=str(tmp_path / "a.mp4"), start=2.0, end=3.0)])
    values = processor(chat, ask=True).stacked.float().mean(dim=(1, 2, 3))
    assert len(values) == 8
    assert values[0] >= 6 * 20 - 4
    assert values[-1] <= 6 * 29 + 4


def test_a_box_outside_the_image_is_refused(processor: Processor) -> None:
    assert check_box((0, 0, 10, 10), 10, 10) == (0.0, 0.0, 10.0, 10.0)
    for box in ((0, 0, 11, 10), (5, 5, 5, 9), (float("nan"), 0, 1, 1), (1, 2, 3)):
        with pytest.raises(PerceptError, match="the box"):
            check_box(box, 10, 10)
    chat = converse([("user", "?")], [ImageInput(source=Image.new("RGB", (9, 9)), boxes=((0, 0, 20, 5),))])
    with pytest.raises(PerceptError, match="does not lie"):
        processor(chat, ask=True)


def test_changes_that_make_no_sense_are_refused(processor: Processor) -> None:
    for change in ({"frames": 0}, {"tiles": -1}, {"budget": 1}, {"mode": "x"}):
        with pytest.raises(PerceptError):
            processor.changed(**change)  # type: ignore[arg-type]
