"""pe/pretrain: image pretraining of the Perception Encoder, every step of its ablation as a switch.

    percept train pe/pretrain                                         # nano on the generated world, all switches on
    percept train pe/pretrain --point vanilla                         # the CLIP baseline
    percept train pe/pretrain --point attention_pool --rope False     # up to a step, without one of those before it
    percept train pe/pretrain --data 'shards/*.tar' --workers 8       # own images with captions
    torchrun --nproc-per-node 8 -m percept train pe/pretrain --size L --published --data 'shards/*.tar' --settings.shard

Bolya et al. 2025, arXiv:2504.13181, section 2 and figure 2. The training code was never published; what the paper does not say is a
field with a default of ours, marked so. Nobody has reproduced the published numbers with this recipe yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

import percept
from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.core.machine import pick_device
from percept.core.report import notice
from percept.data.source import Source
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.methods.pretraining import pe
from percept.models.clip import CLIP
from percept.models.config import ClipConfig, VisionConfig
from percept.recipes import pe_data
from percept.recipes.pe_memory import estimate
from percept.recipes.pe_nano import CPU_TOKENS, GPU_TOKENS
from percept.recipes.pe_sizes import POINTS, PRETRAINING, SHARES, SIZES, Point, Size, SizeName
from percept.train.experiment import Experiment, Placement, Settings
from percept.weights.folder import save_folder
from percept.world.cache import WorldData
from percept.world.source import Stage, stages_of

SWITCHES = (
    "progressive",
    "double_batch",
    "lamb",
    "final_resolution",
    "rope",
    "attention_pool",
    "augmentation",
    "mask_regularisation",
)
"""Fields that switch a step of the ablation, in its order."""


@dataclass(frozen=True, kw_only=True)
class Config(pe_data.WithWorld):
    """Complete configuration of a run."""

    point: Point = "pe_core"
    """Step of the ablation up to which everything is on; a switch that is given overrides it."""
    size: SizeName = "nano"
    """Shapes of both towers and image sizes of the stages."""
    progressive: bool | None = None
    """Small images first, the final size last, in one learning-rate schedule."""
    double_batch: bool | None = None
    """Twice the batch of `settings`, for as many steps."""
    lamb: bool | None = None
    """LAMB in place of the optimiser of `settings`, at 4 times its learning rate."""
    final_resolution: bool | None = None
    """A last stage at the highest image size; samples of the stages 10:8:4:2 in place of equal shares."""
    rope: bool | None = None
    """Rotary positions in two dimensions in every block; the learned ones stay."""
    attention_pool: bool | None = None
    """A learned query pools the tokens, in place of the class token, which stays among them (except in G)."""
    augmentation: bool | None = None
    """Heavy crops, brightness, saturation and mirroring of images from files (`views`); the augmentation of `world`. Without it
    images are only resized."""
    mask_regularisation: bool | None = None
    """Align the tokens of hidden patches, see `method`."""
    published: bool = False
    """Take the published optimiser, steps, batch, learning rate and warmup of the size, in place of those of `settings`."""
    lamb_optimiser: str = "lamb"
    """Optimiser that `lamb` takes."""
    shown: Literal["scenes", "regions"] = "scenes"
    """Content of generated images: whole scenes, or windows around single things, with their names."""
    text_from: str = ""
    """Encoder whose trained text tower and vocabulary the run begins with, such as nano; a new text tower if empty. Images are
    learned much sooner with it, as in locked-image tuning (Zhai et al. 2022, arXiv:2111.07991) with the towers exchanged."""
    tokenizer: Path | None = None
    """tokenizer.json or merges.txt. Default: one trained on the captions for pico and nano, CLIP's for the other sizes."""
    vocabulary: int = 1_536
    """Largest size of a vocabulary that is trained."""
    method: pe.Config = field(default_factory=pe.Config)
    settings: Settings = field(default_factory=lambda: Settings(steps=3_900, batch=64, learning_rate=1e-3, warmup=60))
    """Settings of the baseline; the switches change batch, optimiser and learning rate. The paper does not say how the learning rate
    decays, here with half a cosine to 0 over all stages, and in which number type weights are stored, here as the device is fast in."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.published and self.size not in PRETRAINING:
            raise PerceptError(f"there are no published settings for {self.size}. Use T, S, B, L or G.")
        if self.text_from and self.tokenizer is not None:
            raise PerceptError(
                f"tokenizer has no effect, because text_from takes that of {self.text_from}. Give one of them."
            )
        self._check_optimiser()
        patch = SIZES[self.size].model.vision.patch_size
        if self.on("mask_regularisation"):
            for side in self.sides():
                self.method.masking(patch).grid((side, side))

    def _check_optimiser(self) -> None:
        """Raise a PerceptError if the optimiser of `settings` is not the one that is used."""
        given = self.settings.optimiser
        if given != "adamw" and given != self.plan().optimiser:
            if not self.on("lamb"):
                raise PerceptError(
                    f"settings.optimiser={given} has no effect, because published is on. Leave --published out."
                )
            raise PerceptError(
                f"settings.optimiser={given} has no effect, because lamb is on. Give --lamb False, or --lamb-optimiser {given}, which is "
                "used at 4 times the learning rate."
            )

    def on(self, switch: str) -> bool:
        """True if a switch is on: as given, or as the point says."""
        given = getattr(self, switch)
        return SWITCHES.index(switch) < POINTS.index(self.point) if given is None else given

    def sides(self) -> tuple[int, ...]:
        """Return the image sizes of the stages in pixels."""
        sides = SIZES[self.size].sides if self.on("final_resolution") else SIZES[self.size].sides[:-1]
        return sides if self.on("progressive") else sides[-1:]

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages of the run."""
        sides = self.sides()
        weights = SHARES[: len(sides)] if self.on("final_resolution") else (1,) * len(sides)
        rows = [(self.shown, side, 1.0, weight / sum(weights)) for side, weight in zip(sides, weights, strict=True)]
        return stages_of(rows, self.baseline().steps)

    def baseline(self) -> Settings:
        """Return the settings before the switches change them."""
        return PRETRAINING[self.size].over(self.settings) if self.published else self.settings

    def plan(self) -> Settings:
        """Return the settings of the run."""
        settings = self.baseline()
        if self.on("double_batch"):
            settings = replace(settings, batch=2 * settings.batch)
        if self.on("lamb"):
            settings = replace(settings, optimiser=self.lamb_optimiser, learning_rate=4 * settings.learning_rate)
        return settings

    def model(self, vocabulary: int) -> ClipConfig:
        """Return the shapes of both towers."""
        model, side = SIZES[self.size].model, self.sides()[-1]
        assert isinstance(model.vision, VisionConfig)
        assert model.text is not None
        vision = replace(model.vision, image_size=side, rope=self.on("rope"))
        if not self.on("attention_pool"):
            vision = replace(vision, pool="class", class_token=True)
        if not self.text_from:
            return ClipConfig(vision=vision, text=replace(model.text, vocabulary=vocabulary))
        text = begun(self.text_from)[0].config.text
        assert text is not None
        return ClipConfig(vision=replace(vision, output_dim=text.output_dim), text=text)

    def training(self, place: Placement) -> pe.Config:
        """Return the method's configuration on a device."""
        method = self.method if self.on("mask_regularisation") else replace(self.method, mask_share=0.0)
        return replace(method, micro_tokens=method.micro_tokens or micro_tokens(place))


def micro_tokens(place: Placement) -> int:
    """Return how many tokens a tower processes at once on a device."""
    return CPU_TOKENS if place.device.type == "cpu" else GPU_TOKENS


def recipe(
    config: Config | None = None, *, command: str = "percept train pe/pretrain", name: str = "pe/pretrain"
) -> Experiment:
    """Pretrain an image-text model as the Perception Encoder, up to any point of its ablation."""
    config = config or Config()
    size, settings, stages = SIZES[config.size], config.plan(), config.stages()
    pick_device(settings.device)

    @cache
    def tokenizer() -> Tokenizer:
        return tokenizer_of(config, size)

    def source(place: Placement) -> Source:
        return pe_data.images(
            config, tokenizer(), settings, place, stages=stages, patch=size.model.vision.patch_size,
            augment=config.on("augmentation"),
        )  # fmt: skip

    def task(place: Placement) -> pe.Pretraining:
        clip = CLIP(config.model(tokenizer().vocab_size))
        if config.text_from:
            copy_text_tower(begun(config.text_from)[0], clip)
        method = config.training(place)
        notice(f"{name} needs about {estimate(clip, settings, place, method, side=stages[-1].size)}")
        return pe.Pretraining(method, clip)

    def save(out: Path, trained: nn.Module, totals: Mapping[str, Any]) -> None:
        assert isinstance(trained, pe.Pretraining)
        facts = provenance(name, command, config, totals)
        save_folder(
            out, trained.clip, name=out.resolve().name, preprocess=Preprocess(size=stages[-1].size),
            tokenizer=tokenizer(), provenance=facts,
        )  # fmt: skip

    return Experiment(
        name=name, config=config, settings=settings, task=task, source=source, save=save, stages=described(stages)
    )


def copy_text_tower(source: CLIP, target: CLIP) -> None:
    """Copy the weights of a text tower into one of the same shape."""
    assert source.text is not None
    assert target.text is not None
    target.text.load_state_dict(source.text.state_dict())


@cache
def begun(name: str) -> tuple[CLIP, Tokenizer]:
    """Return an encoder with a text tower, and its tokenizer.

    Raises:
        PerceptError: it has no text tower or no tokenizer.
    """
    encoder = percept.load(name, device="cpu", dtype="float32")
    if encoder.model.config.text is None or encoder.tokenizer is None:
        raise PerceptError(f"{name} has no text tower, or no tokenizer. Give an encoder with both, such as nano.")
    return encoder.model, encoder.tokenizer


def tokenizer_of(config: Config, size: Size) -> Tokenizer:
    """Return the tokenizer of a new model."""
    if config.text_from:
        return begun(config.text_from)[1]
    assert size.model.text is not None
    context = size.model.text.context
    found = pe_data.vocabulary(config.tokenizer, own=size.own_vocabulary, context=context)
    return found or pe_data.trained_vocabulary(config, size=config.vocabulary, context=context)


def described(stages: tuple[Stage, ...]) -> dict[int, str]:
    """Return a description of every stage by its first step."""
    return {
        stage.first: f"stage {number} of {len(stages)}, images of {stage.size} pixels"
        for number, stage in enumerate(stages, start=1)
    }


def provenance(name: str, command: str, config: Any, totals: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model records about its training."""
    return {"recipe": name, "command": command, "config": to_dict(config), **totals, "torch": torch.__version__}


def tiny() -> Config:
    """Return a configuration that runs in seconds, for tests and for trying the pipeline."""
    return Config(
        size="pico",
        vocabulary=700,
        method=pe.Config(mask_share=0.25),
        world=WorldData(pairs=64),
        settings=replace(Config().settings, steps=8, batch=8, warmup=2, log_every=2),
    )
