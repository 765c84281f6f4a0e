"""The released models as plain data: sizes and repositories. Importing this file does not import torch.

Sizes: facebookresearch/perception_models, core/vision_encoder/config.py.
"""

from dataclasses import dataclass, replace
from typing import Any

from percept.core.errors import unknown_name
from percept.models.config import ClipConfig, TextConfig, VisionConfig
from percept.models.language import DecoderConfig, RopeScaling, VLMConfig


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


def _llama(factor: float | None, **sizes: Any) -> DecoderConfig:
    scaling = None if factor is None else RopeScaling(factor=factor)
    return DecoderConfig(vocabulary=128_256, kv_heads=8, context=131_072, rope_scaling=scaling, **sizes)


def _qwen(vocabulary: int = 151_936, **sizes: Any) -> DecoderConfig:
    return DecoderConfig(vocabulary=vocabulary, context=32_768, rope_base=1e6, norm_eps=1e-6, qkv_bias=True, **sizes)


LLAMA_1B = {"width": 2048, "layers": 16, "heads": 32, "hidden": 8192, "tied": True}
LLAMA_3B = {"width": 3072, "layers": 28, "heads": 24, "hidden": 8192, "tied": True}
LLAMA_8B = {"width": 4096, "layers": 32, "heads": 32, "hidden": 14_336}

DECODERS: dict[str, DecoderConfig] = {
    "Llama-3.2-1B": _llama(32.0, **LLAMA_1B),
    "Llama-3.2-3B": _llama(32.0, **LLAMA_3B),
    "Llama-3.1-8B": _llama(8.0, **LLAMA_8B),
    "Qwen2.5-0.5B": _qwen(width=896, layers=24, heads=14, kv_heads=2, hidden=4864, tied=True),
    "Qwen2.5-1.5B": _qwen(width=1536, layers=28, heads=12, kv_heads=2, hidden=8960, tied=True),
    "Qwen2.5-3B": _qwen(width=2048, layers=36, heads=16, kv_heads=2, hidden=11_008, tied=True),
    "Qwen2.5-7B": _qwen(vocabulary=152_064, width=3584, layers=28, heads=28, kv_heads=4, hidden=18_944),
    "nano": DecoderConfig(
        vocabulary=2048,
        width=256,
        layers=6,
        heads=4,
        kv_heads=2,
        hidden=704,
        context=1024,
        rope_base=10_000.0,
        tied=True,
    ),
}
"""Language decoders by their size: Llama 3 (arXiv:2407.21783) and Qwen2.5 (arXiv:2412.15115)."""

FAIR_LICENCE = (
    "{name} is licensed under the FAIR Noncommercial Research License: research only, no commercial use, and this holds for "
    "derived models and for outputs too. Its terms: https://huggingface.co/{repository}"
)


@dataclass(frozen=True, kw_only=True)
class AssistantEntry:
    """A named perception language model."""

    config: VLMConfig | None
    """None for a packaged model, whose folder contains it."""
    repository: str | None = None
    """Repository on the Hugging Face hub; None for a packaged model."""
    licence: str | None = None
    """Shown before the first download."""


def _plm(name: str, decoder: DecoderConfig, tower: dict) -> AssistantEntry:
    vision = _dense(448, 14, tower, layer_scale=0.1, drop_path=0.1).vision
    config = VLMConfig(vision=vision, decoder=replace(decoder, context=11_520), video_token=128_003)
    repository = f"facebook/{name}"
    return AssistantEntry(
        config=config, repository=repository, licence=FAIR_LICENCE.format(name=name, repository=repository)
    )


ASSISTANTS: dict[str, AssistantEntry] = {
    "plm-nano": AssistantEntry(config=None),
    "Perception-LM-1B": _plm("Perception-LM-1B", DECODERS["Llama-3.2-1B"], LARGE | {"layers": 23}),
    "Perception-LM-3B": _plm("Perception-LM-3B", DECODERS["Llama-3.2-3B"], LARGE | {"layers": 23}),
    "Perception-LM-8B": _plm("Perception-LM-8B", _llama(None, **LLAMA_8B), GIANT | {"layers": 47}),
}
"""Perception language models (arXiv:2504.13180, table 1); plm-nano is ours."""


def find(name: str) -> Entry:
    """Return the entry of a name.

    Raises:
        PerceptError: the name does not exist; the nearest ones are suggested.
    """
    if name not in ZOO:
        raise unknown_name("model", name, ZOO)
    return ZOO[name]
