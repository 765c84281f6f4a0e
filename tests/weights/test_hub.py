"""Models from a hub that is played here: what is asked for, what is kept, and what is said when it fails."""

from pathlib import Path

import pytest
import torch
from huggingface_hub import errors

import percept
from percept import PerceptError
from percept.models import zoo
from percept.weights import hub
from percept.weights import open as opening
from percept.weights.folder import save_folder
from percept.weights.hub import Address, parse_address
from percept.weights.layouts import pick_files
from percept.weights.write import write_weights
from tests.infer import tiny
from tests.weights.test_shards import INDEX, SHARDS, split


class Hub:
    """A hub whose repositories are folders; a revision is a subfolder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fetched: list[str] = []
        self.cache: set[Path] = set()
        self.error: Exception | None = None

    def place(self, repository: str, revision: str | None) -> Path:
        return self.root / repository / (revision or "main")

    def files(self, repository: str, revision: str | None) -> list[str]:
        if self.error is not None:
            raise self.error
        return [file.name for file in self.place(repository, revision).iterdir()]

    def fetch(self, repository: str, file: str, revision: str | None) -> Path:
        self.fetched.append(f"{repository}@{revision}/{file}")
        self.cache.add(self.place(repository, revision) / file)
        return self.place(repository, revision) / file

    def cached(self, repository: str, file: str, revision: str | None = None) -> Path | None:
        path = self.place(repository, revision) / file
        return path if path in self.cache else None


@pytest.fixture
def played(monkeypatch, tmp_path) -> Hub:
    one = Hub(tmp_path / "hub")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hub, "hub_reachable", lambda: True)
    monkeypatch.setattr(hub, "repository_files", one.files)
    monkeypatch.setattr(hub, "fetch_file", one.fetch)
    monkeypatch.setattr(hub, "cached_file", one.cached)
    return one


def publish(played: Hub, repository: str, layout: str, revision: str | None = None, seed: int = 0) -> None:
    place = played.place(repository, revision)
    place.mkdir(parents=True)
    (place / "README.md").write_text("a model")
    model = tiny.model(seed=seed)
    if layout == "percept":
        save_folder(place, model, name="tiny", preprocess=tiny.encoder().preprocess, tokenizer=tiny.tokenizer())
        return
    target = place if layout != "official" else place / f"{repository.split('/')[1]}.safetensors"
    write_weights(
        target, model.state_dict(), layout=layout, name="tiny", config=model.config,
        preprocess=tiny.encoder().preprocess,
    )  # fmt: skip


def is_cached(repository: str) -> bool:
    name = repository.rpartition("/")[2]
    signs = hub._signs(name)
    return hub._cached_folder(repository, None, signs, lambda files, _: pick_files(files, name)) is not None


def test_addresses():
    assert parse_address("PE-Core-B16-224") == Address(owner=None, name="PE-Core-B16-224", revision=None)
    assert parse_address("PE-Core-B16-224@v1").revision == "v1"
    assert parse_address("hf://a-b/c.d_e") == Address(owner="a-b", name="c.d_e", revision=None)
    assert parse_address("hf://a/b@refs/pr/1").revision == "refs/pr/1"
    for wrong in ("hf://", "hf://name", "hf://a/b/c", "hf://a/b@", "hf://a b/c"):
        with pytest.raises(PerceptError, match="write hf://OWNER/NAME"):
            parse_address(wrong)


@pytest.mark.parametrize("layout", ["percept", "official", "timm"])
def test_any_repository_in_a_known_layout(played, layout):
    publish(played, "somebody/model", layout)
    encoder = percept.load("hf://somebody/model", dtype="float32")
    images = torch.randn(2, 3, 24, 24)
    torch.testing.assert_close(encoder.image(images), tiny.encoder().image(images))
    assert not any("README" in file for file in played.fetched)
    count = len(played.fetched)
    percept.load("hf://somebody/model")
    assert len(played.fetched) == count  # the second time everything is in the cache


def test_weights_that_are_split_are_fetched_with_their_index(played):
    publish(played, "somebody/model", "percept")
    place = played.place("somebody/model", None)
    split(place)
    (place / "unrelated.safetensors").touch()
    encoder = percept.load("hf://somebody/model", dtype="float32")
    assert encoder.identity == percept.load(place).identity
    fetched = {name.rpartition("/")[2] for name in played.fetched}
    assert fetched == {INDEX, *SHARDS, "config.json", "preprocess.json", "tokenizer.json", "words.txt"}
    count = len(played.fetched)
    percept.load("hf://somebody/model")
    assert len(played.fetched) == count
    (place / SHARDS[1]).unlink()
    assert not is_cached("somebody/model")


def test_a_revision_is_fetched_and_kept_apart(played):
    publish(played, "somebody/model", "percept", seed=0)
    publish(played, "somebody/model", "percept", revision="v2", seed=1)
    first, second = percept.load("hf://somebody/model"), percept.load("hf://somebody/model@v2")
    assert first.identity != second.identity
    assert {file.split("/")[1] for file in played.fetched} == {"model@None", "model@v2"}
    with pytest.raises(PerceptError, match="unknown type or device 'v2'"):
        percept.load("nano@v2")


def test_plain_names_and_their_addresses_are_the_same_model(played, monkeypatch):
    monkeypatch.setitem(zoo.ZOO, "PE-Tiny", zoo.Entry(config=tiny.config(), repository="facebook/PE-Tiny"))
    publish(played, "facebook/PE-Tiny", "official")
    ids = [percept.load(name).identity for name in ("PE-Tiny", "hf://facebook/PE-Tiny")]
    assert ids[0] == ids[1]
    assert ids[0].name == "PE-Tiny"
    assert played.fetched == ["facebook/PE-Tiny@None/PE-Tiny.safetensors"]


def test_offline_the_cache_serves_and_nothing_is_asked(played, monkeypatch):
    publish(played, "somebody/model", "percept")
    percept.load("hf://somebody/model")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    played.error = AssertionError("the hub was asked")
    assert percept.load("hf://somebody/model").dim == tiny.DIM
    with pytest.raises(PerceptError, match=r"HF_HUB_OFFLINE is set.*hf download somebody/other --local-dir"):
        percept.load("hf://somebody/other")
    with pytest.raises(PerceptError, match=r"hf download somebody/other --revision v2 --local-dir"):
        percept.load("hf://somebody/other@v2")
    with pytest.raises(PerceptError, match=r"Fetch PE-Core-T16-384\.pt from .* facebook/PE-Core-T16-384 at v2 on"):
        percept.load("PE-Core-T16-384@v2")


def test_a_download_that_was_cut_off_is_taken_up_again(played):
    publish(played, "somebody/model", "percept")
    played.fetch("somebody/model", "config.json", None)
    weights = played.place("somebody/model", None) / "model.safetensors"
    data = weights.read_bytes()
    weights.unlink()
    weights.symlink_to("nowhere")
    assert not is_cached("somebody/model")
    weights.unlink()
    weights.write_bytes(data)
    assert percept.load("hf://somebody/model").dim == tiny.DIM


def refused(kind: type[Exception], message: str) -> Exception:
    error = kind.__new__(kind)  # without the response that the library wants and nobody here reads
    error.args = (message,)
    return error


class ConnectError(Exception):
    """As the hub's http library raises it; not an OSError."""


ConnectError.__module__ = "httpx._exceptions"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (lambda: refused(errors.RepositoryNotFoundError, "404"), "no repository somebody/model, or it is private"),
        (lambda: refused(errors.RevisionNotFoundError, "404"), "no revision 'v9'"),
        (lambda: refused(errors.GatedRepoError, "403"), "hf auth login"),
        (lambda: refused(errors.HfHubHTTPError, "500 broken\nmore"), "500 broken"),
        (lambda: errors.LocalEntryNotFoundError("the connection broke"), "the connection broke"),
        (lambda: ConnectError("name not known"), "name not known"),
        (lambda: ConnectionResetError("reset by peer"), "reset by peer"),
    ],
)
def test_refusals_are_told_in_a_sentence(played, error, words):
    played.error = error()
    with pytest.raises(PerceptError, match=words) as caught:
        percept.load("hf://somebody/model@v9")
    assert "Traceback" not in str(caught.value)


def test_a_repository_without_weights(played):
    played.place("somebody/texts", None).mkdir(parents=True)
    (played.place("somebody/texts", None) / "README.md").write_text("no model")
    with pytest.raises(PerceptError, match=r"^somebody/texts holds no weights"):
        percept.load("hf://somebody/texts")


def test_a_bug_is_not_taken_for_the_network(played):
    played.error = ZeroDivisionError("ours")
    with pytest.raises(ZeroDivisionError):
        percept.load("hf://somebody/model")


def test_the_vocabulary_comes_from_the_cache_or_the_hub_and_never_from_a_network_that_is_off(played, monkeypatch):
    repository, files = hub.VOCABULARY
    played.place(repository, None).mkdir(parents=True)
    assert hub.fetch_vocabulary(online=False) is None
    found = hub.fetch_vocabulary(online=True)
    assert found == played.place(repository, None) / files[0]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.fetch_vocabulary(online=False) == found
    played.cache.clear()
    assert hub.fetch_vocabulary(online=True) is None


def test_a_vocabulary_that_cannot_be_fetched_costs_texts_only(played, monkeypatch, capsys):
    def fail(*_: object) -> Path:
        raise refused(errors.HfHubHTTPError, "503 busy")

    monkeypatch.setattr(hub, "fetch_file", fail)
    assert hub.fetch_vocabulary(online=True) is None
    assert "503 busy" in " ".join(capsys.readouterr().err.split())


def test_clips_vocabulary_is_read_for_models_of_its_size(monkeypatch, tmp_path):
    asked: list[bool] = []
    monkeypatch.setattr(opening, "CLIP_VOCABULARY", tiny.tokenizer().vocab_size)
    monkeypatch.setattr(opening, "find_vocabulary", lambda *_: None)
    tiny.tokenizer().save(tmp_path / "kept.json")
    monkeypatch.setattr(hub, "fetch_vocabulary", lambda online: asked.append(online) or tmp_path / "kept.json")
    model = tiny.model()
    write_weights(
        tmp_path / "model.safetensors", model.state_dict(), layout="official", name="x", config=model.config,
        preprocess=tiny.encoder().preprocess,
    )  # fmt: skip
    encoder = percept.load(tmp_path / "model.safetensors")
    assert asked == [False]  # a local file asks no network
    torch.testing.assert_close(encoder.text("a red cup"), tiny.encoder().text("a red cup"))


def test_a_name_that_looks_like_a_repository_names_the_prefix():
    with pytest.raises(PerceptError, match="hf://facebook/PE-Core-B16-224"):
        percept.load("facebook/PE-Core-B16-224")
