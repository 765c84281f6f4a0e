"""The processor of a perception language model: its tokenizer, chat template and tiles, from its folder and configuration."""

from pathlib import Path

from percept.core.errors import PerceptError
from percept.data.chat.checkpoint import CHAT_FILE, template_of_folder
from percept.data.chat.processor import Processor
from percept.data.chat.template import Template
from percept.data.chat.tiles import Tiler
from percept.data.chat.vocabulary import LanguageTokenizer
from percept.models.language import VLMConfig


def processor_of(config: VLMConfig, tokenizer: LanguageTokenizer, template: Template) -> Processor:
    """Return the processor of a model with these parts.

    Raises:
        PerceptError: the tokenizer lacks a token of the template, or its image token is not that of the model.
    """
    image = tokenizer.special(template.image)
    if image not in config.placeholders:
        raise PerceptError(
            f"the tokenizer has {template.image} as token {image}, the model has {config.image_token}. Use the tokenizer of the model."
        )
    side, alone = config.vision.image_size, config.tiles == 1
    tiler = Tiler(size=side, most=0 if alone else config.tiles, mode="single" if alone else "published")
    return Processor(
        tokenizer=tokenizer, template=template, tiler=tiler, per_tile=config.tile_tokens, frames=config.frames
    )


def open_processor(folder: Path | None, config: VLMConfig) -> Processor | None:
    """Return the processor of a model's folder; None if it has no tokenizer or no chat template.

    Raises:
        PerceptError: one of the files is damaged, or does not fit the model.
    """
    tokenizer = None if folder is None else LanguageTokenizer.of_folder(folder)
    template = None if folder is None else template_of_folder(folder)
    return None if tokenizer is None or template is None else processor_of(config, tokenizer, template)


def save_processor(folder: Path, processor: Processor) -> None:
    """Write tokenizer.json and chat.json."""
    processor.tokenizer.save(folder / "tokenizer.json")
    processor.template.save(folder / CHAT_FILE)
