"""Pretraining of nano on the generated world: image-text contrast, and everything that is known about the images as labels.

Contrast is the symmetric InfoNCE of Radford et al. 2021, arXiv:2103.00020. Around it: the words of a text as labels (Huang et
al. 2024, arXiv:2411.03313), and claims of two words ("a cup is red"), of images and of texts, because a sum of words does not
say which word belongs to which; the category and colour of what covers each patch, because shapes are learned late from
contrast alone; objects against their names (the regions of MaskCLIP, Zhou et al. 2022, arXiv:2112.01071); right texts against
wrong ones (NegCLIP, Yuksekgonul et al. 2023, arXiv:2210.01936). Patches may be left out (FLIP, Li et al. 2023,
arXiv:2212.00794).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from percept.core import dist
from percept.losses.claims import claim_loss
from percept.losses.contrastive import info_nce, right_over_wrong
from percept.losses.patches import NOTHING, patch_loss
from percept.losses.words import word_loss, word_targets
from percept.methods.contrast import check_micro_tokens, contrast, encode_texts, part_size
from percept.models.clip import CLIP, unit
from percept.models.config import ClipConfig, TextConfig, VisionConfig
from percept.world.batch import WorldBatch
from percept.world.claims import COUNT, FIRST_SIDE
from percept.world.elements import MOST_THINGS
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.patches import BACKGROUND

CONTRARY_SCALE = 30.0
"""Multiplies the cosines with a right and a wrong text."""
CLAIM_SCALE = 16.0
"""Length of the vectors whose claims are classified."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Weights of the losses, and how a step is computed."""

    contrary_weight: float = 4.0
    """Weight of the loss that compares a right text with a wrong one; all others weigh 1."""
    micro_tokens: int | None = None
    """Tokens that a tower processes at once; smaller parts fit the caches of a CPU better. The contrastive losses compare
    the whole batch. None: as the recipe chooses for the device."""

    def __post_init__(self) -> None:
        check_micro_tokens(self.micro_tokens)


@dataclass(frozen=True)
class Seen:
    """Output of the vision tower for a batch: vectors that are not normalised, and losses of the patches."""

    image: Float[Tensor, "b d"]
    things: Float[Tensor, "b k d"] | None
    patches: dict[str, Tensor]
    """Losses by name; empty if the batch does not say what covers its patches."""


@dataclass(frozen=True)
class Read:
    """Output of the text tower for a batch; vectors are not normalised."""

    caption: Float[Tensor, "b d"]
    named: Bool[Tensor, "b k"] | None
    """Objects of the batch that have a name."""
    names: Float[Tensor, "b k d"] | None
    """Their vectors; 0 for objects without a name."""
    pairs: Float[Tensor, "b p 2 d"] | None


class Pretraining(nn.Module):
    """Both towers, heads that classify words and claims of vectors, and heads that classify patches.

    The loss is a sum of parts; a part for which a batch has no labels is left out.
    """

    Config = Config
    shown = ("batch_accuracy", "scale")
    outer = ("head",)
    weights: Float[Tensor, " v"]

    def __init__(self, config: Config, clip: CLIP, weights: Float[Tensor, " v"]) -> None:
        """Take the towers and the weight of every token id as a label; 0 for ids that are not labels."""
        super().__init__()
        assert clip.config.vision.output_dim is not None
        self.config, self.clip = config, clip
        self.head = nn.Linear(clip.config.vision.output_dim, len(weights))
        self.kind_head = nn.Linear(clip.config.vision.width, len(CATEGORIES) + 1)
        self.colour_head = nn.Linear(clip.config.vision.width, len(COLOURS))
        self.claim_head = nn.Linear(clip.config.vision.output_dim, COUNT)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, batch: WorldBatch) -> dict[str, Tensor]:
        """Return the loss, its parts, the scale and the batch accuracy."""
        seen = self.see(batch)
        words = word_loss(self.head(seen.image), word_targets(batch.words, self.weights))
        parts = {"words": words, **seen.patches}
        if batch.claims is not None:
            parts["claims"] = self._claim_loss(seen.image, batch.claims)
        logged: dict[str, Tensor] = {}
        if batch.tokens is not None:
            text = self.read(batch, batch.tokens)
            logged = self.contrast(batch, batch.tokens, seen, text)
            parts["contrast"] = logged.pop("loss")
            parts |= self._name_loss(seen, text) | self._pair_losses(seen, text, batch.said)
        weights = {"contrary": self.config.contrary_weight}
        loss = torch.stack([weights.get(name, 1.0) * part.float() for name, part in parts.items()]).sum()
        return {"loss": loss, **{name: part.detach() for name, part in parts.items()}, **logged}

    def contrast(self, batch: WorldBatch, tokens: Int[Tensor, "b n"], seen: Seen, text: Read) -> dict[str, Tensor]:
        """Return the contrastive loss of images and captions, the scale and the batch accuracy."""
        return contrast(self.clip, seen.image, text.caption, tokens)

    def _name_loss(self, seen: Seen, text: Read) -> dict[str, Tensor]:
        """Contrast the objects of the global batch with their names."""
        if seen.things is None or text.names is None or text.named is None:
            return {}
        named, things, names = (dist.gather(each) for each in (text.named, seen.things, text.names))
        if named.sum() < 2:
            return {}
        return {"things": info_nce(unit(things[named]), unit(names[named]), self.clip.scale())}

    def _pair_losses(self, seen: Seen, text: Read, said: Int[Tensor, "b p 2 s"] | None) -> dict[str, Tensor]:
        """Compare images with right and wrong texts, and classify what those texts claim."""
        if text.pairs is None:
            return {}
        image = unit(seen.image)[:, None].expand(-1, text.pairs.shape[1], -1)
        right, wrong = unit(text.pairs).unbind(2)
        parts = {"contrary": right_over_wrong(image, right, wrong, CONTRARY_SCALE)}
        if said is not None:
            parts["said"] = self._claim_loss(text.pairs.flatten(0, 2), said.flatten(0, 2))
        return parts

    def _claim_loss(self, vectors: Float[Tensor, "b d"], claims: Int[Tensor, "b c"]) -> Float[Tensor, ""]:
        """Classify vectors of images or texts of the global batch by what they claim, with one head for both."""
        vectors, claims = dist.gather(vectors), dist.gather(claims)
        logits = self.claim_head((CLAIM_SCALE * unit(vectors)).to(vectors.dtype))
        return claim_loss(logits, claims, (1, FIRST_SIDE, COUNT))

    def see(self, batch: WorldBatch) -> Seen:
        """Encode the images in parts of at most `micro_tokens`; losses of patches are means over parts."""
        image = batch.image
        patches = image.shape[-1] * image.shape[-2] // self.clip.config.vision.patch_size**2
        kept = patches if batch.keep is None else len(batch.keep)
        size = part_size(kept, self.config.micro_tokens) or len(image)
        parts = [self._see_part(batch.rows(slice(first, first + size))) for first in range(0, len(image), size)]
        shares = [len(part.image) / len(image) for part in parts]
        things = [part.things for part in parts if part.things is not None]
        return Seen(
            image=torch.cat([part.image for part in parts]),
            things=torch.cat(things) if things else None,
            patches={
                name: torch.stack([share * part.patches[name] for share, part in zip(shares, parts, strict=True)]).sum()
                for name in parts[0].patches
            },
        )

    def _see_part(self, batch: WorldBatch) -> Seen:
        out = self.clip.vision(batch.image, keep=batch.keep)
        assert out.pooled is not None
        if batch.cover is None or batch.things is None:
            return Seen(image=out.pooled, things=None, patches={})
        cover, patches = seen_cover(batch.cover, batch.keep), out.tokens[:, out.prefix :]
        kinds, colours = patch_labels(cover, batch.things)
        return Seen(
            image=out.pooled,
            things=None if batch.names is None else self._pool_things(patches, cover),
            patches={
                "kinds": patch_loss(self.kind_head(patches), kinds),
                "colours": patch_loss(self.colour_head(patches), colours),
            },
        )

    def _pool_things(self, patches: Float[Tensor, "b n w"], cover: Int[Tensor, "b n"]) -> Float[Tensor, "b k d"]:
        """Return a vector for each object, as if the pooling attended to its patches alone, evenly."""
        assert self.clip.vision.pool is not None
        assert self.clip.vision.projection is not None
        mine = patches_of(cover).float()
        mine = mine / mine.sum(dim=-1, keepdim=True).clamp(min=1)
        return self.clip.vision.pool.over(patches, mine) @ self.clip.vision.projection

    def read(self, batch: WorldBatch, tokens: Int[Tensor, "b n"]) -> Read:
        """Encode all texts of a batch at once: captions, names of visible objects, right and wrong texts."""
        texts, named = [tokens], None
        if batch.names is not None and batch.cover is not None:
            shows = patches_of(seen_cover(batch.cover, batch.keep)).any(dim=-1)
            named = shows & (batch.names[..., 0] != 0)
            texts.append(batch.names[named])
        if batch.contrary is not None:
            texts.append(batch.contrary.flatten(0, 2))
        vectors = encode_texts(self.clip, torch.cat(texts), self.config.micro_tokens)
        encoded = vectors.split([len(text) for text in texts])
        names = None
        if named is not None:
            names = vectors.new_zeros(*named.shape, vectors.shape[-1]).masked_scatter(named[..., None], encoded[1])
        return Read(
            caption=encoded[0],
            named=named,
            names=names,
            pairs=encoded[-1].unflatten(0, batch.contrary.shape[:3]) if batch.contrary is not None else None,
        )

    @classmethod
    def tiny(cls) -> tuple["Pretraining", WorldBatch]:
        """Return a task of a few thousand parameters and a batch for it, with random labels."""
        vision = VisionConfig(image_size=16, patch_size=8, width=16, layers=1, heads=1, pool_heads=1, output_dim=12)
        text = TextConfig(context=6, vocabulary=20, width=16, layers=1, heads=1, output_dim=12)
        task = cls(Config(), CLIP(ClipConfig(vision=vision, text=text)), torch.ones(20))

        def texts(*shape: int) -> Int[Tensor, "..."]:
            ids = torch.randint(1, 18, (*shape, 6))
            ids[..., 0], ids[..., -1] = 18, 19
            return ids

        tokens, things = texts(4), torch.zeros(4, MOST_THINGS, 2, dtype=torch.int64)
        claims = torch.tensor([[1, FIRST_SIDE]]).expand(4, -1)
        return task, WorldBatch(
            image=torch.randn(4, 3, 16, 16), words=tokens, tokens=tokens, things=things, names=texts(4, MOST_THINGS),
            cover=torch.tensor([[0, 0, 1, -1]]).expand(4, -1), claims=claims, contrary=texts(4, 1, 2),
            said=claims[:, None, None].expand(-1, 1, 2, -1),
        )  # fmt: skip


def seen_cover(cover: Int[Tensor, "b p"], keep: Int[Tensor, " q"] | None) -> Int[Tensor, "b n"]:
    """Return which object covers each patch that the model sees."""
    return cover if keep is None else cover[:, keep]


def patches_of(cover: Int[Tensor, "b n"]) -> Bool[Tensor, "b k n"]:
    """Return for every object which patches it covers."""
    return cover[:, None] == torch.arange(MOST_THINGS, device=cover.device)[:, None]


def patch_labels(
    cover: Int[Tensor, "b n"], things: Int[Tensor, "b k 2"]
) -> tuple[Int[Tensor, "b n"], Int[Tensor, "b n"]]:
    """Return category (the last is background) and colour of every patch; `NOTHING` where it is unsure or not visible."""
    covered = things.gather(1, cover.clamp(min=0)[..., None].expand(-1, -1, 2))
    kinds = torch.where(cover >= 0, covered[..., 0], torch.where(cover == BACKGROUND, len(CATEGORIES), NOTHING))
    return kinds, torch.where(cover >= 0, covered[..., 1], NOTHING)
