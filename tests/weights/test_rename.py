"""Renaming is one to one: no surplus key takes the place of a weight, in no layout."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from percept.core.errors import PerceptError
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from percept.weights.files import read_tensors
from percept.weights.fit import check_fit
from percept.weights.layouts import find_layout, readable
from percept.weights.open import read_weights
from percept.weights.rename import renamed
from tests.models.small import clip


def theirs(layout: str) -> dict[str, Tensor]:
    return find_layout(layout).to_theirs(clip(layer_scale=0.1).state_dict())


def opened(state: dict, config: ClipConfig, folder: Path) -> None:
    torch.save(state, folder / "a.pt")
    found = read_weights(folder / "a.pt", config=config)
    check_fit(CLIP(found.config), found.state, source="a.pt", spelled=found.spelled)


SURPLUS = {
    "official": (
        "blocks.0.norm_1.bias", "visual.patch.weight", "visual.class_token", "visual.positions", "visual.projection",
        "visual.blocks.0.norm_1.weight", "visual.attn_pool.norm.bias", "visual.attn_pool.qkv.weight",
        "visual.pool.qkv.weight", "visual.transformer.resblocks.0.norm_1.bias", "log_scale", "embedding.weight",
        "projection", "norm.weight", "text.projection",
    ),
    "timm": (
        "positions", "patch.weight", "blocks.0.norm_1.weight", "projection", "class_token", "norm_post.weight",
        "attn_pool.qkv.weight", "pool.qkv.bias", "pool.probe", "attn_pool.out.weight", "blocks.0.scale_1.gamma",
    ),
    "open_clip": (
        "visual.trunk.positions", "visual.trunk.patch.weight", "visual.trunk.blocks.0.norm_1.weight",
        "visual.trunk.projection", "visual.trunk.attn_pool.qkv.weight", "text.blocks.0.norm_1.bias",
        "text.projection", "log_scale", "vision.patch.weight", "vision.blocks.0.norm_1.weight",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("layout", "key"), [(layout, key) for layout, keys in SURPLUS.items() for key in keys])
def test_names_that_only_we_have_are_unexpected_in_other_layouts(layout: str, key: str, tmp_path: Path) -> None:
    config = clip(layer_scale=0.1).config
    opened(theirs(layout), config, tmp_path)
    with pytest.raises(PerceptError) as caught:
        opened({**theirs(layout), key: torch.zeros(2)}, config, tmp_path)
    assert f"  unexpected: {key}" in str(caught.value).splitlines()
    assert "missing" not in str(caught.value)


@pytest.mark.parametrize("layout", readable())
@pytest.mark.parametrize(
    "prefixes", [("", "module."), ("", "_orig_mod."), ("_orig_mod.", "module."), ("module._orig_mod.", "module.")]
)
def test_two_keys_that_differ_in_their_prefix_are_both_named(
    layout: str, prefixes: tuple[str, str], tmp_path: Path
) -> None:
    state = theirs(layout)
    key = next(iter(state))
    first, second = (prefix + key for prefix in prefixes)
    del state[key]
    with pytest.raises(PerceptError, match=f"the keys {first} and {second} of this file both map to {key}"):
        opened({**state, first: torch.ones(2), second: torch.zeros(2)}, clip().config, tmp_path)


def test_nothing_is_lost_by_a_name_given_twice() -> None:
    assert renamed({"a": 1, 2: 3}, str) == {"a": 1, "2": 3}
    with pytest.raises(PerceptError, match="the keys 2 and 2 of this file"):
        renamed({2: 1, "2": 3}, str)


TWICE = {
    "state_dict, model": lambda state: {"state_dict": state, "model": state},
    "weights, model": lambda state: {"weights": state, "model": {"state_dict": state}},
    "state_dict, state_dict_ema": lambda state: {"state_dict": state, "state_dict_ema": state},
    "model, visual.proj": lambda state: {"model": state, "visual.proj": state["visual.proj"]},
}


@pytest.mark.parametrize("places", TWICE)
def test_weights_that_are_there_twice_are_refused(places: str, tmp_path: Path) -> None:
    state = theirs("official")
    for wrapped in (TWICE[places](state), {"state_dict": TWICE[places](state)}):
        torch.save(wrapped, tmp_path / "a.pt")
        with pytest.raises(PerceptError, match=f"weights more than once, under {places};"):
            read_tensors(tmp_path / "a.pt")


def test_what_is_no_set_of_weights_beside_them_is_no_second_one(tmp_path: Path) -> None:
    state = theirs("official")
    torch.save({"model": {"width": 16}, "state_dict": state, "rng_state": torch.zeros(3)}, tmp_path / "a.pt")
    assert read_tensors(tmp_path / "a.pt").keys() == state.keys()
