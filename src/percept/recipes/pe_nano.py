"""pe/nano: the image stage of the Perception Encoder, small enough for a laptop, on the generated world.

    percept train pe/nano                                            # one process
    torchrun --nproc-per-node 2 -m percept train pe/nano --tiny      # two processes, a few seconds

Expected: the report card packaged with nano, which was trained for 1,632 steps of 1,024 samples in 274 s on one H200.

Architecture and training follow Bolya et al. 2025, arXiv:2504.13181, section 2: attention pooling, two-dimensional rotary
and learned positions, a class token, symmetric InfoNCE with the scale clamped at 100, progressive resolution in one schedule.
Differences: Muon in place of LAMB; labels in addition to texts, see `percept.methods.pretraining.nano`; the first stage shows
windows around single objects, with their names; half of a batch are twins that differ in two colours, one category, or left
and right; half of the patches are dropped until the last stage; backgrounds, lighting and inks are augmented, but crops are
small and nothing is flipped, because captions of the world would become wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from percept.core import dist
from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.core.machine import pick_device
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.losses.words import word_weights
from percept.methods.pretraining import nano
from percept.models.clip import CLIP
from percept.models.config import ClipConfig, TextConfig, VisionConfig
from percept.train.experiment import Experiment, Placement, Settings
from percept.weights.folder import save_folder
from percept.world.cache import WorldData, cache_home, check_style, draw_cache, some_texts
from percept.world.source import WorldSource, described, stages_of

CPU_TOKENS, GPU_TOKENS = 4_800, 2**17
"""Default number of tokens that a tower processes at once: what fits the caches of a CPU; on a GPU most images of a batch,
and its texts in a few parts of similar length."""
TOWER = VisionConfig(image_size=96, patch_size=8, width=256, layers=6, heads=4, output_dim=256)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Complete configuration of a run."""

    vision: VisionConfig = TOWER
    text_width: int = 192
    """Width of the text tower; a head has 64 channels."""
    text_layers: int = 4
    """Blocks of the text tower."""
    context: int = 64
    """Largest number of token ids in a text."""
    vocabulary: int = 1536
    """Largest size of the vocabulary."""
    method: nano.Config = field(default_factory=nano.Config)
    data: WorldData = field(default_factory=lambda: WorldData(pairs=40_000))
    settings: Settings = field(
        default_factory=lambda: Settings(
            steps=3_900, batch=128, optimiser="muon", learning_rate=2e-3, warmup=60, hold=1_900, betas=(0.9, 0.95)
        )
    )
    stages: tuple[tuple[str, int, float, float], ...] = (
        ("regions", 48, 1.0, 0.15),
        ("scenes", 96, 0.5, 0.7),
        ("scenes", 96, 1.0, 0.15),
    )
    """(content, image size in pixels, share of patches seen, share of the steps) of each stage, in order."""

    def __post_init__(self) -> None:
        patch = self.vision.patch_size
        sides = {f"stage {shown!r}": size for shown, size, *_ in self.stages} | {"vision": self.vision.image_size}
        if bad := [f"{size} pixels ({what})" for what, size in sides.items() if size % patch]:
            raise PerceptError(
                f"an image of {bad[0]} does not divide into patches of {patch} pixels. Use a multiple of {patch}."
            )
        if self.vision.output_dim is None:
            raise PerceptError(
                "vision.output_dim must be a number, got None. Both towers need vectors of equal length."
            )
        stages_of(self.stages, self.settings.steps)
        check_style(self.data.style)
        clip_config(self, self.vocabulary)


def clip_config(config: Config, vocabulary: int) -> ClipConfig:
    """Return the shapes of both towers."""
    width, dim = config.text_width, config.vision.output_dim or 0
    text = TextConfig(
        context=config.context, vocabulary=vocabulary, width=width, layers=config.text_layers,
        heads=max(1, width // 64), output_dim=dim,
    )  # fmt: skip
    return ClipConfig(vision=config.vision, text=text)


def recipe(config: Config | None = None, *, command: str = "percept train pe/nano") -> Experiment:
    """Train an encoder like nano on the generated world. Images are generated first and cached; the tokenizer is trained on their texts."""
    config = config or Config()
    pick_device(config.settings.device)
    stages = stages_of(config.stages, config.settings.steps)

    @cache
    def drawn() -> tuple[Path, Tokenizer]:
        folder = dist.on_first(lambda: draw_cache(config.data, cache_home()))
        texts = some_texts(folder, 200_000)
        return folder, Tokenizer.train(texts, vocab_size=config.vocabulary, context=config.context)

    def source(place: Placement) -> WorldSource:
        device = place.device if place.device.type == "cuda" else "cpu"
        settings, patch = config.settings, config.vision.patch_size
        return WorldSource(
            config.data, *drawn(), batch=settings.batch, stages=stages, seed=settings.seed, patch=patch, device=device
        )

    def task(place: Placement) -> nano.Pretraining:
        folder, tokenizer = drawn()
        special = (0, tokenizer.start_id, tokenizer.end_id)
        weights = word_weights(tokenizer(some_texts(folder, 20_000)), tokenizer.vocab_size, special=special)
        usual = CPU_TOKENS if place.device.type == "cpu" else GPU_TOKENS
        method = replace(config.method, micro_tokens=config.method.micro_tokens or usual)
        return nano.Pretraining(method, CLIP(clip_config(config, tokenizer.vocab_size)), weights)

    def save(out: Path, trained: nn.Module, totals: Mapping[str, Any]) -> None:
        assert isinstance(trained, nano.Pretraining)
        facts = {
            "recipe": "pe/nano",
            "command": command,
            "config": to_dict(config),
            **totals,
            "torch": torch.__version__,
        }
        save_folder(
            out, trained.clip, name=out.resolve().name, preprocess=Preprocess(size=config.vision.image_size),
            tokenizer=drawn()[1], provenance=facts, dtype=torch.bfloat16,
        )  # fmt: skip

    return Experiment(
        name="pe/nano", config=config, settings=config.settings, task=task, source=source, save=save,
        stages=described(stages),
    )  # fmt: skip


def tiny() -> Config:
    """Return a configuration that runs in seconds, for tests and for trying the pipeline."""
    return Config(
        vision=replace(TOWER, width=64, layers=2, heads=1, output_dim=64),
        text_width=64,
        text_layers=2,
        vocabulary=700,
        method=nano.Config(micro_tokens=400),
        data=WorldData(pairs=64),
        settings=replace(Config().settings, steps=20, batch=32, warmup=5, log_every=5),
    )
