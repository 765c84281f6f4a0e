"""Floating-point operations of image-text pretraining, from shapes alone, so that runs can have equal budgets."""

from dataclasses import replace
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from percept.models.config import TextConfig, VisionConfig
from percept.models.text import TextTower
from percept.models.vision import VisionTower
from percept.recipes.pe import Config

TEXT_TOKENS = 20
"""Tokens of a text on average: texts are encoded with others of similar length, so padding hardly counts."""
PASSES = 3
"""A training step costs three times the matrix products of its forward pass."""


@cache
def image_operations(vision: VisionConfig, side: int) -> int:
    """Return the operations of the matrix products of one forward pass of an image of `side` pixels."""
    with torch.device("meta"):
        tower, image = VisionTower(vision), torch.empty(1, 3, side, side)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tower(image)
    return counter.get_total_flops()


@cache
def text_operations(text: TextConfig, tokens: int) -> int:
    """Return the operations of the matrix products of one forward pass of a text of `tokens` tokens."""
    with torch.device("meta"):
        tower, ids = TextTower(text), torch.empty(1, tokens, text.width)
        ends = torch.zeros(1, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tower(embeddings=ids, ends=ends)
    return counter.get_total_flops()


def training_operations(config: Config, *, text_tokens: int = TEXT_TOKENS) -> float:
    """Return the operations of a whole run, without those of the loss."""
    model, settings, stages = config.model(config.vocabulary), config.plan(), config.stages()
    assert isinstance(model.vision, VisionConfig)
    assert model.text is not None
    hidden = config.method.mask_share if config.on("mask_regularisation") else 0.0
    text = text_operations(model.text, text_tokens)
    ends = [*(stage.first for stage in stages[1:]), settings.steps]
    steps = [end - stage.first for stage, end in zip(stages, ends, strict=True)]
    sample = [(1 + hidden) * image_operations(model.vision, stage.size) + text for stage in stages]
    return PASSES * settings.batch * sum(count * each for count, each in zip(steps, sample, strict=True))


def at_budget(config: Config, operations: float) -> Config:
    """Return a run of about `operations`: its steps and warmup change in proportion."""
    share = operations / training_operations(config)
    settings = config.settings
    steps = max(1, round(share * settings.steps))
    return replace(config, settings=replace(settings, steps=steps, warmup=round(share * settings.warmup)))
