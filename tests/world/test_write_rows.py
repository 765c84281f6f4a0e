"""Written questions, documents and rooms, read back by our own sources; a box is the same text in a question and in a row."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from percept.data import open_source
from percept.data.chat.batch import chat_batch
from percept.data.chat.rows import ChatItem, conversation_of
from percept.data.sources.open import open_rows
from percept.data.sources.sample import Sample
from percept.world.documents import DOCUMENTS, generate_document
from percept.world.qa import example, examples
from percept.world.rooms import LABELS, generate_room
from percept.world.write import write
from tests.world.test_write_clips import processor


@pytest.mark.parametrize(("what", "split"), [("questions", "train"), ("questions", "evaluation"), ("documents", "train"), ("rooms", "evaluation")])  # fmt: skip
def test_rows_of_plm_become_conversations(tmp_path: Path, what: str, split: str) -> None:
    folder = write(tmp_path / "w", 14, what=what, format="plm", split=split)
    file = folder / f"{what}.jsonl"
    prepare = ChatItem(processor=processor(), limit=6000)
    source = open_source(file, batch=7, prepare=prepare, collate=chat_batch, max_bad=0)
    source.batch(0)
    source.batch(1)
    assert source.bad.counts == {}
    for line in file.read_text().splitlines():
        row = json.loads(line)
        assert 2 * len(row["kinds"]) == 2 * len(row["choices"]) == len(row["conversations"])


def test_rows_of_questions_are_those_of_the_examples(tmp_path: Path) -> None:
    folder = write(tmp_path / "w", 25, what="questions", seed=2, split="evaluation", style="mixed")
    rows = open_rows(folder / "questions.jsonl")
    several = 0
    for number, drawn in zip(range(25), examples(2, split="evaluation", style="mixed"), strict=False):
        sample = rows.read(number)
        several += len(sample.images) > 1
        for image, rendering in zip(sample.images, drawn.images, strict=True):
            assert np.array_equal(np.asarray(Image.open(image)), rendering.image)  # type: ignore[arg-type]
        turns = [turn.text.lstrip() for turn in conversation_of(sample).turns]  # line breaks follow the images
        assert turns == [text for pair in drawn.pairs for text in (pair.question, pair.answer)]
        assert sample.record["choices"] == [list(pair.choices) for pair in drawn.pairs]
    assert several > 0


@pytest.mark.parametrize("size", [96, 97, 224])
def test_a_box_is_the_same_text_in_a_question_and_in_its_row(size: int) -> None:
    made = [example(seed, kind=kind, size=size) for seed in range(4) for kind in ("region", "referring")]
    papers = [generate_document(seed, kind=kind, width=size) for seed in range(2) for kind in DOCUMENTS]
    cases = [(each.pairs, each.row(["a.png"])) for each in made] + [(each.pairs, each.row("a.png")) for each in papers]
    boxes = 0
    for pairs, row in cases:
        read = Sample(key="1", images=(b"",), video=None, captions={}, label=None, record=json.loads(json.dumps(row)))
        turns = [turn.text for turn in conversation_of(read).turns]
        assert turns == [text for pair in pairs for text in (pair.question, pair.answer)]
        boxes += len(row.get("bbox", ()))
    assert boxes > 20


def test_documents_and_their_text(tmp_path: Path) -> None:
    folder = write(tmp_path / "w", 7, what="documents", split="validation")
    rows = open_rows(folder)
    for number in range(7):
        document, sample = generate_document(number, kind=DOCUMENTS[number], split="validation"), rows.read(number)
        assert sample.captions["text"] == (document.text,)
        assert np.array_equal(np.asarray(Image.open(sample.images[0])), document.image)  # type: ignore[arg-type]
        assert sample.record["texts"][0]["text"] == document.texts[0].text
    batch = open_source(folder, batch=7).batch(0)
    assert len(set(batch.text)) == 7  # type: ignore[attr-defined]


def ply_points(file: Path) -> np.ndarray:
    """Read a binary PLY file with a single element."""
    head, _, body = file.read_bytes().partition(b"end_header\n")
    kinds = {"float": "<f4", "uchar": "u1"}
    lines = [line.split() for line in head.decode().splitlines()]
    count = next(int(line[2]) for line in lines if line[0] == "element")
    columns = [(line[2], kinds[line[1]]) for line in lines if line[0] == "property"]
    points = np.frombuffer(body, columns)
    assert len(points) == count
    return points


def test_rooms_with_cameras_depth_and_a_point_cloud(tmp_path: Path) -> None:
    folder = write(tmp_path / "w", 2, what="rooms", seed=4, size=48)
    assert sorted(path.name for path in folder.iterdir()) == ["000000", "000001", "metadata.jsonl"]
    for number in range(2):
        found, room = generate_room(4 + number, size=48), folder / f"{number:06d}"
        cameras = json.loads((room / "cameras.json").read_text())
        cloud = ply_points(room / "cloud.ply")
        assert len(cloud) == 3 * 48 * 48
        for place, (view, camera) in enumerate(zip(found.views, cameras["views"], strict=True)):
            image, depth, instances, labels = (
                np.asarray(Image.open(room / camera[name])) for name in ("image", "depth", "instances", "labels")
            )
            assert np.array_equal(image, view.image)
            assert depth.dtype.itemsize >= 2
            assert np.abs(depth / cameras["depth_units_per_metre"] - view.depth).max() < 0.00051
            assert np.array_equal(instances, view.ids)
            assert np.array_equal(labels, view.labels)
            own = cloud[cloud["view"] == place]
            points = np.stack([own["x"], own["y"], own["z"], np.ones(len(own))]).astype(np.float64)
            local = (np.array(camera["world_to_camera"]) @ points)[:3]
            columns, rows = ((np.array(camera["intrinsics"]) @ local)[:2] / local[2]).astype(int)
            assert np.array_equal(rows * 48 + columns, np.arange(48 * 48))
            assert np.abs(local[2] - depth.ravel() / 1000).max() < 0.001
            assert np.array_equal(np.stack([own["red"], own["green"], own["blue"]], 1), image.reshape(-1, 3))
            assert np.array_equal(own["label"], labels.ravel())
            assert np.array_equal(own["instance"], instances.ravel())
        truth = json.loads((room / "truth.json").read_text())
        assert tuple(truth["labels"]) == LABELS
        assert [view["caption"] for view in truth["views"]] == list(found.captions)
        assert truth["question_view"] == 0
