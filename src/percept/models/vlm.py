"""The perception language model: an image tower, a projector, and a decoder that reads visual tokens among those of the text.

Cho et al. 2025, arXiv:2504.13180; reference: facebookresearch/perception_models, apps/plm/transformer.py.
Differs from it: one message for every mismatch of images and placeholders, and images are encoded in parts.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.models.language import VLMConfig
from percept.models.lm import Decoder
from percept.models.projector import Projector
from percept.models.towers import ImageTower, build_tower
from percept.nn.cache import KVCache
from percept.nn.packing import Branches, Segments

CHUNK = 16
"""Tiles that go through the image tower together."""


class VLM(nn.Module):
    """An image tower, a projector and a decoder."""

    def __init__(self, config: VLMConfig) -> None:
        super().__init__()
        self.config = config
        self.vision: ImageTower = build_tower(config.vision)
        self.projector = new_projector(config)
        self.decoder = Decoder(config.decoder)

    def reset_parameters(self) -> None:
        """Initialise all three parts."""
        for part in (self.vision, self.projector, self.decoder):
            part.reset_parameters()

    def encode(self, tiles: Float[Tensor, "k 3 y x"], *, chunk: int = CHUNK) -> Float[Tensor, "k m d"]:
        """Return the visual tokens of tiles or frames: the tower's last residual stream without its prefix, projected and pooled.

        Args:
            chunk: tiles that go through the tower together; a smaller number takes less memory.
        """
        parts = []
        for some in tiles.split(max(1, chunk)):
            out = self.vision(some, layers=(-1,), pool=False)
            parts.append(self.projector(out.hidden[-1][:, out.prefix :], out.grid))
        return torch.cat(parts)

    def numbered(self, visual: Float[Tensor, "k m d"], counts: Sequence[int]) -> Float[Tensor, "k m d"]:
        """Return visual tokens with the numbers of their tiles and frames, if the model was trained with them.

        Args:
            counts: tiles and frames of each conversation, in order.
        """
        return self.projector.numbered(visual, torch.cat([torch.arange(count) for count in [0, *counts]]))

    def placeholders(self, ids: Int[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
        """Return which ids stand for a visual token."""
        mask = ids == self.config.image_token
        for token in self.config.placeholders[1:]:
            mask = mask | (ids == token)
        return mask

    def embed(self, ids: Int[Tensor, "b n"], visual: Float[Tensor, "k m d"] | None = None) -> Float[Tensor, "b n d"]:
        """Return token embeddings with the visual tokens in the places of the placeholders, row by row.

        Args:
            visual: visual tokens of all images of all rows, in order.

        Raises:
            PerceptError: there are more or fewer visual tokens than placeholders, or an id is outside the vocabulary.
        """
        embeddings, mask = self.decoder.embed(ids), self.placeholders(ids)
        found, given = int(mask.sum()), 0 if visual is None else visual.shape[0] * visual.shape[1]
        if found != given:
            raise PerceptError(_mismatch(found, visual))
        if visual is None or not given:
            return embeddings
        return embeddings.masked_scatter(mask[..., None], visual.to(embeddings.dtype))

    def forward(
        self,
        ids: Int[Tensor, "b n"] | None = None,
        *,
        tiles: Float[Tensor, "k 3 y x"] | None = None,
        visual: Float[Tensor, "k m d"] | None = None,
        embeddings: Float[Tensor, "b n d"] | None = None,
        cache: KVCache | None = None,
        counts: Sequence[int] | None = None,
        segments: Segments | None = None,
        branches: Branches | None = None,
        at: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "... v"]:
        """Return the logits of the next token, [b, n, v], or [p, v] for the p positions chosen by `at`.

        Args:
            tiles: of all images of all rows, in order; they are encoded first.
            visual: what `encode` and `numbered` returned for them, in their place.
            embeddings: what `embed` returned, in place of ids and images.
            cache: see `percept.models.lm.Decoder.forward`, also for counts, segments and branches.
            at: positions whose logits are computed; in training those before the tokens to predict.

        Raises:
            PerceptError: images and placeholders differ in number, inputs exclude each other, or the context is too short.
        """
        if embeddings is None:
            embeddings = self._embedded(ids, tiles, visual)
        elif ids is not None or tiles is not None or visual is not None:
            raise PerceptError("embeddings were given together with ids or images; give one of the two")
        out = self.decoder(embeddings=embeddings, cache=cache, counts=counts, segments=segments, branches=branches)
        return self.decoder.logits(out.tokens if at is None else out.tokens[at])

    def _embedded(self, ids: Tensor | None, tiles: Tensor | None, visual: Tensor | None) -> Float[Tensor, "b n d"]:
        if ids is None:
            raise PerceptError("there are no token ids. Give ids, or embeddings in their place.")
        if tiles is not None and visual is not None:
            raise PerceptError("tiles and their visual tokens were given; give one of the two")
        if tiles is not None:
            visual = self.encode(tiles)
            counts = self.placeholders(ids).sum(1) // visual.shape[1]
            visual = self.numbered(visual, counts.tolist()) if int(counts.sum()) == len(visual) else visual
        return self.embed(ids, visual)


def new_projector(config: VLMConfig) -> Projector:
    """Return a projector with new weights between tower and decoder of this configuration."""
    return Projector(
        config.vision.width, config.decoder.width, pooling=config.pooling, norm=config.projector_norm,
        positions=config.projector_positions, frames=config.projector_frames,
    )  # fmt: skip


def _mismatch(found: int, visual: Tensor | None) -> str:
    """Return the message for `found` placeholders with other visual tokens than these."""
    if visual is None:
        return f"the prompt has {found} placeholders of visual tokens, but no images were given. Give images, or text alone."
    count, each = visual.shape[:2]
    more = "more" if count * each > found else "fewer"
    return (
        f"there are {more} images than placeholders: {count} tiles of {each} visual tokens are {count * each}, and the prompt has "
        f"{found} placeholders. Put exactly {each} placeholders into the prompt for every tile or frame."
    )


def assembled(tower: ImageTower, decoder: Decoder, *, layer: int = -1, **settings: Any) -> VLM:
    """Return a model of a trained tower and a trained decoder, which it shares, with a new projector between them.

    Args:
        tower: any image tower; its prefix, pooling and final norm are not used.
        layer: block of the tower whose tokens are projected, counted from either end; later ones are left out.
        settings: further fields of `VLMConfig`.

    Raises:
        PerceptError: the layer does not exist, or the settings do not fit.
    """
    vision, weight = tower.cut(layer), decoder.embedding.weight
    config = VLMConfig(vision=vision.config, decoder=decoder.config, **settings)
    with torch.device("meta"):
        model = VLM(config)
    model.vision, model.decoder = vision, decoder
    model.projector = new_projector(config).to(weight.device, weight.dtype)
    return model.train(decoder.training)


def reconfigured(model: VLM, **settings: Any) -> VLM:
    """Return a model with other settings, such as pooling=2, that shares all parameters; see `VLMConfig`.

    Raises:
        PerceptError: the settings need other parameters than the model has.
    """
    config = replace(model.config, **settings)
    with torch.device("meta"):
        new = VLM(config)
    new.vision, new.decoder = model.vision, model.decoder
    if {*dict(new.projector.named_parameters())} != {*dict(model.projector.named_parameters())}:
        raise PerceptError(
            f"the settings {', '.join(settings)} need a projector with other parameters. Only a new model can have them."
        )
    for name, part in model.projector.named_children():
        setattr(new.projector, name, part)
    return new.train(model.training)


def with_layer_scale(model: VLM, *, layer_scale: float = 0.1, drop_path: float = 0.1) -> VLM:
    """Return a model whose tower has LayerScale and DropPath, as from stage 2 on; all other parameters are shared.

    LayerScale that the tower has already is kept. A new one multiplies every residual branch by `layer_scale`, so it changes
    what the tower computes.

    Raises:
        PerceptError: the tower has no such layers.
    """
    old, state = model.vision.config, dict(model.vision.named_parameters())
    if not hasattr(old, "layer_scale"):
        raise PerceptError(f"a tower of kind {old.kind!r} has no LayerScale. Leave it as it is.")
    config = replace(old, layer_scale=old.layer_scale or layer_scale, drop_path=drop_path)
    with torch.device("meta"):
        tower = build_tower(config)
    sample = next(iter(state.values()))
    added = {
        name: nn.Parameter(torch.full(value.shape, layer_scale, dtype=sample.dtype, device=sample.device))
        for name, value in tower.named_parameters()
        if name not in state
    }
    tower.load_state_dict(state | added, assign=True)
    tower.train(model.vision.training)
    new = reconfigured(model, vision=config)
    new.vision = tower
    return new
