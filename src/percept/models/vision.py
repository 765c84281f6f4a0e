"""The vision tower of the Perception Encoder, with openings so that no method edits it.

Bolya et al. 2025, arXiv:2504.13181. Reference: facebookresearch/perception_models, core/vision_encoder/pe.py.
Differs from it: rotary positions can be switched off, checkpointing works, patches are cut by reshape and one matrix product.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.models.config import VisionConfig
from percept.nn.attention import AttentionPool, Rope
from percept.nn.block import Block, LayerScale
from percept.nn.packing import merged, pack, unpack
from percept.nn.posembed import resize_positions
from percept.nn.rope import rope_2d
from percept.nn.stack import Step, call_block, resolve_layer, run_stack

ROPES = 128
"""Rotation tables kept, the oldest dropped first: pictures in their own shapes come in hundreds of grids."""


@dataclass(frozen=True)
class VisionOut:
    """What a vision tower gives."""

    tokens: Float[Tensor, "b n w"]
    """After the last block and the final norm, where the model has one; prefix first, then patches row by row."""
    prefix: int
    """Tokens in front of the patches: the class token and inserted ones."""
    grid: tuple[int, int]
    """Patches down and across, dropped ones included."""
    hidden: dict[int, Float[Tensor, "b m w"]]
    """Residual stream after the blocks asked for, no final norm; keys as they were asked."""
    pooled: Float[Tensor, "b d"] | None
    """Pooled and projected vector, not of unit length; None for a model without pooling."""


def kept_rope(rope: Rope, prefix: int, keep: Int[Tensor, " k"] | None) -> Rope:
    """Return the rows of a rotation table for the prefix and the kept patches."""
    if keep is None:
        return rope
    cos, sin = (torch.cat([table[:prefix], table[prefix:].index_select(0, keep)]) for table in rope)
    return cos, sin


class VisionTower(nn.Module):
    """A vision transformer with two-dimensional rotary positions beside learned ones."""

    no_decay = ("positions", "class_token")

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False
        self.step: Step = call_block
        """How blocks are called; `compiled_step()` compiles them. Packed rows, whose lengths are always new, never are."""
        width = config.width
        self.patch = nn.Conv2d(3, width, config.patch_size, config.patch_size, bias=False)
        self.class_token = nn.Parameter(torch.empty(width)) if config.class_token else None
        rows = config.grid**2 + self.prefix
        self.positions = nn.Parameter(torch.empty(rows, width)) if config.absolute_positions else None
        self.norm_pre = nn.LayerNorm(width) if config.norm_pre else nn.Identity()
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.mlp_width, layer_scale=config.layer_scale, drop_path=config.drop_path)
            for _ in range(config.layers)
        )
        self.norm_post = nn.LayerNorm(width) if config.norm_post else nn.Identity()
        self.pool = AttentionPool(width, config.pool_heads) if config.pool == "attention" else None
        self.projection = None if config.output_dim is None else nn.Parameter(torch.empty(width, config.output_dim))
        self.projection_bias = nn.Parameter(torch.zeros(config.output_dim or 0)) if config.output_bias else None
        self._ropes: dict[tuple[tuple[int, int], int, torch.device], Rope] = {}
        if not self.patch.weight.is_meta:  # on meta there is nothing to fill, and trying costs a second of imports
            self.reset_parameters()

    @property
    def prefix(self) -> int:
        """Tokens the model itself puts in front of the patches."""
        return int(self.config.class_token)

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
        """Cut pictures into patches and project them; pixels beyond the last whole patch are left out.

        Raises:
            PerceptError: a side is shorter than one patch.
        """
        size = self.config.patch_size
        rows, columns = image.shape[-2] // size, image.shape[-1] // size
        if rows == 0 or columns == 0:
            raise PerceptError(
                f"a picture of {image.shape[-2]}x{image.shape[-1]} is smaller than one {size}x{size} patch"
            )
        cells = image[..., : rows * size, : columns * size].unflatten(-1, (columns, size)).unflatten(-3, (rows, size))
        cells = cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # (b, rows columns, 3 size size)
        return F.linear(cells, self.patch.weight.flatten(1)), (rows, columns)

    def add_positions(self, x: Float[Tensor, "b n w"], grid: tuple[int, int]) -> Float[Tensor, "b m w"]:
        """Put the class token in front and add the learned positions, interpolated where the grid is another."""
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(x.shape[0], 1, -1), x], dim=1)
        if self.positions is None:
            return x
        nominal = (self.config.grid, self.config.grid)
        return x + resize_positions(self.positions, nominal, grid, prefix=self.prefix)

    def rope(self, grid: tuple[int, int], prefix: int, device: torch.device) -> Rope:
        """Return the rotation table of a grid, made once and kept."""
        key = (grid, prefix, device)
        if key not in self._ropes:
            head_dim = self.config.width // self.config.heads
            if len(self._ropes) == ROPES:
                del self._ropes[next(iter(self._ropes))]
            with torch.inference_mode(False):  # a table made while only inferring must still serve training
                self._ropes[key] = rope_2d(grid, head_dim, prefix=prefix, first=self.prefix, device=device)
        return self._ropes[key]

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
    ) -> VisionOut:
        """Run the tower on pictures, or on patch `embeddings` of a given `grid` in their place.

        Args:
            layers: blocks whose output to return in `hidden`, counted from either end.
            extra: {block: tokens [m, w] or [b, m, w]} to insert behind the class token before that block.
            bias: added to the attention logits, broadcastable to [b, h, n, n]; n counts class token and `extra`.
            keep: patches to go on with, by their place row by row; the others are dropped behind the positions.
            pool: also compute the pooled vector, where the model has one.

        Raises:
            PerceptError: neither pictures nor embeddings with a grid they fill, or both, or a picture below one patch.
        """
        if image is not None and (embeddings is not None or grid is not None):
            raise PerceptError("give pictures, or patch embeddings together with their grid; both were given")
        if image is not None:
            embeddings, grid = self.embed_patches(image.to(self.patch.weight.dtype))
        if embeddings is None or grid is None:
            raise PerceptError("give pictures, or patch embeddings together with their grid")
        if embeddings.shape[1] != grid[0] * grid[1]:
            raise PerceptError(f"{embeddings.shape[1]} patch embeddings do not fill a grid of {grid[0]}x{grid[1]}")
        x = self.add_positions(embeddings, grid)
        if keep is not None:
            x = torch.cat([x[:, : self.prefix], x[:, self.prefix :].index_select(1, keep)], dim=1)
        x = self.norm_pre(x)
        shape, device = grid, x.device
        out = run_stack(
            self.blocks,
            x,
            prefix=self.prefix,
            layers=layers,
            extra=extra,
            rope=(lambda prefix: kept_rope(self.rope(shape, prefix, device), prefix, keep))
            if self.config.rope
            else None,
            bias=bias,
            checkpointing=self.checkpointing,
            step=self.step,
        )
        tokens = self.norm_post(out.tokens)
        return VisionOut(tokens, out.prefix, grid, out.hidden, self.pooled(tokens, out.prefix) if pool else None)

    def pooled(self, tokens: Float[Tensor, "b n w"], prefix: int) -> Float[Tensor, "b d"] | None:
        """Pool normed tokens as the model does and project them; None for a model without pooling."""
        kind = self.config.pool
        if kind == "none":
            return None
        if self.pool is not None:
            vector = self.pool(tokens)
        elif kind == "class":
            vector = tokens[:, 0]
        else:
            vector = tokens.mean(dim=1)
        if self.projection is not None:
            vector = vector @ self.projection
        return vector if self.projection_bias is None else vector + self.projection_bias

    def packed(
        self, images: Sequence[Float[Tensor, "_ 3 _ _"]], *, layers: Collection[int] = (), pool: bool = True
    ) -> list[VisionOut]:
        """Run batches of pictures of different sizes as one row without padding; what comes out is as from each alone.

        Args:
            images: batches, each of one size. Batches of equal token counts that stand side by side share their attention.
            layers: as in `forward`.
            pool: as in `forward`.

        Raises:
            PerceptError: no batches, or a picture below one patch.
        """
        if not images:
            raise PerceptError("there is nothing to pack: give at least one batch of pictures")
        cut = [self.embed_patches(batch.to(self.patch.weight.dtype)) for batch in images]
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
            pooled = torch.cat([one for one in vectors if one is not None]).split([count for count, _ in runs])
        hidden = {layer: unpack(state, runs) for layer, state in out.hidden.items()}
        return [
            VisionOut(
                tokens, out.prefix, grids[place], {layer: hidden[layer][place] for layer in hidden}, pooled[place]
            )
            for place, tokens in enumerate(unpack(row, runs))
        ]

    def _packed_rope(self, grids: Sequence[tuple[int, int]], counts: Sequence[int], device: torch.device) -> Rope:
        """Return the rotation table of a packed row that holds `counts` pictures of each grid."""
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
        tower.checkpointing, tower.step, tower.training = self.checkpointing, self.step, self.training
        return tower
