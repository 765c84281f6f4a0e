"""plm/stage1, plm/stage2, plm/stage3, plm/finetune: train a perception language model on json lines.

    percept train plm/stage1 --encoder PE-Core-L14-336 --decoder LLAMA_FOLDER --data captions.jsonl
    percept train plm/stage2 --init runs/plm-stage1 --data 'images.jsonl:3' 'clips.jsonl:1'
    percept train plm/stage3 --init runs/plm-stage2 --data sft.jsonl
    percept train plm/finetune --init plm-nano --data own.jsonl --train lora

Settings of the stages: Cho et al. 2025, arXiv:2504.13180, and the configurations of its code (apps/plm/configs, sizes 1B and 3B; size 8B takes
the learning rate and weight decay of `PUBLISHED`). The published runs took 8 to 256 H100 GPUs; a number reproduced with these recipes
does not exist yet. Differences: the learning rate of the first step is above 0, and of several processes the loss is the mean over
all answers (`method.mean_of_means` for the published mean).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.core.report import notice
from percept.data.chat.batch import chat_batch
from percept.data.chat.processor import Processor
from percept.data.chat.rows import ChatItem
from percept.data.chat.template import TEMPLATES
from percept.data.sources.open import open_source
from percept.data.sources.source import MAX_BAD, RowSource, mix
from percept.infer.processor import open_processor, processor_of, save_processor
from percept.methods.language import memory, plm
from percept.models.vlm import VLM, assembled, reconfigured, with_layer_scale
from percept.nn.lora import add_lora, merge_lora
from percept.train.experiment import Experiment, Placement, Settings
from percept.weights.assistant import open_decoder, open_vlm
from percept.weights.assistant_files import write_assistant

SHARED = {
    "betas": (0.9, 0.95),
    "clip": 1.0,
    "floor": 0.01,
    "decay_all": True,
    "seed": 777,
    "dtype": "bfloat16",
    "shard": False,
}
PUBLISHED: dict[tuple[int, str], Settings] = {
    (1, "1B"): Settings(steps=8_000, batch=512, learning_rate=1e-4, weight_decay=0.01, warmup=20, **SHARED),
    (2, "1B"): Settings(steps=35_000, batch=2_048, learning_rate=4e-5, weight_decay=0.01, warmup=120, **SHARED),
    (3, "1B"): Settings(steps=21_000, batch=1_024, learning_rate=4e-5, weight_decay=0.01, warmup=120, **SHARED),
}
"""Settings by stage and size."""
for _stage in (1, 2, 3):
    PUBLISHED[_stage, "3B"] = PUBLISHED[_stage, "1B"]
    _rate = 1e-5 if _stage == 3 else PUBLISHED[_stage, "1B"].learning_rate
    PUBLISHED[_stage, "8B"] = replace(PUBLISHED[_stage, "1B"], learning_rate=_rate, weight_decay=0.05)
ADAPTED = r"^decoder\.blocks\..*\.(q|k|v|out|gate|up|down)$"
"""Linear layers of the decoder that get adapters."""


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters."""

    rank: int = 16
    alpha: float = 32.0
    """Multiplies the product of the two matrices, divided by the rank."""
    layers: str = ADAPTED
    """Regular expression for the names of linear layers."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Complete configuration of a run."""

    init: str = ""
    """Name or folder of the model to begin with."""
    encoder: str = ""
    """Name or folder of the encoder whose image tower stands in front of `decoder`, in place of `init`."""
    decoder: str = ""
    """Folder of a language model with its tokenizer."""
    layer: int = -1
    """Block of the tower whose tokens are projected, counted from either end; PLM takes the last but one of L14, and of G14 the
    fourth from the end."""
    image_size: int | None = None
    """Side of the tower's images in pixels, for `encoder`; its own if None. PLM takes 448."""
    data: tuple[str, ...] = ()
    """Files or patterns of rows, each with an optional weight: rows.jsonl:2."""
    root: Path | None = None
    """Folder of relative paths in the rows; that of each file if None."""
    train: Literal["all", "projector", "lora"] = "all"
    lora: Lora = field(default_factory=Lora)
    template: Literal["own", "plm", "warmup", "chatml"] = "own"
    """Chat template; own: that of the model to begin with."""
    pooling: int | None = None
    """Side of the square of visual tokens that are averaged to one; that of the model if None."""
    tiles: int | None = None
    """Most tiles of an image besides the thumbnail; 0 for the thumbnail alone, None for as many as the model takes."""
    frames: int | None = None
    """Most frames of a video; as many as the model takes if None."""
    limit: int = 2_048
    """Most tokens of a conversation, and never more than the context of the model; rows of which no answer fits are counted and
    left out."""
    layer_scale: float | None = None
    """Initial value of LayerScale in a tower without it; none if None."""
    drop_path: float = 0.0
    """Probability of dropping a branch of the tower, with `layer_scale`."""
    workers: int = 0
    """Processes that read and prepare rows."""
    max_bad: float = MAX_BAD
    """Share of bad rows above which the run stops."""
    method: plm.Config = field(default_factory=plm.Config)
    settings: Settings = field(
        default_factory=lambda: Settings(
            steps=1_000, batch=16, learning_rate=2e-5, weight_decay=0.01, warmup=50, floor=0.01, betas=(0.9, 0.95)
        )
    )

    def __post_init__(self) -> None:
        if self.init and (self.encoder or self.decoder):
            raise PerceptError("a run begins with --init, or with --encoder and --decoder. Give one of the two.")
        if bool(self.encoder) != bool(self.decoder):
            raise PerceptError("--encoder and --decoder go together. Give both, or --init.")
        for name, least in (("limit", 1), ("tiles", 0), ("frames", 1), ("pooling", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise PerceptError(f"{name}={value} is too small. Give at least {least}.")
        for entry in self.data:
            weighted(entry)


@dataclass(frozen=True, kw_only=True)
class Stage1(Config):
    """The projector learns from captions; no pooling, one tile."""

    train: Literal["all", "projector", "lora"] = "projector"
    template: Literal["own", "plm", "warmup", "chatml"] = "warmup"
    pooling: int | None = 1
    tiles: int | None = 0
    limit: int = 1_280
    settings: Settings = field(default_factory=lambda: PUBLISHED[1, "1B"])


@dataclass(frozen=True, kw_only=True)
class Stage2(Config):
    """Everything learns from a broad mix."""

    template: Literal["own", "plm", "warmup", "chatml"] = "plm"
    pooling: int | None = 2
    tiles: int | None = 16
    frames: int | None = 16
    limit: int = 6_144
    layer_scale: float | None = 0.1
    drop_path: float = 0.1
    method: plm.Config = field(default_factory=lambda: plm.Config(checkpointing=True))
    settings: Settings = field(default_factory=lambda: PUBLISHED[2, "1B"])


@dataclass(frozen=True, kw_only=True)
class Stage3(Stage2):
    """Everything learns from human answers, at high resolution."""

    tiles: int | None = 36
    frames: int | None = 32
    limit: int = 11_520
    settings: Settings = field(default_factory=lambda: PUBLISHED[3, "1B"])


def weighted(entry: str) -> tuple[str, float]:
    """Return a path or pattern and its weight.

    >>> weighted("rows.jsonl:2.5"), weighted("rows.jsonl")
    (('rows.jsonl', 2.5), ('rows.jsonl', 1.0))

    Raises:
        PerceptError: the weight is not a positive number.
    """
    path, colon, weight = entry.rpartition(":")
    if not colon or "/" in weight or not weight:
        return entry, 1.0
    try:
        value = float(weight)
    except ValueError:
        return entry, 1.0
    if not 0 < value < float("inf"):
        raise PerceptError(f"the weight of {entry} is not a positive number. Give a path, or path:weight.")
    return path, value


def stage1(config: Stage1 | None = None, *, command: str = "percept train plm/stage1") -> Experiment:
    """Stage 1 of PLM: train the projector on image captions, with tower and decoder frozen."""
    return experiment("plm/stage1", config or Stage1(), command)


def stage2(config: Stage2 | None = None, *, command: str = "percept train plm/stage2") -> Experiment:
    """Stage 2 of PLM: train everything on a broad mix of images, videos and text."""
    return experiment("plm/stage2", config or Stage2(), command)


def stage3(config: Stage3 | None = None, *, command: str = "percept train plm/stage3") -> Experiment:
    """Stage 3 of PLM: train everything on answers, with up to 36 tiles and 32 frames."""
    return experiment("plm/stage3", config or Stage3(), command)


def finetune(config: Config | None = None, *, command: str = "percept train plm/finetune") -> Experiment:
    """Fine-tune a perception language model on own rows: everything, the projector alone, or low-rank adapters."""
    return experiment("plm/finetune", config or Config(), command)


def experiment(name: str, config: Config, command: str) -> Experiment:
    """Return the run of a configuration.

    Raises:
        PerceptError: it has no data, or no model to begin with.
    """
    if not config.data:
        raise PerceptError(
            "the run has no data. Give --data with one or several files of rows, with weights if wanted: a.jsonl:2 b.jsonl:1."
        )
    if not (config.init or config.encoder):
        raise PerceptError("the run has no model to begin with. Give --init, or --encoder and --decoder.")

    @cache
    def start() -> tuple[VLM, Processor]:
        return opened(config)

    def source(place: Placement) -> RowSource:
        model, processor = start()
        return rows_of(config, processor, model.config.decoder.context)

    def task(place: Placement) -> plm.PLM:
        model = prepared(config, start()[0])
        tokens = _tokens(config, model, place.world_size)
        need = memory.estimate(
            model, config.settings, tokens=tokens, checkpointing=config.method.checkpointing,
            shards=place.world_size if config.settings.shard else 1,
        )  # fmt: skip
        if place.rank == 0:
            who = name if place.world_size == 1 else f"each process of {name}"
            notice(f"{who} needs about {need} for {tokens:,} tokens at once; short rows take less")
        return plm.PLM(config.method, model)

    def save(out: Path, trained: nn.Module, totals: Mapping[str, Any]) -> None:
        assert isinstance(trained, plm.PLM)
        facts = {"recipe": name, "command": command, "config": to_dict(config), **totals, "torch": torch.__version__}
        save_assistant(out, trained.vlm, start()[1], facts)

    return Experiment(
        name=name, config=config, settings=config.settings, task=task, source=source, save=save,
    )  # fmt: skip


def opened(config: Config) -> tuple[VLM, Processor]:
    """Return the model that a run begins with, with pooling and LayerScale as configured, and its processor.

    Raises:
        PerceptError: it cannot be opened, or has no tokenizer or chat template.
    """
    from percept.weights.assistant import fetched, locate_assistant

    place = fetched(locate_assistant(config.init or config.decoder))
    if config.init:
        model = open_vlm(config.init)
    else:
        import percept

        tower = percept.load(config.encoder, device="cpu", train=True, image_size=config.image_size).vision
        model = _joined(tower, config, place.folder)
    if config.pooling is not None and config.pooling != model.config.pooling:
        model = reconfigured(model, pooling=config.pooling)
    if config.tiles is not None or config.frames is not None:
        tiles = model.config.tiles if config.tiles is None else max(1, config.tiles)
        frames = model.config.frames if config.frames is None else config.frames
        model = reconfigured(model, tiles=tiles, frames=frames)
    if config.layer_scale is not None:
        model = with_layer_scale(model, layer_scale=config.layer_scale, drop_path=config.drop_path)
    processor = open_processor(place.folder, model.config)
    if processor is None:
        raise PerceptError(
            f"{place.folder} has no tokenizer or no chat template. Put tokenizer.json (or tokenizer.model) and chat_template.jinja "
            "(or chat.json) into it."
        )
    if config.template != "own":
        template = replace(TEMPLATES[config.template], system=processor.template.system)
        processor = processor_of(model.config, processor.tokenizer, template)
    return model, processor


def _joined(tower: Any, config: Config, folder: Path | None) -> VLM:
    """Return a model of a tower and a decoder; the image token is that of the decoder's tokenizer."""
    from percept.data.chat.checkpoint import template_of_folder
    from percept.data.chat.vocabulary import LanguageTokenizer

    decoder = open_decoder(config.decoder)
    tokenizer = None if folder is None else LanguageTokenizer.of_folder(folder)
    template = None if folder is None else template_of_folder(folder)
    if tokenizer is None or template is None:
        raise PerceptError(f"{config.decoder} has no tokenizer or no chat template. Put both into the folder.")
    return assembled(
        tower, decoder, layer=config.layer, image_token=tokenizer.special(template.image),
        stop_ids=template.stops(tokenizer), pooling=config.pooling or 2,
    )  # fmt: skip


def rows_of(config: Config, processor: Processor, context: int) -> RowSource:
    """Return the source of a run.

    Args:
        context: most tokens that the model takes.
    """
    batch = config.settings.batch
    sources, weights = [], []
    for entry in config.data:
        path, weight = weighted(entry)
        item = ChatItem(processor=processor, limit=min(config.limit, context))
        options = {"prepare": item, "collate": chat_batch, "root": config.root, "max_bad": config.max_bad}
        sources.append(open_source(path, batch=batch, seed=config.settings.seed, workers=config.workers, **options))
        weights.append(weight)
    if len(sources) == 1:
        return sources[0]
    return mix(sources, weights, batch=batch, seed=config.settings.seed, workers=config.workers, max_bad=config.max_bad)


def prepared(config: Config, model: VLM) -> VLM:
    """Return the model as it is trained: what is not trained is frozen, adapters are added, and the type is that of the run."""
    dtype = {"bfloat16": torch.bfloat16, "float32": torch.float32}.get(config.settings.dtype)
    if config.train != "all":
        model.requires_grad_(False)
    if config.train == "projector":
        model.projector.requires_grad_(True)
    elif config.train == "lora":
        add_lora(model, config.lora.layers, rank=config.lora.rank, alpha=config.lora.alpha)
    return model if dtype is None else model.to(dtype)


def _tokens(config: Config, model: VLM, processes: int) -> int:
    """Return the most tokens that a process computes at once."""
    limit = min(config.limit, model.config.decoder.context) * max(1, config.settings.batch // processes)
    return min(limit, config.method.micro_tokens or limit)


def save_assistant(out: Path, model: VLM, processor: Processor, facts: Mapping[str, Any]) -> None:
    """Write a trained model, adapters merged, in bfloat16; `percept.assistant` opens it."""
    merge_lora(model)
    write_assistant(
        out, model.state_dict(), model.config, name=out.resolve().name, provenance=facts, dtype=torch.bfloat16
    )
    save_processor(out, processor)
