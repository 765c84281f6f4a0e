"""pe/nano: the Perception Encoder's image stage, small enough for a laptop, on the labelled world.

Architecture and ideas of Bolya et al. 2025, arXiv:2504.13181, section 2: attention pooling, two-dimensional rotary positions
beside learned ones, a class token, symmetric InfoNCE with the scale clamped at 100, progressive resolution in one schedule.
Differs from it: AdamW in place of LAMB (batches are small), light crops and brightness only (a heavy crop or a flip would
make captions of the world wrong), half of a batch are pairs of twins that differ in two colours or in left and right.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.core.seed import seed_everything
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.data.world.cache import Stage, WorldData, WorldSource, draw_cache, some_texts
from percept.models.clip import CLIP
from percept.models.config import ClipConfig, TextConfig, VisionConfig
from percept.models.folder import save_folder
from percept.train.experiment import Experiment, Settings

TOWER = VisionConfig(image_size=96, patch_size=8, width=256, layers=6, heads=4, output_dim=256)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides what comes out."""

    vision: VisionConfig = TOWER
    text_width: int = 192
    text_layers: int = 4
    context: int = 64
    """Ids of the longest text."""
    vocabulary: int = 1536
    """Largest number of token ids."""
    data: WorldData = field(default_factory=lambda: WorldData(pairs=100_000))
    settings: Settings = field(
        default_factory=lambda: Settings(steps=2_400, batch=256, learning_rate=1.5e-3, warmup=150, micro_tokens=4_800)
    )
    resolutions: tuple[tuple[int, float], ...] = ((48, 0.5), (64, 0.25), (96, 0.25))
    """(side in pixels, share of the steps), in order."""

    def __post_init__(self) -> None:
        shares = sum(share for _, share in self.resolutions)
        if abs(shares - 1) > 1e-6:
            raise PerceptError(f"the shares of the resolutions sum to {shares}; they must sum to 1")


def stages(config: Config) -> tuple[Stage, ...]:
    """Return the first step of every resolution."""
    found, reached = [], 0.0
    for size, share in config.resolutions:
        found.append(Stage(round(reached * config.settings.steps), size))
        reached += share
    return tuple(found)


def cache_home() -> Path:
    """Return where drawn pictures are kept: $PERCEPT_CACHE, or the user's cache folder."""
    return Path(os.environ.get("PERCEPT_CACHE", Path.home() / ".cache" / "percept")) / "world"


def recipe(config: Config | None = None, *, command: str = "percept train pe/nano") -> Experiment:
    """Draw the pictures unless they are there, train the tokenizer on their texts, and return the run.

    Expected, with the defaults on 2 cores with AMX: see the report card packaged with nano.
    """
    config = config or Config()
    folder = draw_cache(config.data, cache_home())
    tokenizer = Tokenizer.train(some_texts(folder, 200_000), vocab_size=config.vocabulary, context=config.context)
    seed_everything(config.settings.seed)
    model = CLIP(clip_config(config, tokenizer))
    model.micro_tokens = config.settings.micro_tokens
    source = WorldSource(
        config.data,
        folder,
        tokenizer,
        batch=config.settings.batch,
        stages=stages(config),
        seed=config.settings.seed,
    )
    preprocess = Preprocess(size=config.vision.image_size)

    def finish(out: Path, totals: Mapping[str, Any]) -> None:
        provenance = {"recipe": "pe/nano", "command": command, "config": to_dict(config), **totals}
        provenance["torch"] = torch.__version__
        save_folder(
            out,
            model,
            name=out.name,
            preprocess=preprocess,
            tokenizer=tokenizer,
            provenance=provenance,
            dtype=torch.bfloat16,
        )

    return Experiment(
        name="pe/nano", settings=config.settings, model=model, source=source, finish=finish, config=config
    )


def clip_config(config: Config, tokenizer: Tokenizer) -> ClipConfig:
    """Return the shapes of both towers."""
    assert config.vision.output_dim is not None
    text = TextConfig(
        context=tokenizer.context,
        vocabulary=tokenizer.vocab_size,
        width=config.text_width,
        layers=config.text_layers,
        heads=config.text_width // 64,
        output_dim=config.vision.output_dim,
    )
    return ClipConfig(vision=config.vision, text=text)


def tiny() -> Config:
    """Return a configuration that runs in seconds, for tests and for trying the pipeline."""
    vision = replace(TOWER, width=64, layers=2, heads=1, output_dim=64)
    return Config(
        vision=vision,
        text_width=64,
        text_layers=2,
        vocabulary=700,
        data=WorldData(pairs=64),
        settings=Settings(steps=20, batch=32, warmup=5, log_every=5),
    )
