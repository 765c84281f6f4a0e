"""pe/cooldown, pe/video: stages of the Perception Encoder after image pretraining; the third one, pe/distill, is in `pe_distill`.

    percept train pe/cooldown --init runs/pe-pretrain
    percept train pe/video --init runs/pe-cooldown
    percept train pe/video --init PE-Core-B16-224 --published --data 'clips/*.tar' --workers 8

Bolya et al. 2025, arXiv:2504.13181, section 3, tables 18 and 19. G was trained on images, cooled down on
50 M samples at the highest resolution, and trained on clips; L and B were trained on images, distilled from G, and trained on clips. The
learning rate and batch of the cool-down are not reported. Each stage writes a folder that `percept.load` opens, its weights in
float32 where they were trained in it, because the changes of a late stage are smaller than what bfloat16 resolves.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from percept.core.errors import PerceptError
from percept.core.machine import pick_device
from percept.core.report import notice
from percept.data.known_words import OFTEN, words_of
from percept.data.source import Source
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.methods.pretraining import pe, pe_video
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from percept.recipes import pe as pretraining
from percept.recipes import pe_data
from percept.recipes.pe import micro_tokens, provenance
from percept.recipes.pe_memory import estimate
from percept.recipes.pe_sizes import VIDEO
from percept.train.experiment import Experiment, Placement, Settings
from percept.weights.cast import average_with, trainable
from percept.weights.folder import save_folder
from percept.weights.open import open_model
from percept.world.cache import WorldData
from percept.world.clips.planning import FEWEST, MOST
from percept.world.clips.source import ClipSource
from percept.world.source import Stage


@dataclass(frozen=True, kw_only=True)
class Start:
    """The model that a stage begins with."""

    init: str
    """Its name or folder; empty for a new model."""
    config: ClipConfig
    tokenizer: Tokenizer
    preprocess: Preprocess

    @property
    def side(self) -> int:
        """Side of its images in pixels."""
        return self.preprocess.shape[0]

    def clip(self) -> CLIP:
        """Return the model with trainable float32 weights of its own."""
        return trainable(open_model(self.init).model) if self.init else CLIP(self.config)


def opened(init: str) -> Start:
    """Open the model that a stage begins with.

    Raises:
        PerceptError: it cannot be opened, or has no text tower or no tokenizer.
    """
    model = open_model(init)
    if model.model.text is None:
        raise PerceptError(f"{init} has no text tower. Give nano, a PE-Core model, or a folder of an earlier stage.")
    if model.tokenizer is None:
        raise PerceptError(
            f"{init} comes without a tokenizer. Put its tokenizer.json or merges.txt next to its weights."
        )
    return Start(init=init, config=model.model.config, tokenizer=model.tokenizer, preprocess=model.preprocess)


@dataclass(frozen=True, kw_only=True)
class Cooldown(pe_data.WithWorld):
    """Complete configuration of a cool-down."""

    init: str = ""
    """Name or folder of the model to begin with."""
    method: pe.Config = field(default_factory=pe.Config)
    """Mask regularisation goes on as in pretraining; the paper does not say."""
    settings: Settings = field(default_factory=lambda: Settings(steps=300, batch=128, learning_rate=1e-4, warmup=20))
    """Learning rate and batch are ours."""


@dataclass(frozen=True, kw_only=True)
class Video(pe_data.Data):
    """Complete configuration of video training."""

    init: str = ""
    """Name or folder of the model to begin with."""
    frames: int = 8
    """Frames of a clip, spread evenly; their vectors are averaged."""
    text: Literal["mixed", "short", "long"] = "mixed"
    """Captions of generated clips; mixed: one kind per step, at random."""
    clips: int | None = None
    """Different clips that are generated; a new one each time if None."""
    average: float = 1.0
    """Share of the trained weights in the average with those of the start (WiSE-FT, arXiv:2109.01903); 1 for the trained ones alone."""
    published: bool = False
    """Take the published optimiser, steps, batch, learning rate and warmup, in place of those of `settings`."""
    method: pe_video.Config = field(default_factory=pe_video.Config)
    settings: Settings = field(default_factory=lambda: Settings(steps=300, batch=32, learning_rate=1e-4, warmup=20))

    def __post_init__(self) -> None:
        super().__post_init__()
        fewest, most = (1, MOST) if self.data else (FEWEST, MOST)
        if not fewest <= self.frames <= most:
            raise PerceptError(f"frames must be from {fewest} to {most}, got {self.frames}. The paper takes 8.")
        if not 0 <= self.average <= 1:
            raise PerceptError(f"average must be from 0 to 1, got {self.average}. 1 gives the trained weights alone.")
        if self.clips is not None and self.clips < self.plan().batch:
            raise PerceptError(
                f"{self.clips} clips are fewer than the {self.plan().batch} of one batch. Use more clips."
            )

    def plan(self) -> Settings:
        """Return the settings of the run."""
        return VIDEO.over(self.settings) if self.published else self.settings


def cooldown(
    config: Cooldown | None = None, *, command: str = "percept train pe/cooldown", name: str = "pe/cooldown"
) -> Experiment:
    """Cool a pretrained model down: all images at its full size, at a low learning rate."""
    config = config or Cooldown()
    start = started(name, config.init)

    def source(place: Placement) -> Source:
        return whole_images(config, start(), place, config.settings, augment=True)

    def task(place: Placement) -> pe.Pretraining:
        clip, method = start().clip(), in_parts(config.method, place)
        notice(f"{name} needs about {estimate(clip, config.settings, place, method, side=start().side)}")
        return pe.Pretraining(method, clip)

    return planned(name, command, config, config.settings, source, task, start, forget=bool(config.data))


def video(
    config: Video | None = None, *, command: str = "percept train pe/video", name: str = "pe/video"
) -> Experiment:
    """Train a model on clips with captions: a clip is the mean of the vectors of its frames."""
    config = config or Video()
    start, settings = started(name, config.init), config.plan()

    def source(place: Placement) -> Source:
        return pe_data.clips(
            config, start().tokenizer, settings, preprocess=start().preprocess, frames=config.frames,
            text=config.text, count=config.clips,
        )  # fmt: skip

    def task(place: Placement) -> pe_video.VideoContrast:
        clip, method = start().clip(), in_parts(config.method, place)
        need = estimate(clip, settings, place, method, side=start().side, frames=config.frames)
        notice(f"{name} needs about {need}")
        return pe_video.VideoContrast(method, clip)

    def before_save(clip: CLIP) -> None:
        average_with(clip, start().clip(), config.average)
        clips = source(Placement(device=torch.device("cpu"))) if not config.data else None
        if isinstance(clips, ClipSource):
            start().tokenizer.words |= known_words(clips, settings)

    return planned(
        name, command, config, settings, source, task, start, forget=bool(config.data), before_save=before_save
    )


def tiny_cooldown() -> Cooldown:
    """Return a configuration that runs in seconds."""
    return Cooldown(world=WorldData(pairs=64), settings=few())


def tiny_video() -> Video:
    """Return a configuration that runs in seconds."""
    return Video(settings=replace(few(), batch=4))


def few() -> Settings:
    """Return settings of a run that takes seconds."""
    return replace(pretraining.tiny().settings, steps=3, learning_rate=1e-4)


def started(name: str, init: str) -> Callable[[], Start]:
    """Return a function that opens the model to begin with once.

    Raises:
        PerceptError: none is given.
    """
    if not init:
        raise PerceptError(f"{name} has no model to begin with. Give --init, a name or the folder of an earlier stage.")
    return cache(lambda: opened(init))


def whole_images(
    config: pe_data.WithWorld, start: Start, place: Placement, settings: Settings, *, augment: bool
) -> Source:
    """Return images at the full size of a model."""
    return pe_data.images(
        config, start.tokenizer, settings, place, stages=(Stage(0, start.side),), patch=start.config.vision.patch_size,
        augment=augment, preprocess=start.preprocess,
    )  # fmt: skip


def planned(
    name: str,
    command: str,
    config: Any,
    settings: Settings,
    source: Callable[[Placement], Source],
    task: Callable[[Placement], nn.Module],
    start: Callable[[], Start],
    *,
    forget: bool = False,
    before_save: Callable[[CLIP], None] = lambda clip: None,
) -> Experiment:
    """Return the experiment of a stage that begins with a model and writes one with the same tokenizer and preprocessing.

    Args:
        forget: drop the record of the words that the model was trained on, because the words of the new captions are not recorded.
        before_save: called with the trained model.
    """
    pick_device(settings.device)

    def save(out: Path, trained: Any, totals: Mapping[str, Any]) -> None:
        before_save(trained.clip)
        if forget:
            start().tokenizer.words = frozenset()
        save_folder(
            out, trained.clip, name=out.resolve().name, preprocess=start().preprocess, tokenizer=start().tokenizer,
            provenance=provenance(name, command, config, totals),
        )  # fmt: skip

    return Experiment(name=name, config=config, settings=settings, task=task, source=source, save=save)


def known_words(source: ClipSource, settings: Settings) -> frozenset[str]:
    """Return the words that occur in at least `OFTEN` of some 3,000 captions of generated clips."""
    every = max(1, settings.steps * settings.batch // 3_000)
    texts = (text for step in range(0, settings.steps, every) for text in source.captions(step))
    counts = Counter(word for text in texts for word in set(words_of(text)))
    return frozenset(word for word, count in counts.items() if count >= OFTEN)


def in_parts(method: Any, place: Placement) -> Any:
    """Return the configuration of a method with the number of tokens that suits a device, unless it has one."""
    return replace(method, micro_tokens=method.micro_tokens or micro_tokens(place))
