"""Changing the model of an index: searches work at once, at every moment of encoding again, and nothing is lost or doubled."""

import itertools
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from percept.core.errors import PerceptError
from percept.infer.identity import Identity
from percept.nn.across import MapAcross, least_squares
from percept.search.again import encode_again
from percept.search.bridge import Bridge
from percept.search.hits import Hit, Wanted
from percept.search.index import Index
from percept.search.mixed import views
from percept.search.query import ask
from percept.search.question import query_vector, question
from percept.search.store import Store
from percept.search.upgrade import Group, Upgrade, upgrade, usual_texts
from tests.search.fakes import COLOURS, ColourEncoder, picture
from tests.search.stock import video_in
from tests.search.test_videos import film

REPOSITORY = Path(__file__).parents[2]
TEXTS = [" ".join(words) for count in (1, 2, 3, 4) for words in itertools.permutations(COLOURS, count)]


class TurnedEncoder(ColourEncoder):
    """The same colours in a space of 6 dimensions, turned; its vectors have nothing in common with the old ones."""

    def __init__(self, fails_after: int = 10**9) -> None:
        super().__init__(fingerprint="7042ed", name="turned", fails_after=fails_after)
        self.identity = Identity(name="turned", image="7042ed, 8 pixels", text="7e87", dim=6)
        self.turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(5))).Q[:, :4]

    def image(self, images: list) -> Tensor:
        return super().image(images) @ self.turn.T

    def text(self, texts: list[str]) -> Tensor:
        return super().text(texts) @ self.turn.T


def linear(groups: Sequence[Group]) -> MapAcross:
    """Learn a map without steps."""
    new, old = (torch.cat(each) for each in zip(*groups, strict=True))
    map_ = MapAcross(new.shape[1], old.shape[1]).requires_grad_(False)
    map_.linear.weight.copy_(least_squares(new, old, ridge=1e-9))
    return map_


@pytest.fixture
def index(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(60):
        picture(tmp_path / "photos" / f"{number:02}.png", tuple(rng.integers(0, 256, 3).tolist()))
    with Index.create(tmp_path / "index", ColourEncoder()) as index:
        index.add(tmp_path / "photos")
    return tmp_path / "index"


def upgraded(store: Store, encoder: ColourEncoder | None = None, **options) -> Upgrade:
    given = {"old": ColourEncoder(), "texts": TEXTS, "images": 40} | options
    return upgrade(store, encoder or TurnedEncoder(), linear, **given)


def find(store: Store, *asked: str, **options) -> tuple[Hit, ...]:
    return ask(store, TurnedEncoder(), question(list(asked)), Wanted(**options)).hits


def names(hits: Sequence[Hit]) -> list[str]:
    return [hit.path.name for hit in hits]


def expected(folder: Path, text: str) -> list[str]:
    """Names of the photos by the cosine of the new model."""
    encoder, paths = TurnedEncoder(), sorted(folder.iterdir())
    scores = encoder.image(paths) @ encoder.text([text])[0]
    return [paths[place].name for place in torch.argsort(scores, descending=True).tolist()]


def test_the_new_model_searches_old_vectors_at_once(index: Path) -> None:
    new, old = TurnedEncoder(), ColourEncoder()
    with Store(index) as store:
        result = upgraded(store, new, old=old)
        assert (new.encoded, old.encoded) == (40, 0)
        assert (store.remaining(), store.stamp.name, len(store.segments())) == (60, "turned", 0)
        for text in ("red", "blue green", "white"):
            hits = find(store, text, top=60)
            assert names(hits) == expected(index.parent / "photos", text)
        assert (result.images, result.texts, result.measured.images) == (20, 185, 20)
    for ways in result.measured.recall.values():
        assert ways["after"] == 1
        assert min(ways["bridged"], ways["half"]) > 0.95


@pytest.mark.parametrize("step", [7, 64])
def test_mixed_answers_rank_like_complete_ones_until_the_end(index: Path, step: int) -> None:
    photos = index.parent / "photos"
    wanted = {text: expected(photos, text) for text in ("red", "blue green", "white black")}
    with Store(index) as store:
        upgraded(store)
        left = [60]
        while store.remaining():
            done = encode_again(store, TurnedEncoder(), limit=step)
            left.append(done.remaining)
            assert done.done == min(step, left[-2])
            for text, right in wanted.items():
                hits = find(store, text, top=60)
                assert names(hits) == right
                exact = TurnedEncoder().image([hit.path for hit in hits]) @ TurnedEncoder().text([text])[0]
                assert [hit.score for hit in hits] == pytest.approx(exact.tolist(), abs=1e-3)
        assert left == [*range(60, 0, -step), 0]
        status = store.status()
        assert (len(store.spaces()), status.pieces, status.dead, status.damaged, store.old()) == (1, 60, 0, 0, None)
        assert len(list((index / "segments").iterdir())) == 2
    with pytest.raises(PerceptError, match="was made with turned"):
        Store(index, ColourEncoder())
    with Store(index, TurnedEncoder()) as store:
        assert names(find(store, "red", top=60)) == wanted["red"]


def test_at_the_end_every_vector_and_score_has_the_bits_of_a_new_index(index: Path) -> None:
    """The new model is not modified: neither by the map nor by the upgrade."""
    with Store(index) as store:
        upgraded(store)
        encode_again(store, TurnedEncoder())
        hits = find(store, "blue green", top=60)
        vectors = {
            piece.paths[0]: row.tobytes()
            for ids, rows in store.vectors()
            for piece, row in zip(store.pieces(ids), rows, strict=True)
        }
    with Index.create(index.parent / "fresh", TurnedEncoder()) as fresh:
        fresh.add(index.parent / "photos")
        assert [(hit.path, hit.score) for hit in hits] == [
            (hit.path, hit.score) for hit in find(fresh.store, "blue green", top=60)
        ]
        for ids, rows in fresh.store.vectors():
            for piece, row in zip(fresh.store.pieces(ids), rows, strict=True):
                assert vectors.pop(piece.paths[0]) == row.tobytes()
    assert vectors == {}


def test_scores_on_one_scale_are_needed(index: Path) -> None:
    """Without the calibration, images that were encoded again would be ranked by a different measure."""
    with Store(index) as store:
        upgraded(store)
        encode_again(store, TurnedEncoder(), limit=30)
        old = views(store, TurnedEncoder(), question("red"))[1]
        assert old.calibration is not None
        bridge = Bridge.read(store.old().data)  # pyright: ignore[reportOptionalMemberAccess]
        query = query_vector(TurnedEncoder(), question("red"))
        on_scale = old.calibration(bridge.old @ old.query)
        assert (on_scale.mean(), on_scale.std()) == pytest.approx(
            ((bridge.new @ query).mean(), (bridge.new @ query).std())
        )
        assert old.calibration.slope > 0


def test_a_query_is_mapped_part_by_part(index: Path, tmp_path: Path) -> None:
    image = picture(tmp_path / "query.png", (250, 10, 200))
    with Store(index) as store:
        upgraded(store)
        asked = question("blue", image=image, not_="green", weight=0.3)
        seen = views(store, TurnedEncoder(), asked)
        np.testing.assert_allclose(seen[0].query, query_vector(TurnedEncoder(), asked), atol=1e-6)
        np.testing.assert_allclose(seen[1].query, query_vector(ColourEncoder(), asked), atol=1e-4)


def test_new_and_changed_files_are_encoded_by_the_new_model(index: Path) -> None:
    photos = index.parent / "photos"
    with Store(index) as store:
        upgraded(store)
    picture(photos / "new.png", "red")
    picture(photos / "05.png", "blue")
    (photos / "07.png").unlink()
    new = TurnedEncoder()
    with Index(index, new) as opened:
        report = opened.add(photos)
        assert (report.added, report.unchanged, len(report.removed), new.encoded) == (2, 58, 1, 2)
        assert opened.store.remaining() == 58
        assert names(find(opened.store, "red", top=61)) == expected(photos, "red")
        assert opened.encode_again().remaining == 0
        assert names(find(opened.store, "red", top=61)) == expected(photos, "red")
        assert opened.status().pieces == 60


def test_interrupted_and_continued(index: Path) -> None:
    with Store(index) as store:
        upgraded(store)
        with pytest.raises(KeyboardInterrupt):
            encode_again(store, TurnedEncoder(fails_after=40))
        assert store.remaining() == 28  # a batch of 32 was stored
    with Index(index, TurnedEncoder()) as opened:
        result = opened.encode_again()
        assert (result.done, result.remaining) == (28, 0)
        assert opened.status().pieces == len({hit.path for hit in opened.search("red", top=99).hits}) == 60


def test_two_at_once_move_every_image_once(index: Path) -> None:
    with Store(index) as first, Store(index) as second:
        upgraded(first)
        chosen = first.old_contents(count=10)
        from percept.search.again import read_again

        (batch,) = read_again(first, TurnedEncoder(), chosen, [])
        (same,) = read_again(second, TurnedEncoder(), chosen, [])
        assert (first.move(batch), second.move(same)) == (10, 0)
        assert (first.remaining(), first.status().pieces, first.status().dead) == (50, 60, 10)
        encode_again(second, TurnedEncoder())
        assert names(find(first, "red", top=60)) == expected(index.parent / "photos", "red")


def test_a_process_with_the_old_model_cannot_write_any_more(index: Path) -> None:
    with Index(index, ColourEncoder()) as before, Store(index) as store:
        before.store.check(before.encoder)
        upgraded(store)
        picture(index.parent / "photos" / "late.png", "green")
        with pytest.raises(PerceptError, match="was made with turned"):
            before.add(index.parent / "photos")
        assert store.segments() == []


def test_a_batch_of_the_old_model_in_flight_is_refused(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old model was checked before another process changed the model, and has vectors of the same length."""
    same = TurnedEncoder()
    same.turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(5))).Q
    same.identity = Identity(name="turned", image="7042ed, 8 pixels", text="7e87", dim=4)
    picture(index.parent / "photos" / "late.png", "green")

    class Switching(ColourEncoder):
        def image(self, images: list) -> Tensor:
            with Store(index) as store:
                upgraded(store, same)
            return super().image(images)

    with pytest.raises(PerceptError, match="was changed by another process"), Index(index, Switching()) as before:
        before.add(index.parent / "photos")
    with Store(index) as store:
        assert (store.remaining(), store.segments(), len(store)) == (60, [], 60)


def test_files_that_are_away_are_found_through_the_map(index: Path) -> None:
    photos, wanted = index.parent / "photos", expected(index.parent / "photos", "red")
    with Store(index) as store:
        upgraded(store)
        for number in range(0, 60, 3):
            (photos / f"{number:02}.png").unlink()
        picture(photos / "01.png", "black")
        done = encode_again(store, TurnedEncoder())
        assert (done.done, done.remaining, len(done.unread)) == (39, 21, 21)
        reasons = {bad.path.name: bad.reason for bad in done.unread}
        assert "has changed since it was indexed" in reasons["01.png"]
        assert names(find(store, "red", top=60)) == wanted
        assert len(store.spaces()) == 2


def test_videos_are_searched_and_encoded_again(index: Path) -> None:
    film(index.parent / "photos" / "clip.mp4", [("red", 3), ("blue", 3), ("white", 3)])
    with Index(index, ColourEncoder()) as before:
        before.add(index.parent / "photos")
    with Store(index) as store:
        upgraded(store)
        for _ in range(2):
            (hit,) = find(store, "blue", top=1, moments=True)
            assert hit.span is not None
            assert (hit.path.name, hit.span.start, hit.span.stop) == ("clip.mp4", 3.0, 6.0)
            assert hit.score == pytest.approx(1, abs=0.02)
            encode_again(store, TurnedEncoder())
        assert (store.remaining(), store.status().pieces) == (0, 63)


def test_an_index_of_videos_alone_is_upgraded_from_their_spans(tmp_path: Path) -> None:
    colours = list(COLOURS)
    for number in range(6):
        film(
            tmp_path / "clips" / f"{number}.mp4",
            [(colours[(number + step) % 5], 2 + number // 5) for step in (0, 1, 3)],
        )
    with Index.create(tmp_path / "index", ColourEncoder()) as before:
        before.add(tmp_path / "clips")
    with Store(tmp_path / "index") as store:
        result = upgraded(store, images=18)
        assert result.images == 9
        assert encode_again(store, TurnedEncoder()).done == 6


def test_repair_and_compact_between_the_models(index: Path) -> None:
    with Store(index) as store:
        upgraded(store)
        encode_again(store, TurnedEncoder(), limit=20)
        assert store.status().dead == 20
        assert store.compact() == 20
        assert store.repair().files == []
        assert (store.status().pieces, store.remaining()) == (60, 40)
        damaged = store.segments(store.old().space)[0].vector_file  # pyright: ignore[reportOptionalMemberAccess]
        damaged.write_bytes(bytes(damaged.stat().st_size))
        assert len(store.repair().files) == 40
    with Index(index, TurnedEncoder()) as opened:
        opened.add(index.parent / "photos")
        assert opened.encode_again().remaining == 0
        assert names(find(opened.store, "red", top=60)) == expected(index.parent / "photos", "red")


def test_removing_everything_forgets_the_old_space(index: Path) -> None:
    with Store(index) as store:
        upgraded(store)
        store.remove([index.parent / "photos"])
        assert store.remaining() == 0
    with Index.open_or_create(index, ColourEncoder()) as again:
        assert again.add(index.parent / "photos").added == 60
        assert len(again.store.spaces()) == 1


def test_duplicates_are_grouped_within_each_space(index: Path) -> None:
    with Store(index) as store:
        for number in range(2):
            shutil.copy(index.parent / "photos" / "03.png", index.parent / "photos" / f"copy{number}.png")
            with (index.parent / "photos" / f"copy{number}.png").open("ab") as stream:
                stream.write(bytes(number + 1))
        Index(store, ColourEncoder()).add(index.parent / "photos")
        upgraded(store)
        encode_again(store, TurnedEncoder(), limit=10)
        groups = find(store, "red", top=62, group="duplicate", above=0.99999)
        assert {len(hit.others) for hit in groups if hit.path.name in ("03.png", "copy0.png", "copy1.png")} == {0, 1}


def test_only_images_teach_the_map_if_the_old_model_is_lost(index: Path) -> None:
    with Store(index) as store:
        result = upgraded(store, old=None)
        assert result.texts == 0
        assert "before" not in result.measured.recall["texts"]
        assert names(find(store, "red", top=5)) == expected(index.parent / "photos", "red")[:5]


def test_folders_are_labels_of_the_report(index: Path) -> None:
    for name in ("red", "blue"):
        for number in range(20):
            colour = [10 * (number % 5), 3 * number, 10]
            colour[0 if name == "red" else 2] += 180
            picture(index.parent / "classes" / name / f"{number}.png", (colour[0], colour[1], colour[2]))
    with Index.create(index.parent / "other", ColourEncoder()) as before:
        before.add(index.parent / "classes")
        result = upgraded(before.store, folders=True)
    assert result.measured.recall["folders"] == dict.fromkeys(("before", "bridged", "half", "after"), 1.0)


def test_what_cannot_be_upgraded(index: Path, tmp_path: Path) -> None:
    with Store(index) as store:
        with pytest.raises(PerceptError, match="belongs to colours already"):
            upgraded(store, ColourEncoder())
        with pytest.raises(PerceptError, match="texts are too few"):
            upgraded(store, texts=["red", "blue"])
        with pytest.raises(PerceptError, match="was made with colours"):
            upgraded(store, old=ColourEncoder(fingerprint="other", name="other"))
        for path in list((index.parent / "photos").iterdir())[:50]:
            path.unlink()
        with pytest.raises(PerceptError, match="only 10 images"):
            upgraded(store)
        assert (store.stamp.name, store.remaining(), store.old()) == ("colours", 0, None)
    with Index.create(tmp_path / "empty", ColourEncoder()) as empty, pytest.raises(PerceptError, match="is empty"):
        upgraded(empty.store)


def test_one_upgrade_at_a_time(index: Path) -> None:
    other = TurnedEncoder()
    other.identity = Identity(name="third", image="7412d, 8 pixels", text="7e87", dim=6)
    with Store(index) as store:
        upgraded(store)
        with pytest.raises(PerceptError, match="still being upgraded to turned"):
            upgraded(store, other)
        encode_again(store, TurnedEncoder())
        upgraded(store, other, old=TurnedEncoder())
        assert store.stamp.name == "third"
        encode_again(store, other)
        assert [space.stamp.name for space in store.spaces()] == ["third"]


def test_a_damaged_map_is_named(index: Path) -> None:
    with Store(index) as store:
        upgraded(store)
    with sqlite3.connect(index / "index.sqlite") as connection:
        connection.execute("UPDATE bridge SET data = x'00'")
    connection.close()
    with Store(index) as store, pytest.raises(PerceptError, match="map of an upgraded index is damaged"):
        find(store, "red")


def test_texts_are_captions_and_names_of_files(tmp_path: Path) -> None:
    with Store.create(tmp_path / "index", ColourEncoder()) as store:
        video_in(store, Path("/holiday/2024 red_cup-01.mp4"), np.ones((1, 4)), [(0.0, 1.0)])
        texts = usual_texts(store, 50)
        assert texts[0] == "holiday red cup"
        assert len(texts) == len(set(texts)) == 50
        assert texts == usual_texts(store, 50) != usual_texts(store, 50, seed=1)


def test_an_upgrade_ends_when_its_last_old_images_are_removed(index: Path) -> None:
    """Otherwise the index would never take another model: nothing is left to encode, and the old space stays."""
    photos = index.parent / "photos"
    with Store(index) as store:
        upgraded(store)
        encode_again(store, TurnedEncoder(), limit=50)
        for content in store.pieces_of(store.old_contents()):
            content.paths[0].unlink()
    with Index(index, TurnedEncoder()) as opened:
        assert len(opened.add(photos).removed) == 10
        assert (opened.store.remaining(), len(opened.store.spaces())) == (0, 2)
        assert opened.encode_again().remaining == 0
        assert len(opened.store.spaces()) == 1
        assert len(list((index / "segments").iterdir())) == 2
        assert opened.status().dead == 0
        assert names(find(opened.store, "red", top=60)) == expected(photos, "red")


def test_the_next_upgrade_does_not_wait_for_an_old_space_without_contents(index: Path) -> None:
    other = TurnedEncoder()
    other.identity = Identity(name="third", image="7412d, 8 pixels", text="7e87", dim=6)
    with Store(index) as store:
        upgraded(store)
        encode_again(store, TurnedEncoder(), limit=30)
        store.remove([content.paths[0] for content in store.pieces_of(store.old_contents())])
        upgraded(store, other, old=TurnedEncoder(), images=16)
        assert ([space.stamp.name for space in store.spaces()], store.remaining()) == (["turned", "third"], 30)


def test_a_query_sees_both_spaces_as_they_were_at_one_moment(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process ends the upgrade between two looks at the index."""
    with Store(index) as store, Store(index) as other:
        upgraded(store)
        encode_again(store, TurnedEncoder(), limit=40)
        read = store.old

        def late() -> object:
            seen = read()
            monkeypatch.undo()
            encode_again(other, TurnedEncoder())
            return seen

        monkeypatch.setattr(store, "old", late)
        assert names(find(store, "red", top=60)) == expected(index.parent / "photos", "red")
        assert len(store.spaces()) == 1


def test_images_that_move_during_a_search_are_not_missed(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import percept.search.query as query

    search = query._entries

    def slow(store: Store, *args: object) -> object:
        monkeypatch.undo()
        encode_again(store, TurnedEncoder(), limit=20)  # another process does so, after the segments were mapped
        return search(store, *args)  # pyright: ignore[reportArgumentType]

    with Store(index) as store:
        upgraded(store)
        monkeypatch.setattr(query, "_entries", slow)
        assert names(find(store, "red", top=60)) == expected(index.parent / "photos", "red")


def test_labels_and_duplicates_name_what_an_upgrade_has_left(index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store(index) as store:
        upgraded(store)
    with Index(index, TurnedEncoder()) as opened:
        for work in (lambda: opened.classify(["red", "blue"]), lambda: opened.dupes(above=0.99)):
            with pytest.raises(PerceptError, match=r"nothing in the index .* is encoded by its new model yet"):
                work()
        opened.encode_again(limit=20)
        capsys.readouterr()
        assert len(opened.classify(["red", "blue"]).paths) == 20
        assert "40 images and videos are left out" in capsys.readouterr().err
        assert opened.dupes(above=0.99).files == 20
        assert "40 images and videos are left out" in capsys.readouterr().err
        opened.encode_again()
        capsys.readouterr()
        assert len(opened.classify(["red", "blue"]).paths) == 60
        assert capsys.readouterr().err == ""


def test_the_approximate_index_is_built_when_the_last_vector_is_replaced(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import percept.search.again as again

    built = []
    monkeypatch.setattr(again, "refresh_approximate", lambda store: built.append(store.remaining()))
    with Store(index) as store:
        upgraded(store)
        encode_again(store, TurnedEncoder())
    assert built == [0]


PROGRAM = """
import sys
import percept.search.build as building
from percept.search.index import Index
from tests.search.test_upgrade import TurnedEncoder
building.BATCH = 4
with Index(sys.argv[1], TurnedEncoder()) as index:
    print("ready", flush=True)
    index.encode_again()
"""


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost_or_doubled(index: Path) -> None:
    photos, rng = index.parent / "photos", random.Random(0)
    wanted = expected(photos, "red")
    with Store(index) as store:
        upgraded(store)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(REPOSITORY)]), "OMP_NUM_THREADS": "1"}
    left = []
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(index)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=REPOSITORY,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.08))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with Store(index) as store:
            left.append(store.remaining())
            assert (store.status().pieces, store.status().damaged) == (60, 0)
            assert names(find(store, "red", top=60)) == wanted
    assert left == sorted(left, reverse=True)
    with Index(index, TurnedEncoder()) as opened:
        assert opened.encode_again().remaining == 0
        assert names(opened.search("red", top=60).hits) == wanted
        assert sorted(path.name for path in (index / "segments").iterdir()) == sorted(
            file.name for each in opened.store.segments() for file in (each.vector_file, each.id_file)
        )
