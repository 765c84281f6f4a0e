"""Configurations: what is refused and how it is said; every released one builds."""

from copy import copy
from dataclasses import replace

import pytest
import torch

from percept.core.config import from_dict, to_dict
from percept.core.errors import PerceptError
from percept.models import zoo
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from tests.models.small import TEXT, VISION


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"heads": 3}, "16 does not divide into 3 heads"),
        ({"heads": 8}, "in fours, not 2"),
        ({"heads": 0}, "heads=0"),
        ({"layers": 0}, "layers=0"),
        ({"layers": 10**7}, "at most 512"),
        ({"patch_size": 0}, "patch_size=0"),
        ({"image_size": 3}, "below one patch of 4"),
        ({"pool_heads": 5}, "change pool_heads"),
        ({"pool": "class", "class_token": False}, "class_token=True"),
        ({"pool": "none"}, "needs a pooled vector"),
    ],
)
def test_vision_shapes_that_cannot_be(changes: dict, hint: str) -> None:
    with pytest.raises(PerceptError, match=hint):
        from_dict(type(VISION), to_dict(VISION) | changes)


def test_a_mistyped_pool_is_answered_with_the_nearest() -> None:
    config = copy(VISION)
    object.__setattr__(config, "pool", "atention")  # as read from json, where nothing checks the type
    with pytest.raises(PerceptError, match="'attention'"):
        config.__post_init__()


@pytest.mark.parametrize(("changes", "hint"), [({"heads": 5}, "5 heads"), ({"vocabulary": 0}, "vocabulary=0")])
def test_text_shapes_that_cannot_be(changes: dict, hint: str) -> None:
    with pytest.raises(PerceptError, match=hint):
        replace(TEXT, **changes)


def test_towers_that_end_in_different_sizes() -> None:
    with pytest.raises(PerceptError, match="12 and 16"):
        ClipConfig(vision=VISION, text=replace(TEXT, output_dim=16))


@pytest.mark.parametrize("name", zoo.CONFIGS)
def test_every_released_configuration_builds_and_survives_json(name: str) -> None:
    config = zoo.find(name).config
    assert config is not None
    with torch.device("meta"):
        model = CLIP(config)
    assert model.vision.patch.weight.shape[-1] == config.vision.patch_size
    assert from_dict(ClipConfig, to_dict(config)) == config
    assert zoo.find(name).repository == f"facebook/{name}"


def test_a_mistyped_model_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(PerceptError, match="did you mean 'PE-Core-L14-336'"):
        zoo.find("PE-Core-L14-337")
