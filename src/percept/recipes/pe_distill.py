"""pe/distill: distil a Perception Encoder from a larger one.

    percept train pe/distill --init runs/pe-pretrain --teacher nano

Bolya et al. 2025, arXiv:2504.13181, table 19 and the appendix on distillation: L and B were distilled from G after image pretraining.
"""

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

import torch

from percept.core.errors import PerceptError
from percept.core.machine import fast_dtype, pick_device
from percept.core.report import notice
from percept.data.batch import Batch
from percept.data.source import Source
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.methods.pretraining import distill as distillation
from percept.methods.pretraining.distill import TaughtText
from percept.models.clip import CLIP
from percept.recipes import pe_data
from percept.recipes.pe import SIZES
from percept.recipes.pe_memory import estimate
from percept.recipes.pe_sizes import DISTILLATION
from percept.recipes.pe_stages import Start, few, in_parts, opened, planned, whole_images
from percept.train.experiment import Experiment, Placement, Settings
from percept.world.cache import WorldData


@dataclass(frozen=True, kw_only=True)
class Distill(pe_data.WithWorld):
    """Complete configuration of a distillation."""

    teacher: str = "nano"
    """Name or folder of the larger model."""
    init: str = ""
    """Name or folder of the student to begin with; a new model of `size` if empty, with the teacher's vocabulary."""
    size: Literal["pico", "nano", "T", "S", "B", "L", "G"] = "pico"
    """Size of a new student."""
    augmentation: bool = False
    """Augment images; the paper does not in distillation."""
    published: bool = False
    """Take the published optimiser, steps, batch, learning rate and warmup, in place of those of `settings`."""
    method: distillation.Config = field(default_factory=distillation.Config)
    settings: Settings = field(default_factory=lambda: Settings(steps=1_000, batch=128, learning_rate=1e-3, warmup=50))

    def plan(self) -> Settings:
        """Return the settings of the run."""
        return DISTILLATION.over(self.settings) if self.published else self.settings


def distill(
    config: Distill | None = None, *, command: str = "percept train pe/distill", name: str = "pe/distill"
) -> Experiment:
    """Distil a model from a larger one: learn its similarities of all images and texts of a batch."""
    config = config or Distill()
    settings = config.plan()
    pick_device(settings.device)

    @cache
    def teacher() -> Start:
        return opened(config.teacher)

    @cache
    def start() -> Start:
        return opened(config.init) if config.init else new_student(config, teacher())

    def source(place: Placement) -> Source:
        ours, theirs = start(), teacher()
        check_pair(config, ours, theirs)
        larger = max((ours, theirs), key=lambda each: each.side)
        plain = whole_images(
            config, replace(larger, tokenizer=ours.tokenizer), place, settings, augment=config.augmentation
        )
        return Taught(plain, ours.tokenizer, theirs.tokenizer)

    def task(place: Placement) -> distillation.Distillation:
        clip, model = start().clip(), rounded(teacher().clip(), settings, place)
        method, frozen = in_parts(config.method, place), sum(each.numel() for each in model.parameters())
        need = estimate(clip, settings, place, method, side=start().side, frozen=frozen)
        notice(f"{name} needs about {need}")
        return distillation.Distillation(method, clip, model)

    return planned(name, command, config, settings, source, task, start, forget=bool(config.data))


def tiny_distill() -> Distill:
    """Return a configuration that runs in seconds."""
    return Distill(world=WorldData(pairs=64), settings=few())


def new_student(config: Distill, teacher: Start) -> Start:
    """Return a new model with the vocabulary of its teacher."""
    size = SIZES[config.size]
    assert size.model.text is not None
    tokenizer, normal = teacher.tokenizer, teacher.preprocess
    text = replace(size.model.text, vocabulary=tokenizer.vocab_size, context=tokenizer.context)
    preprocess = Preprocess(size=size.model.vision.image_size, mean=normal.mean, std=normal.std)
    return Start(init="", config=replace(size.model, text=text), tokenizer=tokenizer, preprocess=preprocess)


def check_pair(config: Distill, ours: Start, theirs: Start) -> None:
    """Raise a PerceptError if student and teacher do not take the same pixels."""
    first, second = ours.preprocess, theirs.preprocess
    if (tuple(first.mean), tuple(first.std)) != (tuple(second.mean), tuple(second.std)):
        raise PerceptError(
            f"{config.init} and {config.teacher} normalise images differently. Give a student and a teacher that do it alike."
        )


def rounded(teacher: CLIP, settings: Settings, place: Placement) -> CLIP:
    """Return a teacher in the number type of the run; scalars are never rounded."""
    named = {"bfloat16": torch.bfloat16, "float32": torch.float32}
    dtype = named.get(settings.dtype) or fast_dtype(place.device)[0]
    for parameter in teacher.parameters():
        if parameter.dim():
            parameter.data = parameter.data.to(dtype)
    return teacher


class Taught:
    """A source of images and texts for a student, with the token ids of its teacher.

    Where their vocabularies differ, the teacher gets the text that the student's ids stand for, so that both see the same words.
    """

    def __init__(self, source: Source, ours: Tokenizer, theirs: Tokenizer) -> None:
        self.source, self.ours, self.theirs = source, ours, theirs
        self.same = (ours.to_json(), ours.context) == (theirs.to_json(), theirs.context)

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> Batch:
        """Return this process's share of the batch of a step."""
        given: Any = self.source.batch(step, rank=rank, world_size=world_size)
        tokens = given.tokens
        taught = (
            tokens if self.same else self.theirs([self.ours.decode(row) for row in tokens.tolist()]).to(tokens.device)
        )
        return TaughtText(image=given.image, tokens=tokens, teacher_tokens=taught)
