"""Every image tower fulfils the contract, and a second kind goes the whole way: folder, vectors, features, cut, receipt."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import percept
from percept.core.config import from_dict, to_dict
from percept.core.errors import PerceptError
from percept.data.transforms import Preprocess
from percept.export.graph import ImageGraph
from percept.export.probes import generated
from percept.export.receipt import compare
from percept.models import config as config_module
from percept.models.clip import CLIP
from percept.models.config import ClipConfig, Kind, TowerConfig, VisionConfig
from percept.models.towers import ImageTower, build_tower
from percept.weights.folder import save_folder
from tests.infer import tiny
from tests.models import small
from tests.models.second import ConvConfig, ConvTower, facts

CONV = ConvConfig(image_size=24, patch_size=8, width=16, layers=3, output_dim=tiny.DIM)


@pytest.fixture(autouse=True)
def second_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(config_module.TOWERS, "conv", Kind(**facts()))


def towers() -> dict[str, tuple[ImageTower, Tensor]]:
    return {"pe": (small.clip().vision, small.images()), "conv": (build_tower(CONV), torch.randn(3, 3, 24, 24))}


@pytest.mark.parametrize("name", ["pe", "conv"])
@torch.no_grad()
def test_the_contract(name: str) -> None:
    tower, image = towers()[name]
    assert isinstance(tower, ImageTower)
    assert isinstance(tower.config, TowerConfig)
    config = tower.config
    out = tower(image, layers=(0, -1))
    count = config.prefix + out.grid[0] * out.grid[1]
    assert out.grid == (config.grid, config.grid)
    assert out.prefix == config.prefix
    assert out.tokens.shape == (3, count, config.width)
    assert list(out.hidden) == [0, -1]
    assert all(state.shape == out.tokens.shape for state in out.hidden.values())
    assert out.pooled is not None
    assert out.pooled.shape == (3, config.output_dim)
    assert tower(image, pool=False).pooled is None
    short = tower.cut(0)
    assert isinstance(short, ImageTower)
    assert short.config.layers == 1
    torch.testing.assert_close(short(image, layers=(-1,)).hidden[-1], out.hidden[0])
    wide = torch.cat([image, image], dim=-1)
    for alone, packed in zip((tower(image), tower(wide)), tower.packed([image, wide]), strict=True):
        torch.testing.assert_close(packed.tokens, alone.tokens, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(packed.pooled, alone.pooled, atol=1e-5, rtol=1e-5)


def test_an_export_fulfils_the_contract_and_refuses_what_it_cannot_do(exported) -> None:
    tower = percept.load(exported.folder).model.vision
    assert isinstance(tower, ImageTower)
    image = torch.randn(2, 3, 24, 24)
    tokens = tower(image, layers=(0,)).hidden[0]
    for call in (
        lambda: tower.normed(tokens), lambda: tower.pool_weights(tokens), lambda: tower.cut(0),
        lambda: tower(image, keep=torch.tensor([0])), lambda: tower(embeddings=tokens, grid=(3, 3)),
        lambda: tower.compile(),
    ):  # fmt: skip
        with pytest.raises(PerceptError, match="the model it was made from"):
            call()


def folder(path: Path) -> Path:
    model = CLIP(replace(tiny.config(), vision=CONV))
    save_folder(path, model, name="second", preprocess=Preprocess(size=24), tokenizer=tiny.tokenizer())
    return path


def test_a_second_kind_opens_from_its_folder_and_is_used_like_the_first(tmp_path: Path) -> None:
    encoder = percept.load(folder(tmp_path / "model"), device="cpu", dtype="float32")
    assert isinstance(encoder.model.vision, ConvTower)
    photo = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    vectors = encoder.image([photo, photo])
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
    assert len(encoder.classify([photo, photo], ["a cup", "a dog"])) == 2
    assert encoder.features(photo, layers=(0, -1))[0].shape == (3, 3, 16)
    shapes = [torch.randn(3, 24, 24), torch.randn(3, 16, 32)]
    assert [row.grid for row in encoder.hidden(shapes)] == [(3, 3), (2, 4)]
    cut = encoder.cut(1)
    torch.testing.assert_close(cut.features(photo)[-1], encoder.features(photo, layers=1)[1])
    for call, words in (
        (lambda: encoder.tokens(photo, norm=True), "no final norm"),
        (lambda: encoder.attention(photo), "mean of its cells"),
        (lambda: ImageGraph(encoder.model.vision, dynamic=False, layers=False), "'conv' cannot be exported"),
    ):
        with pytest.raises(PerceptError, match=words):
            call()


def test_receipts_compare_a_second_kind(tmp_path: Path) -> None:
    path = folder(tmp_path / "model")
    one, other = (percept.load(path, device="cpu", dtype=dtype) for dtype in ("float32", "bfloat16"))
    receipt = compare(one, other, generated(6))
    assert receipt.agrees, receipt.findings
    assert receipt.difference("image block 2") is not None
    with torch.no_grad():
        other.model.vision.stages[1].weight.mul_(2)
    assert compare(one, other, generated(6)).first_departure == "image block 1"


@torch.no_grad()
def test_torch_export_traces_the_models_as_they_are() -> None:
    """Their results are dataclasses, in which torch finds the tensors."""
    clip, image, ids = small.clip(), small.images(), small.texts()
    text = clip.get_submodule("text")
    for module, given in ((clip.get_submodule("vision"), image), (text, ids)):
        expected = module(given)
        found = torch.export.export(module, (given,)).module()(given)
        torch.testing.assert_close(found.pooled, expected.pooled)
    found = torch.export.export(clip, (image, ids), strict=False).module()(image, ids)
    torch.testing.assert_close(found.scale, clip.scale())


def test_the_kind_is_read_and_written() -> None:
    first, second = ClipConfig(vision=small.VISION), ClipConfig(vision=CONV)
    assert "kind" not in to_dict(first)["vision"]
    assert to_dict(second)["vision"]["kind"] == "conv"
    for config in (first, second):
        assert from_dict(ClipConfig, to_dict(config)) == config
    tagged = to_dict(first)
    tagged["vision"]["kind"] = "pe"
    assert from_dict(ClipConfig, tagged) == first
    for kind, words in (("convolution", "did you mean 'conv'"), (3, "kind of image tower")):
        with pytest.raises(PerceptError, match=words):
            from_dict(ClipConfig, {"vision": {**to_dict(CONV), "kind": kind}})
    with pytest.raises(PerceptError, match="VisionConfig must be an object with named fields"):
        from_dict(ClipConfig, {"vision": 3})
    assert isinstance(small.VISION, VisionConfig)


def test_equal_weights_of_two_kinds_are_two_models(tmp_path: Path) -> None:
    encoder = percept.load(folder(tmp_path / "model"), device="cpu")
    again = percept.load(tmp_path / "model", device="cpu")
    assert encoder.identity == again.identity
    assert encoder.identity.image != percept.load(tiny.folder(tmp_path / "tiny")).identity.image
