"""Folders of the world are sources: their images are rows with captions, and masks and depth are not."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from percept.core.errors import PerceptError
from percept.data import open_source
from percept.data.sources import open_rows
from percept.world import generate
from percept.world.noise import Noise
from percept.world.rooms import generate_room
from percept.world.write import write


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCEPT_CACHE", str(tmp_path / "cache"))


def pixels(image: object) -> np.ndarray:
    return np.asarray(Image.open(image))  # type: ignore[arg-type]


def test_a_folder_of_images(tmp_path: Path) -> None:
    folder = write(tmp_path / "w", 3, seed=5, size=48)
    rows = open_rows(folder)
    assert len(rows) == 3
    for number in range(3):
        sample = rows.read(number)
        truth = json.loads((folder / sample.record["truth"]).read_text())
        assert np.array_equal(pixels(sample.images[0]), generate(5 + number, size=48).image)
        assert sample.captions["caption"] == (truth["short_caption"],)
        assert sample.captions["long_caption"] == (truth["long_caption"],)
        assert (folder / sample.record["masks"]).is_file()
        assert (folder / sample.record["depth"]).is_file()
    batch = open_source(folder, batch=3).batch(0)
    assert set(batch.text) == {rows.read(number).captions["caption"][0] for number in range(3)}  # type: ignore[attr-defined]


def test_noise_and_languages_of_a_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "w", 2, size=32, noise=Noise(wrong=1.0), languages=("de",))
    captions = open_rows(folder).read(0).captions
    assert captions["caption"] != captions["clean_caption"]
    assert captions["caption_de"]


def test_a_folder_of_coco_and_its_lists(tmp_path: Path) -> None:
    folder = write(tmp_path / "w", 3, format="coco", size=48, languages=("fr",))
    listed = open_rows(folder / "annotations" / "captions_train2017.json")
    things = open_rows(folder / "annotations" / "instances_train2017.json")
    rows = open_rows(folder)
    assert len(rows) == len(listed) == len(things) == 3
    for number in range(3):
        image = generate(number, size=48).image
        for each in (rows, listed, things):
            assert np.array_equal(pixels(each.read(number).images[0]), image)
        captions = rows.read(number).captions
        assert len(captions["captions"]) == 2
        assert listed.read(number).captions["captions"] == (*captions["captions"], *captions["caption_fr"])
        found = things.read(number).record["objects"]
        assert {each["category"] for each in found} <= {thing.category for thing in generate(number).scene.things}
    batch = open_source(folder / "annotations" / "captions_train2017.json", batch=3).batch(0)
    assert len(batch.text) == 3  # type: ignore[attr-defined]
    with pytest.raises(PerceptError, match="no captions in its first rows"):
        open_source(folder / "annotations" / "instances_train2017.json", batch=3)


def test_a_folder_of_rooms(tmp_path: Path) -> None:
    rows = open_rows(write(tmp_path / "w", 2, what="rooms", seed=4, size=48))
    assert len(rows) == 6
    for number in range(6):
        found, sample = generate_room(4 + number // 3, size=48), rows.read(number)
        view = number % 3
        assert (sample.record["room"], sample.record["view"]) == (f"{number // 3:06d}", view)
        assert np.array_equal(pixels(sample.images[0]), found.views[view].image)
        assert sample.captions["caption"] == (found.captions[view],)


def test_the_list_of_msrvtt(tmp_path: Path) -> None:
    pytest.importorskip("av")
    folder = write(tmp_path / "w", 2, what="clips", format="msrvtt", frames=8, size=32)
    rows = open_rows(folder / "MSRVTT_data.json")
    assert len(rows) == 2
    for number in range(2):
        sample = rows.read(number)
        assert sample.video == folder / "videos" / "all" / f"video{number}.mp4"
        assert len(sample.captions["captions"]) > 1


def test_lists_without_ids_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"images": [{"id": 1}], "annotations": []}))
    with pytest.raises(PerceptError, match="an entry without 'file_name'"):
        open_rows(tmp_path / "a.json")
