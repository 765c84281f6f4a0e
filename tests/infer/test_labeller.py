"""Labels that rank: probabilities, "none of these", taught labels, and everything that classify takes."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from percept.core.errors import PerceptError
from percept.infer.classifying import Results, Span, joined, spans_of
from percept.infer.labeller import AUTO, NONE, Labeller, labeller
from percept.infer.labels import Guess, class_vectors, rank
from percept.infer.taught import FACTS, Known, Taught, open_labels, save_labels
from tests.data.video.films import film
from tests.infer import tiny

LABELS = ["cat", "red cup", "dog"]


@pytest.fixture(scope="module")
def encoder():
    return tiny.encoder()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three images, one bad file, and a clip."""
    place = tmp_path_factory.mktemp("media")
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    (place / "bad.png").write_bytes(b"")
    film(place / "walk.mp4", 12)
    return place


def taught(encoder, **values) -> Taught:
    generator = torch.Generator().manual_seed(0)
    given = {
        "classes": ("a", "b"), "weight": torch.randn(2, tiny.DIM, generator=generator), "bias": torch.tensor([0.0, 0.5]),
        "temperature": 2.0, "least": 0.6, "model": "tiny", "image": encoder.identity.image,
    }  # fmt: skip
    return Taught(**{**given, **values})


def test_without_a_threshold_the_ranking_is_that_of_the_cosines(encoder, folder):
    vectors = encoder.image([folder / "0.png", folder / "1.png"])
    texts = class_vectors(encoder, LABELS)
    for row, vector in zip(labeller(encoder, LABELS).rank(vectors), vectors, strict=True):
        expected = rank(LABELS, texts @ vector, encoder.scale)
        assert [guess.label for guess in row] == [guess.label for guess in expected]
        for one, other in zip(row, expected, strict=True):
            assert (one.probability, one.score) == pytest.approx((other.probability, other.score), abs=1e-5)


def test_the_probability_that_any_label_is_shown_multiplies_theirs():
    known = Known(slope=4.0, offset=-8.0)
    ranker = Labeller(names=("a", "b"), weight=3 * torch.eye(2), bias=torch.zeros(2), scale=2.0, known=known)
    vectors = torch.tensor([[1.0, 0.0], [0.3, 0.2]])
    shares = ranker.probabilities(vectors)
    plain = (6.0 * vectors.double()).softmax(dim=1)
    chance = torch.sigmoid(4 * (3 * vectors).logsumexp(dim=1) - 8).double()
    assert torch.allclose(shares, plain * chance[:, None], atol=1e-6)
    sure, unsure = ranker.rank(vectors)
    assert [guess.label for guess in sure] == ["a", "b"]
    assert [guess.label for guess in unsure] == [NONE, "a", "b"]
    assert sum(guess.probability for guess in unsure) == pytest.approx(1)


def test_labels_remember_how_none_is_found(encoder, tmp_path):
    save_labels(tmp_path, taught(encoder, known=Known(slope=1.5, offset=-2.0)))
    assert open_labels(tmp_path).known == Known(slope=1.5, offset=-2.0)
    assert labeller(encoder, tmp_path, none_below=AUTO).known is not None
    assert labeller(encoder, tmp_path, none_below=0.4).known is None
    facts = json.loads((tmp_path / FACTS).read_text())
    (tmp_path / FACTS).write_text(json.dumps({key: value for key, value in facts.items() if key != "known"}))
    assert open_labels(tmp_path).known is None  # of an older version
    (tmp_path / FACTS).write_text(json.dumps({**facts, "known": "x"}))
    with pytest.raises(PerceptError, match="damaged"):
        open_labels(tmp_path)


def test_below_the_threshold_an_image_is_none():
    ranker = Labeller(names=("a", "b"), weight=torch.eye(2), bias=torch.zeros(2), scale=2.0, least=0.7)
    sure, unsure = ranker.rank(torch.tensor([[1.0, 0.0], [0.7, 0.7]]), top=1)
    assert [guess.label for guess in sure] == ["a"]
    assert [guess.label for guess in unsure] == [NONE, "a"]
    assert unsure[0].probability == pytest.approx(0.5)


def test_other_texts_compete():
    others = torch.tensor([[0.0, 0.0, 1.0]])
    ranker = Labeller(names=("a", "b"), weight=torch.eye(3)[:2], bias=torch.zeros(2), scale=5.0, others=others)
    known, strange = ranker.rank(torch.eye(3)[[0, 2]])
    assert known[0].label == "a"
    assert strange[0].label == NONE
    total = sum(guess.probability for guess in strange)
    assert total == pytest.approx(1)  # that of "none" and those of the labels


def test_auto_takes_nouns_that_are_no_labels(encoder):
    found = labeller(encoder, LABELS, none_below=AUTO)
    assert found.others is not None
    assert 10 < len(found.others) < 120
    cosines = (found.others @ found.weight.T).max(dim=1).values
    assert cosines.max() < 1 - 1e-4  # a noun that is a label does not compete with it


def test_taught_labels_are_saved_and_used(encoder, folder, tmp_path):
    mine = taught(encoder)
    save_labels(tmp_path / "mine", mine)
    vectors = encoder.image([folder / "0.png"])
    expected = ((vectors @ mine.weight.T + mine.bias) / 2).softmax(dim=1)[0]
    (row,) = labeller(encoder, tmp_path / "mine").rank(vectors)
    assert {guess.label: guess.probability for guess in row} == pytest.approx(
        dict(zip("ab", expected.tolist(), strict=True))
    )
    assert labeller(encoder, mine, none_below=AUTO).least == 0.6
    assert labeller(encoder, mine, none_below=0.9).least == 0.9


def test_mistakes_about_labels(encoder, tmp_path):
    with pytest.raises(PerceptError, match="taught on tiny"):
        labeller(encoder, taught(encoder, image="different"))
    with pytest.raises(PerceptError, match="template"):
        labeller(encoder, taught(encoder), "a {}")
    for wrong in (1.5, -0.1):
        with pytest.raises(PerceptError, match="from 0 to 1"):
            labeller(encoder, LABELS, none_below=wrong)
    with pytest.raises(PerceptError, match="'none' is what"):
        labeller(encoder, ["cat", "none"], none_below=0.5)
    with pytest.raises(PerceptError, match="holds no labels"):
        open_labels(tmp_path)
    save_labels(tmp_path, taught(encoder))
    (tmp_path / FACTS).write_text('{"classes": ["a", "b"]}')
    with pytest.raises(PerceptError, match="lacks temperature"):
        open_labels(tmp_path)
    save_labels(tmp_path, taught(encoder, classes=("a", "b", "c")))
    with pytest.raises(PerceptError, match="does not fit the 3 classes"):
        open_labels(tmp_path)


def test_classify_takes_folders_files_and_videos(encoder, folder, capsys):
    results = encoder.classify(folder, LABELS, top=2, progress=True)
    assert isinstance(results, Results)
    assert [path.name for path in results.paths] == ["0.png", "1.png", "2.png", "walk.mp4"]
    assert [bad.path.name for bad in results.bad] == ["bad.png"]
    assert {len(row) for row in results} == {2}
    assert "images" in capsys.readouterr().err  # the progress bar, on request
    files = encoder.classify([str(folder / "1.png"), folder / "bad.png"], LABELS)
    assert isinstance(files, Results)
    assert ([path.name for path in files.paths], len(files.bad)) == (["1.png"], 1)
    assert files[0][0].label == results[1][0].label
    clip = encoder.classify(folder / "walk.mp4", LABELS)
    assert clip[0].label == results[3][0].label  # type: ignore[union-attr]
    with pytest.raises(PerceptError, match="none of the 1 files"):
        encoder.classify([folder / "bad.png"], LABELS)


def test_anything_with_read_is_an_image(encoder, folder):
    data = (folder / "0.png").read_bytes()

    class Reader:
        def read(self):
            return bytearray(data)

    class Sized:
        def read(self, size=-1):
            return memoryview(data)[: None if size < 0 else size]

    expected = encoder.classify(folder / "0.png", LABELS)
    for opened in (Reader(), Sized(), io.BytesIO(data)):
        assert encoder.classify(opened, LABELS) == expected
    with pytest.raises(PerceptError, match="gives NoneType"):
        encoder.classify(type("Empty", (), {"read": lambda self: None})(), LABELS)


def test_videos_are_labelled_span_by_span(encoder, folder):
    ranker = labeller(encoder, LABELS)
    whole = spans_of(encoder, folder / "walk.mp4", ranker, 1000.0)
    assert len(whole) == 1
    stop = whole[0].stop
    parts = spans_of(encoder, folder / "walk.mp4", ranker, stop / 3.5, top=1)
    assert len(parts) == 4
    assert [span.start for span in parts] == pytest.approx([0, stop / 3.5, 2 * stop / 3.5, 3 * stop / 3.5])
    assert parts[-1].stop == pytest.approx(stop)
    middle = encoder.video(folder / "walk.mp4", frames=1, choice="time", windows=[[parts[1].start, parts[1].stop]])
    assert parts[1].guesses[0].label == ranker.rank(middle)[0][0].label
    for every in (0.0, 1e-9):
        with pytest.raises(PerceptError, match="every"):
            spans_of(encoder, folder / "walk.mp4", ranker, every)


def test_neighbours_of_one_label_are_joined():
    def span(start: float, label: str, share: float) -> Span:
        return Span(start=start, stop=start + 1, guesses=(Guess(label=label, probability=share, score=0.0),))

    found = joined([span(0.0, "a", 0.5), span(1.0, "a", 0.9), span(2.0, "b", 0.5), span(3.0, "a", 0.5)])
    assert [(each.start, each.stop, each.guesses[0].label) for each in found] == [(0, 2, "a"), (2, 3, "b"), (3, 4, "a")]
    assert found[0].guesses[0].probability == 0.9


def test_a_list_with_a_folder_is_searched(encoder, folder, tmp_path):
    shutil.copy(folder / "0.png", tmp_path / "x.png")
    found = encoder.classify([tmp_path, folder / "1.png"], LABELS)
    assert [path.name for path in found.paths] == ["x.png", "1.png"]  # type: ignore[union-attr]
