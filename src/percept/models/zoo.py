"""The released models as plain data: sizes and repositories. Importing this file does not import torch.

Sizes: facebookresearch/perception_models, core/vision_encoder/config.py.
"""

from dataclasses import dataclass

from percept.core.errors import unknown_name
from percept.models.config import ClipConfig, TextConfig, VisionConfig


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A named model."""

    config: ClipConfig | None
    """None for a packaged model, whose folder contains it."""
    repository: str | None = None
    """Repository on the Hugging Face hub that contains NAME.pt; None for a packaged model."""


TINY = {"width": 192, "layers": 12, "heads": 3}
SMALL = {"width": 384, "layers": 12, "heads": 6}
BASE = {"width": 768, "layers": 12, "heads": 12}
LARGE = {"width": 1024, "layers": 24, "heads": 16}
GIANT = {"width": 1536, "layers": 50, "heads": 16, "hidden": 8960, "class_token": False}
DENSE = {"pool": "none", "norm_post": False}
"""PE-Lang and PE-Spatial return the raw residual stream."""


def _text(width: int, layers: int, heads: int, context: int = 32) -> TextConfig:
    return TextConfig(context=context, vocabulary=49_408, width=width, layers=layers, heads=heads, output_dim=width)


def _core(size: int, patch: int, tower: dict, text: TextConfig) -> ClipConfig:
    vision = VisionConfig(image_size=size, patch_size=patch, output_dim=text.output_dim, **tower)
    return ClipConfig(vision=vision, text=text)


def _dense(size: int, patch: int, tower: dict, **changes: int | float) -> ClipConfig:
    return ClipConfig(vision=VisionConfig(image_size=size, patch_size=patch, **{**tower, **DENSE, **changes}))


CONFIGS: dict[str, ClipConfig] = {
    "PE-Core-T16-384": _core(384, 16, TINY, _text(512, 12, 8)),
    "PE-Core-S16-384": _core(384, 16, SMALL, _text(512, 12, 8)),
    "PE-Core-B16-224": _core(224, 16, BASE, _text(1024, 24, 16)),
    "PE-Core-L14-336": _core(336, 14, LARGE, _text(1024, 24, 16)),
    "PE-Core-G14-448": _core(448, 14, GIANT, _text(1280, 24, 20, context=72)),
    "PE-Lang-L14-448": _dense(448, 14, LARGE, layers=23, layer_scale=0.1),
    "PE-Lang-L14-448-Tiling": _dense(448, 14, LARGE, layers=23, layer_scale=0.1),
    "PE-Lang-G14-448": _dense(448, 14, GIANT, layers=47, layer_scale=0.1),
    "PE-Lang-G14-448-Tiling": _dense(448, 14, GIANT, layers=47, layer_scale=0.1),
    "PE-Spatial-T16-512": _dense(512, 16, TINY),
    "PE-Spatial-S16-512": _dense(512, 16, SMALL),
    "PE-Spatial-B16-512": _dense(512, 16, BASE),
    "PE-Spatial-L14-448": _dense(448, 14, LARGE),
    "PE-Spatial-G14-448": _dense(448, 14, GIANT, layer_scale=0.1),
}

PACKAGED = ("nano",)
"""Models whose folder is part of the package."""

ZOO: dict[str, Entry] = {name: Entry(config=None) for name in PACKAGED} | {
    name: Entry(config=config, repository=f"facebook/{name}") for name, config in CONFIGS.items()
}


def find(name: str) -> Entry:
    """Return the entry of a name.

    Raises:
        PerceptError: the name does not exist; the nearest ones are suggested.
    """
    if name not in ZOO:
        raise unknown_name("model", name, ZOO)
    return ZOO[name]
