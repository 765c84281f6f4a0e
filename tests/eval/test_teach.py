"""Teaching labels: the fit against scikit-learn, leakage, folds, and the whole on a folder."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from percept.core.errors import PerceptError
from percept.eval.class_files import class_files
from percept.eval.folder_models import compared, measure, open_task
from percept.eval.teach import LARGE, PROBE, TAUGHT, ZERO_SHOT, _calibration_error, teach
from percept.eval.teach_fit import ALWAYS, Prior, fit, folds_of, splits, temperature_of
from percept.eval.teach_none import curve, learn_none
from percept.infer.taught import open_labels, save_labels
from tests.infer import tiny


def clusters(per_class: int, classes: int = 3, dim: int = 12, seed: int = 0, noise: float = 0.35):
    """Unit vectors around one direction per class, these directions, and labels."""
    generator = torch.Generator().manual_seed(seed)
    centres = F.normalize(torch.randn(classes, dim, generator=generator), dim=1)
    labels = torch.arange(classes).repeat_interleave(per_class)
    vectors = F.normalize(centres[labels] + noise * torch.randn(len(labels), dim, generator=generator), dim=1)
    return vectors, labels, centres


def test_folds_divide_classes_evenly_and_keep_groups_together():
    labels = np.repeat([0, 1, 2], [20, 7, 3])
    groups = np.arange(30)
    groups[1] = groups[0]
    groups[27:] = 27  # all of the last class are nearly the same
    folds = folds_of(labels, groups, 5, seed=1)
    assert folds[0] == folds[1]
    assert (folds[27:] == ALWAYS).all()
    counts = np.bincount(folds[:20], minlength=5)
    assert counts.max() - counts.min() <= 1
    assert set(folds[20:27].tolist()) == {0, 1, 2, 3, 4}
    held = torch.stack([held for _, held in splits(folds, large=False)])
    assert held.sum(dim=0).tolist() == [1] * 27 + [0] * 3
    assert len(list(splits(folds, large=True))) == 1


def test_a_good_prior_helps_with_few_images_and_a_wrong_one_does_no_harm():
    vectors, labels, centres = clusters(2, classes=4, noise=0.5)
    test, truth, _ = clusters(60, classes=4, noise=0.5, seed=0)
    groups = np.arange(len(vectors))

    def accuracy(prior: Prior | None) -> float:
        head = fit(vectors, labels, prior, 4, groups=groups)
        return float((head(test).argmax(dim=1) == truth).float().mean())

    good, wrong = Prior(texts=centres, scale=10.0), Prior(texts=centres.roll(1, 0), scale=10.0)
    assert accuracy(good) >= accuracy(None)
    assert accuracy(wrong) > accuracy(None) - 0.15
    zero_shot = float((wrong.logits(test).argmax(dim=1) == truth).float().mean())
    assert accuracy(wrong) > zero_shot + 0.3


def test_the_head_is_the_minimum_that_scikit_learn_finds():
    linear_model = pytest.importorskip("sklearn.linear_model")
    vectors, labels, _ = clusters(5, dim=40)  # fewer images than numbers: the reduced form is used
    head = fit(vectors, labels, None, 3, groups=np.arange(15))
    scaled = (vectors - vectors.mean(0)) / (vectors - vectors.mean(0)).square().mean(0).sqrt()
    model = linear_model.LogisticRegression(C=1 / (15 * head.decay), tol=1e-8, max_iter=2000)
    expected = model.fit(scaled.numpy(), labels.numpy()).predict_proba(scaled.numpy())
    np.testing.assert_allclose(head(vectors).softmax(1).numpy(), expected, atol=0.01)


def test_the_temperature_undoes_a_scale():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4000, 4, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    assert temperature_of(5 * logits, labels) == pytest.approx(5, rel=0.1)


def test_the_curve_is_the_one_that_scikit_learn_finds():
    linear = pytest.importorskip("sklearn.linear_model")
    generator = torch.Generator().manual_seed(0)
    inside, outside = 2 + torch.randn(400, generator=generator), torch.randn(900, generator=generator)
    found = curve(inside, outside)
    expected = linear.LogisticRegression(C=1e9, class_weight="balanced").fit(
        torch.cat([inside, outside])[:, None].numpy(), np.repeat([1, 0], [400, 900])
    )
    points = np.linspace(-3, 5, 9)  # the targets of Platt make the curve a little flatter
    assert found.probability(torch.from_numpy(points)) == pytest.approx(
        expected.predict_proba(points[:, None])[:, 1], abs=0.01
    )
    apart = curve(torch.tensor([5.0, 6.0]), torch.tensor([0.0, 1.0]))
    assert 0.5 < float(apart.probability(torch.tensor([5.5]))) < 0.9  # two images give no certainty


@pytest.mark.parametrize("classes", [2, 6])
def test_images_of_unknown_classes_are_none(classes):
    vectors, labels, centres = clusters(12, classes=8, dim=24, noise=0.12)
    inside = labels < classes
    prior = Prior(texts=centres[:classes], scale=20.0)
    head = fit(vectors[inside], labels[inside], prior, classes, groups=np.arange(int(inside.sum())))
    fresh, of, _ = clusters(12, classes=8, dim=24, noise=0.12)
    fresh = F.normalize(fresh + 0.1 * torch.randn(fresh.shape, generator=torch.Generator().manual_seed(1)), dim=1)
    every = torch.arange(int(inside.sum()))
    none = learn_none(
        head(fresh[of < classes]), vectors[inside], labels[inside], prior, head, rows=every, groups=every.numpy()
    )
    if classes == 2:
        assert none is None  # no class can be left out
        return
    assert none is not None
    assert none.found.value > 0.8
    assert none.found.n == none.kept.n == 72
    known = none.known.probability(head(fresh).logsumexp(dim=1))
    assert (known[of < classes] >= 0.5).double().mean() > 0.8
    assert (known[of >= classes] < 0.5).double().mean() > 0.8


COLOURS = {"red_thing": (220, 30, 30), "green_thing": (30, 200, 40), "blue_thing": (30, 60, 220)}


@pytest.fixture(scope="module")
def encoder():
    return tiny.encoder()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three classes of eight noisy images of one colour each."""
    monkeypatch.setattr("percept.eval.teach.FOLDS", 2)
    monkeypatch.setattr("percept.eval.teach_fit.DECAYS", (0.1, 0.01))
    for number, (name, colour) in enumerate(COLOURS.items()):
        (tmp_path / "data" / name).mkdir(parents=True)
        for place in range(8):
            rng = np.random.default_rng(100 * number + place)
            pixels = np.clip(np.array(colour) + rng.integers(-70, 71, (24, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{place}.png")
    return tmp_path / "data"


def test_labels_are_learned_and_measured(encoder, folder, tmp_path):
    (folder / "blue_thing" / "bad.png").write_bytes(b"")
    (folder / "loose.png").write_bytes((folder / "red_thing/0.png").read_bytes())
    lesson = teach(encoder, folder, above=0.9999)
    assert lesson.taught.classes == ("blue thing", "green thing", "red thing")
    assert [score.name for score in lesson.scores] == [TAUGHT, PROBE, ZERO_SHOT]
    by_name = {score.name: score for score in lesson.scores}
    assert (by_name[TAUGHT].n, lesson.parts) == (24, 2)
    assert by_name[TAUGHT].value > 0.8 > by_name[ZERO_SHOT].value
    assert [each.task for each in lesson.differences] == [ZERO_SHOT, PROBE]
    assert lesson.differences[0].difference == pytest.approx(by_name[TAUGHT].value - by_name[ZERO_SHOT].value)
    assert [bad.path.name for bad in lesson.images.bad] == ["bad.png"]
    assert 0 < lesson.taught.least < 1
    save_labels(tmp_path / "mine", lesson.taught)
    opened = open_labels(tmp_path / "mine")
    assert opened.facts["images"] == 24
    assert torch.equal(opened.weight, lesson.taught.weight)
    assert lesson.none is None or opened.known == lesson.none.known == lesson.taught.known
    results = encoder.classify(folder / "red_thing", tmp_path / "mine")
    assert sum(row[0].label == "red thing" for row in results) >= 7  # type: ignore[index]


def test_copies_are_not_on_both_sides(encoder, folder):
    red, blue = folder / "red_thing", folder / "blue_thing"
    (red / "copy.png").write_bytes((red / "0.png").read_bytes())
    (blue / "wrong.png").write_bytes((red / "1.png").read_bytes())
    for place in range(4, 8):
        (red / f"{place}.png").unlink()
    pixels = np.array(Image.open(red / "0.png"))
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(folder / "green_thing/near.png")
    lesson = teach(encoder, folder, above=0.9999)
    leakage = lesson.images.leakage
    assert [(first.name, copy.name) for first, copy in leakage.copies] == [("0.png", "copy.png")]
    assert [sorted(path.name for path in paths) for paths in leakage.conflicts] == [["1.png", "wrong.png"]]
    assert {path.name for path in lesson.images.paths if path.parent == red} == {"0.png", "2.png", "3.png"}
    assert lesson.few == (("red thing", 3),)
    assert leakage.grouped == 2
    ((first, second, cosine),) = leakage.near
    assert {first.parent.name, second.parent.name} == {"green_thing", "red_thing"}
    assert cosine >= 0.9999
    groups = dict(zip(lesson.images.paths, lesson.images.groups.tolist(), strict=True))
    assert groups[first] == groups[second]


@pytest.fixture
def copied(tmp_path):
    """Two classes of four images of large squares, each ten times with slight noise."""
    for number in range(80):
        rng = np.random.default_rng(number // 10)
        pixels = np.kron(rng.integers(20, 236, (6, 6, 3)), np.ones((4, 4, 1)))
        pixels = pixels + np.random.default_rng(number).integers(-1, 2, pixels.shape)
        file = tmp_path / "copied" / "ab"[number // 40] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(file)
    return tmp_path / "copied"


def test_copies_are_one_image_in_intervals(encoder, copied):
    lesson = teach(encoder, copied, above=0.9999)
    assert len(np.unique(lesson.images.groups)) == 8
    for score in lesson.scores:
        assert score.n == 80
        assert score.high - score.low > 0.3  # eight images, not eighty
    assert all(each.p is None for each in lesson.differences)
    task = open_task(copied)
    assert len(np.unique(task.looks)) == 8
    outcome = measure(encoder, task, shots=(1,))
    for name, score in outcome.scores.items():
        assert score.high - score.low > 0.3
        assert set(outcome.records[name].group) <= {task.key(look) for look in task.looks.tolist()}


def test_the_calibration_error_is_of_temperatures_that_did_not_see_the_image(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(40, 4, generator=generator)
    truth = torch.arange(40) % 4
    seen: list[int] = []

    def fitted(known, labels):
        seen.append(len(labels))
        return temperature_of(known, labels)

    monkeypatch.setattr("percept.eval.teach.temperature_of", fitted)
    error = _calibration_error(logits, truth, np.arange(40), seed=0)
    assert seen == [32] * 5
    assert error is not None
    assert 0 <= error <= 1
    assert _calibration_error(logits, truth, np.zeros(40, int), seed=0) is None


def test_mistakes_about_folders(encoder, folder, tmp_path):
    (folder / "tiny_class").mkdir()
    (folder / "tiny_class/one.png").write_bytes((folder / "red_thing/0.png").read_bytes()[:-1] + b"x")
    with pytest.raises(PerceptError, match=r"tiny class \(1\)"):
        teach(encoder, folder)
    with pytest.raises(PerceptError, match="1 folders of images"):
        class_files(folder.parent)
    with pytest.raises(PerceptError, match="not a folder"):
        class_files(tmp_path / "none")
    (folder.parent / "data").rename(folder.parent / "train")
    (folder.parent / "test").mkdir()
    (folder.parent / "test/x.png").write_bytes((folder.parent / "train/red_thing/0.png").read_bytes())
    with pytest.raises(PerceptError, match="the splits"):
        class_files(folder.parent)
    with pytest.raises(PerceptError, match="above must be"):
        teach(encoder, folder.parent / "train", above=0.0)


def test_all_images_nearly_the_same(encoder, folder):
    with pytest.raises(PerceptError, match="no image can be held out"):
        teach(encoder, folder, above=0.01)


def test_a_model_without_texts_learns_too(folder):
    lesson = teach(tiny_without_texts(), folder, above=0.9999)
    assert [score.name for score in lesson.scores] == [TAUGHT, PROBE]
    assert LARGE > 24


def tiny_without_texts():
    encoder = tiny.encoder()
    encoder.tokenizer = None
    return encoder


def test_models_are_compared_on_the_same_images(encoder, folder):
    (folder / "red_thing/copy.png").write_bytes((folder / "red_thing/0.png").read_bytes())
    task = open_task(folder)
    assert (len(task.paths), task.left_out) == (24, 1)
    first = measure(encoder, task, shots=(2,), name="a")
    assert list(first.scores) == [ZERO_SHOT, "2 shots"]
    assert first.scores[ZERO_SHOT].n == 24
    assert first.scores["2 shots"].n == len(first.records["2 shots"])
    training = task.training(2, 0, seed=0)
    assert np.bincount(task.labels[training]).tolist() == [2, 2, 2]
    assert not set(task.tested(training).tolist()) & set(training.tolist())
    same = compared(first, measure(encoder, task, shots=(2,), name="b"))
    assert all(each.difference == 0 and -0.3 < each.low == -each.high < 0 for each in same.values())
    with pytest.raises(PerceptError, match="leave none for the test"):
        measure(encoder, task, shots=(8,))
    with pytest.raises(PerceptError, match=r"^DIR reads no texts"):
        measure(tiny_without_texts(), task, name="DIR")
