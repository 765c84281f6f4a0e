"""pe/nano: the Perception Encoder's image stage, small enough for a laptop, on the labelled world.

Architecture and ideas of Bolya et al. 2025, arXiv:2504.13181, section 2: attention pooling, two-dimensional rotary positions
beside learned ones, a class token, symmetric InfoNCE with the scale clamped at 100, progressive resolution in one schedule.
Differs from it: Muon in place of LAMB; the first stage shows windows around single things, with their names; the words of
a text are labels too (Huang et al. 2024, arXiv:2411.03313), because shapes are learned late from contrast alone; half of a
batch are pairs of twins that differ in two colours, one kind, or in left and right; light crops and brightness only (a
heavy crop or a flip would make captions of the world wrong).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from percept.core.config import to_dict
from percept.core.contracts import Batch
from percept.core.errors import PerceptError
from percept.core.machine import pick_device
from percept.core.seed import seed_everything
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.data.world.cache import Stage, WorldData, WorldSource, draw_cache, some_texts
from percept.losses.words import word_loss, word_targets, word_weights
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
    data: WorldData = field(default_factory=lambda: WorldData(pairs=30_000))
    settings: Settings = field(
        default_factory=lambda: Settings(
            steps=2_170, batch=128, optimiser="muon", learning_rate=1e-3, warmup=60, micro_tokens=4_800
        )
    )
    stages: tuple[tuple[str, int, float], ...] = (
        ("words", 48, 0.69),
        ("scenes", 64, 0.21),
        ("scenes", 96, 0.10),
    )
    """(what the pictures show, their side in pixels, share of the steps), in order."""

    def __post_init__(self) -> None:
        if any(not share > 0 for _, _, share in self.stages):
            raise PerceptError(f"every stage needs a share above 0; given: {self.stages}")
        shares = sum(share for _, _, share in self.stages)
        if abs(shares - 1) > 1e-6:
            raise PerceptError(f"the shares of the stages sum to {shares}; they must sum to 1")
        stages(self)
        if self.vision.output_dim is None:
            raise PerceptError("vision.output_dim=None; both towers need vectors of one length, give it a number")
        text_config(self, self.vocabulary)  # what cannot be built is said before anything is drawn


class Pretraining(nn.Module):
    """Both towers and a head that names words; the loss is the sum of contrast and words."""

    weights: Float[Tensor, " v"]

    def __init__(self, clip: CLIP, weights: Float[Tensor, " v"]) -> None:
        super().__init__()
        assert clip.config.vision.output_dim is not None
        self.clip = clip
        self.head = nn.Linear(clip.config.vision.output_dim, len(weights))
        self.register_buffer("weights", weights, persistent=False)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss, its parts, and what the contrastive one logs; a batch without texts has words only."""
        image = self.clip.encode_images(cast(Tensor, batch.image))
        words = word_loss(self.head(image), word_targets(cast(Tensor, batch.words), self.weights))
        if batch.tokens is None:
            return {"loss": words, "words": words.detach()}
        logged = self.clip.contrast(image, self.clip.encode_texts(batch.tokens), batch.tokens)
        contrast = logged.pop("loss")
        return {"loss": contrast + words, "words": words.detach(), "contrast": contrast.detach(), **logged}


def some_weights(folder: Path, tokenizer: Tokenizer) -> Float[Tensor, " v"]:
    """Weigh the words by how rare they are in texts of a cache."""
    ids = tokenizer(some_texts(folder, 20_000))
    return word_weights(ids, tokenizer.vocab_size, special=(0, tokenizer.start_id, tokenizer.end_id))


def stages(config: Config) -> tuple[Stage, ...]:
    """Return the first step of every stage."""
    found, reached = [], 0.0
    for shown, size, share in config.stages:
        found.append(Stage(round(reached * config.settings.steps), size, shown))
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
    pick_device(config.settings.device)  # said before minutes of drawing
    folder = draw_cache(config.data, cache_home())
    tokenizer = Tokenizer.train(some_texts(folder, 200_000), vocab_size=config.vocabulary, context=config.context)
    seed_everything(config.settings.seed)
    model = Pretraining(CLIP(clip_config(config, tokenizer)), some_weights(folder, tokenizer))
    model.clip.micro_tokens = config.settings.micro_tokens
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
            model.clip,
            name=out.resolve().name,
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
    return ClipConfig(vision=config.vision, text=text_config(config, tokenizer.vocab_size))


def text_config(config: Config, vocabulary: int) -> TextConfig:
    """Return the shape of the text tower; a head has 64 channels."""
    assert config.vision.output_dim is not None
    return TextConfig(
        context=config.context,
        vocabulary=vocabulary,
        width=config.text_width,
        layers=config.text_layers,
        heads=max(1, config.text_width // 64),
        output_dim=config.vision.output_dim,
    )


def tiny() -> Config:
    """Return a configuration that runs in seconds, for tests and for trying the pipeline."""
    vision = replace(TOWER, width=64, layers=2, heads=1, output_dim=64)
    return Config(
        vision=vision,
        text_width=64,
        text_layers=2,
        vocabulary=700,
        data=WorldData(pairs=64),
        settings=replace(Config().settings, steps=20, batch=32, warmup=5, log_every=5, micro_tokens=400),
    )
