"""Readers of dense labels: what each layout gives, and what is said when labels do not match the images."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from percept.core.errors import PerceptError
from percept.eval.dense_sets import open_labels, same_looks
from percept.eval.labelled import need_task
from percept.eval.world_labels import world_labels
from percept.world.write import write
from tests.eval.sets.layouts import encoded, karpathy, shard


def image(file: Path, height: int = 12, width: int = 16, value: int = 7) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(file)
    return file


def numbers(file: Path, values: np.ndarray) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(file)
    return file


def half(first: int, second: int, kind: type = np.uint8) -> np.ndarray:
    values = np.full((12, 16), first, kind)
    values[:, 8:] = second
    return values


def pairs(folder: Path, count: int = 6) -> Path:
    for number in range(count):
        image(folder / "images" / f"{number}.png")
        numbers(folder / "masks" / f"{number}.png", half(number % 3, 255))
        numbers(folder / "depth" / f"{number}.png", half(1500, 0, np.uint16))
    return folder


def test_pairs_of_images_with_masks_and_depth(tmp_path: Path):
    found = open_labels(pairs(tmp_path))
    assert set(found) == {"masks", "depth"}
    masks, depth = found["masks"], found["depth"]
    assert masks.classes == ("0", "1", "2")
    assert masks.target(1)[0].tolist() == [1] * 8 + [-1] * 8
    assert depth.target(0)[0].tolist() == [1.5] * 8 + [0.0] * 8
    assert depth.unit == "m"
    assert [path.name for path in masks.images(2)] == ["2.png"]


def test_relative_depth_has_no_unit_and_no_missing_pixels(tmp_path: Path):
    for number in range(5):
        image(tmp_path / "images" / f"{number}.png")
        numbers(tmp_path / "depth" / f"{number}.png", half(0, 255))
    depth = open_labels(tmp_path)["depth"]
    assert depth.unit == ""
    assert 0 < depth.target(0).min() < 0.01 < 1.0 == depth.target(0).max()


def test_names_of_classes_are_read_and_must_suffice(tmp_path: Path):
    pairs(tmp_path)
    (tmp_path / "classes.txt").write_text("ground\ncup\n")
    masks = open_labels(tmp_path)["masks"]
    assert masks.classes == ("ground", "cup")
    assert masks.target(1).max() == 1
    with pytest.raises(PerceptError, match="has the class 2, but names are known for 2 classes only"):
        masks.target(2)


def test_an_ade20k_folder(tmp_path: Path):
    for part, count in (("training", 4), ("validation", 2)):
        for number in range(count):
            image(tmp_path / "images" / part / f"ADE_{number}.jpg")
            numbers(tmp_path / "annotations" / part / f"ADE_{number}.png", half(0, 150))
    (tmp_path / "objectInfo150.txt").write_text(
        "Idx\tRatio\tTrain\tVal\tStuff\tName\n" + "".join(f"{n}\t0\t0\t0\t0\tname {n}, other\n" for n in range(1, 151))
    )
    masks = open_labels(tmp_path)["masks"]
    assert (len(masks), len(masks.classes), masks.classes[0]) == (6, 150, "name 1")
    assert masks.target(0)[0].tolist() == [-1] * 8 + [149] * 8
    parts = masks.parts()
    assert sorted(parts.train) == [0, 1, 2][: len(parts.train)] or set(parts.train) <= {0, 1, 2, 3}
    assert set(parts.validation) | set(parts.test) == {4, 5}


def test_one_class_is_named_in_the_error(tmp_path: Path):
    image(tmp_path / "cups" / "one.png")
    with pytest.raises(PerceptError, match=r"has 1 sample of the single class 'cups'\. Give at least two classes"):
        open_labels(tmp_path)


def nyu(folder: Path, scenes: int, frames: int) -> Path:
    for number in range(scenes * frames):
        image(folder / f"scene_{number // frames}" / f"rgb_{number:05d}.jpg")
        numbers(folder / f"scene_{number // frames}" / f"sync_depth_{number:05d}.png", half(2000, 500, np.uint16))
    return folder


def test_frames_of_one_scene_are_in_one_part(tmp_path: Path):
    depth = open_labels(nyu(tmp_path / "nyu", 10, 4))["depth"]
    for seed in range(5):
        parts = depth.parts(seed=seed)
        scenes = [
            {depth.images(n)[0].parent for n in part.tolist()} for part in (parts.train, parts.validation, parts.test)
        ]
        assert [len(each) for each in scenes] == [6, 2, 2]
        assert len(set().union(*scenes)) == 10
        assert parts.groups is not None
        assert parts.groups.tolist() == [0] * 4 + [1] * 4
    limited = depth.parts(most=20)
    assert len(limited.train) + len(limited.validation) + len(limited.test) == 20
    with pytest.raises(PerceptError, match=r"30 samples of .* are of only 3 groups: .* give at least 6"):
        open_labels(nyu(tmp_path / "few", 3, 10))["depth"].parts()


def test_views_of_one_room_are_in_one_part(tmp_path: Path):
    write(tmp_path / "rooms", 8, what="rooms", format="folder", workers=1)
    found = open_labels(tmp_path / "rooms")
    for task in ("depth", "masks"):
        parts = found[task].parts()
        rooms = [
            {found[task].images(n)[0].parent for n in part.tolist()}
            for part in (parts.train, parts.validation, parts.test)
        ]
        assert len(set().union(*rooms)) == sum(map(len, rooms)) == 8
        assert parts.groups is not None
    assert found["points"].parts(trains=False).groups is None


def test_images_that_look_the_same_are_in_one_part(tmp_path: Path):
    for number in range(16):
        rng = np.random.default_rng(number // 2)
        pixels = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((4, 4, 1))).astype(np.uint8)
        pixels[0, 0] ^= number % 2
        folder = tmp_path / "ab"[number // 8]
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    classes = open_labels(tmp_path)["classes"]
    parts = classes.parts()
    looks = [
        {int(classes.images(n)[0].stem) // 2 for n in part.tolist()}
        for part in (parts.train, parts.validation, parts.test)
    ]
    assert len(set().union(*looks)) == sum(map(len, looks)) == 8
    assert parts.groups is not None
    assert same_looks([tmp_path / "a" / "00.png", tmp_path / "a" / "01.png", tmp_path / "none.png"]) == [0, 0, 2]


def test_rows_of_one_image_are_one_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for number in range(4):
        image(tmp_path / f"{number}.png", value=40 * number)
    lines = [
        f"{number}.png,caption {caption} of {number},{label}"
        for number in range(4)
        for caption, label in enumerate("ab" if number == 3 else "aa")
    ]
    (tmp_path / "rows.csv").write_text(
        "\n".join(["image,caption,label", *lines, "0.png,again,a", "1.png,again,a"]).replace("2,a", "2,b")
    )
    found = open_labels(tmp_path / "rows.csv")
    assert [found["captions"].target(n) for n in range(len(found["captions"]))] == [
        f"caption 0 of {n}" for n in range(4)
    ]
    assert [found["classes"].images(n)[0].name for n in range(len(found["classes"]))] == ["0.png", "1.png", "2.png"]
    assert "1 images of" in capsys.readouterr().err


@pytest.mark.parametrize("form", [("rgb_{}.jpg", "sync_depth_{}.png"), ("{}_colors.png", "{}_depth.png")])
def test_nyu_pairs(form: tuple[str, str], tmp_path: Path):
    for number in ("00001", "00002"):
        image(tmp_path / "office" / form[0].format(number))
        numbers(tmp_path / "office" / form[1].format(number), half(2000, 500, np.uint16))
    depth = open_labels(tmp_path)["depth"]
    assert len(depth) == 2
    assert depth.target(1)[0, [0, 15]].tolist() == [2.0, 0.5]


def coco(folder: Path, **changes) -> Path:
    image(folder / "val" / "one.jpg")
    image(folder / "val" / "two.jpg")
    data = {
        "images": [{"id": 7, "file_name": "one.jpg"}, {"id": 9, "file_name": "two.jpg"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 20, "bbox": [0, 3, 8, 6], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 5, "bbox": [4, 0, 12, 12], "iscrowd": 1},
        ],
        "categories": [{"id": 20, "name": "cup"}, {"id": 5, "name": "dog"}],
    }
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(data | changes))
    return folder


def test_boxes_of_coco(tmp_path: Path):
    boxes = open_labels(coco(tmp_path))["boxes"]
    truth = boxes.target(0)
    assert boxes.classes == ("dog", "cup")
    np.testing.assert_allclose(truth.boxes, [[0, 0.25, 0.5, 0.75], [0.25, 0, 1, 1]])
    assert truth.labels.tolist() == [1, 0]
    assert truth.crowd.tolist() == [False, True]
    assert boxes.target(1).boxes.shape == (0, 4)
    assert open_labels(tmp_path / "annotations" / "instances_val.json")["boxes"].classes == boxes.classes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": [{"id": 7, "file_name": "none.jpg"}]}, "1 of 1 images of .* are missing, such as none.jpg"),
        ({"categories": [{"id": 5, "name": "dog"}]}, "has the category 20, which is not listed"),
        ({"images": [{"id": 9, "file_name": "two.jpg"}]}, "is of image 7, which is not listed"),
        ({"categories": None}, "lacks the list 'categories'"),
    ],
)
def test_mistakes_in_coco_files(changes: dict, message: str, tmp_path: Path):
    with pytest.raises(PerceptError, match=message):
        open_labels(coco(tmp_path, **changes))


def test_a_box_beyond_its_image_is_refused(tmp_path: Path):
    boxes = open_labels(
        coco(tmp_path, annotations=[{"id": 1, "image_id": 7, "category_id": 5, "bbox": [0, 0, 160, 12]}])
    )
    with pytest.raises(PerceptError, match="ends beyond the image of 16 × 12 pixels"):
        boxes["boxes"].target(0)


def test_a_davis_folder(tmp_path: Path):
    for frame in range(3):
        image(tmp_path / "JPEGImages" / "480p" / "walk" / f"{frame:05d}.jpg")
        numbers(tmp_path / "Annotations" / "480p" / "walk" / f"{frame:05d}.png", half(1, 255))
    tracks = open_labels(tmp_path)["tracks"]
    assert len(tracks.images(0)) == 3
    assert tracks.target(0).shape == (3, 12, 16)
    assert set(np.unique(tracks.target(0))) == {0, 1}
    (tmp_path / "Annotations" / "480p" / "walk" / "00002.png").unlink()
    with pytest.raises(PerceptError, match="1 of 3 frames of walk have no mask"):
        open_labels(tmp_path)["tracks"].target(0)
    (tmp_path / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017" / "val.txt").write_text("walk\nrun\n")
    with pytest.raises(PerceptError, match="1 of 2 sequences"):
        open_labels(tmp_path)


def test_images_without_masks_and_masks_of_another_size_are_named(tmp_path: Path):
    pairs(tmp_path)
    numbers(tmp_path / "masks" / "3.png", np.zeros((5, 4), np.uint8))
    with pytest.raises(PerceptError, match=r"3\.png is 4 × 5 pixels, but its image .* is 16 × 12"):
        open_labels(tmp_path)["masks"].target(3)
    (tmp_path / "masks" / "3.png").unlink()
    with pytest.raises(PerceptError, match=r"1 of 6 images in .* have no mask, such as 3\.png\. Expected"):
        open_labels(tmp_path)


def test_masks_without_an_image_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    numbers(pairs(tmp_path) / "masks" / "other.png", half(0, 1))
    assert len(open_labels(tmp_path)["masks"]) == 6
    assert "1 of 7 files in" in capsys.readouterr().err


def test_masks_with_colours_and_mixed_depth_are_refused(tmp_path: Path):
    pairs(tmp_path)
    image(tmp_path / "masks" / "0.png")
    numbers(tmp_path / "depth" / "0.png", half(3, 4))
    (tmp_path / "depth" / "1.png").write_bytes(b"damaged")
    found = open_labels(tmp_path)
    with pytest.raises(PerceptError, match="has 3 channels"):
        found["masks"].target(0)
    with pytest.raises(PerceptError, match=r"0\.png is 8-bit PNG, but most depth is 16-bit PNG or \.npy"):
        found["depth"].target(0)
    assert found["depth"].target(2)[0, 0] == 1.5
    for file in (tmp_path / "masks").iterdir():
        file.write_bytes(b"damaged")
    with pytest.raises(PerceptError, match=r"masks.0\.png cannot be read"):
        open_labels(tmp_path)


def test_class_folders_and_captions(tmp_path: Path):
    for number, name in enumerate(("cat", "dog", "cat")):
        file = image(tmp_path / name / f"{number}.png")
        file.with_suffix(".txt").write_text(f"caption {number}")
    found = open_labels(tmp_path)
    assert found["classes"].classes == ("cat", "dog")
    assert sorted(found["classes"].target(index) for index in range(3)) == [0, 0, 1]
    assert {found["captions"].target(index) for index in range(3)} == {"caption 0", "caption 1", "caption 2"}
    with pytest.raises(
        PerceptError, match=r"has labels for classes, captions, but not for depth\. Give images/ and depth/"
    ):
        need_task(found, "depth", tmp_path)


def test_the_first_line_of_a_text_in_benchmark_shards_is_the_caption(tmp_path: Path):
    texts = [f"first {number}\nsecond {number}".encode() for number in range(6)]
    shard(tmp_path / "test" / "0.tar", [{"png": encoded(number), "txt": text} for number, text in enumerate(texts)])
    captions = open_labels(tmp_path)["captions"]
    assert [captions.target(number) for number in range(6)] == [f"first {number}" for number in range(6)]


def test_karpathy_json_gives_the_first_caption_of_the_test_split(tmp_path: Path):
    found = open_labels(file := karpathy(tmp_path, count=4))
    assert set(found) == {"captions"}
    captions = found["captions"]
    assert [captions.target(index) for index in range(len(captions))] == [f"caption 0 of {n}" for n in range(3)]
    assert captions.images(1) == [tmp_path / "val2014" / "COCO_0001.png"]
    (tmp_path / "val2014" / "COCO_0001.png").unlink()
    assert len(open_labels(file)["captions"]) == 2
    (tmp_path / "val2014" / "COCO_0000.png").unlink()
    with pytest.raises(PerceptError, match=r"2 of 3 images of .* cannot be used.* Put the file into the folder"):
        open_labels(file)


def test_a_folder_without_labels_says_what_is_needed(tmp_path: Path):
    image(tmp_path / "one.png")
    with pytest.raises(
        PerceptError, match=r"no labels that are recognised\. Give a folder with a subfolder of images per class"
    ):
        open_labels(tmp_path)


@pytest.mark.parametrize(
    ("what", "layout", "tasks"),
    [
        ("images", "folder", {"captions", "masks", "depth", "boxes", "words"}),
        ("images", "coco", {"boxes", "captions"}),
        ("rooms", "folder", {"depth", "masks", "points"}),
        ("clips", "davis", {"tracks"}),
    ],
)
def test_folders_that_the_world_writes(what: str, layout: str, tasks: set[str], tmp_path: Path):
    write(tmp_path / "world", 3, what=what, format=layout, workers=1)
    found = open_labels(tmp_path / "world")
    assert set(found) == tasks
    for labelled in found.values():
        assert labelled.images(0)
        labelled.target(0)


@pytest.mark.parametrize("task", ["classes", "captions", "masks", "depth", "boxes", "tracks", "points", "words"])
def test_generated_labels_are_the_same_every_time(task: str):
    one, again = (world_labels(task, count=2, size=48) for _ in range(2))
    assert np.array_equal(np.asarray(one.images(1)[0]), np.asarray(again.images(1)[0]))
    target = one.target(1)
    assert len(one) == 2
    if task in ("masks", "depth"):
        assert target.shape == (48, 48)
    if task == "masks":
        assert target.max() < len(one.classes)
    if task == "points":
        assert all((part >= 0).all() and (part <= 1).all() for part in target)
