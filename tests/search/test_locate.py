"""Moments whose start and end a localiser finds: around the spans of the index, once each, and refusals in plain words."""

from pathlib import Path
from typing import Any

import pytest

from percept.cli import main
from percept.core.errors import PerceptError
from percept.infer.localizer import Moment
from percept.search.hits import Answer, Wanted
from percept.search.query import ask
from percept.search.question import question
from percept.search.store import Store
from tests.data.video.films import film
from tests.search.fakes import ColourEncoder, picture
from tests.search.stock import pictures_in, video_in
from tests.search.test_query import direction

ENCODER = ColourEncoder()


class Fixed:
    """Finds a moment of one second and a half that begins a little before the middle; keeps what it was asked."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.asked = fails, []

    def find(self, video: Path, text: str, *, near: float | None = None) -> Moment:
        if self.fails:
            raise PerceptError(f"{video} is damaged")
        assert near is not None
        self.asked.append((video.name, text, near))
        return Moment(start=near - 0.25, stop=near + 1.25, score=-1.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "index", ENCODER)
    clip = film(tmp_path / "walk.mp4", 30, rate=5)
    video_in(store, clip, direction(0.1, 0.99, 0.98, 0.1, 0.97, 0.1), [(i, i + 1.0) for i in map(float, range(6))])
    pictures_in(store, ENCODER, [picture(tmp_path / "red.png", "red")])
    return store


def find(store: Store, localizer: Any, **options: Any) -> Answer:
    return ask(store, ENCODER, question("red"), Wanted(moments=True, **options), localizer=localizer)


def test_the_localizer_decides_start_and_end_and_the_index_the_order(store: Store) -> None:
    localizer = Fixed()
    hits = find(store, localizer).hits
    assert localizer.asked == [("walk.mp4", "red", 2.0), ("walk.mp4", "red", 4.5)]
    assert [(hit.rank, hit.span.start, hit.span.stop) for hit in hits if hit.span] == [(1, 1.75, 3.25), (2, 4.25, 5.75)]
    assert [hit.score for hit in hits] == pytest.approx([0.99, 0.97], abs=1e-3)
    assert all(hit.spans == (hit.span,) for hit in hits)
    assert len(find(store, localizer, top=1).hits) == 1


def test_a_moment_that_is_found_twice_is_kept_once(store: Store) -> None:
    localizer = Fixed()
    localizer.find = lambda video, text, near=None: Moment(start=1.0, stop=2.0, score=0.0)  # type: ignore[method-assign]
    assert [(hit.rank, hit.span.stop) for hit in find(store, localizer).hits if hit.span] == [(1, 2.0)]


def test_without_a_readable_video_the_spans_of_the_index_stay(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [(hit.span.start, hit.span.stop) for hit in find(store, None).hits if hit.span]
    assert [(hit.span.start, hit.span.stop) for hit in find(store, Fixed(fails=True)).hits if hit.span] == plain
    assert "keep the spans of the index" in capsys.readouterr().err
    (tmp_path / "walk.mp4").unlink()
    localizer = Fixed()
    assert [(hit.span.start, hit.span.stop) for hit in find(store, localizer).hits if hit.span] == plain
    assert localizer.asked == []


def test_what_a_localizer_cannot_do(store: Store) -> None:
    with pytest.raises(PerceptError, match="Search with moments"):
        ask(store, ENCODER, question("red"), Wanted(), localizer=Fixed())
    for asked in (question(["red", "blue"]), question("red", not_="blue"), question(image="red.png")):
        with pytest.raises(PerceptError, match="one text"):
            ask(store, ENCODER, asked, Wanted(moments=True), localizer=Fixed())


def test_the_verb_refuses_a_folder_that_is_no_localizer(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("percept.infer.load.load", lambda *_, **__: ENCODER)
    arguments = ["search", "red", "--index", str(store.folder), "--localizer", "colours"]
    assert main([*arguments, "--moments"]) == 2
    assert "not a localizer" in capsys.readouterr().err
    assert main(arguments) == 2
    assert "Search with moments" in capsys.readouterr().err
