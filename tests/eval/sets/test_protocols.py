"""Protocols on small sets whose right answers are known, with an encoder that reads them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from percept.core.errors import PerceptError
from percept.data.video import open_video
from percept.eval import multilabel, retrieval, robustness, video, zeroshot
from percept.eval.sets import EvaluationSet, Item, Request, open_set
from percept.eval.sets.domains import open_domains
from percept.eval.sets.stream import clip_vectors
from percept.infer.clips import Sampling
from tests.eval.fakes import Fake
from tests.eval.sets.layouts import (
    NAMES,
    STEP,
    SYNSETS,
    benchmark,
    class_folders,
    encoded,
    film,
    karpathy,
    number_of,
    objectnet,
    picture,
    reader,
    shard,
    write,
)


def scores(result) -> dict[str, float]:
    return {score.name: score.value for score in result.scores}


def test_zeroshot_of_a_set_streams_and_records_every_sample(tmp_path):
    class_folders(tmp_path / "set", sorted(NAMES), each=3)
    data = open_set(Request(path=str(tmp_path / "set")))
    result, found = zeroshot.zeroshot_of_set(reader(data.classes, {0: 1}), data)
    assert scores(result) == {"set top-1": 0.75, "set mean per class": 0.75}
    (records,) = result.records
    rows = list(records.rows("zeroshot"))
    assert len(rows) == 12
    assert (rows[3]["key"], rows[3]["truth"]) == ("great white shark/0.png", "great white shark")
    wrong = [row for row in rows if not row["right"]]
    assert {(row["truth"], row["prediction"]) for row in wrong} == {(data.classes[0], data.classes[1])}
    assert all(row["rank"] == 1 for row in rows if row["right"])
    assert found.right.sum() == 9
    assert result.data[0]["samples"] == 12


def test_an_image_that_cannot_be_read_is_counted_and_the_hash_knows_the_content(tmp_path):
    class_folders(tmp_path / "set", ["a cup", "a dog"])
    data = open_set(Request(path=str(tmp_path / "set")))
    first = zeroshot.zeroshot_of_set(reader(data.classes), data)[0].data[0]
    write(tmp_path / "set" / "a cup" / "0.png", b"not an image")
    damaged = zeroshot.zeroshot_of_set(reader(data.classes), data)[0]
    assert (damaged.data[0]["samples"], damaged.data[0]["unreadable"]) == (3, 1)
    assert damaged.data[0]["hash"] != first["hash"]
    write(tmp_path / "set" / "a cup" / "0.png", picture(0, side=20))
    assert zeroshot.zeroshot_of_set(reader(data.classes), data)[0].data[0]["hash"] != first["hash"]
    write(tmp_path / "set" / "a cup" / "0.png", 0)
    assert zeroshot.zeroshot_of_set(reader(data.classes), data)[0].data[0] == first


def test_a_set_without_a_readable_sample_is_an_error(tmp_path):
    class_folders(tmp_path / "set", ["a", "b"], each=1)
    for name in ("a", "b"):
        write(tmp_path / "set" / name / "0.png", b"x")
    data = open_set(Request(path=str(tmp_path / "set")))
    with pytest.raises(PerceptError, match=r"2 of 2 samples of .* cannot be used, such as a/0.png: .*Check the files"):
        zeroshot.zeroshot_of_set(reader(data.classes), data)


def test_more_images_than_a_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr("percept.eval.sets.stream.IMAGES", 3)
    data = open_set(Request(path=str(benchmark(tmp_path / "wds", NAMES))))
    result, _ = zeroshot.zeroshot_of_set(reader(NAMES), data)
    assert (scores(result)["wds top-1"], result.scores[0].n) == (1.0, 8)


def test_templates_of_a_set_are_literal_and_the_defaults_are_not():
    data = EvaluationSet(
        name="s",
        path="s",
        layout="l",
        holds=("class",),
        count=1,
        key=str,
        read=lambda number: Item(key=str(number), media=b""),
        classes=("owl",),
    )
    assert "a photo of an owl" in zeroshot.prompts_of_set(data)[0]
    assert zeroshot.prompts_of_set(replace(data, templates=("a {}.",))) == [["a owl."]]
    of_videos = zeroshot.prompts_of_set(replace(data, video=True))[0]
    assert len(of_videos) == len(set(of_videos)) == 28
    assert {"a photo of owl", "a example of a person practicing owl"} <= set(of_videos)


def test_a_set_with_one_sample_and_one_class(tmp_path):
    class_folders(tmp_path / "set", ["a cup"], each=1)
    data = open_set(Request(path=str(tmp_path / "set")))
    result, _ = zeroshot.zeroshot_of_set(reader(data.classes), data)
    assert scores(result) == {"set top-1": 1.0, "set mean per class": 1.0}


def test_mean_per_class_agrees_with_scikit_learn():
    from sklearn.metrics import recall_score, top_k_accuracy_score

    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((200, 15)), rng.integers(0, 12, 200)  # three classes without images
    found = zeroshot.judge(torch.tensor(logits), torch.tensor(labels), [str(k) for k in range(15)], name="c")
    top1, top5, mean = (score.value for score in found.scores)
    assert top1 == pytest.approx(top_k_accuracy_score(labels, logits, k=1, labels=range(15)))
    assert top5 == pytest.approx(top_k_accuracy_score(labels, logits, k=5, labels=range(15)))
    assert mean == pytest.approx(recall_score(labels, logits.argmax(axis=1), labels=range(12), average="macro"))


def test_average_precision_agrees_with_scikit_learn():
    from sklearn.metrics import average_precision_score, label_ranking_average_precision_score

    rng = np.random.default_rng(1)
    values = rng.integers(0, 6, (60, 8)) / 5  # many ties
    positive = rng.random((60, 8)) < 0.3
    for column in range(8):
        expected = average_precision_score(positive[:, column], values[:, column])
        assert multilabel.average_precision(values[:, column], positive[:, column])[0] == pytest.approx(expected)
    weights = rng.integers(0, 4, (5, 60))
    for row, each in enumerate(multilabel.average_precision(values[:, 0], positive[:, 0], weights)):
        expected = average_precision_score(positive[:, 0], values[:, 0], sample_weight=weights[row])
        assert each == pytest.approx(expected)
    labels = [np.flatnonzero(row).tolist() for row in positive]
    keys, names = [str(k) for k in range(60)], [str(k) for k in range(8)]
    result = multilabel.judged(values, labels, names, keys, name="m", data="d")
    shown = positive.any(axis=1)
    assert scores(result)["m mAP"] == pytest.approx(average_precision_score(positive, values, average="macro"))
    of_images = label_ranking_average_precision_score(positive[shown], values[shown])
    continuous = rng.standard_normal((60, 8))  # scikit-learn breaks ties of one image otherwise
    assert multilabel.precision_of_images(continuous[shown], positive[shown]).mean() == pytest.approx(
        label_ranking_average_precision_score(positive[shown], continuous[shown])
    )
    assert 0 < of_images < 1
    (map_score, _) = result.scores
    assert map_score.low < map_score.value < map_score.high


def test_a_class_without_images_is_not_part_of_map():
    values = np.array([[0.9, 0.1, 0.5], [0.2, 0.8, 0.5]])
    result = multilabel.judged(values, [[0], [1]], ["a", "b", "c"], ["x", "y"], name="m", data="d")
    assert scores(result)["m mAP"] == 1.0
    assert np.isnan(multilabel.average_precision(values[:, 2], np.zeros(2, bool))[0])


def test_multilabel_of_a_set(tmp_path):
    for number in range(4):
        write(tmp_path / f"{number}.png", number)
    names = write(tmp_path / "names.txt", "\n".join(NAMES))
    lines = ["path,labels", *(f"{k}.png,{NAMES[k]}|{NAMES[(k + 1) % 4]}" for k in range(4))]
    write(tmp_path / "t.csv", "\n".join(lines))
    (data,) = multilabel.open_several(Request(path=str(tmp_path / "t.csv"), classes=names)).values()
    eye = torch.eye(16)
    both = Fake(
        lambda image: eye[number_of(image)] + 0.5 * eye[(number_of(image) + 1) % 4],
        lambda text: eye[next(k for k in (2, 3, 1, 0) if NAMES[k] in text)],
    )
    result = multilabel.multilabel_of_set(both, data)
    assert scores(result) == {"t mAP": 1.0, "t average precision per image": 1.0}
    assert result.records[0].truth[0] == sorted(NAMES[:2])


def texts(text: str) -> torch.Tensor:
    return torch.eye(16)[int(text.split()[-1])]


def test_retrieval_with_several_captions_per_image(tmp_path):
    (data,) = retrieval.open_captioned(Request(path=str(karpathy(tmp_path, count=5)))).values()
    eye = torch.eye(16)
    model = Fake(lambda image: eye[(1 if number_of(image) == 0 else number_of(image))], texts)  # image 0 looks like 1
    result = retrieval.retrieval_of_set(model, data)
    found = {score.name: score for score in result.scores}
    assert found["coco test caption→image R@1"].value == 0.5  # captions of 2 and 3; of 1, image 0 is as near
    assert found["coco test caption→image R@1"].n == 20
    assert found["coco test image→caption R@1"].n == 4
    assert found["coco test image→caption R@1"].value == 0.75
    assert found["coco test caption→image median rank"].better == "less"
    assert result.records[0].group[:6] == [data.key(0)] * 5 + [data.key(1)]
    low, high = found["coco test caption→image R@1"].low, found["coco test caption→image R@1"].high
    assert low <= 0.25  # whole images are resampled: four independent ones, not twenty captions
    assert high == 1.0


def test_retrieval_agrees_with_a_naive_loop():
    generator = torch.Generator().manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(30, 8, generator=generator), dim=-1)
    captions = torch.nn.functional.normalize(torch.randn(70, 8, generator=generator), dim=-1)
    owner = [number % 30 for number in range(70)]
    words = [f"c{number % 50}" for number in range(70)]  # some captions are equal
    pairs = retrieval.Pairs(keys=[f"i{k}" for k in range(30)], captions=words, owner=owner)
    result = retrieval.both_ways(images, captions, pairs, dual=True)
    found = scores(result)
    s = captions.double() @ images.double().T
    weighed = [s * s.softmax(dim=0), s.T * s.T.softmax(dim=0)]
    for name, forth, back in (("", s, s.T), ("dual softmax ", *weighed)):
        ranks_forth, ranks_back = [], []
        for text in range(70):
            right = {owner[other] for other in range(70) if words[other] == words[text]}
            order = forth[text].argsort(descending=True).tolist()
            ranks_forth.append(min(order.index(image) for image in right))
        for image in range(30):
            own = {words[text] for text in range(70) if owner[text] == image}
            right = {text for text in range(70) if words[text] in own}
            order = back[image].argsort(descending=True).tolist()
            wrong = [text for text in order if text not in right]
            best = min(order.index(text) for text in right)
            ranks_back.append(len([text for text in wrong if order.index(text) < best]))
        for k in (1, 5, 10):
            assert found[f"{name}image→caption R@{k}"] == pytest.approx(np.mean(np.array(ranks_back) < k))
        for k in (1, 5, 10):
            assert found[f"{name}caption→image R@{k}"] == pytest.approx(np.mean(np.array(ranks_forth) < k))
        assert found[f"{name}caption→image median rank"] == np.median(np.array(ranks_forth) + 1)


def test_ranking_in_blocks_is_ranking_at_once(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    queries, candidates = torch.randn(40, 8, generator=generator), torch.randn(25, 8, generator=generator)
    right = [[number % 25] for number in range(40)]
    for dual in (False, True):
        whole = retrieval.ranked(queries, candidates, right, dual=dual)
        with monkeypatch.context() as patch:
            patch.setattr(retrieval, "ROWS", 7)
            parts = retrieval.ranked(queries, candidates, right, dual=dual)
        assert whole.ranks.tolist() == parts.ranks.tolist()
        assert whole.best.tolist() == parts.best.tolist()


def suite(root) -> None:
    """The six sets in miniature, each in its own layout."""
    class_folders(root / "imagenet-val", SYNSETS)
    for number in range(4):
        write(root / "imagenetv2-matched-frequency-format-val" / str(number) / "x.png", number)
    for name in ("imagenet-a", "imagenet-r"):
        for number in (1, 3):
            write(root / name / SYNSETS[number] / "x.png", number)
    benchmark(root / "wds_imagenet_sketch", NAMES)
    objectnet(root / "objectnet-1.0")


def test_the_robustness_suite(tmp_path, capsys):
    suite(tmp_path)
    names = write(tmp_path / "classnames.txt", "\n".join(NAMES))
    opened = open_domains(Request(path=str(tmp_path), classes=names))
    assert {name: len(each.classes) for name, each in opened.items()} == {
        "ImageNet": 4, "ImageNet-V2": 4, "ImageNet-A": 2, "ImageNet-R": 2, "ImageNet-Sketch": 4, "ObjectNet": 2
    }  # fmt: skip
    assert opened["ImageNet-A"].classes == (NAMES[1], NAMES[3])
    eye = torch.eye(16)
    known = (*NAMES, "Alarm clock", "Backpack")

    def of_text(text: str) -> torch.Tensor:
        return eye[[0, 1, 2, 3, 0, 2][max(range(6), key=lambda k: (known[k] in text, len(known[k])))]]

    model = Fake(lambda image: eye[0 if number_of(image) == 3 else number_of(image)], of_text)  # tiger shark → tench
    result = robustness.robustness_of_sets(model, opened)
    found = scores(result)
    tops = [found[f"{name} top-1"] for name in opened]
    assert tops == [0.75, 0.75, 0.5, 0.5, 0.75, 1.0]
    assert found["robustness, mean of the six sets"] == pytest.approx(np.mean(tops))
    assert found["mean of the 5 shifts"] == pytest.approx(np.mean(tops[1:]))
    assert found["drop of the shifts against ImageNet"] == pytest.approx(0.75 - np.mean(tops[1:]))
    assert next(score for score in result.scores if score.name.startswith("drop")).shown == "5.0 points"
    del opened["ObjectNet"]
    found = scores(robustness.robustness_of_sets(model, opened))
    assert found["mean of 5 of the six sets"] == pytest.approx(np.mean(tops[:5]))
    assert "ObjectNet not found" in capsys.readouterr().err


def test_domains_share_the_classes_of_all(tmp_path):
    class_folders(tmp_path / "photo", ["cup", "dog"])
    write(tmp_path / "sketch" / "dog" / "x.png", 1)
    write(tmp_path / "sketch" / "owl" / "x.png", 2)
    opened = open_domains(Request(path=str(tmp_path)))
    assert [each.classes for each in opened.values()] == [("cup", "dog", "owl")] * 2
    result = robustness.robustness_of_sets(reader(("cup", "dog", "owl"), {2: 1}), opened)
    found = scores(result)
    assert (found["photo top-1"], found["sketch top-1"], found["mean of the 2 domains"]) == (1.0, 0.5, 0.75)
    assert found["lowest domain, sketch"] == 0.5
    assert [(each.data, each.truth) for each in result.confusions] == [("sketch", "owl")]
    assert [(records.data, len(records)) for records in result.records] == [("photo", 4), ("sketch", 2)]


def test_a_classifier_of_other_classes_is_measured_on_the_sets_only(tmp_path, capsys):
    for domain in ("photo", "sketch"):
        class_folders(tmp_path / domain, ["cup", "dog"])

    class Classifier:
        def class_logits(self, images):
            return torch.eye(2)[[number_of(image) % 2 for image in images]]

    request = Request(path=str(tmp_path), limit=1)
    found = robustness.run_on_sets(Classifier(), open_domains(request), request)
    assert "photo top-1" in scores(found)
    assert not any(name.startswith("world: ") for name in scores(found))
    assert "the labelled world is left out: the model has 2 classes" in capsys.readouterr().err


def test_domains_as_tables_that_a_pattern_matches(tmp_path):
    for number in range(2):
        write(tmp_path / f"{number}.png", number)
    for vendor in ("google", "twitter"):
        write(tmp_path / f"kinds_{vendor}.csv", "path,label\n0.png,cup\n1.png,dog\n")
    opened = open_domains(Request(path=str(tmp_path / "kinds_*.csv")))
    assert list(opened) == ["google", "twitter"]
    with pytest.raises(PerceptError, match=r"holds 1 set, but robustness compares several"):
        open_domains(Request(path=str(tmp_path / "kinds_g*.csv")))


def encoder() -> Fake:
    """The fake of numbered films: frame n of a film is grey level n, the label of a film is in its brightness."""
    eye = torch.eye(16)
    model = reader(("dim", "bright"))
    model.pooled = lambda frames: torch.stack(  # type: ignore[attr-defined]
        [eye[int(np.asarray(frame).mean() > 100)] * 2 for frame in frames]
    )
    return model


@pytest.fixture
def films(tmp_path):
    film(tmp_path / "dim" / "a.mp4", [20] * 6)
    film(tmp_path / "bright" / "b.mp4", [200] * 6)
    film(tmp_path / "bright" / "c.mp4", [220] * 6)
    return tmp_path


def test_videos_are_classified_by_averaged_frames(films):
    (data,) = video.open_videos(Request(path=str(films))).values()
    assert data.video
    result = video.run_on_sets(encoder(), {data.name: data}, Request(path=str(films), sampling=Sampling(frames=3)))
    assert scores(result)[f"{data.name} top-1"] == 1.0
    assert result.scores[0].n == 3


def test_images_are_not_videos(tmp_path):
    class_folders(tmp_path / "set", ["a", "b"])
    with pytest.raises(PerceptError, match=r"holds images, not videos. Use zeroshot or retrieval"):
        video.open_videos(Request(path=str(tmp_path / "set")))


def test_a_window_of_a_video_and_one_beyond_its_end(tmp_path):
    path = film(tmp_path / "vids" / "x.mp4", [20] * 6 + [220] * 6)
    with open_video(path) as opened:
        middle, end = float(opened.times[6]), opened.duration
    write(
        tmp_path / "k.csv",
        f"label,youtube_id,time_start,time_end\ndim,x,0,{middle}\nbright,x,{middle},{end}\ndim,x,{end + 5},{end + 9}\n",
    )
    (data,) = video.open_videos(Request(path=str(tmp_path / "k.csv"))).values()
    result = video.run_on_sets(encoder(), {data.name: data}, Request(path=""))
    assert (scores(result)["k top-1"], result.data[0]["samples"], result.data[0]["unreadable"]) == (1.0, 2, 1)


def test_video_retrieval_averages_unit_vectors_without_scaling(films):
    write(films / "t.csv", "video,sentence\ndim/a.mp4,something dim\nbright/b.mp4,something bright\n")
    (data,) = video.open_videos(Request(path=str(films / "t.csv"))).values()
    result = video.run_on_sets(encoder(), {data.name: data}, Request(path="", sampling=Sampling(frames=2)))
    assert scores(result)["t caption→video R@1"] == 1.0
    frames = [np.full((4, 4, 3), 20, np.uint8), np.full((4, 4, 3), 220, np.uint8)]
    assert clip_vectors(encoder(), [frames], "retrieval").norm() == pytest.approx(0.5**0.5)


def test_a_model_without_frames_is_refused(films):
    (data,) = video.open_videos(Request(path=str(films))).values()
    with pytest.raises(PerceptError, match=r"cannot embed videos"):
        zeroshot.zeroshot_of_set(reader(("dim", "bright")), data)


def test_shards_of_captions_retrieve(tmp_path):
    samples = [{"png": encoded(k), "txt": f"caption a {k}\ncaption b {k}".encode()} for k in range(3)]
    shard(tmp_path / "wds" / "test" / "0.tar", samples)
    (data,) = retrieval.open_captioned(Request(path=str(tmp_path / "wds"))).values()
    eye = torch.eye(16)
    result = retrieval.retrieval_of_set(Fake(lambda image: eye[number_of(image)], texts), data)
    assert scores(result)["wds caption→image R@1"] == 1.0
    assert STEP == 16
