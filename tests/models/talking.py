"""Language models of a few thousand parameters, with and without an image tower."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from percept.models.language import DecoderConfig, RopeScaling, VLMConfig
from percept.models.lm import Decoder
from percept.models.vlm import VLM
from tests.models.small import VISION

DECODER = DecoderConfig(
    vocabulary=50, width=16, layers=3, heads=4, kv_heads=2, hidden=24, context=64, rope_base=100.0,
    rope_scaling=RopeScaling(factor=4.0, context=16), tied=True,
)  # fmt: skip
IMAGE, VIDEO, STOP = 48, 47, 49
TOWER = replace(VISION, pool="none", norm_post=False, output_dim=None, layer_scale=0.1, pool_heads=8)
"""16 pixels in patches of 4, with a class token: 16 patches, 4 visual tokens."""
TALKING = VLMConfig(
    vision=TOWER, decoder=DECODER, pooling=2, image_token=IMAGE, video_token=VIDEO, stop_ids=(STOP,), tiles=4, frames=2
)
EACH = 4
"""Visual tokens of an image."""


def decoder(seed: int = 0, **changes: Any) -> Decoder:
    """A decoder in evaluation mode whose weights are large enough that every token matters."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Decoder(replace(DECODER, **changes))
        for parameter in model.parameters():
            parameter.data.mul_(8 if parameter.dim() == 2 else 1)
    return model.eval()


def vlm(seed: int = 0, **changes: Any) -> VLM:
    """A model in evaluation mode; `changes` are of its configuration."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = VLM(replace(TALKING, **changes))
        for parameter in model.decoder.parameters():
            parameter.data.mul_(8 if parameter.dim() == 2 else 1)
    return model.eval()


def ids(count: int, batch: int = 1) -> Tensor:
    """Random ids of words."""
    return torch.randint(0, VIDEO, (batch, count))


def prompt(images: int, words: int = 3) -> Tensor:
    """A word, the placeholders of some images, and more words."""
    return torch.cat([ids(1), torch.full((1, images * EACH), IMAGE), ids(words)], dim=1)
