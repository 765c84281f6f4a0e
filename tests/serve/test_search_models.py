"""A server whose index is upgraded to a different model: requests go on, with the new model, on old and new vectors."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from percept.core.errors import PerceptError
from percept.search.again import encode_again
from percept.search.contracts import Stamp
from percept.search.store import Store
from tests.search.fakes import ColourEncoder, picture
from tests.search.test_upgrade import TEXTS, TurnedEncoder, linear
from tests.serve.searching import client, indexed, names, search


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = indexed(tmp_path)
    from percept.search.build import build

    for number in range(20):
        picture(tmp_path / "pictures" / f"{number}.png", (7 * number, 90, 250 - 9 * number))
    build(store, ColourEncoder(), store.roots())
    return store


def upgrade(store: Store) -> None:
    from percept.search.upgrade import upgrade

    with Store(store.folder) as other:  # as another process does
        upgrade(other, TurnedEncoder(), linear, old=ColourEncoder(), texts=TEXTS, images=16)


def loading(calls: list[Stamp]) -> Callable[[Stamp], ColourEncoder]:
    def load(stamp: Stamp) -> ColourEncoder:
        calls.append(stamp)
        return TurnedEncoder()

    return load


def test_the_new_model_is_loaded_once_and_old_vectors_are_still_found(store: Store) -> None:
    loaded: list[Stamp] = []
    with client(store, load=loading(loaded)) as made:
        before = search(made, text="red", top=50)
        assert loaded == []
        upgrade(store)
        after = search(made, text="red", top=50)
        assert set(names(after)) == set(names(before))
        assert names(after)[0] == names(before)[0]
        assert made.post("/v1/encode", json={"text": "red"}).json()["dim"] == 6
        assert [stamp.name for stamp in loaded] == ["turned"]
        about = made.get("/v1/index").json()
        assert about["model"].startswith("turned")
        assert about["sample"]


@pytest.mark.parametrize("name", ["green.png", "clip.mp4"])
def test_images_without_a_new_vector_are_examples_and_are_labelled(store: Store, name: str) -> None:
    with client(store, load=loading([])) as made:
        upgrade(store)
        (hit,) = [hit for hit in search(made, text="green", top=50)["hits"] if hit["name"] == name]
        similar = search(made, like=hit["piece"])
        assert similar["like"][0]["name"] == name
        assert similar["hits"][0]["name"] == {"green.png": "clip.mp4", "clip.mp4": "green.png"}[name]
        labels = made.post("/v1/classify", json={"piece": hit["piece"], "labels": ["red", "green", "blue"]}).json()
        assert labels["labels"][0][0]["label"] == "green"
        assert made.post("/v1/search", json={"like": 99999}).status_code == 404
        encode_again(store, TurnedEncoder())
        assert made.post("/v1/search", json={"like": hit["piece"]}).status_code == 404  # replaced by a new piece


def test_a_model_that_cannot_be_loaded_is_named_until_it_can(store: Store) -> None:
    problems = [PerceptError("the model turned is not on this machine. Copy it there.")]

    def load(_: Stamp) -> ColourEncoder:
        if problems:
            raise problems.pop()
        return TurnedEncoder()

    with client(store, load=load) as made:
        upgrade(store)
        response = made.post("/v1/search", json={"text": "red"})
        assert response.status_code == 503
        assert "not on this machine" in response.json()["error"]["message"]
        assert search(made, text="red")["hits"]


def test_requests_during_the_change_are_all_answered(store: Store) -> None:
    loaded: list[Stamp] = []
    statuses: list[int] = []
    with client(store, load=loading(loaded)) as made:

        def ask(number: int) -> None:
            for _ in range(10):
                statuses.append(made.post("/v1/search", json={"text": f"red {number}"}).status_code)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        upgrade(store)
        with Store(store.folder) as other:
            while encode_again(other, TurnedEncoder(), limit=3).remaining:
                pass
        for thread in threads:
            thread.join()
        assert search(made, text="red")["hits"]
    assert statuses == [200] * 40
    assert len(loaded) == 1
    assert sum(thread.name == "percept-model" and thread.is_alive() for thread in threading.enumerate()) == 0
