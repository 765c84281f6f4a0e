"""Files of timm and open_clip give those libraries' own numbers, to 1e-4 in float32.

Their models were filled by their own keys (tests/golden/manifests), so a wrong key map shows as wrong numbers.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import percept
from percept.core.io import save_tensors, write_json
from percept.infer.encoder import Encoder
from percept.models.config import ClipConfig
from percept.models.zoo import CONFIGS
from percept.weights.layouts import find_layout, recognise
from percept.weights.layouts.official import from_official
from percept.weights.layouts.open_clip import OPEN_CLIP
from percept.weights.layouts.timm import CONFIG, NAMES, timm_name, to_timm
from percept.weights.locate import locate
from percept.weights.open import Weights, read_model
from tests.golden.filling import FOLDER, checkpoint, image, manifest, tokens, weight

TOLERANCE = 1e-4
TIMM_CORE, TIMM_SPATIAL = "vit_pe_core_tiny_patch16_384", "vit_pe_spatial_tiny_patch16_512"
PAIR = "PE-Core-T-16-384"


def reference(key: str) -> Tensor:
    with np.load(FOLDER / "layout_outputs.npz") as stored:
        return torch.from_numpy(stored[key])


def check_close(ours: Tensor, key: str) -> None:
    expected = reference(key)
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() < TOLERANCE
    assert abs(float((ours - expected).mean())) < TOLERANCE / 10


@lru_cache(maxsize=1)
def opened(folder: Path, library: str, name: str) -> Encoder:
    save_tensors(folder / f"{name}.safetensors", checkpoint(f"{library}-{name}"))
    return percept.load(folder / f"{name}.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layouts")


@torch.no_grad()
def test_timm_core(folder: Path) -> None:
    encoder = opened(folder, "timm", TIMM_CORE)
    out = encoder.model.vision(image(51, 1, 3, 384, 384))
    check_close(out.tokens[:, :8], f"timm/{TIMM_CORE}/tokens")
    assert out.pooled is not None
    check_close(out.pooled, f"timm/{TIMM_CORE}/forward")
    assert encoder.model.config.vision.output_bias  # the filling gives the head a bias, which counts
    assert encoder.identity.name == "PE-Core-T16-384"


@torch.no_grad()
def test_timm_spatial(folder: Path) -> None:
    encoder = opened(folder, "timm", TIMM_SPATIAL)
    check_close(encoder.model.vision(image(51, 1, 3, 512, 512)).tokens[:, :8], f"timm/{TIMM_SPATIAL}/tokens")
    assert encoder.identity.name == "PE-Spatial-T16-512"


@torch.no_grad()
def test_open_clip(folder: Path) -> None:
    encoder = opened(folder, "open_clip", PAIR)
    check_close(encoder.image(image(52, 1, 3, 384, 384)), f"open_clip/{PAIR}/image")
    check_close(encoder.text(tokens(53, 2, 32)), f"open_clip/{PAIR}/text")


@pytest.mark.parametrize(("library", "name"), [("timm", TIMM_CORE), ("timm", TIMM_SPATIAL), ("open_clip", PAIR)])
def test_what_we_write_has_exactly_their_keys_and_shapes(library: str, name: str) -> None:
    ours = NAMES[name] if library == "timm" else "PE-Core-T16-384"
    state = from_official(checkpoint(ours), has_text="Core" in ours)
    written = find_layout(library).to_theirs(state)
    assert {key: tuple(value.shape) for key, value in written.items()} == manifest(f"{library}-{name}")
    assert recognise(written, source=name).name == library


@pytest.mark.parametrize("name", NAMES)
def test_the_architectures_of_timm_are_the_released_towers(name: str) -> None:
    assert timm_name(CONFIGS[NAMES[name]].vision) == name


TIMM_PARAMETERS = {
    "vit_pe_core_base_patch16_224": (166, 93_673_984),
    "vit_pe_core_gigantic_patch14_448": (621, 1_882_033_920),
    "vit_pe_core_large_patch14_336": (310, 317_152_256),
    "vit_pe_core_small_patch16_384": (166, 23_783_168),
    "vit_pe_core_tiny_patch16_384": (166, 6_141_056),
    "vit_pe_lang_gigantic_patch14_448": (662, 1_740_922_624),
    "vit_pe_lang_large_patch14_448": (327, 291_415_040),
    "vit_pe_spatial_base_patch16_512": (149, 86_433_792),
    "vit_pe_spatial_gigantic_patch14_448": (704, 1_851_887_104),
    "vit_pe_spatial_large_patch14_448": (293, 303_964_160),
    "vit_pe_spatial_small_patch16_512": (149, 21_983_232),
    "vit_pe_spatial_tiny_patch16_512": (149, 5_683_200),
}
"""Tensors and numbers in the state dict of timm 1.0.31's model."""


@pytest.mark.parametrize("name", TIMM_PARAMETERS)
def test_every_released_tower_becomes_a_state_of_timms_size(name: str) -> None:
    published = NAMES[name]
    with torch.device("meta"):
        filled = {key: torch.empty(shape) for key, shape in manifest(published).items()}
    state = from_official(filled, has_text=False)
    written = to_timm({key.removeprefix("vision."): value for key, value in state.items()})
    assert (len(written), sum(value.numel() for value in written.values())) == TIMM_PARAMETERS[name]


@pytest.mark.parametrize("name", [TIMM_CORE, TIMM_SPATIAL])
def test_values_go_where_the_table_says(name: str) -> None:
    """The map, transcribed once more by hand for one block and everything outside the blocks."""
    theirs = {key: weight(key, shape) for key, shape in manifest(f"timm-{name}").items()}
    ours = find_layout("timm").to_ours(theirs)
    same = {
        "vision.patch.weight": "patch_embed.proj.weight",
        "vision.norm_pre.bias": "norm_pre.bias",
        "vision.blocks.3.norm_1.weight": "blocks.3.norm1.weight",
        "vision.blocks.3.norm_2.bias": "blocks.3.norm2.bias",
        "vision.blocks.3.attention.qkv.weight": "blocks.3.attn.qkv.weight",
        "vision.blocks.3.attention.out.bias": "blocks.3.attn.proj.bias",
        "vision.blocks.3.mlp.up.weight": "blocks.3.mlp.fc1.weight",
        "vision.blocks.3.mlp.down.bias": "blocks.3.mlp.fc2.bias",
    }
    if name == TIMM_CORE:
        same |= {
            "vision.norm_post.weight": "norm.weight",
            "vision.pool.probe": "attn_pool.latent",
            "vision.pool.out.weight": "attn_pool.proj.weight",
            "vision.pool.norm.bias": "attn_pool.norm.bias",
            "vision.pool.mlp.up.bias": "attn_pool.mlp.fc1.bias",
            "vision.pool.mlp.down.weight": "attn_pool.mlp.fc2.weight",
            "vision.projection_bias": "head.bias",
        }
        assert torch.equal(ours["vision.projection"], theirs["head.weight"].T)
        width = theirs["cls_token"].shape[-1]
        assert torch.equal(ours["vision.pool.qkv.weight"][:width], theirs["attn_pool.q.weight"])
        assert torch.equal(ours["vision.pool.qkv.bias"][width:], theirs["attn_pool.kv.bias"])
    for mine, key in same.items():
        assert torch.equal(ours[mine], theirs[key])
    assert torch.equal(ours["vision.class_token"], theirs["cls_token"][0, 0])
    assert torch.equal(ours["vision.positions"], theirs["pos_embed"][0])


def weights_of(folder: Path) -> Weights:
    return read_model(locate(folder))[0]


def test_folders_of_the_libraries_tell_the_preprocessing(tmp_path: Path) -> None:
    """Folders as the libraries publish them: sizes in their own configuration, weights under their own names."""
    for name in ("timm", "open_clip"):
        (tmp_path / name).mkdir()
    save_tensors(tmp_path / "timm" / "model.safetensors", checkpoint(f"timm-{TIMM_SPATIAL}"))
    pretrained = {"mean": [0.4, 0.5, 0.6], "std": [0.1, 0.2, 0.3]}
    write_json(tmp_path / "timm" / CONFIG, {"architecture": TIMM_SPATIAL, "pretrained_cfg": pretrained})
    torch.save(checkpoint(f"open_clip-{PAIR}"), tmp_path / "open_clip" / "open_clip_pytorch_model.bin")
    preprocess = {"mean": [0, 0, 0], "std": [1, 1, 1], "resize_mode": "shortest"}
    write_json(tmp_path / "open_clip" / OPEN_CLIP, {"model_cfg": {}, "preprocess_cfg": preprocess})
    spatial, pair = weights_of(tmp_path / "timm"), weights_of(tmp_path / "open_clip")
    assert (spatial.preprocess.mean, spatial.preprocess.std) == ((0.4, 0.5, 0.6), (0.1, 0.2, 0.3))
    assert (pair.preprocess.mean, pair.preprocess.resize, pair.preprocess.size) == ((0, 0, 0), "crop", 384)
    assert isinstance(pair.config, ClipConfig)
    assert pair.config.text == CONFIGS["PE-Core-T16-384"].text
