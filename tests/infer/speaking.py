"""A random perception language model that answers in (nonsense) text: tower, decoder, tokenizer and template, all tiny and real."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from percept.data.chat.conversation import Conversation, ImageInput, VideoInput, converse
from percept.data.chat.template import TEMPLATES, named_template
from percept.data.chat.vocabulary import LanguageTokenizer
from percept.infer.assistant import Assistant
from percept.infer.processor import processor_of, save_processor
from percept.infer.setting import Setting
from percept.models.language import VLMConfig
from percept.models.vlm import VLM
from percept.weights.assistant_files import write_assistant
from tests.models import talking

WORDS = [
    "what colour is the cup?",
    "a red cup on the table",
    "yes",
    "no",
    "left",
    "right",
    "two green dogs",
    "user assistant system",
]
CONTEXT = 512


@cache
def tokenizer() -> LanguageTokenizer:
    template = TEMPLATES["plm"]
    specials = [name for name in (template.image, template.begin, template.opening, template.closing) if name]
    specials += [name for name in (template.end_of_turn, template.end) if name]
    return LanguageTokenizer.train(WORDS, vocab_size=320, specials=specials)


def config(**changes: Any) -> VLMConfig:
    tokens = tokenizer()
    template = TEMPLATES["plm"]
    decoder = replace(talking.DECODER, vocabulary=tokens.vocab_size, context=CONTEXT, tied=False)
    return replace(
        talking.TALKING, decoder=decoder, image_token=tokens.special(template.image), video_token=None,
        stop_ids=template.stops(tokens), **changes,
    )  # fmt: skip


@cache
def model(seed: int = 0, scale: float = 8.0) -> VLM:
    """Weights large enough that every token matters."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = VLM(config())
        for parameter in made.decoder.parameters():
            parameter.data.mul_(scale if parameter.dim() == 2 else 1)
        for parameter in made.projector.parameters():
            parameter.data.mul_(12)
    return made.eval()


def assistant(
    *, seed: int = 0, batch: int = 16, dtype: torch.dtype = torch.float32, system: str | None = None
) -> Assistant:
    """Without anything remembered."""
    setting = Setting(device=torch.device("cpu"), dtype=dtype, batch=batch)
    made = VLM(config())
    made.load_state_dict(model(seed).state_dict())
    processor = processor_of(made.config, tokenizer(), named_template("plm", system=system))
    return Assistant(made, name="speaking", setting=setting, processor=processor)


def folder(path: Path) -> Path:
    made = model()
    write_assistant(path, made.state_dict(), made.config, name="speaking")
    save_processor(path, processor_of(made.config, tokenizer(), named_template("plm")))
    return path


def picture(number: int, width: int = 20, height: int = 16) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def about(number: int, text: str = "what colour is the cup?", *turns: str) -> Conversation:
    """A prompt about one picture; further texts are answers and questions by turns."""
    spoken = [("user", text), *(((("assistant", "user")[place % 2]), turn) for place, turn in enumerate(turns))]
    return converse(spoken, [ImageInput(source=picture(number))])


def clip(number: int, frames: int) -> VideoInput:
    return VideoInput(source=[picture(number + frame) for frame in range(frames)])
