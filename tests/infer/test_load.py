import inspect
import socket
import time

import pytest
import torch

import percept
from percept import PerceptError
from percept.core.machine import fast_dtype
from percept.models import zoo
from percept.models.clip import CLIP
from percept.weights import hub, locate
from percept.weights.layouts.official import to_official
from percept.weights.open import open_packaged
from tests.golden.filling import checkpoint
from tests.infer import tiny
from tests.ports import free_port


@pytest.fixture
def official(monkeypatch, tmp_path):
    """A released model of tiny size, and its weight file in the published layout."""
    monkeypatch.setitem(zoo.ZOO, "PE-Tiny", zoo.Entry(config=tiny.config(), repository="somebody/PE-Tiny"))
    model = tiny.model(seed=7)
    names = to_official(model, has_text=True)
    torch.save({names[key]: value for key, value in model.state_dict().items()}, tmp_path / "PE-Tiny.pt")
    return tmp_path / "PE-Tiny.pt"


def test_a_folder_opens_with_its_name_and_fast_numbers(tmp_path):
    one = percept.load(tiny.folder(tmp_path / "model"))
    assert (one.identity.name, one.dim) == ("tiny", tiny.DIM)
    assert one.setting.dtype == fast_dtype(torch.device("cpu"))[0]
    exact = percept.load(tmp_path / "model", dtype="float32")
    images = torch.randn(2, 3, 24, 24)
    torch.testing.assert_close(exact.image(images), tiny.encoder().image(images))
    torch.testing.assert_close(exact.text("a red cup"), tiny.encoder().text("a red cup"))
    assert exact.identity == one.identity


def test_a_local_weight_file_keeps_its_type_and_its_numbers(official):
    one = percept.load("PE-Tiny", weights=official)
    assert one.setting.dtype == torch.float32
    images, ids = torch.randn(2, 3, 24, 24), tiny.tokenizer()(["a cup", "a red dog"])
    with torch.no_grad():
        torch.testing.assert_close(one.image(images), tiny.model(seed=7).embed_image(images))
        torch.testing.assert_close(one.text(ids), tiny.model(seed=7).embed_text(ids))
    with pytest.raises(PerceptError, match="tokenizer"):
        one.text("a cup")


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float32])
def test_the_type_is_that_of_the_towers_not_of_a_scalar(official, tmp_path, narrow):
    state = torch.load(official)
    other = torch.bfloat16 if narrow == torch.float32 else torch.float32
    mixed = {key: value.to(other if value.ndim == 0 else narrow) for key, value in state.items()}
    torch.save(mixed, tmp_path / "mixed.pt")
    assert percept.load("PE-Tiny", weights=tmp_path / "mixed.pt").setting.dtype == narrow


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_an_explicit_type_wins(official, dtype):
    assert percept.load("PE-Tiny", weights=official, dtype=dtype).setting.dtype == torch.bfloat16


def test_a_tokenizer_can_be_given(official, tmp_path):
    tiny.tokenizer().save(tmp_path / "tokenizer.json")
    one = percept.load("PE-Tiny", weights=official, tokenizer=tmp_path / "tokenizer.json")
    torch.testing.assert_close(one.text("a cup"), one.text(tiny.tokenizer()("a cup")))


def test_the_fingerprint_follows_the_weights(official, tmp_path):
    state = torch.load(official)
    changed = {**state, "visual.ln_pre.bias": state["visual.ln_pre.bias"] + 1e-3}
    table = state["token_embedding.weight"].clone()
    table[17] += 1  # one row of a table: few training steps touch more
    for name, variant in (("copy", state), ("bias", changed), ("table", {**state, "token_embedding.weight": table})):
        torch.save(variant, tmp_path / f"{name}.pt")
    first, copy, bias, row = (
        percept.load("PE-Tiny", weights=file).identity
        for file in (official, *(tmp_path / f"{name}.pt" for name in ("copy", "bias", "table")))
    )
    assert copy == first
    assert len({first, bias, row}) == 3


def test_a_name_of_a_model_wins_over_a_folder_of_that_name(tmp_path, monkeypatch):
    tiny.folder(tmp_path / "nano")
    monkeypatch.chdir(tmp_path)
    assert percept.load("nano").dim == 256
    assert percept.load("./nano").dim == tiny.DIM
    with pytest.raises(PerceptError, match="with its own weights"):
        percept.load("./nano", weights="some.pt")
    with pytest.raises(PerceptError, match="names no model"):
        percept.load("")


def test_weights_that_do_not_fit_are_listed(official, tmp_path):
    state = torch.load(official)
    state["surplus"] = state.pop("visual.conv1.weight")
    torch.save(state, tmp_path / "wrong.pt")
    with pytest.raises(PerceptError, match=r"missing: visual\.conv1\.weight\n  unexpected: surplus"):
        percept.load("PE-Tiny", weights=tmp_path / "wrong.pt")


def test_a_vision_tower_alone_gives_vectors_and_says_which_files_have_text(official, tmp_path, capsys):
    state = torch.load(official)
    torch.save({key: value for key, value in state.items() if key.startswith("visual.")}, tmp_path / "vision.pt")
    one = percept.load("PE-Tiny", weights=tmp_path / "vision.pt")
    assert "holds a vision tower only" in " ".join(capsys.readouterr().err.split())
    images = torch.randn(2, 3, 24, 24)
    assert torch.equal(one.image(images), percept.load("PE-Tiny", weights=official).image(images))
    with pytest.raises(PerceptError, match=r"opened as an image tower alone.*never timm's"):
        one.text("a cup")


def test_the_packaged_model_takes_weights_and_lends_what_they_lack(tmp_path):
    own = open_packaged("nano")
    names = to_official(own.model, has_text=True)
    torch.save({names[key]: value for key, value in own.model.state_dict().items()}, tmp_path / "nano.pt")
    one, other = (
        percept.load("nano", weights=tmp_path / "nano.pt", dtype="float32"),
        percept.load("nano", dtype="float32"),
    )
    assert torch.equal(one.text("a red duck"), other.text("a red duck"))
    assert (one.preprocess, one.identity.name) == (other.preprocess, "nano")


def test_cached_weights_need_no_network(official, monkeypatch):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repository, file: str(official))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert percept.load("PE-Tiny").dim == tiny.DIM


@pytest.mark.parametrize("offline", ["1", ""])
def test_without_a_network_the_way_out_is_named(official, monkeypatch, offline):
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr(hub, "getproxies", dict)
    with pytest.raises(PerceptError, match=r"weights='PE-Tiny\.pt'") as caught:
        percept.load("PE-Tiny")
    assert ("HF_HUB_OFFLINE" in str(caught.value)) == bool(offline)


def test_a_listening_hub_is_reachable(monkeypatch):
    monkeypatch.setattr(hub, "getproxies", dict)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert hub.hub_reachable()


def test_a_name_that_never_resolves_does_not_hang(monkeypatch):
    monkeypatch.setattr(hub, "_connects", lambda seconds: time.sleep(30))
    assert not hub.hub_reachable(seconds=0.05)


MISTAKES = {
    "nanno": ({}, "'nano'"),
    "pe-core-t16": ({}, "PE-Core-T16-384"),
    "some/where": ({}, "there is no folder some/where.*hf://some/where$"),
    "hf-hub:timm/x": ({}, "hf://timm/x$"),
    "/tmp/nope.pt": ({}, "there is no file or folder /tmp/nope.pt"),
    "./some/where": ({}, "there is no file or folder ./some/where"),
    "nope.ckpt": ({}, "there is no file or folder nope.ckpt"),
    "nano": ({"weights": "x.pt"}, "there is no weight file x.pt"),
    "PE-Core-T16-384": ({"weights": "missing.pt"}, "missing.pt"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_explained(name):
    keywords, words = MISTAKES[name]
    with pytest.raises(PerceptError, match=words):
        percept.load(name, **keywords)


@pytest.mark.parametrize("name", [None, b"nano", 3])
def test_what_is_no_name_at_all(name):
    with pytest.raises(PerceptError, match=f"got {type(name).__name__}"):
        inspect.unwrap(percept.load)(name)  # as a user calls it, without the type checks of the tests


def test_folders_that_are_not_read_are_named(tmp_path):
    with pytest.raises(PerceptError, match=f"{tmp_path} holds no weights"):
        percept.load("PE-Core-T16-384", weights=tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(PerceptError, match=f"{tmp_path} is in transformers' layout"):
        percept.load(tmp_path)


def test_a_type_or_device_that_does_not_exist(tmp_path):
    tiny.folder(tmp_path)
    with pytest.raises(PerceptError, match="'bfloat16'"):
        percept.load(tmp_path, dtype="bfloat")
    with pytest.raises(PerceptError, match="unknown device 'toaster'"):
        percept.load(tmp_path, device="toaster")
    with pytest.raises(PerceptError, match="no memory"):
        percept.load(tmp_path, device="meta")
    if not torch.cuda.is_available():
        with pytest.raises(PerceptError, match="cannot be used here"):
            percept.load(tmp_path, device="cuda")


def test_a_missing_package_model_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(locate, "PACKAGED", tmp_path)
    with pytest.raises(PerceptError, match="percept train pe/nano"):
        percept.load("nano")


def test_a_file_of_another_released_model_is_known_by_its_shapes(tmp_path):
    torch.save(checkpoint("PE-Core-T16-384"), tmp_path / "own.pt")
    with pytest.raises(PerceptError) as error:
        percept.load("PE-Core-S16-384", weights=tmp_path / "own.pt")
    text = str(error.value)
    assert "It has the shapes of PE-Core-T16-384: give that name, or the file alone." in text
    assert "another grid" not in text  # all shapes differ, not only that of the positions


def test_without_a_tokenizer_the_remedy_fits_the_model(tmp_path):
    encoder = tiny.encoder()
    encoder.tokenizer = None
    with pytest.raises(PerceptError, match=r"for weights of nano its name with --weights FILE: --tokenizer FILE"):
        encoder.text(["a"])


# ---- types and devices behind the name


def test_a_type_and_a_device_behind_the_name(tmp_path):
    folder = tiny.folder(tmp_path / "own")
    for name in ("nano@bfloat16", f"{folder}@bfloat16", "nano@cpu@bfloat16"):
        setting = percept.load(name).setting
        assert (setting.dtype, setting.device.type) == (torch.bfloat16, "cpu")
    assert percept.load("nano@float32", dtype=torch.float32).setting.dtype == torch.float32
    with pytest.raises(PerceptError, match=r"asks for @float32, but dtype='bfloat16' was given too"):
        percept.load("nano@float32", dtype="bfloat16")
    with pytest.raises(PerceptError, match=r"asks for @cpu, but device='cuda' was given too"):
        percept.load("nano@cpu", device="cuda")
    with pytest.raises(PerceptError, match="percept export onnx MODEL --out DIR --int8"):
        percept.load("nano@int8")


# ---- for training


def test_a_trainable_model_is_float32_and_owns_its_weights(tmp_path):
    folder = tiny.folder(tmp_path / "own")
    stored = (folder / "model.safetensors").read_bytes()
    model = percept.load(folder, train=True)
    assert isinstance(model, CLIP)
    assert not model.training
    assert {(value.dtype, value.requires_grad) for value in model.parameters()} == {(torch.float32, True)}
    images, ids = torch.randn(4, 3, 24, 24), tiny.tokenizer()(["a cup", "a red dog", "a cat", "a blue cup"])
    optimiser = torch.optim.AdamW(model.train().parameters(), lr=1e-2)
    logits = model.scale() * model.embed_image(images) @ model.embed_text(ids).T
    torch.nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    optimiser.step()
    assert all(value.grad is not None for value in model.parameters())
    again = percept.load(folder, train=True)
    moved = [name for name, value in again.named_parameters() if not torch.equal(value, model.get_parameter(name))]
    assert "log_scale" in moved
    assert "vision.patch.weight" in moved
    assert (folder / "model.safetensors").read_bytes() == stored


def test_a_model_stored_in_bfloat16_is_trained_in_float32(tmp_path):
    model = tiny.model()
    torch.save({key: value.bfloat16() for key, value in model.state_dict().items()}, tmp_path / "narrow.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(zoo.CONFIGS, "PE-Tiny", tiny.config())
        opened = percept.load(tmp_path / "narrow.pt", train=True, image_size=40)
    assert {value.dtype for value in opened.parameters()} == {torch.float32}
    assert opened.config.vision.image_size == 40


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "bfloat16"},
        {"batch": 4},
        {"resize": "crop"},
        {"tokens": 32},
        {"compile": True},
        {"tokenizer": "a.json"},
    ],
)
def test_what_only_an_encoder_has_is_refused_for_training(options):
    with pytest.raises(PerceptError, match=f"Leave out {next(iter(options))}"):
        percept.load("nano", train=True, **options)


def test_a_model_that_is_loaded_in_inference_mode_can_be_trained():
    with torch.inference_mode():
        model = percept.load("nano", train=True, device="cpu")
    model.embed_image(torch.zeros(1, 3, 96, 96)).sum().backward()
    assert model.get_parameter("vision.patch.weight").grad is not None
