"""Perception language models of random weights with a tokenizer and a chat template, for measuring speed. Answers never end early."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from percept.data.chat.processor import Processor
from percept.data.chat.template import TEMPLATES, named_template
from percept.data.chat.vocabulary import LanguageTokenizer
from percept.infer.processor import processor_of, save_processor
from percept.models.config import VisionConfig
from percept.models.language import DecoderConfig, RopeScaling, VLMConfig
from percept.models.vlm import VLM
from percept.weights.assistant_files import write_assistant

WORDS = (
    "what is on the table?",
    "a red cup to the left of two green dogs",
    "user assistant system",
    "how many birds are there?",
)
TOY_TOWER = VisionConfig(
    image_size=112,
    patch_size=14,
    width=192,
    layers=6,
    heads=6,
    pool_heads=8,
    pool="none",
    norm_post=False,
    layer_scale=0.1,
)
TOY_DECODER = DecoderConfig(
    vocabulary=8192, width=256, layers=6, heads=8, kv_heads=2, hidden=768, context=2048, tied=True,
    rope_scaling=RopeScaling(factor=32.0, context=512),
)  # fmt: skip
BASE_TOWER = VisionConfig(
    image_size=224, patch_size=16, width=768, layers=12, heads=12, pool_heads=8, pool="none", norm_post=False
)
"""PE-Core-B16-224 without its pooling."""
HALF_DECODER = DecoderConfig(
    vocabulary=151_936, width=896, layers=24, heads=14, kv_heads=2, hidden=4864, context=4096, rope_base=1e6, qkv_bias=True, tied=True,
    norm_eps=1e-6,
)  # fmt: skip
"""Qwen2.5-0.5B."""


@dataclass(frozen=True)
class Made:
    """A model and what surrounds it."""

    model: VLM
    processor: Processor

    def save(self, folder: Path, *, layout: str = "percept") -> Path:
        """Write a folder that `percept.assistant` opens."""
        write_assistant(folder, self.model.state_dict(), self.model.config, name="random", layout=layout)
        save_processor(folder, self.processor)
        return folder


def made(tower: VisionConfig, decoder: DecoderConfig, *, tiles: int = 1, dtype: torch.dtype = torch.float32) -> Made:
    """Return a model of random weights."""
    template = TEMPLATES["plm"]
    specials = (template.image, template.begin, template.opening, template.closing, template.end_of_turn, template.end)
    tokenizer = LanguageTokenizer.train(WORDS, vocab_size=400, specials=[name for name in specials if name])
    stops = template.stops(tokenizer)
    config = VLMConfig(
        vision=tower, decoder=decoder, image_token=tokenizer.special(template.image), stop_ids=stops, tiles=tiles
    )
    with torch.device("meta"):
        model = VLM(config).to(dtype)
    model = model.to_empty(device="cpu")
    torch.manual_seed(0)
    model.reset_parameters()
    with torch.no_grad():
        model.decoder.embedding.weight[list(stops)] = 0  # never the largest logit
    return Made(model.eval(), processor_of(config, tokenizer, named_template("plm")))


def toy(**changes: int) -> Made:
    """Return a model of about 10 million parameters."""
    return made(TOY_TOWER, replace(TOY_DECODER, **changes))


def photo(number: int, width: int = 640, height: int = 480) -> Image.Image:
    """Return an image of noise; each number has its own."""
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)
