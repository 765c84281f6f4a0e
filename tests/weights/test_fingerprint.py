"""The fingerprint of a model: the same from every layout, another when anything changes that decides its vectors."""

import copy
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import percept
from percept.core.errors import PerceptError
from percept.core.io import same_tensors
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.models import zoo
from percept.models.clip import CLIP
from percept.models.config import ClipConfig, VisionConfig
from percept.weights.fingerprint import (
    CLIP_PIECES,
    CLIP_VOCABULARY,
    PART,
    image_identity,
    tensor_hash,
    text_identity,
    tokenizer_hash,
)  # fmt: skip
from percept.weights.folder import save_folder
from percept.weights.locate import locate
from percept.weights.open import build, open_model, read_model
from percept.weights.write import write_weights
from tests.infer import tiny
from tests.models.small import TEXT, VISION, clip

PREPROCESS = Preprocess(size=16)


def whole(config: ClipConfig, preprocess: Preprocess = PREPROCESS) -> str:
    return image_identity({"vision.a": "b"}, config, preprocess)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_values_count_with_their_places(dtype: torch.dtype) -> None:
    tensor = torch.randn(64, 128).to(dtype)
    columns = tensor[:, [0, *reversed(range(1, 128))]]  # the first column and all sums stay as they are
    rows, turned = tensor.flip(0), tensor.T
    assert len({tensor_hash(one) for one in (tensor, columns, rows, turned, tensor.reshape(128, 64))}) == 5
    assert tensor_hash(turned) == tensor_hash(turned.contiguous())
    assert tensor_hash(tensor.clone()) == tensor_hash(tensor)
    assert tensor_hash(torch.zeros(2)) != tensor_hash(-torch.zeros(2))
    assert tensor_hash(torch.zeros((), dtype=dtype)) != tensor_hash(torch.zeros(1, dtype=dtype))


def test_large_tensors_are_hashed_in_parts() -> None:
    tensor = torch.arange(PART // 2 + 5)
    assert tensor.nbytes > 3 * PART
    first, moved = tensor_hash(tensor), tensor.roll(PART // 8)
    assert tensor_hash(tensor.clone()) == first != tensor_hash(moved)
    tensor[-1] += 1
    assert tensor_hash(tensor) != first


def test_what_decides_the_vectors_counts_and_nothing_else() -> None:
    config = clip().config
    vision, first = config.vision, whole(config)
    same = (replace(vision, hidden=4 * vision.width), replace(vision, drop_path=0.1))
    other = (replace(vision, rope=False), replace(vision, heads=4), replace(vision, image_size=32))
    assert {whole(replace(config, vision=one)) for one in same} == {first}
    assert len({first, *(whole(replace(config, vision=one)) for one in other)}) == 4
    assert whole(config, replace(PREPROCESS, draft=0)) == first
    changed = [replace(PREPROCESS, resize="crop"), replace(PREPROCESS, mean=(0.4, 0.5, 0.5))]
    assert len({first, *(whole(config, one) for one in changed)}) == 3


def test_the_kind_of_a_tower_counts_unless_it_is_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    config = clip().config
    first = whole(config)
    monkeypatch.setattr(VisionConfig, "kind", "pe", raising=False)
    assert whole(config) == first
    monkeypatch.setattr(VisionConfig, "kind", "other", raising=False)
    assert whole(config) != first


def test_a_tokenizer_counts_by_what_it_makes_of_texts(tmp_path: Path) -> None:
    one = Tokenizer.train(["a red cup"], vocab_size=300, context=10)
    other = Tokenizer.train(["a blue dog"], vocab_size=300, context=10)
    one.save(tmp_path / "tokenizer.json")
    assert tokenizer_hash(Tokenizer.load(tmp_path / "tokenizer.json"), TEXT) == tokenizer_hash(one, TEXT)
    assert tokenizer_hash(one, TEXT) != tokenizer_hash(other, TEXT)
    assert tokenizer_hash(one, TEXT) != tokenizer_hash(Tokenizer.load(tmp_path / "tokenizer.json", context=8), TEXT)
    assert tokenizer_hash(one, None) is None
    assert tokenizer_hash(None, TEXT, tokenizer_hash(one, TEXT)) == tokenizer_hash(one, TEXT)
    assert tokenizer_hash(None, TEXT) is None
    assert tokenizer_hash(None, replace(TEXT, vocabulary=CLIP_VOCABULARY)) == f"{CLIP_PIECES} {TEXT.context}"
    contents = {text_identity({"text.a": "b"}, clip().config, ids) for ids in (None, tokenizer_hash(one, TEXT), "b")}
    assert len(contents) == 3


def test_a_folder_at_another_size_is_the_folder_written_at_that_size(tmp_path: Path) -> None:
    save_folder(tmp_path / "a", clip(), name="a", preprocess=PREPROCESS, tokenizer=None, dtype=torch.bfloat16)
    large = open_model(tmp_path / "a", image_size=32)
    save_folder(tmp_path / "b", large.model, name="b", preprocess=large.preprocess, tokenizer=None)
    again = open_model(tmp_path / "b")
    assert same_tensors(again.model.state_dict(), large.model.state_dict())
    assert again.image_identity == large.image_identity != open_model(tmp_path / "a").image_identity
    weights, tokenizer = read_model(locate(tmp_path / "a"), image_size=32)
    assert build(weights, tokenizer, dtype=torch.float32).image_identity == large.image_identity
    assert open_model(tmp_path / "a", image_size=16).image_identity == open_model(tmp_path / "a").image_identity


def test_permuted_weights_are_another_model(tmp_path: Path) -> None:
    model = clip()
    other = CLIP(model.config)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    weight = state["vision.blocks.0.mlp.up.weight"]
    weight[:, 1:] = weight[:, 1:].flip(1)
    other.load_state_dict(state)
    for name, one in (("a", model), ("b", other)):
        save_folder(tmp_path / name, one, name="x", preprocess=PREPROCESS, tokenizer=None)
    assert open_model(tmp_path / "a").image_identity != open_model(tmp_path / "b").image_identity


# ---- computed when first read


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tensors are hashed, one entry for each."""
    hashed: list[int] = []

    def counting(tensor: torch.Tensor) -> str:
        hashed.append(tensor.numel())
        return tensor_hash(tensor)

    monkeypatch.setattr("percept.weights.fingerprint.tensor_hash", counting)
    return hashed


def test_loading_and_encoding_hash_nothing_and_asking_hashes_once(counted: list[int]) -> None:
    encoder = percept.load("nano")
    encoder.image(torch.zeros(1, 3, 96, 96))
    encoder.text("a red cup")
    assert not counted
    first = encoder.identity.image
    assert len(counted) == len(encoder.model.state_dict())
    assert encoder.identity.image == first
    assert copy.deepcopy(encoder.identity) == pickle.loads(pickle.dumps(encoder.identity)) == encoder.identity
    assert len(counted) == len(encoder.model.state_dict())


@pytest.mark.parametrize("form", ["safetensors", "pt", "old"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_hashed_as_stored_whatever_they_became(tmp_path: Path, form: str, dtype: str) -> None:
    model = tiny.model()
    file = tmp_path / f"tiny.{form.replace('old', 'pt')}"
    write_weights(
        file, model.state_dict(), layout="official", name="tiny", config=model.config, preprocess=Preprocess(size=24),
        tokenizer=tiny.tokenizer(),
    )  # fmt: skip
    if form == "old":
        torch.save(torch.load(file), file, _use_new_zipfile_serialization=False)
        (tmp_path / "tiny.pt.json").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(zoo.CONFIGS, "tiny", model.config)
        encoder = percept.load(file, dtype=dtype)
    hashes = {name: tensor_hash(value) for name, value in model.state_dict().items()}
    words = None if form == "old" else tokenizer_hash(tiny.tokenizer(), model.config.text)
    assert encoder.identity.image == image_identity(hashes, model.config, Preprocess(size=24))
    assert encoder.identity.text == text_identity(hashes, model.config, words)


def test_a_file_that_is_replaced_or_removed_later_changes_nothing(tmp_path: Path) -> None:
    save_folder(tmp_path / "a", clip(), name="a", preprocess=PREPROCESS, tokenizer=None)
    expected = open_model(tmp_path / "a").image_identity
    removed, replaced = open_model(tmp_path / "a"), open_model(tmp_path / "a")
    save_folder(tmp_path / "a", clip(), name="a", preprocess=PREPROCESS, tokenizer=None)
    assert replaced.image_identity == expected
    (tmp_path / "a" / "model.safetensors").unlink()
    assert removed.image_identity == expected


def test_a_file_that_is_overwritten_later_is_not_hashed(tmp_path: Path) -> None:
    save_folder(tmp_path / "a", clip(), name="a", preprocess=PREPROCESS, tokenizer=None)
    opened, file = open_model(tmp_path / "a"), tmp_path / "a" / "model.safetensors"
    os.truncate(file, 100)
    with pytest.raises(PerceptError, match="has changed since it was loaded"):
        _ = opened.image_identity


# ---- identities


def hashes(model: CLIP) -> dict[str, str]:
    return {name: tensor_hash(value) for name, value in model.state_dict().items()}


def test_the_image_identity_is_that_of_tower_and_preprocessing() -> None:
    pair = clip()
    alone = CLIP(ClipConfig(vision=pair.config.vision))
    alone.load_state_dict({key: value for key, value in pair.state_dict().items() if key.startswith("vision.")})
    first = image_identity(hashes(pair), pair.config, PREPROCESS)
    assert image_identity(hashes(alone), alone.config, PREPROCESS) == first
    changed = {**hashes(pair), "text.positions": "x", "log_scale": "y"}
    assert image_identity(changed, pair.config, PREPROCESS) == first
    assert image_identity({**hashes(pair), "vision.positions": "x"}, pair.config, PREPROCESS) != first
    assert image_identity(hashes(pair), pair.config, PREPROCESS.resizing("crop", patch=4)) != first
    assert image_identity(hashes(pair), replace(pair.config, vision=replace(VISION, heads=4)), PREPROCESS) != first


def test_the_text_identity_is_that_of_tower_and_tokenizer() -> None:
    pair = clip()
    first = text_identity(hashes(pair), pair.config, "words")
    assert text_identity({**hashes(pair), "vision.positions": "x"}, pair.config, "words") == first
    assert text_identity(hashes(pair), pair.config, "other words") != first
    assert text_identity({**hashes(pair), "text.positions": "x"}, pair.config, "words") != first
    assert text_identity(hashes(pair), replace(pair.config, text=replace(TEXT, heads=4)), "words") != first
