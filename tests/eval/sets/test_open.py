"""Sets are recognised by their layout; what is missing is named."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.sources.sample import BadSample
from percept.eval.sets import Request, open_set
from percept.eval.sets.classes import read_classes, templates_of
from percept.eval.sets.domains import open_domains
from percept.eval.zeroshot import zeroshot_of_set
from tests.eval.sets.layouts import (
    NAMES,
    SYNSETS,
    benchmark,
    class_folders,
    encoded,
    karpathy,
    objectnet,
    reader,
    shard,
    write,
)


def opened(path, **options):
    return open_set(Request(path=str(path), **options))


def labels(data) -> list[int]:
    return [data.read(number).labels[0] for number in range(len(data))]


def path_of(data, number: int) -> Path:
    media = data.read(number).media
    assert isinstance(media, Path)
    return media


def test_folders_of_classes_with_an_empty_one(tmp_path):
    class_folders(tmp_path / "set", ["a_cup", "b_dog"])
    (tmp_path / "set" / "c_cat").mkdir()
    write(tmp_path / "set" / "loose.png", 0)
    data = opened(tmp_path / "set").check("class")
    assert data.classes == ("a cup", "b dog", "c cat")
    assert (data.layout, len(data), data.remark) == (
        "folders of classes",
        4,
        "1 file outside of the class folders left out, such as loose.png.",
    )
    found = [data.read(number) for number in range(4)]
    assert [item.labels for item in found] == [(0,), (0,), (1,), (1,)]
    assert data.key(0) == found[0].key == "a_cup/0.png"


def test_splits_are_chosen_and_named(tmp_path):
    class_folders(tmp_path / "train", ["a", "b"])
    class_folders(tmp_path / "val", ["a", "b"], each=1)
    assert (len(opened(tmp_path)), opened(tmp_path).name) == (2, f"{tmp_path.name} val")
    assert len(opened(tmp_path, subset="train")) == 4
    with pytest.raises(PerceptError, match=r"no split 'test'. Give --subset train or val"):
        opened(tmp_path, subset="test")


def test_wordnet_folders_need_names_with_ids_or_as_many_names(tmp_path):
    class_folders(tmp_path / "imagenet-a", SYNSETS[1:3])
    with pytest.raises(PerceptError, match=r"WordNet ids such as n01443537.*--classes FILE"):
        opened(tmp_path / "imagenet-a")
    plain = write(tmp_path / "names.txt", "\n".join(NAMES))
    with pytest.raises(PerceptError, match=r"4 names without ids.*2 class folders.*an id in each line"):
        opened(tmp_path / "imagenet-a", classes=plain)
    with_ids = write(tmp_path / "LOC.txt", "\n".join(f"{i} {n}, other" for i, n in zip(SYNSETS, NAMES, strict=True)))
    assert opened(tmp_path / "imagenet-a", classes=with_ids).classes == NAMES[1:3]
    index = {str(k): [i, n.replace(" ", "_")] for k, (i, n) in enumerate(zip(SYNSETS, NAMES, strict=True))}
    as_json = write(tmp_path / "index.json", json.dumps(index))
    assert opened(tmp_path / "imagenet-a", classes=as_json).classes == NAMES[1:3]
    class_folders(tmp_path / "val", SYNSETS)
    assert opened(tmp_path / "val", classes=plain).classes == NAMES
    short = write(tmp_path / "short.txt", f"{SYNSETS[1]} goldfish")
    with pytest.raises(PerceptError, match=r"does not name 1 of the 2 folders.*n01484850"):
        opened(tmp_path / "imagenet-a", classes=short)


def test_numbered_folders_are_positions_not_sorted_as_text(tmp_path):
    for number in (0, 2, 10):
        write(tmp_path / "v2" / str(number) / "x.png", number)
    names = write(tmp_path / "names.txt", "\n".join(f"class {number}" for number in range(11)))
    data = opened(tmp_path / "v2", classes=names)
    assert labels(data) == [0, 2, 10]
    assert len(data.classes) == 11
    with pytest.raises(PerceptError, match=r"numbers up to 10, but there is no class file.*at least 11"):
        opened(tmp_path / "v2")
    few = write(tmp_path / "few.txt", "a\nb")
    with pytest.raises(
        PerceptError, match=r"numbers up to 10, but .*few.txt has 2 names. Give the names of at least 11 classes"
    ):
        opened(tmp_path / "v2", classes=few)


def test_objectnet_takes_the_shared_classes_and_cuts_the_border(tmp_path):
    data = opened(objectnet(tmp_path / "objectnet-1.0")).check("class")
    assert data.classes == ("Alarm clock", "Backpack")
    assert (data.border, data.remark, labels(data)) == (2, "2 of 3 classes.", [0, 1])
    (tmp_path / "objectnet-1.0" / "mappings" / "objectnet_to_imagenet_1k.json").unlink()
    assert len(opened(tmp_path / "objectnet-1.0").classes) == 3


def test_shards_with_names_templates_and_captions(tmp_path):
    data = opened(benchmark(tmp_path / "wds", NAMES))
    assert (data.classes, len(data), data.holds) == (NAMES, 8, ("class",))
    assert data.templates == ("a photo of a {}.", "itap of the {}.")
    assert labels(data) == [0, 1, 2, 3, 0, 1, 2, 3]
    assert len({data.key(number) for number in range(8)}) == 8
    assert labels(opened(tmp_path / "wds" / "test")) == labels(data)
    captioned = tmp_path / "flickr" / "test"
    shard(captioned / "0.tar", [{"jpg": encoded(1, "JPEG"), "txt": b"a dog\n\n a black dog \n"}])
    assert opened(tmp_path / "flickr").read(0).captions == ("a dog", "a black dog")


def test_what_is_missing_in_shards_is_named(tmp_path):
    root = benchmark(tmp_path / "wds", NAMES)
    (root / "classnames.txt").rename(tmp_path / "names.txt")
    with pytest.raises(PerceptError, match=r"class numbers, but there is no classnames.txt"):
        opened(root)
    assert opened(root, classes=tmp_path / "names.txt").classes == NAMES
    (root / "test" / "1.tar").unlink()
    half = opened(root, classes=tmp_path / "names.txt")
    assert (len(half), half.remark) == (4, "1 of 2 shards missing, such as 1.tar.")
    write(root / "test" / "nshards.txt", "3")
    with pytest.raises(PerceptError, match=r"2 of 3 shards of .* cannot be used, such as 1\.tar: it is missing"):
        opened(root, classes=tmp_path / "names.txt")
    write(root / "test" / "nshards.txt", "two")
    with pytest.raises(PerceptError, match=r"holds 'two', not the number of shards"):
        opened(root, classes=tmp_path / "names.txt")
    shard(tmp_path / "bare" / "test" / "0.tar", [{"png": encoded(0)}])
    with pytest.raises(PerceptError, match=r"neither .cls nor .npy nor .txt"):
        opened(tmp_path / "bare")


def test_a_class_number_out_of_range_is_refused(tmp_path):
    shard(tmp_path / "s" / "test" / "0.tar", [{"png": encoded(0), "cls": b"7"}, {"cls": b"0"}])
    write(tmp_path / "s" / "classnames.txt", "a\nb")
    data = opened(tmp_path / "s")
    with pytest.raises(BadSample, match=r"class '7' of 2 classes"):
        data.read(0)
    with pytest.raises(BadSample, match=r"no image"):
        data.read(1)
    with pytest.raises(PerceptError, match=r"whose class has no name: 0/s0*, class '7' of 2 classes.*--classes FILE"):
        zeroshot_of_set(reader(["a", "b"]), data)


def test_karpathy_takes_five_captions_of_one_split(tmp_path):
    file = karpathy(tmp_path)
    data = opened(file).check("captions")
    assert (len(data), data.name, data.layout) == (3, "coco test", "Karpathy json")
    item = data.read(1)
    assert item.captions == tuple(f"caption {number} of 1" for number in range(5))
    assert (item.key, item.media) == ("val2014/COCO_0001.png", tmp_path / "val2014" / "COCO_0001.png")
    assert len(opened(file, subset="val")) == 1
    assert len(opened(tmp_path)) == 3  # the folder that holds it
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.move(file, tmp_path / "elsewhere" / "dataset_coco.json")
    with pytest.raises(PerceptError, match=r"3 of 3 images of .*\(split test\) cannot be used.*no file.*--media"):
        opened(moved)
    assert path_of(opened(moved, media=tmp_path / "val2014"), 1).is_file()
    broken = write(tmp_path / "broken.json", json.dumps({"images": [{"filename": "a", "sentences": []}]}))
    with pytest.raises(PerceptError, match=r"no image with a split in its list images. Images need filename"):
        opened(broken)


def test_kinetics_finds_cut_and_whole_videos_and_counts_missing_ones(tmp_path):
    write(
        tmp_path / "val.csv",
        "label,youtube_id,time_start,time_end,split\nabseiling,aaa,10,20,val\nzumba,bbb,0,5,val\nzumba,ccc,1,2,val\nyoga,ddd,1,2,test\n",
    )
    write(tmp_path / "clips" / "zumba" / "aaa_000010_000020.mp4", "x")
    write(tmp_path / "clips" / "bbb.mp4", "x")
    data = opened(tmp_path / "val.csv", subset="val")
    assert (data.video, data.classes, len(data)) == (True, ("abseiling", "zumba"), 3)
    assert [data.read(number).window for number in range(2)] == [None, (0.0, 5.0)]
    assert [data.read(number).labels for number in range(2)] == [(0,), (1,)]
    with pytest.raises(BadSample, match=r"there is no file .*ccc_000001_000002.mp4"):
        data.read(2)
    assert data.where is not None
    assert data.where(2) == "ccc_000001_000002 (val.csv, line 4)"
    with pytest.raises(PerceptError, match=r"1 of 1 video of .* such as ddd_.*no file .*ddd_.*mp4.*--media"):
        opened(tmp_path / "val.csv")
    write(
        tmp_path / "bad.csv",
        "label,youtube_id,time_start,time_end\nyoga,aaa,ten,20\n,bbb,0,5\nyoga,bbb,0,5\nyoga,bbb,1,5\n",
    )
    data = opened(tmp_path / "bad.csv")
    for number, message in enumerate((r"times are not seconds \('ten' and '20'\)", r"no label")):
        with pytest.raises(BadSample, match=message):
            data.read(number)
    assert (data.classes, data.read(2).labels) == (("yoga",), (0,))


def test_tables_join_the_captions_of_one_video(tmp_path):
    rows = [
        "key,vid_key,video_id,sentence",
        "ret0,msr1,video7,a man sings",
        "ret1,msr2,video8,a dog",
        "ret2,msr1,video7,someone sings",
    ]
    write(tmp_path / "MSRVTT_JSFUSION_test.csv", "\n".join(rows))
    for name in ("video7", "video8"):
        write(tmp_path / "videos" / f"{name}.mp4", "x")
    data = opened(tmp_path / "MSRVTT_JSFUSION_test.csv", media=tmp_path / "videos").check("captions")
    assert (len(data), data.video) == (2, True)
    assert data.read(0).captions == ("a man sings", "someone sings")
    assert data.read(0).media == tmp_path / "videos" / "video7.mp4"
    assert path_of(opened(tmp_path / "MSRVTT_JSFUSION_test.csv"), 1).name == "video8.mp4"  # found in a subfolder
    shutil.rmtree(tmp_path / "videos")
    with pytest.raises(PerceptError, match=r"2 of 2 videos of .* cannot be used, such as video7.*no file .*--media"):
        opened(tmp_path / "MSRVTT_JSFUSION_test.csv")


def test_the_sentences_of_msrvtt_json(tmp_path):
    value = {
        "videos": [{"video_id": "video1", "split": "test"}, {"video_id": "video2", "split": "train"}],
        "sentences": [{"video_id": "video1", "caption": "a"}, {"video_id": "video1", "caption": "b"}],
    }
    write(tmp_path / "MSRVTT_data.json", json.dumps(value))
    write(tmp_path / "video1.mp4", "x")
    data = opened(tmp_path / "MSRVTT_data.json", media=tmp_path)
    assert (len(data), data.read(0).captions) == (1, ("a", "b"))


def test_tables_of_classes(tmp_path):
    for number in range(3):
        write(tmp_path / f"{number}.png", number)
    write(tmp_path / "t.csv", "path,label\n0.png,cup\n1.png,dog\n2.png,cup\n")
    data = opened(tmp_path / "t.csv")
    assert (data.classes, labels(data), data.holds) == (("cup", "dog"), [0, 1, 0], ("class",))
    assert data.key(2) == "2.png"
    more = write(tmp_path / "more.txt", "ant\ndog\ncup")
    assert labels(opened(tmp_path / "t.csv", classes=more)) == [2, 1, 2]
    few = write(tmp_path / "few.txt", "dog\nant")
    with pytest.raises(BadSample, match=r"'cup' is not among the classes"):
        opened(tmp_path / "t.csv", classes=few).read(0)
    write(tmp_path / "n.csv", "path,label\n0.png,1\n1.png,0\n")
    with pytest.raises(PerceptError, match=r"are numbers. Give the names of all classes"):
        opened(tmp_path / "n.csv")
    assert labels(opened(tmp_path / "n.csv", classes=few)) == [1, 0]


def test_several_classes_in_a_table_and_in_coco(tmp_path):
    for number in range(2):
        write(tmp_path / f"{number}.png", number)
    write(tmp_path / "t.csv", "path,labels\n0.png,dog|cup\n1.png,\n")
    data = opened(tmp_path / "t.csv").check("classes")
    assert (data.classes, data.read(0).labels, data.read(1).labels) == (("cup", "dog"), (1, 0), ())
    coco = {
        "images": [{"id": 1, "file_name": "0.png"}, {"id": 2, "file_name": "1.png"}],
        "categories": [{"id": 3, "name": "cup"}, {"id": 9, "name": "dog"}],
        "annotations": [
            {"id": k, "image_id": 1, "category_id": c, "bbox": [0, 0, 1, 1]} for k, c in enumerate((9, 9, 3))
        ],
    }
    write(tmp_path / "instances_val2017.json", json.dumps(coco))
    data = opened(tmp_path / "instances_val2017.json").check("classes")
    assert sorted(data.read(0).labels) == [0, 1]
    assert data.read(1).labels == ()


def test_a_single_class_is_refused(tmp_path):
    class_folders(tmp_path, ["a"])
    with pytest.raises(PerceptError, match=r"the single class 'a', so every answer is right. Give at least two"):
        opened(tmp_path).check("class")


def test_what_a_set_lacks_is_said_with_the_command_for_what_it_holds(tmp_path):
    file = karpathy(tmp_path)
    with pytest.raises(
        PerceptError,
        match=r"\(Karpathy json\) holds 3 samples with captions. Use percept eval retrieval, or give one class",
    ):
        opened(file).check("class")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no files, which is not an evaluation set"),
        ({"notes.doc": "x", "b.doc": "y"}, "holds 2 .doc, which is not an evaluation set. Evaluation sets are"),
    ],
)
def test_folders_that_are_no_sets(content, message, tmp_path):
    for name, text in content.items():
        write(tmp_path / name, text)
    with pytest.raises(PerceptError, match=message):
        opened(tmp_path)


def test_paths_that_do_not_exist_and_files_of_other_kinds(tmp_path):
    with pytest.raises(PerceptError, match=r"there is no file or folder .*none"):
        opened(tmp_path / "none")
    with pytest.raises(PerceptError, match=r"is not an evaluation set"):
        opened(write(tmp_path / "a.pdf", "x"))


def test_a_limit_draws_the_same_part_for_a_seed(tmp_path):
    class_folders(tmp_path / "set", [f"c{number}" for number in range(5)], each=8)
    part, again, other = (opened(tmp_path / "set", limit=7, seed=seed) for seed in (1, 1, 2))
    keys = [[each.key(number) for number in range(7)] for each in (part, again, other)]
    assert keys[0] == keys[1] != keys[2]
    assert [part.read(number).key for number in range(7)] == keys[0]
    assert "7 of 40 samples, drawn at random." in part.remark
    with pytest.raises(PerceptError, match=r"limit must be at least 1, got 0"):
        opened(tmp_path / "set", limit=0)


def test_class_files_and_templates(tmp_path):
    assert read_classes(write(tmp_path / "a.json", '["cup", "dog"]')).names == ("cup", "dog")
    assert read_classes(write(tmp_path / "b.json", '{"1": "dog", "0": "cup"}')).names == ("cup", "dog")
    assert read_classes(write(tmp_path / "c.json", '{"n01": "dog"}')).name_of("n01") == "dog"
    for name, text, message in [
        ("d.json", '{"a": 1}', "json of a different form"),
        ("e.txt", "", "holds no class names"),
        ("f.txt", f"{SYNSETS[0]} tench\ndog", "an id in 1 of 2 lines"),
        ("g.txt", f"{SYNSETS[0]} tench\n{SYNSETS[0]} dog", "one id more than once"),
    ]:
        with pytest.raises(PerceptError, match=message):
            read_classes(write(tmp_path / name, text))
    with pytest.raises(PerceptError, match=r"there is no file"):
        read_classes(tmp_path / "none.txt")
    with pytest.raises(PerceptError, match=r"not UTF-8"):
        read_classes(write(tmp_path / "h.txt", b"\xff\xfe"))
    assert templates_of(write(tmp_path / "t.txt", "a {classname}.\nthe {}\n")) == ("a {}.", "the {}")
    assert templates_of(write(tmp_path / "t.json", '["a {c}"]')) == ("a {}",)
    with pytest.raises(PerceptError, match=r"must contain {} once"):
        templates_of(write(tmp_path / "u.txt", "a photo"))
    with pytest.raises(PerceptError, match=r"not a json list"):
        templates_of(write(tmp_path / "u.json", "{}"))


def test_a_folder_of_images_with_captions(tmp_path):
    for number in range(3):
        write(tmp_path / f"{number}.png", number)
        write(tmp_path / f"{number}.txt", f"caption {number}")
    data = opened(tmp_path).check("captions")
    assert [data.read(number).captions for number in range(3)] == [(f"caption {number}",) for number in range(3)]


def test_images_and_videos_in_one_set_are_refused(tmp_path):
    class_folders(tmp_path / "set", ["a", "b"])
    write(tmp_path / "set" / "a" / "x.mp4", "x")
    with pytest.raises(PerceptError, match=r"1 video and 4 images"):
        opened(tmp_path / "set")


def test_a_cut_image_is_without_its_border(tmp_path):
    from percept.eval.sets.stream import _cut

    assert _cut(Image.new("RGB", (10, 8)), 2).size == (6, 4)
    assert _cut(Image.new("RGB", (4, 4)), 2).size == (4, 4)


def test_shards_with_several_classes_per_image(tmp_path):
    split = tmp_path / "voc" / "test"
    shown = [[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 1, 0]]
    samples = [{"png": encoded(k), "npy": array(row)} for k, row in enumerate(shown)]
    shard(
        split / "0.tar", [*samples, {"png": encoded(3), "npy": array([1, 0])}, {"png": encoded(3), "npy": b"damaged"}]
    )
    with pytest.raises(PerceptError, match=r"class numbers, but there is no classnames.txt"):
        opened(tmp_path / "voc")
    write(tmp_path / "voc" / "classnames.txt", "\n".join(NAMES))
    data = opened(tmp_path / "voc").check("classes")
    assert [data.read(number).labels for number in range(3)] == [(0, 3), (), (1, 2)]
    with pytest.raises(BadSample, match=r"its .npy has shape \(2,\), but there are 4 classes"):
        data.read(3)
    with pytest.raises(BadSample, match=r"no .npy that can be read"):
        data.read(4)
    shard(split / "1.tar", [{"png": encoded(0), "npy": array([0, 0, 1, 0])}], 5)
    assert opened(tmp_path / "voc").read(5).labels == (2,)  # in a second shard


def array(values: list[int]) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(values))
    return file.getvalue()


def test_a_missing_file_is_not_replaced_by_one_of_the_same_name_elsewhere(tmp_path):
    for number in range(3):
        write(tmp_path / "val" / f"{number}.png", number)
        write(tmp_path / "train" / f"{number}.png", 3)
    (tmp_path / "val" / "2.png").unlink()
    write(tmp_path / "t.csv", "path,label\nval/0.png,cup\nval/1.png,dog\nval/2.png,cup\n")
    data = opened(tmp_path / "t.csv")
    assert path_of(data, 1) == tmp_path / "val" / "1.png"
    with pytest.raises(BadSample, match=r"there is no file .*val/2.png"):
        data.read(2)
    write(tmp_path / "typo.csv", "path,label\nval/0.png,cup\nvall/0.png,cup\nval/1.png,dog\n")
    with pytest.raises(BadSample, match=r"there is no file .*vall/0.png"):
        opened(tmp_path / "typo.csv").read(1)
    write(tmp_path / "bare.csv", "path,label\n0.png,cup\n1.png,dog\n")
    with pytest.raises(
        PerceptError, match=r"2 of 2 images .*several files .*train/0.png and .*val/0.png.*Give the folder"
    ):
        opened(tmp_path / "bare.csv")
    assert path_of(opened(tmp_path / "bare.csv", media=tmp_path / "train"), 0) == tmp_path / "train" / "0.png"


def test_rows_of_one_image_with_different_classes(tmp_path):
    write(tmp_path / "0.png", 0)
    write(tmp_path / "1.png", 1)
    write(tmp_path / "t.csv", "path,label\n0.png,cup\n0.png,dog\n1.png,dog\n1.png,dog\n")
    data = opened(tmp_path / "t.csv")
    assert data.read(1).labels == (1,)
    with pytest.raises(BadSample, match=r"its rows name cup and dog; write several in one column labels"):
        data.read(0)


def test_classes_of_equal_name_are_reported(tmp_path):
    class_folders(tmp_path / "set", ["alarm clock", "alarm_clock", "cup"])
    data = opened(tmp_path / "set", limit=2)
    assert "Classes of equal name, such as alarm clock, cannot be told apart" in data.remarks
    assert data.remarks.startswith("2 of 6 samples")
    class_folders(tmp_path / "other", ["cup", "dog"])
    assert opened(tmp_path / "other").remarks == ""


def test_an_empty_template_file_is_named(tmp_path):
    with pytest.raises(PerceptError, match=r"none.txt holds no templates"):
        templates_of(write(tmp_path / "none.txt", "\n"))


def test_classes_are_not_domains(tmp_path):
    class_folders(tmp_path / "pets", ["cat", "dog"])
    with pytest.raises(PerceptError, match=r"holds one folder per class, such as cat, but robustness.*zeroshot"):
        open_domains(Request(path=str(tmp_path / "pets")))
