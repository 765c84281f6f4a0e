"""COCO files, noise and languages of written images, read back by a COCO library and by our own sources."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from percept.core.errors import PerceptError
from percept.data import open_source
from percept.data.sources.open import open_rows
from percept.world import CATEGORIES, generate, held_out, triples
from percept.world.noise import Noise, noise_kind
from percept.world.write import FORMATS, write


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("coco") / "w", 12, format="coco", seed=5, split="evaluation", size=64)


def test_a_coco_library_reads_boxes_masks_and_categories(coco: Path) -> None:
    library = pytest.importorskip("faster_coco_eval")
    read = library.COCO(str(coco / "annotations/instances_val2017.json"))
    assert len(read.imgs) == 12
    for number in range(12):
        rendering = generate(5 + number, split="evaluation", size=64)
        image = read.imgs[number + 1]
        assert np.array_equal(np.asarray(Image.open(coco / "val2017" / image["file_name"])), rendering.image)
        assert (image["height"], image["width"]) == rendering.image.shape[:2]
        entries = read.loadAnns(read.getAnnIds(imgIds=number + 1))
        assert rendering.masks is not None
        shown = [index for index, mask in enumerate(rendering.masks) if mask.any()]
        assert len(entries) == len(shown) > 0
        for entry, index in zip(entries, shown, strict=True):
            assert np.array_equal(read.annToMask(entry), rendering.masks[index])
            assert read.cats[entry["category_id"]]["name"] == rendering.scene.things[index].category
            left, top, width, height = entry["bbox"]
            assert np.allclose(np.array([left, top, left + width, top + height]) / 64, rendering.boxes[index])
            assert entry["area"] == rendering.masks[index].sum()


def test_perfect_detections_have_full_precision(coco: Path) -> None:
    library = pytest.importorskip("faster_coco_eval")
    truth = library.COCO(str(coco / "annotations/instances_val2017.json"))
    for kind in ("bbox", "segm"):
        found = [
            {name: entry[name] for name in ("image_id", "category_id", "bbox")}
            | ({"segmentation": truth.annToRLE(entry)} if kind == "segm" else {})
            | {"score": 0.9}
            for entry in truth.anns.values()
        ]
        measured = library.COCOeval_faster(truth, truth.loadRes(found), kind)
        measured.run()
        assert measured.stats[0] == pytest.approx(1.0)


def test_coco_files_are_complete_without_a_library(coco: Path) -> None:
    instances = json.loads((coco / "annotations/instances_val2017.json").read_text())
    captions = json.loads((coco / "annotations/captions_val2017.json").read_text())
    assert [each["name"] for each in instances["categories"]] == list(CATEGORIES)
    ids = [entry["id"] for entry in instances["annotations"]]
    assert len(set(ids)) == len(ids)
    assert min(ids) > 0
    assert instances["images"] == captions["images"]
    assert Counter(Counter(entry["image_id"] for entry in captions["annotations"]).values()) == {2: 12}
    for entry in instances["annotations"]:
        height, width = entry["segmentation"]["size"]
        mask = np.concatenate(
            [np.full(run, place % 2) for place, run in enumerate(entry["segmentation"]["counts"])]
        ).reshape(width, height)
        assert mask.sum() == entry["area"]
    assert sorted(path.name for path in coco.iterdir()) == ["annotations", "depth", "metadata.jsonl", "val2017"]
    depth = np.asarray(Image.open(coco / "depth/val2017/000003.png")) / 255
    rendering = generate(8, split="evaluation", size=64)
    assert rendering.depth is not None
    assert np.abs(depth - rendering.depth).max() <= 0.5 / 255 + 1e-6


def test_held_out_compositions_are_only_in_the_evaluation_split(tmp_path: Path, coco: Path) -> None:
    write(tmp_path / "train", 12, format="coco", size=64)
    for folder, subset, split, seed in ((tmp_path / "train", "train", "train", 0), (coco, "val", "evaluation", 5)):
        images = json.loads((folder / f"annotations/instances_{subset}2017.json").read_text())["images"]
        assert [image["seed"] for image in images] == list(range(seed, seed + 12))
        for image in images:
            shown = triples(generate(image["seed"], split=split).scene)
            assert any(held_out(*triple) for triple in shown) == (split == "evaluation")


def test_noise_has_the_rates_asked_for_and_is_known(tmp_path: Path) -> None:
    noise = Noise(wrong=0.3, empty=0.2)
    folder = write(tmp_path / "w", 60, format="jsonl", size=32, noise=noise, seed=7)
    lines = [json.loads(line) for line in (folder / "truth.jsonl").read_text().splitlines()]
    assert [line["noise"] for line in lines] == [noise_kind(7 + number, noise) for number in range(60)]
    assert {line["noise"] for line in lines} == {"wrong", "empty", "clean"}
    assert all((line["caption"] == line["clean_caption"]) == (line["noise"] == "clean") for line in lines)
    assert all((line["caption"] == "") == (line["noise"] == "empty") for line in lines)
    source = open_source(folder / "truth.jsonl", batch=30)
    texts = [text for step in range(2) for text in source.batch(step).text]  # type: ignore[attr-defined]
    assert all(texts)
    assert source.bad.counts["empty caption"] > 0
    assert set(texts) <= {line["caption"] for line in lines}


def test_noise_and_languages_in_shards_and_coco_files(tmp_path: Path) -> None:
    options = {"size": 32, "noise": Noise(wrong=1.0), "languages": ("en", "de", "fr")}
    write(tmp_path / "tar", 6, format="webdataset", **options)
    rows = open_rows(tmp_path / "tar")
    for number in range(6):
        sample = rows.read(number)
        assert sample.captions["txt"] == sample.captions["caption"] != sample.captions["clean_caption"]
    german = open_source(tmp_path / "tar", batch=6, captions="caption_de")
    assert any(" ein" in f" {text}" or "zwei" in text or "drei" in text for text in german.batch(0).text)  # type: ignore[attr-defined]
    write(tmp_path / "coco", 6, format="coco", **options)
    entries = json.loads((tmp_path / "coco/annotations/captions_train2017.json").read_text())["annotations"]
    assert [entry.get("language") for entry in entries[:4]] == [None, "en", "de", "fr"]
    assert entries[0]["noise"] == "wrong"
    captions = {entry["language"]: entry["caption"] for entry in entries[:4] if "language" in entry}
    assert captions["de"] == rows.read(0).captions["caption_de"][0]


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"what": "movies"}, "images, clips, questions"),
        ({"what": "rooms", "format": "coco"}, "folder, plm"),
        ({"what": "clips", "style": "sketch"}, "style has no effect on clips, only on images and questions"),
        ({"what": "documents", "noise": Noise(wrong=0.1)}, "noise has no effect on documents"),
        ({"frames": 16}, "frames has no effect on images, only on clips"),
        ({"languages": ("it",)}, "'it'"),
        ({"what": "clips", "frames": 7}, "8 to 64"),
        ({"what": "documents", "size": 20}, "64 to 2048"),
        ({"what": "rooms", "size": 20}, "32 to 2048"),
        ({"what": "questions", "split": "test"}, "train, validation, evaluation"),
    ],
)
def test_arguments_that_are_wrong_or_have_no_effect_write_nothing(tmp_path: Path, arguments: dict, hint: str) -> None:
    with pytest.raises(PerceptError, match=hint):
        write(tmp_path / "w", 2, **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("what", "format"), [(what, format) for what in FORMATS for format in FORMATS[what]])
def test_the_same_arguments_give_the_same_bytes(tmp_path: Path, what: str, format: str) -> None:
    if what == "clips" and format != "davis":
        pytest.importorskip("av")
    contents = []
    for name in ("one", "two"):
        folder = write(tmp_path / name, 2, what=what, format=format, frames=8 if what == "clips" else None)
        contents.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert contents[0] == contents[1]
    assert len(contents[0]) > 0
