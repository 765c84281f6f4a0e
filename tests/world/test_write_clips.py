"""Written clips: videos read back frame by frame, shards, lists and rows by our own sources, DAVIS folders by a few lines."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from percept.data import open_source
from percept.data.chat.batch import chat_batch
from percept.data.chat.processor import Processor
from percept.data.chat.rank_file import llama_specials
from percept.data.chat.rows import ChatItem, conversation_of
from percept.data.chat.template import TEMPLATES
from percept.data.chat.tiles import Tiler
from percept.data.chat.vocabulary import LanguageTokenizer
from percept.data.sources.open import open_rows
from percept.data.video import open_video
from percept.world.clips import generate_clip, is_held_out
from percept.world.clips.footage import HAND
from percept.world.clips.rows import TASKS
from percept.world.write import UNITS, write
from percept.world.write.davis import object_numbers
from percept.world.write.encode import RATE, mp4

FRAMES, COUNT = 16, 4


def processor() -> Processor:
    tokenizer = LanguageTokenizer.train(["what is this"], vocab_size=520, specials=llama_specials())
    return Processor(
        tokenizer=tokenizer, template=TEMPLATES["plm"], tiler=Tiler(size=16, most=4), per_tile=4, frames=32
    )


def frames_in(video: Path | bytes) -> np.ndarray:
    with open_video(video) as opened:
        return np.stack([np.asarray(image) for _, image in opened.frames(range(len(opened)))])


@pytest.mark.parametrize("shape", [(8, 96, 96), (13, 33, 47)])
def test_every_frame_of_a_video_is_read_back_to_the_bit(shape: tuple[int, int, int]) -> None:
    pytest.importorskip("av")
    clip = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    clip[1:] = clip[1:] // 8 + clip[:1] // 2  # similar frames, so that they are predicted from each other
    data = mp4(clip)
    assert np.array_equal(frames_in(data), clip)
    with open_video(data) as video:
        assert np.allclose(video.times, np.arange(shape[0]) / RATE)
        jumped = {number: np.asarray(image) for number, image in video.frames([5, 2, 7])}
    assert all(np.array_equal(image, clip[number]) for number, image in jumped.items())
    assert mp4(clip) == data


def test_shards_in_the_layout_of_pvd(tmp_path: Path) -> None:
    pytest.importorskip("av")
    folder = write(tmp_path / "w", COUNT, what="clips", format="webdataset", frames=FRAMES, seed=3)
    assert [path.name for path in (folder / "train").iterdir()] == ["00000.tar"]
    rows = open_rows(folder / "train")
    for number in range(COUNT):
        sample, clip = rows.read(number), generate_clip(3 + number, frames=FRAMES)
        assert isinstance(sample.video, bytes)
        assert np.array_equal(frames_in(sample.video), clip.frames)
        assert sample.record["video_duration_in_s"] == pytest.approx(FRAMES / RATE, abs=1e-3)
        truth = sample.record["truth"]
        assert [track["category"] for track in truth["tracks"]] == [track.thing.category for track in clip.tracks]
        assert len(truth["tracks"][0]["boxes"]) == FRAMES
    batch = open_source(folder / "train", batch=2, frames=8).batch(0)
    assert batch.frames.shape == (2, 8, 3, 224, 224)  # type: ignore[attr-defined]
    assert {rows.read(n).captions["human_caption"][0] for n in range(COUNT)} >= set(batch.text)  # type: ignore[attr-defined]


def test_the_lists_of_msrvtt(tmp_path: Path) -> None:
    pytest.importorskip("av")
    folder = write(tmp_path / "w", COUNT, what="clips", format="msrvtt", frames=FRAMES, split="evaluation")
    assert sorted(path.name for path in folder.iterdir()) == ["MSRVTT_data.json", "MSRVTT_test.csv", "videos"]
    data = json.loads((folder / "MSRVTT_data.json").read_text())
    assert [video["video_id"] for video in data["videos"]] == [f"video{number}" for number in range(COUNT)]
    assert {video["split"] for video in data["videos"]} == {"test"}
    assert len({sentence["sen_id"] for sentence in data["sentences"]}) == len(data["sentences"]) > 2 * COUNT
    with (folder / "MSRVTT_test.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["key", "vid_key", "video_id", "sentence"]
    for row in table:
        captions = [each["caption"] for each in data["sentences"] if each["video_id"] == row["video_id"]]
        assert row["sentence"] in captions
        assert len(set(captions)) == len(captions)
    source = open_source(folder / "MSRVTT_test.csv", root=folder / "videos/all", batch=COUNT, frames=8)
    batch = source.batch(0)
    assert source.bad.counts == {}
    assert sorted(batch.text) == sorted(row["sentence"] for row in table)  # type: ignore[attr-defined]
    assert np.array_equal(
        frames_in(folder / "videos/all/video1.mp4"), generate_clip(1, split="evaluation", frames=FRAMES).frames
    )


@pytest.mark.parametrize("split", ["train", "evaluation"])
def test_rows_of_plm_become_conversations(tmp_path: Path, split: str) -> None:
    pytest.importorskip("av")
    folder = write(tmp_path / "w", COUNT, what="clips", format="plm", frames=FRAMES, split=split)
    names = sorted(path.stem for path in folder.glob("*.jsonl"))
    assert set(names) <= set(TASKS)
    assert len(names) >= (8 if split == "train" else 4)
    source = open_source(
        folder, batch=8, prepare=ChatItem(processor=processor(), limit=4000), collate=chat_batch, max_bad=0
    )
    source.batch(0)
    assert source.bad.counts == {}
    for name in names:
        rows = open_rows(folder / f"{name}.jsonl")
        for number in range(len(rows)):
            sample = rows.read(number)
            assert conversation_of(sample).turns[-1].role == "assistant"
            assert isinstance(sample.video, Path)
            assert sample.video.is_file()


def test_boxes_of_plm_rows_lie_on_their_object_in_every_frame(tmp_path: Path) -> None:
    pytest.importorskip("av")
    folder = write(tmp_path / "w", COUNT, what="clips", format="plm", frames=FRAMES, size=64)
    rows = [json.loads(line) for line in (folder / "rcap.jsonl").read_text().splitlines()]
    assert rows
    for row in rows:
        clip = generate_clip(int(Path(row["video"]).stem), frames=FRAMES, size=64)
        assert np.array_equal(frames_in(folder / row["video"]), clip.frames)
        assert list(map(int, row["bbox_map"])) == list(range(FRAMES))
        for frame, box in row["bbox_map"].items():
            mask = clip.mask(row["masklet_id"])[int(frame)]
            assert (box is not None) == mask.any()
            if box is not None:
                ys, xs = np.nonzero(mask)
                assert np.allclose(box, [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])


def test_evaluation_rows_rely_on_held_out_actions(tmp_path: Path) -> None:
    pytest.importorskip("av")
    folder = write(tmp_path / "w", COUNT, what="clips", format="plm", frames=FRAMES, split="evaluation")
    for line in (folder / "rcap.jsonl").read_text().splitlines():
        row = json.loads(line)
        plan = generate_clip(int(Path(row["video"]).stem), frames=FRAMES, split="evaluation").plan
        spans = {(event.start, event.end) for event in plan.events if is_held_out(plan, event)}
        assert any(start <= row["end_frame"] and row["start_frame"] <= end for start, end in spans)
    plans = [generate_clip(number, frames=FRAMES).plan for number in range(COUNT)]
    assert not any(is_held_out(plan, event) for plan in plans for event in plan.events)


def test_davis_folders(tmp_path: Path) -> None:
    folder = write(tmp_path / "w", COUNT, what="clips", format="davis", frames=FRAMES, split="validation")
    names = (folder / "ImageSets/2017/val.txt").read_text().split()
    assert names == [f"{number:06d}" for number in range(COUNT)]
    for number, name in enumerate(names):
        clip = generate_clip(number, frames=FRAMES, split="validation")
        objects = object_numbers(clip)
        first = np.asarray(Image.open(folder / f"Annotations/480p/{name}/00000.png"))
        assert set(np.unique(first)) == set(range(first.max() + 1))  # trackers count the objects of the first frame
        for frame in range(FRAMES):
            mask = Image.open(folder / f"Annotations/480p/{name}/{frame:05d}.png")
            assert mask.mode == "P"
            assert mask.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]  # type: ignore[index]
            for track in clip.tracks:
                assert objects[track.number] > 0 or not clip.mask(track.number).any()
                if objects[track.number]:
                    assert np.array_equal(np.asarray(mask) == objects[track.number], clip.mask(track.number)[frame])
            assert clip.ids is not None
            assert not np.asarray(mask)[clip.ids[frame] == HAND].any()
            shown = np.asarray(Image.open(folder / f"JPEGImages/480p/{name}/{frame:05d}.jpg")).astype(int)
            assert np.abs(shown - clip.frames[frame]).mean() < 4
            depth = np.asarray(Image.open(folder / f"Depth/480p/{name}/{frame:05d}.png")) / 255
            assert clip.depth is not None
            assert np.abs(depth - clip.depth[frame]).max() <= 0.5 / 255 + 1e-6
        assert json.loads((folder / f"Truth/{name}.json").read_text())["objects"] == objects
    frames = open_rows(folder / "JPEGImages/480p")
    assert len(frames) == COUNT * FRAMES


def test_bytes_of_clips_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("av")
    monkeypatch.setitem(UNITS, "clips", 2)
    contents = []
    for workers in (0, 2):
        folder = write(tmp_path / str(workers), 5, what="clips", format="msrvtt", frames=8, size=32, workers=workers)
        contents.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 7
