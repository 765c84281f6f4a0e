"""pe/nano: the Perception Encoder's image stage, small enough for a laptop, on the labelled world.

Architecture and ideas of Bolya et al. 2025, arXiv:2504.13181, section 2: attention pooling, two-dimensional rotary positions
beside learned ones, a class token, symmetric InfoNCE with the scale clamped at 100, progressive resolution in one schedule.
Differs from it: Muon in place of LAMB; the first stage shows windows around single things, with their names; the words of
a text are labels too (Huang et al. 2024, arXiv:2411.03313), and so are claims of two words ("a cup is red"), of pictures and
of texts, because a sum of words does not tell which belongs to which; every patch is told the kind and colour of what covers
it, because shapes are learned late from contrast alone; things are compared with their names (MaskCLIP's regions, Zhou et al.
2022, arXiv:2112.01071), pictures with right and wrong texts (NegCLIP, Yuksekgonul et al. 2023, arXiv:2210.01936); half of a
batch are pairs of twins that differ in two colours, one kind, or in left and right; half of the patches are left out until
the last steps (FLIP, Li et al. 2023, arXiv:2212.00794); backgrounds, light and inks change, but crops are light and nothing
is flipped, which would make captions of the world wrong.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from percept.core.config import to_dict
from percept.core.contracts import Batch
from percept.core.errors import PerceptError
from percept.core.machine import pick_device
from percept.core.seed import seed_everything
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.losses.claims import claim_loss
from percept.losses.contrastive import info_nce, right_over_wrong
from percept.losses.patches import NOTHING, patch_loss
from percept.losses.words import word_loss, word_targets, word_weights
from percept.models.clip import CLIP, unit
from percept.models.config import ClipConfig, TextConfig, VisionConfig
from percept.train.experiment import Experiment, Settings
from percept.weights.folder import save_folder
from percept.world.cache import WorldData, draw_cache, some_texts
from percept.world.claims import COUNT, FIRST_SIDE
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.patches import BACKGROUND, MOST_THINGS
from percept.world.source import Stage, WorldSource

CONTRARY_SCALE = 30.0
"""Of the cosines with a right and a wrong text."""
CPU_TOKENS, GPU_TOKENS = 4_800, 2**17
"""Tokens the towers see at once unless the settings say: what fits the caches of a CPU, and on a GPU most pictures of a
batch, and its texts in a few parts of about one length."""
CLAIM_SCALE = 16.0
"""Length of the vectors whose claims are told."""
TOWER = VisionConfig(image_size=96, patch_size=8, width=256, layers=6, heads=4, output_dim=256)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides what comes out."""

    vision: VisionConfig = TOWER
    text_width: int = 192
    """Channels of the text tower's residual stream; a head has 64 of them."""
    text_layers: int = 4
    """Blocks of the text tower."""
    context: int = 64
    """Ids of the longest text."""
    vocabulary: int = 1536
    """Largest number of token ids."""
    contrary_weight: float = 4.0
    """Of the loss that compares a right text with a wrong one; all others weigh 1."""
    data: WorldData = field(default_factory=lambda: WorldData(pairs=40_000))
    settings: Settings = field(
        default_factory=lambda: Settings(
            steps=3_900, batch=128, optimiser="muon", learning_rate=2e-3, warmup=60, hold=1_900
        )
    )
    stages: tuple[tuple[str, int, float, float], ...] = (
        ("regions", 48, 1.0, 0.15),
        ("scenes", 96, 0.5, 0.7),
        ("scenes", 96, 1.0, 0.15),
    )
    """(what the pictures show, their side in pixels, share of patches seen, share of the steps), in order."""

    def __post_init__(self) -> None:
        if any(not share > 0 for *_, share in self.stages):
            raise PerceptError(f"every stage needs a share above 0; given: {self.stages}")
        shares = sum(share for *_, share in self.stages)
        if abs(shares - 1) > 1e-6:
            raise PerceptError(f"the shares of the stages sum to {shares}; they must sum to 1")
        for stage in stages(self):
            for what, size in (("vision.image_size", self.vision.image_size), ("a stage", stage.size)):
                if size % self.vision.patch_size:
                    raise PerceptError(
                        f"{what} of {size} pixels does not divide into patches of {self.vision.patch_size}"
                    )
        if self.vision.output_dim is None:
            raise PerceptError("vision.output_dim=None; both towers need vectors of one length, give it a number")
        text_config(self, self.vocabulary)  # what cannot be built is said before anything is drawn


class Pretraining(nn.Module):
    """Both towers, a head that names words, one that names claims, and heads that name what every patch shows.

    The loss is the sum of: contrast of pictures and texts; words of the text; kinds and colours of the patches; contrast of
    things and their names; right texts over wrong ones; claims of the pictures, and of those texts. What a batch does not
    have is left out.
    """

    weights: Float[Tensor, " v"]

    def __init__(self, clip: CLIP, weights: Float[Tensor, " v"], *, contrary_weight: float = 1.0) -> None:
        super().__init__()
        assert clip.config.vision.output_dim is not None
        self.clip, self.contrary_weight = clip, contrary_weight
        self.head = nn.Linear(clip.config.vision.output_dim, len(weights))
        self.kind_head = nn.Linear(clip.config.vision.width, len(CATEGORIES) + 1)
        self.colour_head = nn.Linear(clip.config.vision.width, len(COLOURS))
        self.claim_head = nn.Linear(clip.config.vision.output_dim, COUNT)
        self.register_buffer("weights", weights, persistent=False)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss, its parts, and what the contrastive one logs."""
        seen = self.see(batch)
        words = word_loss(self.head(seen.image), word_targets(cast(Tensor, batch.words), self.weights))
        parts = {"words": words, **seen.patches}
        if batch.claims is not None:
            parts["claims"] = self._claimed(seen.image, batch.claims)
        logged: dict[str, Tensor] = {}
        if batch.tokens is not None:
            text = self.read(batch)
            logged = self.clip.contrast(seen.image, text.caption, batch.tokens)
            parts["contrast"] = logged.pop("loss")
            if seen.things is not None and text.names is not None:
                parts["things"] = info_nce(unit(seen.things[text.named]), unit(text.names), self.clip.scale())
            if text.pairs is not None:
                image = unit(seen.image)[:, None].expand(-1, text.pairs.shape[1], -1)
                right, wrong = unit(text.pairs).unbind(2)
                parts["contrary"] = right_over_wrong(image, right, wrong, CONTRARY_SCALE)
                if batch.said is not None:
                    parts["said"] = self._claimed(text.pairs.flatten(0, 2), batch.said.flatten(0, 2))
        weights = {"contrary": self.contrary_weight}
        loss = torch.stack([weights.get(name, 1.0) * part.float() for name, part in parts.items()]).sum()
        return {"loss": loss, **{name: part.detach() for name, part in parts.items()}, **logged}

    def _claimed(self, vectors: Float[Tensor, "b d"], claims: Int[Tensor, "b c"]) -> Float[Tensor, ""]:
        """Classify vectors of pictures or texts, with one head for both, by what they claim."""
        logits = self.claim_head((CLAIM_SCALE * unit(vectors)).to(vectors.dtype))
        return claim_loss(logits, claims, (1, FIRST_SIDE, COUNT))

    def see(self, batch: Batch) -> "Seen":
        """Encode the pictures in parts that fit the caches of a CPU."""
        image = cast(Tensor, batch.image)
        patches = image.shape[-1] * image.shape[-2] // self.clip.vision.config.patch_size**2
        size = self.clip.parts(patches if batch.keep is None else len(batch.keep)) or len(image)
        found = [self._see_part(batch, slice(first, first + size)) for first in range(0, len(image), size)]
        shares = [len(one.image) / len(image) for one in found]
        things = [one.things for one in found if one.things is not None]
        return Seen(
            image=torch.cat([one.image for one in found]),
            things=torch.cat(things) if things else None,
            patches={
                name: torch.stack([share * one.patches[name] for share, one in zip(shares, found, strict=True)]).sum()
                for name in found[0].patches
            },
        )

    def _see_part(self, batch: Batch, part: slice) -> "Seen":
        out = self.clip.vision(cast(Tensor, batch.image)[part], keep=batch.keep)
        assert out.pooled is not None
        if batch.cover is None or batch.things is None:
            return Seen(image=out.pooled, things=None, patches={})
        cover, patches = seen_cover(batch)[part], out.tokens[:, out.prefix :]
        kinds, colours = patch_labels(cover, batch.things[part])
        return Seen(
            image=out.pooled,
            things=None if batch.names is None else self._pool_things(patches, cover),
            patches={
                "kinds": patch_loss(self.kind_head(patches), kinds),
                "colours": patch_loss(self.colour_head(patches), colours),
            },
        )

    def _pool_things(self, patches: Float[Tensor, "b n w"], cover: Int[Tensor, "b n"]) -> Float[Tensor, "b k d"]:
        """Return a vector for each thing as if the pooling looked at its patches alone, evenly."""
        assert self.clip.vision.pool is not None
        assert self.clip.vision.projection is not None
        mine = patches_of(cover).float()
        mine = mine / mine.sum(dim=-1, keepdim=True).clamp(min=1)
        return self.clip.vision.pool.over(patches, mine) @ self.clip.vision.projection

    def read(self, batch: Batch) -> "Read":
        """Encode all texts of a batch at once: captions, names of things that show, right and wrong texts."""
        caption = cast(Tensor, batch.tokens)
        texts, named = [caption], None
        if batch.names is not None:
            named = patches_of(seen_cover(batch)).any(dim=-1) & (batch.names[..., 0] != 0)
            texts.append(batch.names[named])
        if batch.contrary is not None:
            texts.append(batch.contrary.flatten(0, 2))
        vectors = self.clip.encode_texts(torch.cat(texts)).split([len(text) for text in texts])
        return Read(
            caption=vectors[0],
            named=named,
            names=vectors[1] if named is not None and len(texts[1]) > 1 else None,
            pairs=vectors[-1].unflatten(0, batch.contrary.shape[:3]) if batch.contrary is not None else None,
        )


@dataclass(frozen=True)
class Seen:
    """What the vision tower makes of a batch: vectors not of unit length, and losses of the patches."""

    image: Float[Tensor, "b d"]
    things: Float[Tensor, "b k d"] | None
    patches: dict[str, Tensor]
    """Losses by name; none if the batch does not say what covers its patches."""


@dataclass(frozen=True)
class Read:
    """What the text tower makes of a batch; vectors are not of unit length."""

    caption: Float[Tensor, "b d"]
    named: Bool[Tensor, "b k"] | None
    """Which things of the batch have a row in `names`, in this order."""
    names: Float[Tensor, "m d"] | None
    pairs: Float[Tensor, "b p 2 d"] | None


def seen_cover(batch: Batch) -> Int[Tensor, "b n"]:
    """Return which thing covers each patch that the model sees."""
    cover = cast(Tensor, batch.cover)
    return cover if batch.keep is None else cover[:, batch.keep]


def patches_of(cover: Int[Tensor, "b n"]) -> Bool[Tensor, "b k n"]:
    """Tell for every thing which patches it covers."""
    return cover[:, None] == torch.arange(MOST_THINGS, device=cover.device)[:, None]


def patch_labels(
    cover: Int[Tensor, "b n"], things: Int[Tensor, "b k 2"]
) -> tuple[Int[Tensor, "b n"], Int[Tensor, "b n"]]:
    """Return kind (the last is background) and colour of every patch; `NOTHING` where it is unsure or does not show."""
    covered = things.gather(1, cover.clamp(min=0)[..., None].expand(-1, -1, 2))
    kinds = torch.where(cover >= 0, covered[..., 0], torch.where(cover == BACKGROUND, len(CATEGORIES), NOTHING))
    return kinds, torch.where(cover >= 0, covered[..., 1], NOTHING)


def some_weights(folder: Path, tokenizer: Tokenizer) -> Float[Tensor, " v"]:
    """Weigh the words by how rare they are in texts of a cache."""
    ids = tokenizer(some_texts(folder, 20_000))
    return word_weights(ids, tokenizer.vocab_size, special=(0, tokenizer.start_id, tokenizer.end_id))


def stages(config: Config) -> tuple[Stage, ...]:
    """Return the first step of every stage."""
    found, reached = [], 0.0
    for shown, size, keep, share in config.stages:
        found.append(Stage(round(reached * config.settings.steps), size, shown, keep))
        reached += share
    return tuple(found)


def in_words(found: Sequence[Stage]) -> dict[int, str]:
    """Return what every stage is, by its first step, for the person who watches."""
    return {
        stage.first: f"stage {number} of {len(found)}, {stage.shown} of {stage.size} pixels, "
        f"{100 * stage.keep:.0f} % of the patches seen"
        for number, stage in enumerate(found, start=1)
    }


def cache_home() -> Path:
    """Return where drawn pictures are kept: $PERCEPT_CACHE, or the user's cache folder."""
    return Path(os.environ.get("PERCEPT_CACHE", Path.home() / ".cache" / "percept")) / "world"


def recipe(config: Config | None = None, *, command: str = "percept train pe/nano") -> Experiment:
    """Train an encoder like nano on the labelled world; its pictures are drawn first and kept, its tokenizer is trained on their texts.

    Expected: see the report card packaged with nano, whose 1,632 steps of 1,024 took 274 s on one H200. The defaults are for a
    laptop.
    """
    config = config or Config()
    device = pick_device(config.settings.device)  # what is wrong with it is said before minutes of drawing
    folder = draw_cache(config.data, cache_home())
    tokenizer = Tokenizer.train(some_texts(folder, 200_000), vocab_size=config.vocabulary, context=config.context)
    seed_everything(config.settings.seed)
    model = Pretraining(
        CLIP(clip_config(config, tokenizer)), some_weights(folder, tokenizer), contrary_weight=config.contrary_weight
    )
    usual = CPU_TOKENS if device.type == "cpu" else GPU_TOKENS
    model.clip.micro_tokens = config.settings.micro_tokens or usual
    source = WorldSource(
        config.data,
        folder,
        tokenizer,
        batch=config.settings.batch,
        stages=stages(config),
        seed=config.settings.seed,
        patch=config.vision.patch_size,
        device=device if device.type == "cuda" else "cpu",
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
        name="pe/nano",
        settings=config.settings,
        model=model,
        source=source,
        finish=finish,
        config=config,
        stages=in_words(stages(config)),
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
