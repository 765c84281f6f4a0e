"""pe/finetune: fine-tune an image-text model on own images, and report what it gained and what it kept.

    percept train pe/finetune --init nano --data photos                        # photos/CLASS/IMAGE, or images with captions
    percept train pe/finetune --init nano --data photos --train lora           # low-rank adapters, merged at the end
    percept train pe/finetune --init nano --data photos --average 0.5          # half way between both models (WiSE-FT)
    percept train pe/finetune --init PE-Core-B16-224 --data rows.jsonl --test others.jsonl

The loss is that of pretraining (Goyal et al. 2023, arXiv:2212.00638, FLYP), except that texts of the same class do not count as negatives. The
learning rate falls with depth (Dong et al. 2022, arXiv:2212.06138). Weights can be averaged with those of the start (Wortsman et al.
2022, arXiv:2109.01903, WiSE-FT): W = (1 - a) start + a tuned.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn

import percept
from percept.core.errors import PerceptError
from percept.core.io import write_json
from percept.core.machine import pick_device
from percept.core.report import notice
from percept.data.known_words import words_of
from percept.data.sources.captions import CaptionChoice
from percept.data.sources.prepare import CaptionCollate, ImageCaption
from percept.data.sources.source import MAX_BAD, RowSource
from percept.data.transforms import Preprocess
from percept.eval.world import singles
from percept.eval.zeroshot import prompts
from percept.infer.labels import TEMPLATES, check_templates
from percept.methods.pretraining.pe_finetune import Config as Method
from percept.methods.pretraining.pe_finetune import Finetuning
from percept.models.clip import CLIP, unit
from percept.nn.lora import add_lora, merge_lora
from percept.optim.rules import Rules, Scale
from percept.recipes.pe import provenance
from percept.recipes.pe_data import Views
from percept.recipes.pe_memory import estimate
from percept.recipes.pe_own import Own, OwnCollate, OwnItem, opened_own, spoken
from percept.recipes.pe_report import compare, show
from percept.recipes.pe_stages import Start, in_parts, started
from percept.recipes.plm import Lora
from percept.train.experiment import Every, Experiment, Placement, Settings
from percept.weights.cast import average_with
from percept.weights.folder import save_folder
from percept.world import CATEGORIES, CLASS_TEMPLATES

ADAPTED = r"^(vision|text)\.blocks\..*\.(qkv|out|up|down)$"
"""Linear layers of both towers that get adapters."""
CHECKED = 200
"""Generated images on which the zero-shot accuracy is measured while training."""
REPORT = "finetune.json"
"""File of the report in the folder of the model."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Complete configuration of a run."""

    init: str = "nano"
    """Name or folder of the model to begin with."""
    data: str = ""
    """Folder with a subfolder of images per class; or a folder, file or pattern of images with captions."""
    test: str = ""
    """Images of the same kind to measure on; a part of `data` that is held out if empty."""
    held_out: float = 0.2
    """Share of `data` to measure on, of every class; 0 for none."""
    captions: tuple[str, ...] | None = None
    """Field of the caption, or several of which one is drawn at random; the first usual name, such as caption or text, if None."""
    root: Path | None = None
    """Folder of relative paths in tables; that of each file if None."""
    templates: tuple[str, ...] = TEMPLATES
    """Texts of a class, with {} for its name; one is drawn at random for each image."""
    train: Literal["all", "lora"] = "all"
    lora: Lora = field(default_factory=lambda: Lora(layers=ADAPTED))
    layer_decay: float = 0.8
    """The learning rate of a block is this times that of the block after it; 1 for equal rates."""
    average: float = 1.0
    """Weight of the fine-tuned weights in the result; the rest is that of the start (WiSE-FT). 1 for the fine-tuned ones alone."""
    world_images: int = 600
    """Generated images on which the zero-shot accuracy is measured before and after; 0 for none."""
    check_every: int = 100
    """Steps between measurements of the zero-shot accuracy on generated images while training, which the log keeps; 0 for none."""
    views: Views = field(default_factory=lambda: Views(crop=(0.4, 1.0)))
    workers: int = 0
    """Processes that read images."""
    max_bad: float = MAX_BAD
    """Share of bad images above which the run stops."""
    method: Method = field(default_factory=Method)
    settings: Settings = field(
        default_factory=lambda: Settings(steps=300, batch=32, learning_rate=3e-4, warmup=20, weight_decay=0.05)
    )

    def __post_init__(self) -> None:
        check_templates(self.templates)
        CaptionChoice(self.captions)
        if not 0 <= self.held_out <= 0.9:
            raise PerceptError(
                f"held_out must be from 0 to 0.9, got {self.held_out}. 0.2 holds one of five images out."
            )
        if not 0 <= self.average <= 1:
            raise PerceptError(
                f"average must be from 0 to 1, got {self.average}. 1 gives the fine-tuned weights alone."
            )
        if not 0 < self.layer_decay <= 1:
            raise PerceptError(f"layer_decay must be above 0 and at most 1, got {self.layer_decay}. 0.8 is usual.")
        for name in ("world_images", "check_every"):
            if getattr(self, name) < 0:
                raise PerceptError(f"{name} must be at least 0, got {getattr(self, name)}.")


def recipe(config: Config | None = None, *, command: str = "percept train pe/finetune") -> Experiment:
    """Fine-tune an image-text model on own images; report the gain on held-out ones and the zero-shot accuracy kept."""
    config = config or Config()
    if not config.data:
        raise PerceptError(
            "pe/finetune has no data. Give --data, a folder with a subfolder per class, or images with captions."
        )
    name = "pe/finetune"
    pick_device(config.settings.device)
    start = started(name, config.init)

    @cache
    def own() -> Own:
        settings = config.settings
        return opened_own(
            config.data, config.test, held_out=config.held_out, seed=settings.seed, root=config.root,
            choice=CaptionChoice(config.captions),
        )  # fmt: skip

    def source(place: Placement) -> RowSource:
        chosen = own()
        kinds = f"{len(chosen.classes)} classes" if chosen.classes else "captions"
        notice(f"{name}: {kinds}, {len(chosen.train):,} images to train on, {len(chosen.test):,} held out")
        return rows_of(config, chosen, start())

    def task(place: Placement) -> Finetuning:
        clip = prepared(config, start().clip())
        method = in_parts(config.method, place)
        notice(f"{name} needs about {estimate(clip, config.settings, place, method, side=start().side)}")
        return Finetuning(method, clip)

    def save(out: Path, trained: nn.Module, totals: Mapping[str, Any]) -> None:
        assert isinstance(trained, Finetuning)
        merge_lora(trained.clip)
        average_with(trained.clip, start().clip(), config.average)
        tokenizer, classes = start().tokenizer, own().classes
        if tokenizer.words:  # with captions, what the model has seen is not recorded
            taught = frozenset(word for label in classes for word in words_of(spoken(label)))
            tokenizer.words = tokenizer.words | taught if classes else frozenset()
        save_folder(
            out, trained.clip, name=out.resolve().name, preprocess=start().preprocess, tokenizer=tokenizer,
            provenance=provenance(name, command, config, totals),
        )  # fmt: skip
        report(config, own(), out, command)

    rules = layer_rates(start().config.vision.layers, text_layers(start()), config.layer_decay)
    kept = Every(steps=max(1, config.check_every), call=zero_shot(start), preserve=True, samples=CHECKED)
    return Experiment(
        name=name,
        config=config,
        settings=config.settings,
        task=task,
        source=source,
        save=save,
        rules=rules,
        every=(kept,) if config.check_every else (),
    )


def rows_of(config: Config, own: Own, start: Start) -> RowSource:
    """Return the source of a run."""
    normal = start.preprocess
    preprocess = Preprocess(size=start.side, mean=normal.mean, std=normal.std)
    inner = ImageCaption(
        preprocess=preprocess, tokenizer=start.tokenizer, augment=config.views.augment(),
        captions=CaptionChoice(None if own.classes else config.captions),
    )  # fmt: skip
    settings = config.settings
    source = RowSource(
        own.train,
        OwnItem(inner=inner, classes=own.classes, templates=config.templates),
        OwnCollate(inner=CaptionCollate(preprocess=preprocess, tokenizer=start.tokenizer)),
        batch=settings.batch,
        seed=settings.seed,
        workers=config.workers,
        max_bad=config.max_bad,
    )
    source.identity = own.identity()
    return source


def prepared(config: Config, clip: CLIP) -> CLIP:
    """Return the model as it is trained: whole, or frozen with adapters."""
    if config.train == "lora":
        clip.requires_grad_(False)
        add_lora(clip, config.lora.layers, rank=config.lora.rank, alpha=config.lora.alpha)
    return clip


def text_layers(start: Start) -> int:
    """Return the blocks of the text tower."""
    assert start.config.text is not None
    return start.config.text.layers


def layer_rates(vision: int, text: int, decay: float | int) -> Rules:
    """Return the learning rate of every part of both towers: 1 after the last block, `decay` times less per block towards the input.

    >>> [(pattern, round(action.rate, 3)) for pattern, action in layer_rates(1, 1, 0.5)[:2]]
    [('^clip\\\\.vision\\\\.blocks\\\\.0\\\\.', 0.5), ('^clip\\\\.vision\\\\.(patch|class_token|positions|norm_pre)', 0.25)]
    """
    if decay == 1:
        return ()
    towers = (("vision", vision, "patch|class_token|positions|norm_pre"), ("text", text, "embedding|positions"))
    rules: list[tuple[str, Scale]] = []
    for tower, layers, first in towers:
        rules += [(rf"^clip\.{tower}\.blocks\.{index}\.", Scale(decay ** (layers - index))) for index in range(layers)]
        rules.append((rf"^clip\.{tower}\.({first})", Scale(decay ** (layers + 1))))
    return rules


def zero_shot(start: Callable[[], Start], count: int = CHECKED) -> Callable[[nn.Module, int], dict[str, float]]:
    """Return a function that measures the zero-shot accuracy of a task's model on single things of the generated world."""

    @cache
    def made() -> tuple[Tensor, Tensor, Tensor]:
        data, preprocess = singles(count), start().preprocess
        pixels = preprocess.stack(Image.fromarray(image) for image in data.images)
        texts = [text for forms in prompts(list(CATEGORIES), CLASS_TEMPLATES) for text in forms]
        return preprocess.normalise(pixels), start().tokenizer(texts), torch.tensor(data.categories)

    @torch.no_grad()
    def measure(task: nn.Module, step: int) -> dict[str, float]:
        clip: Any = task.eval().get_submodule("clip")
        like, (images, ids, labels) = clip.vision.patch.weight, made()
        texts = torch.cat([clip.embed_text(part.to(like.device)) for part in ids.split(256)])
        classes = unit(texts.unflatten(0, (len(CATEGORIES), -1)).mean(dim=1))
        vectors = torch.cat([clip.embed_image(part.to(like)) for part in images.split(64)])
        return {"zero_shot": float(((vectors @ classes.T).argmax(dim=1).cpu() == labels).float().mean())}

    return measure


def report(config: Config, own: Own, out: Path, command: str) -> None:
    """Measure the model before and after, print the comparison and write it next to the model."""
    device = config.settings.device
    models = [percept.load(name, device=device) for name in (config.init, out)]
    rows = compare(models[0], models[1], own, config.templates, world_images=config.world_images)
    if rows:
        show(f"pe/finetune: {config.init} before and after", rows)
    facts = {"command": command, "classes": list(own.classes), "trained on": len(own.train), "held out": len(own.test)}
    write_json(out / REPORT, {**facts, "scores": [row.to_dict() for row in rows]})


def tiny() -> Config:
    """Return a configuration that runs in seconds; `data` must be given."""
    settings = replace(Config().settings, steps=4, batch=8, warmup=1, log_every=2)
    return Config(world_images=12, check_every=4, settings=settings)
