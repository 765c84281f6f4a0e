"""What the stages of the Perception Encoder train on: the generated world, or files, at the image size of each stage."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from percept.core import dist
from percept.core.errors import PerceptError
from percept.core.report import notice
from percept.core.seed import derive
from percept.data.augment import Augment
from percept.data.batch import Batch
from percept.data.clip_vocabulary import find_vocabulary, read_vocabulary
from percept.data.source import Source
from percept.data.sources.captions import CaptionChoice
from percept.data.sources.open import UnsuitableRows, open_rows, open_source
from percept.data.sources.sample import BadSample, Rows
from percept.data.sources.source import MAX_BAD, RowSource, mix
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.recipes.plm import weighted
from percept.train.experiment import Placement, Settings
from percept.world.augment import NONE
from percept.world.cache import WorldData, cache_home, check_style, draw_cache, some_texts
from percept.world.clips.source import ClipSource
from percept.world.source import Stage, WorldSource

TEXTS = 200_000
"""Texts that a vocabulary is trained on."""
NORMAL = (0.5, 0.5, 0.5)
"""Mean and deviation of the pixels of the world, as of all Perception Encoders."""


@dataclass(frozen=True, kw_only=True)
class Views:
    """How images and clips from files are changed at random, as in tables 18 and 19 of the paper."""

    crop: tuple[float, float] = (0.08, 1.0)
    """Least and largest share of the image's area."""
    aspect: tuple[float, float] = (0.75, 1.33)
    """Least and largest width / height of a crop."""
    brightness: float = 0.32
    """Largest relative change."""
    saturation: float = 0.32
    """Largest relative change."""
    flip: float = 0.5
    """Share that is mirrored. Captions do not change, so use 0 where they name left and right."""

    def __post_init__(self) -> None:
        self.augment()

    def augment(self) -> Augment:
        """Return the augmentation."""
        return Augment(
            scale=self.crop, ratio=self.aspect, brightness=self.brightness, saturation=self.saturation, flip=self.flip
        )


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a stage trains on."""

    data: tuple[str, ...] = ()
    """Files, folders or patterns of images with captions (of clips, for video), each with an optional weight: shards/*.tar:2. The
    generated world if none is given."""
    captions: tuple[str, ...] | None = None
    """Field of the caption, or several of which one is drawn at random; the first usual name, such as caption or text, if None."""
    root: Path | None = None
    """Folder of relative paths in tables; that of each file if None."""
    workers: int = 0
    """Processes that read files."""
    max_bad: float = MAX_BAD
    """Share of bad rows above which the run stops."""
    views: Views = field(default_factory=Views)

    def __post_init__(self) -> None:
        for entry in self.data:
            weighted(entry)
        CaptionChoice(self.captions)


@dataclass(frozen=True, kw_only=True)
class WithWorld(Data):
    """What a stage trains on, with the images of the world."""

    world: WorldData = field(default_factory=lambda: WorldData(pairs=40_000))
    """Images of the generated world, of at most 96 pixels. Their augmentation is milder than that of files, because their captions
    name positions and everything that is visible."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_style(self.world.style)


@dataclass(frozen=True)
class Staged:
    """A source for each part of a run, by its first step."""

    sources: Mapping[int, Source]

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> Batch:
        """Return this process's share of the batch of a step."""
        first = max(start for start in self.sources if start <= step)
        return self.sources[first].batch(step, rank=rank, world_size=world_size)


def world_folder(world: WorldData) -> Path:
    """Return the folder of the generated images; they are generated first if necessary."""
    return dist.on_first(lambda: draw_cache(world, cache_home()))


def images(
    config: WithWorld,
    tokenizer: Tokenizer,
    settings: Settings,
    place: Placement,
    *,
    stages: tuple[Stage, ...],
    patch: int,
    augment: bool = True,
    preprocess: Preprocess | None = None,
) -> Source:
    """Return images with captions, at the size of each stage.

    Args:
        augment: change images at random.
        preprocess: of the model; its mean and deviation are used.
    """
    if config.data:
        return Staged(
            {stage.first: files(config, tokenizer, settings, stage.size, augment, preprocess) for stage in stages}
        )
    check_normal(preprocess)
    world = config.world if augment else replace(config.world, augment=NONE)
    device = place.device if place.device.type == "cuda" else "cpu"
    return WorldSource(
        world, world_folder(config.world), tokenizer, batch=settings.batch, stages=stages, seed=settings.seed,
        patch=patch, device=device,
    )  # fmt: skip


def files(
    config: Data,
    tokenizer: Tokenizer,
    settings: Settings,
    size: int,
    augment: bool,
    preprocess: Preprocess | None = None,
    *,
    frames: int | None = None,
) -> RowSource:
    """Return captioned images of files, or clips if `frames` is given, at `size` pixels."""
    normal = preprocess or Preprocess(size=size)
    options: dict[str, Any] = {
        "preprocess": Preprocess(size=size, mean=normal.mean, std=normal.std),
        "augment": config.views.augment() if augment else None,
        "tokenizer": tokenizer,
        "frames": frames,
        "captions": config.captions,
        "root": config.root,
    }
    shared: dict[str, Any] = {
        "batch": settings.batch, "seed": settings.seed, "workers": config.workers, "max_bad": config.max_bad,
    }  # fmt: skip
    pairs = [weighted(entry) for entry in config.data]
    try:
        sources = [open_source(path, **shared, **options) for path, _ in pairs]
    except UnsuitableRows as error:
        wanted = "images" if frames is None else "clips"
        raise PerceptError(f"{error.problem} Give {wanted} with captions; --captions names their field.") from None
    return sources[0] if len(sources) == 1 else mix(sources, [weight for _, weight in pairs], **shared)


def clips(
    config: Data,
    tokenizer: Tokenizer,
    settings: Settings,
    *,
    preprocess: Preprocess,
    frames: int,
    text: str,
    count: int | None,
) -> Source:
    """Return clips with captions, of files or generated; `text` and `count` are for generated ones."""
    size = preprocess.shape[0]
    if config.data:
        return files(config, tokenizer, settings, size, True, preprocess, frames=frames)
    check_normal(preprocess)
    return ClipSource(
        tokenizer, batch=settings.batch, frames=frames, size=size, text=text, clips=count, seed=settings.seed
    )


def check_normal(preprocess: Preprocess | None) -> None:
    """Raise a PerceptError if a model does not take the pixels of the world."""
    if preprocess is not None and (tuple(preprocess.mean), tuple(preprocess.std)) != (NORMAL, NORMAL):
        raise PerceptError(
            f"the model normalises with mean={preprocess.mean} and std={preprocess.std}, the generated world with 0.5. Give --data."
        )


def vocabulary(path: Path | None, *, own: bool, context: int) -> Tokenizer | None:
    """Return the tokenizer of a new model: that of `path`, or CLIP's if it is installed and `own` is False; None to train one."""
    if path is not None:
        return read_vocabulary(path, context=context)
    if own:
        return None
    if (found := find_vocabulary()) is not None:
        return read_vocabulary(found, context=context)
    notice(
        "CLIP's vocabulary is not installed (pip install open_clip_torch brings it), so one is trained on the captions"
    )
    return None


def trained_vocabulary(config: WithWorld, *, size: int, context: int) -> Tokenizer:
    """Train a tokenizer on the captions."""
    texts = captions_of(config) if config.data else iter(some_texts(world_folder(config.world), TEXTS))
    return Tokenizer.train(texts, vocab_size=size, context=context)


def captions_of(config: Data, most: int = TEXTS) -> Iterator[str]:
    """Yield captions of files, at most `most`, spread evenly over each source; rows without one are left out."""
    for entry in config.data:
        rows = open_rows(weighted(entry)[0], root=config.root)
        yield from _captions(rows, CaptionChoice(config.captions), max(1, most // len(config.data)))


def _captions(rows: Rows, choice: CaptionChoice, most: int) -> Iterator[str]:
    count = min(most, len(rows))
    for number in range(count):
        row = number * len(rows) // count
        try:
            yield choice.of(rows.read(row), derive(0, "vocabulary", row))
        except BadSample:
            continue
