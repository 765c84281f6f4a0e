"""The towers give the numbers of the public implementation, to 1e-4 in float32."""

from functools import lru_cache

import pytest
import torch
from torch import Tensor

from percept.models.clip import CLIP
from percept.models.zoo import CONFIGS
from percept.weights.fit import load_strict
from percept.weights.layouts.official import from_official, to_official
from tests.golden.filling import checkpoint, image, manifest, reference, tokens

TOLERANCE = 1e-4
SIZES = {"PE-Core-T16-384": [(384, 384)], "PE-Core-B16-224": [(224, 224), (160, 288)]}
CASES = [(name, size) for name, sizes in SIZES.items() for size in sizes]
CORE = list(SIZES)


@lru_cache(maxsize=2)
def filled(name: str) -> CLIP:
    config = CONFIGS[name]
    with torch.device("meta"):
        model = CLIP(config)
    load_strict(model, from_official(checkpoint(name), has_text=config.text is not None), source=name)
    return model.eval()


def check_close(ours: Tensor, key: str) -> None:
    expected = reference(key)
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() < TOLERANCE
    # a difference that always points the same way is a mistake even when it is small
    assert abs(float((ours - expected).mean())) < TOLERANCE / 10


@pytest.mark.parametrize("name", CORE)
@torch.no_grad()
def test_text(name: str) -> None:
    config = CONFIGS[name].text
    assert config is not None
    check_close(filled(name).encode_text(tokens(7, 3, config.context), normalize=True), f"{name}/text")


@pytest.mark.parametrize(("name", "size"), CASES)
@torch.no_grad()
def test_image(name: str, size: tuple[int, int]) -> None:
    check_close(filled(name).encode_image(image(11, 2, 3, *size), normalize=True), f"{name}/image/{size[0]}x{size[1]}")


@pytest.mark.parametrize(("name", "size"), CASES)
@torch.no_grad()
def test_features_at_layers(name: str, size: tuple[int, int]) -> None:
    out = filled(name).vision(image(11, 2, 3, *size), layers=(0, 6, -1), pool=False)
    for layer in (0, 6, -1):
        check_close(out.hidden[layer][:, :8], f"{name}/features/{size[0]}x{size[1]}/layer{layer}")


@pytest.mark.parametrize("name", CORE)
@torch.no_grad()
def test_video(name: str) -> None:
    height, width = SIZES[name][0]
    frames = image(13, 1, 3, 3, height, width)
    check_close(filled(name).encode_video(frames, normalize=True), f"{name}/video/{height}x{width}")


@torch.no_grad()
def test_spatial_tower_gives_its_raw_residual_stream() -> None:
    name = "PE-Spatial-T16-512"
    out = filled(name).vision(image(17, 1, 3, 512, 512))
    assert out.pooled is None
    check_close(out.tokens[:, :16], f"{name}/forward/512x512")
    check_close(out.tokens[:, out.prefix :][:, :16], f"{name}/features/512x512/nocls")


@pytest.mark.parametrize("name", CONFIGS)
def test_keys_and_shapes_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        model = CLIP(CONFIGS[name])
    state = model.state_dict()
    published = {
        key: tuple(state[ours].shape) for ours, key in to_official(model, has_text=model.text is not None).items()
    }
    assert published == manifest(name)


PARAMETERS = {
    "PE-Core-T16-384": 69_545_601,
    "PE-Core-S16-384": 87_187_713,
    "PE-Core-B16-224": 447_659_521,
    "PE-Core-L14-336": 671_137_793,
    "PE-Core-G14-448": 2_419_266_561,
    "PE-Lang-L14-448": 291_415_040,
    "PE-Lang-G14-448": 1_740_922_624,
    "PE-Spatial-T16-512": 5_683_200,
    "PE-Spatial-S16-512": 21_983_232,
    "PE-Spatial-B16-512": 86_433_792,
    "PE-Spatial-L14-448": 303_964_160,
    "PE-Spatial-G14-448": 1_851_887_104,
}


@pytest.mark.parametrize(("name", "expected"), PARAMETERS.items())
def test_parameter_counts_are_the_published_ones(name: str, expected: int) -> None:
    with torch.device("meta"):
        model = CLIP(CONFIGS[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
