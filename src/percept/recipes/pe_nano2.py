"""pe/nano2: the second edition of nano, which also learns from real drawings and from generated signs.

    python benchmarks/corpora.py fetch
    percept train pe/nano --out runs/nano
    percept train pe/nano2 --init runs/nano --data ~/.cache/percept/corpora/emoji/train.csv ~/.cache/percept/corpora/openclipart/train.csv

It goes on from the first edition with everything that pe/nano trains on, and adds captioned drawings (tables whose rows of
other parts than "train" are refused) and generated signs. All of them are compared in one contrast. In the end the weights are averaged
with those of the start (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903), which gives back some of what the longer captions lost.
"""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

import percept
from percept.core import dist
from percept.core.errors import PerceptError
from percept.core.machine import pick_device
from percept.data.drawings import DrawingSource, Pasting, Words
from percept.data.known_words import OFTEN, words_of
from percept.data.source import share
from percept.data.sources.open import open_rows
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.losses.words import word_weights
from percept.methods.pretraining import nano
from percept.methods.pretraining.joined import Joined, JoinedBatch
from percept.recipes.pe import provenance
from percept.recipes.pe_nano import CPU_TOKENS, GPU_TOKENS
from percept.train.experiment import Experiment, Placement, Settings
from percept.weights.cast import average_with
from percept.weights.folder import save_folder
from percept.world.backgrounds import draw_background
from percept.world.cache import WorldData, cache_home, draw_cache, some_texts
from percept.world.language import CLASS_TEMPLATES
from percept.world.signs import PLAIN, SignSource
from percept.world.source import WorldSource, described, stages_of


@dataclass(frozen=True, kw_only=True)
class Config:
    """Complete configuration of a run."""

    data: tuple[str, ...] = ()
    """Tables of captioned drawings on white, with the fields path and caption, and perhaps keywords, label and part."""
    init: str = ""
    """Encoder that the run begins with: a folder that pe/nano wrote."""
    average: float = 0.85
    """Share of the new weights in the average with those of the start; 1 for the new ones alone."""
    drawings: float = 0.35
    """Share of a batch that is drawings."""
    signs: float = 0.15
    """Share of a batch that is generated signs."""
    labelled: float = 3.0
    """How many times as often a drawing with a label is drawn as another."""
    pasting: Pasting = field(default_factory=Pasting)
    method: nano.Config = field(default_factory=nano.Config)
    world: WorldData = field(default_factory=lambda: WorldData(pairs=15_000))
    settings: Settings = field(
        default_factory=lambda: Settings(
            steps=3_000, batch=128, optimiser="muon", learning_rate=1e-3, warmup=100, hold=1_200
        )
    )
    stages: tuple[tuple[str, int, float, float], ...] = (("scenes", 96, 0.5, 0.75), ("scenes", 96, 1.0, 0.25))
    """(content, image size in pixels, share of patches seen, share of the steps) of each stage, in order."""

    def __post_init__(self) -> None:
        if not (self.drawings > 0 and self.signs >= 0 and self.drawings + self.signs < 1):
            raise PerceptError(
                f"drawings={self.drawings} and signs={self.signs}; they must be shares that leave room for the world."
            )
        if not self.counts()[0]:
            raise PerceptError(
                f"a batch of {self.settings.batch} has no drawings. Use a larger batch or a larger share of drawings."
            )
        if not 0 <= self.average <= 1:
            raise PerceptError(f"average must be from 0 to 1, got {self.average}. 1 gives the new weights alone.")
        stages_of(self.stages, self.settings.steps)

    def counts(self) -> tuple[int, int]:
        """Return the drawings and signs of a step, over all processes."""
        return round(self.drawings * self.settings.batch), round(self.signs * self.settings.batch)


@dataclass(frozen=True)
class Mixture:
    """Source of batches of the world with drawings and signs."""

    world: WorldSource
    drawings: DrawingSource
    signs: SignSource
    counts: tuple[int, int]
    """Drawings and signs of a step, over all processes."""

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> JoinedBatch:
        """Return a rank's share of the batch of a step: as many images as every other rank, in one contrast, has."""
        world, rows = (
            self.world.batch(step, rank=rank, world_size=world_size),
            share(sum(self.counts), rank, world_size),
        )
        parts, first = [], 0
        for source, count in zip((self.drawings, self.signs), self.counts, strict=True):
            own = slice(max(rows.start - first, 0), min(rows.stop - first, count))
            first += count
            if own.stop > own.start:
                parts.append(source.batch(step, own, count))
        device = world.image.device
        return JoinedBatch(
            **{each.name: getattr(world, each.name) for each in fields(world)},
            pictures=torch.cat([image for image, _ in parts]).to(device),
            captions=torch.cat([tokens for _, tokens in parts]).to(device),
        )


@dataclass(frozen=True)
class Inputs:
    """What a run reads: the encoder it begins with, images of the world, and drawings. Each is opened when first used, and once."""

    config: Config

    @cached_property
    def start(self) -> tuple[Tokenizer, Preprocess]:
        """Tokenizer and preprocessing of the encoder that the run begins with."""
        return opened(self.config)

    @cached_property
    def images(self) -> Path:
        """Folder of generated images; they are drawn first if needed."""
        return dist.on_first(lambda: draw_cache(self.config.world, cache_home()))

    @cached_property
    def drawings(self) -> DrawingSource:
        """Captioned drawings of all tables."""
        config, (tokenizer, preprocess) = self.config, self.start
        return DrawingSource(
            [open_rows(table) for table in config.data], tokenizer, preprocess,
            words=Words(templates=CLASS_TEMPLATES), pasting=config.pasting, labelled=config.labelled,
            background=background, seed=config.settings.seed,
        )  # fmt: skip

    def source(self, place: Placement) -> Mixture:
        """Return batches of the world, drawings and signs.

        Raises:
            PerceptError: they do not divide into equal shares of all processes.
        """
        (tokenizer, preprocess), config, settings = self.start, self.config, self.config.settings
        drawings, signs = config.counts()
        generated, drawings = settings.batch - drawings - signs, min(drawings, len(self.drawings.samples))
        if generated % place.world_size or (drawings + signs) % place.world_size:
            raise PerceptError(
                f"{generated} generated images and {drawings + signs} drawings and signs do not divide into {place.world_size} equal "
                "shares. Change settings.batch, drawings, signs or the number of processes."
            )
        world = WorldSource(
            config.world, self.images, tokenizer, batch=generated,
            stages=stages_of(config.stages, settings.steps), seed=settings.seed,
            device=place.device if place.device.type == "cuda" else "cpu",
        )  # fmt: skip
        return Mixture(world, self.drawings, SignSource(tokenizer, preprocess, seed=settings.seed), (drawings, signs))

    def word_weights(self) -> Tensor:
        """Return the weights of words in the loss, from texts of the world and of drawings."""
        tokenizer, _ = self.start
        texts = [*some_texts(self.images, 20_000), *self.drawings.texts()]
        special = (0, tokenizer.start_id, tokenizer.end_id)
        return word_weights(tokenizer(texts), tokenizer.vocab_size, special=special)

    def known_words(self) -> set[str]:
        """Return the words that occur in at least `OFTEN` different texts of drawings."""
        counts = Counter(word for text in self.drawings.texts() for word in set(words_of(text)))
        return {word for word, count in counts.items() if count >= OFTEN}


def recipe(config: Config, *, command: str = "percept train pe/nano2") -> Experiment:
    """Go on training nano on generated images, signs and real drawings.

    Raises:
        PerceptError: no tables or no encoder were given, or the device does not exist.
    """
    if not config.data:
        raise PerceptError("no drawings were given. Give --data with tables such as corpora/emoji/train.csv.")
    if not config.init:
        raise PerceptError(
            "no encoder to begin with was given. Give --init with a folder that percept train pe/nano wrote, or nano."
        )
    pick_device(config.settings.device)
    inputs = Inputs(config)

    def task(place: Placement) -> Joined:
        usual = CPU_TOKENS if place.device.type == "cpu" else GPU_TOKENS
        method = replace(config.method, micro_tokens=config.method.micro_tokens or usual)
        weights = inputs.word_weights()
        return Joined(method, percept.load(config.init, device="cpu", train=True), weights)

    def save(out: Path, trained: nn.Module, totals: Mapping[str, Any]) -> None:
        tokenizer, preprocess = inputs.start
        tokenizer.words |= inputs.known_words()
        assert isinstance(trained, Joined)
        average_with(trained.clip, percept.load(config.init, device="cpu", train=True), config.average)
        save_joined(out, trained, tokenizer, preprocess, provenance("pe/nano2", command, config, totals))

    return Experiment(
        name="pe/nano2", config=config, settings=config.settings, task=task, source=inputs.source, save=save,
        stages=described(stages_of(config.stages, config.settings.steps)),
    )  # fmt: skip


def save_joined(
    out: Path, trained: Joined, tokenizer: Tokenizer, preprocess: Preprocess, facts: dict[str, Any]
) -> None:
    """Write the trained model with its provenance."""
    preprocess = replace(preprocess, size=trained.clip.config.vision.image_size)
    save_folder(
        out, trained.clip, name=out.resolve().name, preprocess=preprocess, tokenizer=tokenizer, provenance=facts,
        dtype=torch.bfloat16,
    )  # fmt: skip


def opened(config: Config) -> tuple[Tokenizer, Preprocess]:
    """Return the tokenizer of the encoder that the run begins with, and its preprocessing at the size of the first stage.

    Raises:
        PerceptError: it has no tokenizer.
    """
    encoder = percept.load(config.init, device="cpu")
    if encoder.tokenizer is None:
        raise PerceptError(f"{config.init} has no tokenizer. Give an encoder with a text tower.")
    return encoder.tokenizer, replace(encoder.preprocess, size=config.stages[0][1])


def background(rng: random.Random, side: int) -> Image.Image:
    """Return a background of the world."""
    picture = draw_background(rng.choice(PLAIN), rng.getrandbits(32), width=side // 2, height=side // 2, horizon=0.55)
    return picture.resize((side, side), Image.Resampling.BILINEAR)


def tiny() -> Config:
    """Return a configuration that runs in seconds; `data` must be given."""
    return Config(
        init="nano", world=WorldData(pairs=32), method=nano.Config(micro_tokens=2_000),
        settings=Settings(steps=4, batch=16, optimiser="muon", learning_rate=1e-4, warmup=1, log_every=2),
    )  # fmt: skip
