"""The image tower of the Perception Encoder, with openings so that no method needs to edit it.

Bolya et al. 2025, arXiv:2504.13181. Reference: facebookresearch/perception_models, core/vision_encoder/pe.py.
Differs from it: rotary positions can be switched off, checkpointing works, patches are embedded by one matrix product.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.fast import compiled_call
from percept.models.config import VisionConfig
from percept.models.towers import VisionOut
from percept.nn.attention import Attention
from percept.nn.block import Block, LayerScale
from percept.nn.context import Rope
from percept.nn.mlp import MLP
from percept.nn.packing import merged, pack, unpack
from percept.nn.patch import PatchEmbedding
from percept.nn.pool import AttentionPool
from percept.nn.posembed import resize_positions
from percept.nn.rope import rope_2d
from percept.nn.stack import Call, call_block, resolve_layer, run_stack

ROPES = 128
"""Rotation tables kept per tower, the oldest dropped first: images in their own shapes come in hundreds of grids."""


def kept_rope(rope: Rope, prefix: int, keep: Int[Tensor, " k"] | None) -> Rope:
    """Return the rows of a rotation table that belong to the prefix and the kept patches."""
    if keep is None:
        return rope
    cos, sin = (torch.cat([table[:prefix], table[prefix:].index_select(0, keep)]) for table in rope)
    return cos, sin


class VisionTower(nn.Module):
    """A vision transformer with learned absolute positions and two-dimensional rotary ones."""

    no_decay = ("positions", "class_token")

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False
        self.call: Call = call_block
        """Runs a block; set by `compile`."""
        width = config.width
        self.patch = PatchEmbedding(3, width, config.patch_size, config.patch_size, bias=False)
        self.class_token = nn.Parameter(torch.empty(width)) if config.class_token else None
        rows = config.grid**2 + self.prefix
        self.positions = nn.Parameter(torch.empty(rows, width)) if config.absolute_positions else None
        self.norm_pre = nn.LayerNorm(width) if config.norm_pre else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(
                width,
                attention=Attention(width, config.heads),
                mlp=MLP(width, config.mlp_width),
                layer_scale=config.layer_scale,
                drop_path=config.drop_path,
            )
            for _ in range(config.layers)
        )
        self.norm_post = nn.LayerNorm(width) if config.norm_post else nn.Identity()
        self.pool = AttentionPool(width, config.pool_heads) if config.pool == "attention" else None
        self.projection = None if config.output_dim is None else nn.Parameter(torch.empty(width, config.output_dim))
        self.projection_bias = nn.Parameter(torch.zeros(config.output_dim or 0)) if config.output_bias else None
        self._ropes: dict[tuple[tuple[int, int], int, torch.device], Rope] = {}
        if not self.patch.weight.is_meta:  # there are no values on meta, and trying costs a second of imports
            self.reset_parameters()

    @property
    def prefix(self) -> int:
        """Tokens that the model puts in front of the patches."""
        return self.config.prefix

    def compile(self, *_: Any, **options: Any) -> None:
        """Run the blocks through `torch.compile`, one compiled for all of them; packed rows are never compiled.

        Args:
            options: of `torch.compile`.
        """
        self.call = compiled_call(**options)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise as the reference does: normal with deviation width^-0.5, Xavier for query, key and value."""
        deviation = self.config.width**-0.5
        for parameter in (self.class_token, self.positions, self.projection):
            if parameter is not None:
                nn.init.normal_(parameter, std=deviation)
        if self.projection_bias is not None:
            nn.init.zeros_(self.projection_bias)
        for name, module in self.named_modules():
            if isinstance(module, LayerScale):
                nn.init.constant_(module.gamma, module.initial)
            elif isinstance(module, nn.Conv2d | nn.Linear | nn.LayerNorm):
                module.reset_parameters()
            if isinstance(module, nn.Linear) and name.endswith("qkv"):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear) and name.endswith(".out"):
                nn.init.zeros_(module.bias)
        if self.pool is not None:
            nn.init.normal_(self.pool.probe)

    def embed_patches(self, image: Float[Tensor, "b 3 y x"]) -> tuple[Float[Tensor, "b n w"], tuple[int, int]]:
        """Embed the patches of images; pixels beyond the last whole patch are dropped. Returns the grid too.

        Raises:
            PerceptError: a side is shorter than one patch.
        """
        size, (height, width) = self.config.patch_size, image.shape[-2:]
        if min(height, width) < size:
            raise PerceptError(f"an image of {height}x{width} is smaller than one {size}x{size} patch")
        return self.patch(image).flatten(2).transpose(1, 2), (height // size, width // size)

    def add_positions(
        self, x: Float[Tensor, "b n w"], grid: tuple[int, int], positions: Float[Tensor, "m w"] | None = None
    ) -> Float[Tensor, "b m w"]:
        """Prepend the class token and add `positions`, by default the learned ones, interpolated to a different grid."""
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(x.shape[0], 1, -1), x], dim=1)
        if self.positions is None:
            return x
        if positions is None:
            nominal = (self.config.grid, self.config.grid)
            positions = resize_positions(self.positions, nominal, grid, prefix=self.prefix)
        return x + positions

    def rope(self, grid: tuple[int, int], prefix: int, device: torch.device) -> Rope:
        """Return the rotation table of a grid; cached."""
        key = (grid, prefix, device)
        table = self._ropes.get(key)
        if table is None:
            head_dim = self.config.width // self.config.heads
            with torch.inference_mode(False):  # a table made in inference mode must work in training too
                first, reference = self.prefix, self.config.rope_grid
                table = rope_2d(grid, head_dim, prefix=prefix, first=first, reference=reference, device=device)
            for oldest in list(self._ropes)[: max(0, len(self._ropes) + 1 - ROPES)]:
                self._ropes.pop(oldest, None)
            self._ropes[key] = table
        return table

    def forward(
        self,
        image: Float[Tensor, "b 3 y x"] | None = None,
        *,
        embeddings: Float[Tensor, "b n w"] | None = None,
        grid: tuple[int, int] | None = None,
        layers: Collection[int] = (),
        extra: Mapping[int, Tensor] | None = None,
        bias: Tensor | None = None,
        keep: Int[Tensor, " k"] | None = None,
        pool: bool = True,
        positions: Float[Tensor, "m w"] | None = None,
        rope: Callable[[int], Rope] | None = None,
    ) -> VisionOut:
        """Run the tower on images, or on patch `embeddings` and the `grid` they fill.

        Args:
            layers: blocks whose output to return in `hidden`, counted from either end.
            extra: {block: tokens [m, w] or [b, m, w]} to insert after the class token before that block.
            bias: added to the attention logits, broadcastable to [b, h, n, n]; n counts class token and `extra`.
            keep: indices of the patches to keep, row by row; the others are dropped after the positions are added.
            pool: also compute the pooled vector, if the model has one.
            positions: used in place of the learned ones, which are interpolated to the grid.
            rope: returns the rotation table for a prefix length, in place of the tower's own.

        Raises:
            PerceptError: neither images nor embeddings with a grid they fill, or both, or an image below one patch.
        """
        x, grid = self._embedded(image, embeddings, grid)
        x = self.add_positions(x, grid, positions)
        if keep is not None:
            x = torch.cat([x[:, : self.prefix], x[:, self.prefix :].index_select(1, keep)], dim=1)
        x = self.norm_pre(x)
        out = run_stack(
            self.blocks,
            x,
            prefix=self.prefix,
            layers=layers,
            extra=extra,
            rope=self._ropes_of(grid, keep, x.device, rope),
            bias=bias,
            checkpointing=self.checkpointing,
            call=self.call,
        )
        tokens = self.norm_post(out.tokens)
        return VisionOut(tokens, out.prefix, grid, out.hidden, self.pooled(tokens, out.prefix) if pool else None)

    def _embedded(
        self, image: Tensor | None, embeddings: Tensor | None, grid: tuple[int, int] | None
    ) -> tuple[Float[Tensor, "b n w"], tuple[int, int]]:
        """Return patch embeddings and their grid."""
        if image is not None:
            if embeddings is not None or grid is not None:
                raise PerceptError("images and patch embeddings were given; give one of the two")
            return self.embed_patches(image)
        if embeddings is None or grid is None:
            raise PerceptError("nothing to encode was given; give images, or patch embeddings together with their grid")
        if embeddings.shape[1] != grid[0] * grid[1]:
            raise PerceptError(f"{embeddings.shape[1]} patch embeddings do not fill a grid of {grid[0]}x{grid[1]}")
        return embeddings, grid

    def _ropes_of(
        self,
        grid: tuple[int, int],
        keep: Int[Tensor, " k"] | None,
        device: torch.device,
        given: Callable[[int], Rope] | None,
    ) -> Callable[[int], Rope] | None:
        """Return the function from a prefix length to the rotation table of the kept patches."""
        if not self.config.rope:
            return None
        table = given or (lambda prefix: self.rope(grid, prefix, device))
        return lambda prefix: kept_rope(table(prefix), prefix, keep)

    def pooled(self, tokens: Float[Tensor, "b n w"], prefix: int) -> Float[Tensor, "b d"] | None:
        """Pool normed tokens as the model does and project them; None for a model without pooling.

        Args:
            prefix: tokens in front of the patches, inserted ones included.
        """
        kind = self.config.pool
        if kind == "none":
            return None
        if kind == "attention":
            assert self.pool is not None
            return self._projected(self.pool(tokens))
        return self._projected(tokens[:, 0] if kind == "class" else self._mean(tokens, prefix))

    def _mean(self, tokens: Float[Tensor, "b n w"], prefix: int) -> Float[Tensor, "b w"]:
        """Return the mean of the model's own tokens, without inserted ones."""
        if prefix == self.prefix:
            return tokens.mean(dim=1)
        return torch.cat([tokens[:, : self.prefix], tokens[:, prefix:]], dim=1).mean(dim=1)

    def _projected(self, vector: Float[Tensor, "*b w"]) -> Float[Tensor, "*b d"]:
        if self.projection is not None:
            vector = vector @ self.projection
        return vector if self.projection_bias is None else vector + self.projection_bias

    def normed(self, tokens: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        """Apply the final norm to the tokens of a block.

        Raises:
            PerceptError: the model has no final norm.
        """
        if not self.config.norm_post:
            raise PerceptError(
                "this model has no final norm (PE-Lang, PE-Spatial and cut models do not); leave norm out"
            )
        return self.norm_post(tokens)

    def pool_weights(self, tokens: Float[Tensor, "b n w"]) -> Float[Tensor, "b h n"]:
        """Return the attention of each pooling head to each normed token.

        Raises:
            PerceptError: the model does not pool by attention.
        """
        return self._attention_pool().weights(tokens)

    def pool_regions(self, tokens: Float[Tensor, "b n w"], weights: Float[Tensor, "b k n"]) -> Float[Tensor, "b k d"]:
        """Pool normed tokens once for each of k regions, with the given weights in place of the pooling attention.

        Raises:
            PerceptError: the model does not pool by attention.
        """
        return self._projected(self._attention_pool().over(tokens, weights))

    def _attention_pool(self) -> AttentionPool:
        if self.pool is None:
            how = {"none": "returns tokens only", "class": "returns its class token", "average": "returns the mean"}
            raise PerceptError(
                f"this model {how[self.config.pool]}, so it has no pooling head; nano and the PE-Core models have one"
            )
        return self.pool

    def packed(
        self, images: Sequence[Float[Tensor, "_ 3 _ _"]], *, layers: Collection[int] = (), pool: bool = True
    ) -> list[VisionOut]:
        """Run batches of images of different sizes as one row without padding; the results equal those of each batch alone.

        Args:
            images: batches, each of one size. Neighbouring batches with equal token counts share their attention.
            layers: as in `forward`.
            pool: as in `forward`.

        Raises:
            PerceptError: no batches, or an image below one patch.
        """
        if not images:
            raise PerceptError("nothing to pack was given; give at least one batch of images")
        cut = [self.embed_patches(batch) for batch in images]
        parts = [self.add_positions(embeddings, grid) for embeddings, grid in cut]
        grids, runs = [grid for _, grid in cut], [(len(part), part.shape[1]) for part in parts]
        segments, table = merged(runs), None
        if self.config.rope:
            table = self._packed_rope(grids, [len(part) for part in parts], parts[0].device)
        out = run_stack(
            self.blocks,
            self.norm_pre(pack(parts)),
            prefix=self.prefix,
            layers=layers,
            rope=table and (lambda _: table),
            checkpointing=self.checkpointing,
            segments=segments,
        )
        row = self.norm_post(out.tokens)
        pooled: Sequence[Tensor | None] = [None] * len(images)
        if pool and self.config.pool != "none":
            vectors = [self.pooled(part, out.prefix) for part in unpack(row, segments)]
            pooled = torch.cat([part for part in vectors if part is not None]).split([count for count, _ in runs])
        hidden = {layer: unpack(state, runs) for layer, state in out.hidden.items()}
        return [
            VisionOut(
                tokens, out.prefix, grids[place], {layer: hidden[layer][place] for layer in hidden}, pooled[place]
            )
            for place, tokens in enumerate(unpack(row, runs))
        ]

    def _packed_rope(self, grids: Sequence[tuple[int, int]], counts: Sequence[int], device: torch.device) -> Rope:
        """Return the rotation table of a packed row with `counts` images of each grid."""
        tables = [self.rope(grid, self.prefix, device) for grid in grids]
        cos, sin = (
            pack([table.expand(count, -1, -1) for table, count in zip(kind, counts, strict=True)])[0]
            for kind in zip(*tables, strict=True)
        )
        return cos, sin

    def cut(self, after: int) -> "VisionTower":
        """Return a tower of the blocks up to and including `after`, without final norm, pooling and projection.

        The parameters are shared with this tower, not copied.
        """
        last = resolve_layer(after, self.config.layers)
        config = replace(self.config, layers=last + 1, pool="none", norm_post=False, output_dim=None, output_bias=False)
        with torch.device("meta"):
            tower = VisionTower(config)
        tower.patch, tower.class_token, tower.positions = self.patch, self.class_token, self.positions
        tower.norm_pre, tower.blocks = self.norm_pre, self.blocks[: last + 1]
        tower.checkpointing, tower.call, tower.training = self.checkpointing, self.call, self.training
        return tower
