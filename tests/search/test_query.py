"""Queries: the same ranking as comparing one by one, and plain words for what cannot be asked."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from percept.core.errors import PerceptError
from percept.search.hits import Answer, Hit, Wanted
from percept.search.query import ask
from percept.search.question import query_vector, question
from percept.search.store import Filter, Store
from tests.search.fakes import COLOURS, ColourEncoder, picture
from tests.search.stock import pictures_in, unit, video_in

ENCODER = ColourEncoder()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    rng = np.random.default_rng(0)
    for number in range(40):
        picture(tmp_path / "pictures" / f"{number}.png", tuple(rng.integers(0, 256, 3).tolist()))
    for name in COLOURS:
        picture(tmp_path / "pictures" / f"{name}.png", name, (400, 300))
    store = Store.create(tmp_path / "index", ENCODER)
    pictures_in(store, ENCODER, sorted((tmp_path / "pictures").iterdir()))
    return store


def find(store: Store, text: str | list[str] | None = None, **options) -> tuple[Hit, ...]:
    asked = {
        name: options.pop(name) for name in ("image", "not_", "not_image", "weight", "not_weight") if name in options
    }
    return ask(store, ENCODER, question(text, **asked), Wanted(**options)).hits


def test_text_finds_what_it_names(store: Store) -> None:
    for name in COLOURS:
        best = find(store, f"a {name} picture", top=3)[0]
        assert best.path.name == f"{name}.png"
        assert (best.width, best.height, best.rank, best.kind, best.span) == (400, 300, 1, "image", None)
        assert best.score == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_ranking_equals_comparing_one_by_one(store: Store, tmp_path: Path, weight: float) -> None:
    query = picture(tmp_path / "query.png", (200, 40, 90))
    text_vector, image_vector = ENCODER.text(["blue"])[0], ENCODER.image([Image.open(query)])[0]
    wanted = F.normalize(weight * text_vector + (1 - weight) * image_vector, dim=0)
    files = (tmp_path / "pictures").iterdir()
    cosines = {path: float(ENCODER.image([path])[0] @ wanted) for path in files}
    hits = find(store, "blue", image=query, top=100, weight=weight)
    assert [hit.score for hit in hits] == pytest.approx(sorted(cosines.values(), reverse=True), abs=1e-5)
    assert all(hit.score == pytest.approx(cosines[hit.path], abs=1e-5) for hit in hits)
    assert [hit.rank for hit in hits] == list(range(1, 46))


def test_a_picture_finds_itself(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "pictures" / "17.png"
    for source in (path, str(path), path.read_bytes(), Image.open(path), [path, path]):
        best = find(store, image=source, top=1)[0]
        assert best.path == path
        assert best.score == pytest.approx(1, abs=1e-6)


def test_signs_and_weights_of_a_query(tmp_path: Path) -> None:
    red = picture(tmp_path / "red.png", "red")
    text, image = ENCODER.text(["blue"])[0], ENCODER.image([red])[0]
    avoided = ENCODER.text(["green", "white"])
    mean = F.normalize(avoided.mean(0), dim=0)
    wanted = F.normalize(F.normalize(0.25 * text + 0.75 * image, dim=0) - 0.4 * mean, dim=0)
    both = query_vector(ENCODER, question("blue", image=red, weight=0.25, not_=["green", "white"], not_weight=0.4))
    assert torch.allclose(torch.from_numpy(both), wanted, atol=1e-6)
    assert np.linalg.norm(both) == pytest.approx(1, abs=1e-6)
    away = query_vector(ENCODER, question("blue", not_image=red, not_weight=0.4))
    assert torch.allclose(torch.from_numpy(away), F.normalize(text - 0.4 * image, dim=0), atol=1e-6)
    several = query_vector(ENCODER, question(["blue", "red"]))
    assert torch.allclose(
        torch.from_numpy(several), F.normalize(ENCODER.text(["blue", "red"]).mean(0), dim=0), atol=1e-6
    )


def test_what_is_avoided_falls_in_the_ranking(store: Store) -> None:
    assert {hit.path.name for hit in find(store, ["red", "green"], top=45)[:12]} & {"red.png", "green.png"}
    ranks = [[hit.path.name for hit in find(store, "red", not_=avoided, top=45)].index("white.png")
             for avoided in (None, "white")]  # fmt: skip
    assert ranks[1] > ranks[0]


def test_gone_files_are_marked_and_copies_stand_in(store: Store, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    copy = pictures / "zz copy of red.png"
    copy.write_bytes((pictures / "red.png").read_bytes())
    pictures_in(store, ENCODER, [copy])
    best = find(store, "red", top=1)[0]
    assert (best.path.name, [path.name for path in best.copies]) == ("red.png", ["zz copy of red.png"])
    assert find(store, "red", top=1, where=Filter(include=("zz*",)))[0].path == copy  # the file that passes
    (pictures / "red.png").unlink()
    best = find(store, "red", top=1)[0]
    assert (best.path.name, best.missing) == ("zz copy of red.png", False)
    copy.unlink()
    best = find(store, "red", top=1)[0]
    assert (best.path.name, best.missing) == ("red.png", True)


def test_an_answer_keeps_what_was_asked(store: Store, tmp_path: Path) -> None:
    query = question("red", image=str(picture(tmp_path / "q.png", "red")), not_="blue")
    answer = ask(store, ENCODER, query, Wanted(top=2))
    assert (len(answer.hits), answer.searched, str(answer)) == (2, 45, "“red”, like q.png, not “blue”")
    assert answer.seconds > 0
    assert answer.exact


def test_filters_narrow_what_is_found(store: Store, tmp_path: Path) -> None:
    large = find(store, "red", top=100, where=Filter(min_side=300))
    assert sorted(hit.path.stem for hit in large) == sorted(COLOURS)
    some = find(store, "red", top=100, where=Filter(include=("pictures/1*.png",), exclude=("*/17.png",)))
    assert sorted(hit.path.name for hit in some) == sorted(f"{n}.png" for n in (1, *range(10, 20)) if n != 17)
    every = [hit.path for hit in find(store, "red", top=100)]
    assert [hit.path for hit in some] == [path for path in every if path in {hit.path for hit in some}]
    assert find(store, "red", where=Filter(include=("nothing",))) == ()
    os.utime(tmp_path / "pictures" / "3.png", (1000, 1000))
    pictures_in(store, ENCODER, [tmp_path / "pictures" / "3.png"])
    assert [hit.path.stem for hit in find(store, "red", where=Filter(before=2000.0))] == ["3"]


def test_a_least_score(store: Store) -> None:
    every = find(store, "red", top=45)
    kept = find(store, "red", top=45, min_score=0.3)
    assert [hit.path for hit in kept] == [hit.path for hit in every if hit.score >= 0.3]
    assert 0 < len(kept) < 45
    assert len(find(store, "red", top=2, min_score=-1.0)) == 2


def test_groups_by_folder(store: Store, tmp_path: Path) -> None:
    for folder, colour in (("a", (250, 0, 0)), ("a", (245, 0, 0)), ("b", (240, 5, 0))):
        picture(tmp_path / folder / f"{colour[0]}.png", colour)
    pictures_in(store, ENCODER, [*(tmp_path / "a").iterdir(), *(tmp_path / "b").iterdir()])
    hits = find(store, "red", top=3, group="folder")
    assert len({hit.path.parent.name for hit in hits}) == 3
    assert [hit.group for hit in hits] == [str(hit.path.parent) for hit in hits]
    inside = next(hit for hit in hits if hit.path.parent.name == "a")
    assert [path.parent.name for path in inside.others] == ["a"]


def test_groups_of_near_duplicates(store: Store, tmp_path: Path) -> None:
    near = [picture(tmp_path / "near" / f"{red}.png", (red, 0, 0)) for red in (250, 245, 240)]
    pictures_in(store, ENCODER, near)
    plain = find(store, "red", top=4)
    assert {hit.path.stem for hit in plain} == {"red", "250", "245", "240"}
    hits = find(store, "red", top=4, group="duplicate", above=0.995)
    assert len(hits) == 4
    assert {path.stem for path in (hits[0].path, *hits[0].others)} >= {"red", "250", "245", "240"}
    vectors = ENCODER.image([hit.path for hit in hits])
    assert float((vectors @ vectors.T - 2 * torch.eye(4)).max()) < 0.995
    assert [hit.rank for hit in hits] == [1, 2, 3, 4]


def direction(*shares: float) -> np.ndarray:
    """A vector whose cosine with “red” is the share."""
    red = ENCODER.text(["red"])[0].numpy()
    side = unit(np.array([red[1], -red[0], red[3], -red[2]]))
    return np.stack([share * red + np.sqrt(1 - share**2) * side for share in shares])


def clips(store: Store, tmp_path: Path) -> tuple[Path, Path]:
    spans = [(2.0 * i, 2.0 * i + 2) for i in range(8)]
    first, second = tmp_path / "clips" / "first.mp4", tmp_path / "clips" / "second.mp4"
    video_in(store, first, direction(0, 0, 0.90, 0.86, 0, 0, 0.88, 0), spans)
    video_in(store, second, direction(0, 0.6, 0, 0, 0, 0, 0, 0), spans)
    return first, second


def test_a_video_is_one_hit_with_its_spans(store: Store, tmp_path: Path) -> None:
    first, second = clips(store, tmp_path)
    hits = find(store, "red", top=20)
    mine = [hit for hit in hits if hit.kind == "video"]
    assert [hit.path for hit in mine] == [first, second]
    assert mine[0].score == pytest.approx(0.9, abs=1e-4)
    assert [(span.start, span.stop) for span in mine[0].spans] == [(4, 8), (12, 14)]
    assert [span.score for span in mine[0].spans] == pytest.approx([0.9, 0.88], abs=1e-4)
    assert (mine[0].span, mine[0].seconds, mine[0].missing) == (mine[0].spans[0], 16.0, True)
    assert len(find(store, "red", top=45)) == 45  # the pieces of a video do not use up the hits


def test_moments_are_hits_of_their_own(store: Store, tmp_path: Path) -> None:
    first, second = clips(store, tmp_path)
    hits = find(store, "red", top=5, moments=True)
    found = [(hit.path, hit.span and (hit.span.start, hit.span.stop)) for hit in hits]
    assert found == [(first, (4, 8)), (first, (12, 14)), (second, (2, 4))]
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert [hit.score for hit in hits] == pytest.approx([0.9, 0.88, 0.6], abs=1e-4)
    best = find(store, "red", top=1, moments=True, level=1.0)
    assert [(hit.span.start, hit.span.stop) for hit in best if hit.span] == [(4, 6)]
    assert len(find(store, "red", moments=True, min_score=0.7)) == 2
    one = find(store, "red", moments=True, where=Filter(include=("second*",)))
    assert [hit.path for hit in one] == [second]


def test_an_index_without_videos_has_no_moments(store: Store) -> None:
    answer = ask(store, ENCODER, question("red"), Wanted(moments=True))
    assert (answer.hits, answer.searched) == ((), 0)


def test_several_threads_search_one_index_while_it_changes(store: Store, tmp_path: Path) -> None:
    wanted = {name: find(store, name, top=1)[0].path for name in COLOURS}

    def job(number: int) -> None:
        name = [*COLOURS][number % 5]
        hit = find(store, name, top=1)[0]
        assert hit.path == wanted[name]
        assert np.isfinite(hit.score)

    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(job, number) for number in range(60)]
        for number in range(5):
            pictures_in(store, ENCODER, [picture(tmp_path / "more" / f"{number}.png", (90 + number, 90, 90))])
        for done in jobs:
            done.result()
    assert isinstance(ask(store, ENCODER, question("red")), Answer)


@pytest.mark.parametrize(
    ("asked", "wanted", "reason"),
    [
        ({}, {}, "needs a text, an image, or both"),
        ({"not_": "red"}, {}, "needs a text, an image, or both"),
        ({"text": ""}, {}, "no letters"),
        ({"text": ["red", " ?! "]}, {}, "no letters"),
        ({"text": "red", "not_": "-"}, {}, "no letters"),
        ({"text": "red", "image": "none.png"}, {}, "there is no file none.png"),
        ({"text": "red", "weight": 1.5}, {}, "weight must be from 0"),
        ({"text": "red", "not_weight": -1.0}, {}, "not_weight must be 0 or more"),
        ({"text": "red", "not_": "red", "not_weight": 1.0}, {}, "cancel out"),
        ({"text": "red"}, {"top": 0}, "at least 1"),
        ({"text": "red"}, {"group": "folders"}, "did you mean 'folder'"),
        ({"text": "red"}, {"group": "duplicate", "above": 2.0}, "above must be"),
        ({"text": "red"}, {"moments": True, "group": "folder"}, "cannot be grouped"),
        ({"text": "red"}, {"moments": True, "where": Filter(kind="image")}, "only videos have moments"),
        ({"text": "red"}, {"level": 2.0}, "level must be"),
        ({"text": "red"}, {"where": Filter(kind="song")}, "unknown kind"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked(store: Store, asked: dict, wanted: dict, reason: str) -> None:
    with pytest.raises(PerceptError, match=reason):
        ask(store, ENCODER, question(**asked), Wanted(**wanted))


def test_an_empty_index_and_another_model(tmp_path: Path, store: Store) -> None:
    with pytest.raises(PerceptError, match="holds no images"):
        find(Store.create(tmp_path / "empty", ENCODER), "red")
    with pytest.raises(PerceptError, match="cannot be compared"):
        ask(store, ColourEncoder(fingerprint="another"), question("red"))


def test_a_model_that_returns_no_numbers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ENCODER, "text", lambda texts: torch.full((len(texts), 4), torch.nan))
    with pytest.raises(PerceptError, match="not numbers"):
        find(store, "red")


def test_a_folder_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    from percept.search.filters import make_filter

    folder = tmp_path / "trip [2024]?"
    with Store.create(tmp_path / "index", ColourEncoder()) as store:
        files = [picture(folder / "red.png", "red"), picture(tmp_path / "else.png", "green")]
        pictures_in(store, ColourEncoder(), files)
        assert [hit.path for hit in find(store, "red", where=make_filter(path=(str(folder),)))] == [files[0]]
        assert [hit.path for hit in find(store, "red", where=make_filter(path=("*else*",)))] == [files[1]]


@pytest.mark.parametrize("least", [1.5, -2.0, float("nan")])
def test_a_least_score_is_a_cosine(least: float) -> None:
    with pytest.raises(PerceptError, match="min_score must be a cosine from -1 to 1"):
        Wanted(min_score=least).check()
