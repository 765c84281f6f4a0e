"""Queries: the same ranking as comparing one by one, and plain words for what cannot be asked."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.files import find_images
from percept.search.build import build
from percept.search.index import Index
from percept.search.query import ask, query_vector, search
from tests.search.fakes import COLOURS, ColourEncoder, picture

ENCODER = ColourEncoder()


@pytest.fixture
def index(tmp_path: Path) -> Index:
    rng = np.random.default_rng(0)
    for number in range(40):
        picture(tmp_path / "pictures" / f"{number}.png", tuple(rng.integers(0, 256, 3).tolist()))
    for name in COLOURS:
        picture(tmp_path / "pictures" / f"{name}.png", name, (400, 300))
    index = Index.create(tmp_path / "index", ENCODER)
    build(index, ENCODER, find_images(tmp_path / "pictures"))
    return index


def test_text_finds_what_it_names(index: Index) -> None:
    for name in COLOURS:
        best = search(index, ENCODER, text=f"a {name} picture", top=3)[0]
        assert best.path.name == f"{name}.png"
        assert (best.width, best.height, best.rank) == (400, 300, 1)
        assert best.score == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_ranking_equals_comparing_one_by_one(index: Index, tmp_path: Path, weight: float) -> None:
    query = picture(tmp_path / "query.png", (200, 40, 90))
    text_vector, image_vector = ENCODER.text(["blue"])[0], ENCODER.image([Image.open(query)])[0]
    wanted = F.normalize(weight * text_vector + (1 - weight) * image_vector, dim=0)
    cosines = {path: float(ENCODER.image([Image.open(path)])[0] @ wanted) for path in index.files()}
    hits = search(index, ENCODER, text="blue", image=query, top=100, weight=weight)
    assert [hit.score for hit in hits] == pytest.approx(sorted(cosines.values(), reverse=True), abs=1e-5)
    assert all(hit.score == pytest.approx(cosines[hit.path], abs=1e-5) for hit in hits)
    assert [hit.rank for hit in hits] == list(range(1, 46))


def test_a_picture_finds_itself(index: Index) -> None:
    path = next(path for path in index.files() if path.name == "17.png")
    for source in (path, str(path), path.read_bytes(), Image.open(path)):
        best = search(index, ENCODER, image=source, top=1)[0]
        assert best.path == path
        assert best.score == pytest.approx(1, abs=1e-6)


def test_the_query_is_of_unit_length_and_weights_do_what_they_say(index: Index, tmp_path: Path) -> None:
    red = picture(tmp_path / "red.png", "red")
    both = query_vector(ENCODER, text="blue", image=red, weight=0.5)
    assert both.norm() == pytest.approx(1, abs=1e-6)
    assert torch.allclose(query_vector(ENCODER, text="blue", image=red, weight=1.0), query_vector(ENCODER, text="blue"))
    assert torch.allclose(query_vector(ENCODER, text="blue", image=red, weight=0.0), query_vector(ENCODER, image=red))
    assert search(index, ENCODER, text="blue", image=red, top=1)[0].path.name not in (
        "green.png",
        "white.png",
        "black.png",
    )


def test_gone_files_are_marked_and_copies_stand_in(index: Index, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    (pictures / "zz copy of red.png").write_bytes((pictures / "red.png").read_bytes())
    build(index, ENCODER, find_images(pictures))
    best = search(index, ENCODER, text="red", top=1)[0]
    assert (best.path.name, [path.name for path in best.copies]) == ("red.png", ["zz copy of red.png"])
    (pictures / "red.png").unlink()
    best = search(index, ENCODER, text="red", top=1)[0]
    assert (best.path.name, best.missing) == ("zz copy of red.png", False)
    (pictures / "zz copy of red.png").unlink()
    best = search(index, ENCODER, text="red", top=1)[0]
    assert (best.path.name, best.missing) == ("red.png", True)


def test_an_answer_keeps_what_was_asked(index: Index, tmp_path: Path) -> None:
    answer = ask(index, ENCODER, text="red", image=str(picture(tmp_path / "q.png", "red")), top=2)
    assert (len(answer.hits), answer.searched, str(answer)) == (2, 45, "“red”, like q.png")
    assert answer.seconds > 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "needs a text, an image, or both"),
        ({"text": ""}, "no letters"),
        ({"text": " ?! "}, "no letters"),
        ({"text": "red", "top": 0}, "at least 1"),
        ({"text": "red", "image": "none.png"}, "there is no file none.png"),
        ({"text": "red", "weight": 1.5}, "weight must be from 0"),
    ],
)
def test_what_cannot_be_asked(index: Index, arguments: dict, reason: str) -> None:
    with pytest.raises(PerceptError, match=reason):
        search(index, ENCODER, **arguments)


def test_an_empty_index_and_another_model(tmp_path: Path, index: Index) -> None:
    with pytest.raises(PerceptError, match="holds no images"):
        search(Index.create(tmp_path / "empty", ENCODER), ENCODER, text="red")
    with pytest.raises(PerceptError, match="cannot be compared"):
        search(index, ColourEncoder(fingerprint="another"), text="red")
