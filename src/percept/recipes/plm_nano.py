"""plm/nano: a perception language model small enough for a laptop, on the generated world.

    percept train plm/nano                 # four parts in a row, resumable
    percept train plm/nano --tiny          # a few seconds

The parts follow the three stages of PLM (Cho et al. 2025, arXiv:2504.13180, section 3) with two differences. There is no trained language
model of this size, so in a part before them the decoder learns the language of the world from questions and answers without images. And a
decoder without any training on images first has to learn to find the thing that a question names; so stage 1 trains decoder and projector on
short questions, where PLM trains the projector alone on captions. Stage 2 trains them on the whole mix, stage 3 everything, the tower at a
tenth of the rate, with clips. The tower is that of nano.

Most questions are conversations of their own (`QuestionData.apart`), because in a common conversation many are answered by the words before them. The image is
encoded once for all of them.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

import percept
from percept.core.config import to_dict
from percept.core.machine import pick_device
from percept.data.chat.processor import Processor
from percept.data.chat.template import Template, named_template
from percept.data.chat.tiles import Tiler
from percept.data.chat.vocabulary import LanguageTokenizer
from percept.methods.language import plm
from percept.models.config import TowerConfig
from percept.models.language import DecoderConfig
from percept.models.lm import Decoder
from percept.models.vlm import VLM, assembled
from percept.optim.rules import Frozen, Rules, Scale
from percept.recipes.plm import save_assistant
from percept.train.chain import Chain
from percept.train.experiment import Experiment, Placement, Settings
from percept.weights.assistant import open_vlm
from percept.world.clips import clip_rows, generate_clip
from percept.world.conversations import QuestionData, QuestionSource
from percept.world.qa import examples

SHORT = {"category": 1, "colour": 1, "count": 3, "side": 5, "existence": 3, "reading": 1}
"""Kinds of questions of stage 1: all are answered with a word or two."""
FOLLOWING = {
    "side": 6, "count": 5, "region_caption": 4, "referring": 2, "region": 2, "existence": 2, "attribute": 1, "colour": 1, "category": 1,
    "comparison": 1, "reading": 1,
}  # fmt: skip
"""Relative frequency of the kinds of further questions in stage 2."""
LAST = {
    "count": 7, "reading": 5, "side": 4, "region_caption": 3, "existence": 2, "referring": 1, "region": 1, "attribute": 1, "colour": 1,
    "category": 1, "comparison": 1,
}  # fmt: skip
"""The same in stage 3."""
OF_CLIPS = {"place": 10, "direction": 12, "moment": 10, "order": 2, "action": 3, "speed": 2}
"""Relative frequency of the kinds of questions about clips in stage 3; all others have 1."""
FRAMES = 8
"""Most frames of a clip."""
BASE = Settings(
    steps=1_500,
    batch=32,
    optimiser="muon",
    learning_rate=2e-3,
    warmup=50,
    weight_decay=0.01,
    betas=(0.9, 0.95),
    dtype="bfloat16",
    log_every=20,
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One run of the chain."""

    settings: Settings
    data: QuestionData = field(default_factory=QuestionData)
    tower: float = 0.1
    """Multiplies the learning rate of the tower, which is trained already; 0 freezes it. At the full rate it forgets what things look like."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Complete configuration of the chain."""

    base: str = "nano"
    """Encoder whose image tower is used."""
    width: int = 256
    """Channels of the decoder; a head has 64."""
    layers: int = 4
    kv_heads: int = 2
    hidden: int = 704
    """Channels inside the MLP of a block."""
    context: int = 2_048
    """Most tokens of a conversation, images included."""
    vocabulary: int = 1_536
    """Largest size of the vocabulary."""
    texts: int = 4_000
    """Examples whose texts the tokenizer is trained on."""
    pooling: int = 2
    """Side of the square of visual tokens that are averaged to one."""
    limit: int = 768
    """Most tokens of a conversation in training."""
    method: plm.Config = field(default_factory=lambda: plm.Config(by_answer=True))
    language: Part = field(
        default_factory=lambda: Part(
            settings=replace(BASE, steps=120, hold=60), data=QuestionData(clips=0.3, blind=True)
        )
    )
    """The decoder alone."""
    stage1: Part = field(
        default_factory=lambda: Part(
            settings=replace(BASE, steps=2_000, learning_rate=1e-3, hold=1_750),
            data=QuestionData(kinds=SHORT, more=8, others=SHORT, apart=1.0),
            tower=0.0,
        )
    )
    stage2: Part = field(
        default_factory=lambda: Part(
            settings=replace(BASE, steps=1_700, learning_rate=1e-3, hold=1_400),
            data=QuestionData(clips=0.1, more=8, others=FOLLOWING, apart=0.8),
            tower=0.0,
        )
    )
    stage3: Part = field(
        default_factory=lambda: Part(
            settings=replace(BASE, steps=1_000, batch=24, learning_rate=1e-3, hold=520),
            data=QuestionData(
                clips=0.6, regions=0.1, more=8, others=LAST, apart=0.8, clip_kinds=OF_CLIPS, clip_questions=8
            ),
        )
    )


def recipe(config: Config | None = None, *, command: str = "percept train plm/nano") -> Chain:
    """Train a small perception language model on generated images and clips. They are drawn while training."""
    config = config or Config()
    pick_device(config.language.settings.device)

    @cache
    def tokenizer(before: Path | None) -> LanguageTokenizer:
        """Train the tokenizer for the first part; the others take that of the model before."""
        found = None if before is None else LanguageTokenizer.of_folder(before)
        return found or LanguageTokenizer.train(
            _texts(config.texts), vocab_size=config.vocabulary, specials=_specials(named_template("plm"))
        )

    def part(name: str, chosen: Part, before: Path | None) -> Experiment:
        """Return one run of the chain, which begins with the model of the run before."""

        def source(place: Placement) -> QuestionSource:
            processor, settings = processor_for(config, tokenizer(before)), chosen.settings
            return QuestionSource(chosen.data, processor, batch=settings.batch, limit=config.limit, seed=settings.seed)

        def task(place: Placement) -> plm.PLM:
            model = new_model(config, tokenizer(None)) if before is None else open_vlm(before)
            for module in frozen_parts(model, chosen):
                module.to(torch.bfloat16)
            return plm.PLM(config.method, model)

        def save(out: Path, trained: nn.Module, totals: Mapping[str, Any]) -> None:
            assert isinstance(trained, plm.PLM)
            facts = {"recipe": f"plm/nano {name}", "command": command, "config": to_dict(config), **totals}
            save_assistant(out, trained.vlm, processor_for(config, tokenizer(before)), facts)

        return Experiment(
            name=f"plm/nano {name}", config=config, settings=chosen.settings, task=task, source=source, save=save,
            rules=rules_of(chosen, blind=chosen.data.blind),
        )  # fmt: skip

    names = ("language", "stage1", "stage2", "stage3")
    parts = tuple((name, lambda before, name=name: part(name, getattr(config, name), before)) for name in names)
    return Chain(name="plm/nano", config=config, parts=parts)


def rules_of(part: Part, *, blind: bool) -> Rules:
    """Return what is frozen in a part."""
    if blind:
        return (("^vlm.vision", Frozen()), ("^vlm.projector", Frozen()))
    return (("^vlm.vision", Scale(part.tower) if part.tower else Frozen()),)


def frozen_parts(model: VLM, part: Part) -> list[Any]:
    """Return the parts of a model that a run does not train."""
    if part.data.blind:
        return [model.vision, model.projector]
    return [] if part.tower else [model.vision]


@cache
def vision_of(base: str) -> TowerConfig:
    """Return the configuration of an encoder's image tower."""
    return percept.load(base, device="cpu").model.config.vision


def new_model(config: Config, tokenizer: LanguageTokenizer) -> VLM:
    """Return the tower of the base encoder in front of a new decoder."""
    clip = percept.load(config.base, device="cpu", train=True)
    decoder = Decoder(
        DecoderConfig(
            vocabulary=tokenizer.vocab_size,
            width=config.width,
            layers=config.layers,
            heads=max(1, config.width // 64),
            kv_heads=config.kv_heads,
            hidden=config.hidden,
            context=config.context,
            tied=True,
            rope_base=10_000.0,
        )
    )
    template = named_template("plm")
    return assembled(
        clip.vision, decoder, pooling=config.pooling, projector_norm=True, projector_positions=True,
        projector_frames=True, image_token=tokenizer.special(template.image),
        stop_ids=template.stops(tokenizer), tiles=1, frames=FRAMES,
    )  # fmt: skip


def processor_for(config: Config, tokenizer: LanguageTokenizer) -> Processor:
    """Return the processor of the model: one tile for an image."""
    vision = vision_of(config.base)
    return Processor(
        tokenizer=tokenizer, template=replace(named_template("plm"), numbered=True), tiler=Tiler(size=vision.image_size, mode="single"),
        per_tile=(vision.grid // config.pooling) ** 2, frames=FRAMES,
    )  # fmt: skip


def _specials(template: Template) -> list[str]:
    names = (template.image, template.begin, template.end, template.opening, template.closing, template.end_of_turn)
    return [name for name in names if name is not None]


def _texts(count: int) -> Iterator[str]:
    yield from ("user", "assistant", "system") * count  # often, so that each becomes one token
    for drawn in itertools.islice(examples(0, more=6, style="mixed"), count):
        for pair in drawn.pairs:
            yield pair.question
            yield pair.answer
    for seed in range(count // 8):
        clip = generate_clip(seed, frames=4 * FRAMES, size=32)
        for row in clip_rows(clip, video="", sampled=FRAMES):
            yield from (turn["value"] for turn in row.data["conversations"])


def tiny() -> Config:
    """Return a configuration that runs in seconds, for tests and for trying the pipeline."""
    small = replace(BASE, steps=4, batch=4, warmup=1, log_every=2)
    return Config(
        width=64, layers=1, kv_heads=1, hidden=96, vocabulary=500, texts=60,
        language=Part(settings=small, data=QuestionData(blind=True, more=1)),
        stage1=Part(settings=small, data=QuestionData(kinds=SHORT, more=0), tower=0.0),
        stage2=Part(settings=small, data=QuestionData(more=1)),
        stage3=Part(settings=small, data=QuestionData(more=1, clips=0.5)),
    )  # fmt: skip
