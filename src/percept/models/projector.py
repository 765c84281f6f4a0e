"""From the tokens of an image tower to embeddings of a language decoder.

Cho et al. 2025, arXiv:2504.13180; reference: facebookresearch/perception_models, core/vision_projector/mlp.py.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

CUT = 3
"""Standard deviations at which new weights are cut off."""
FREQUENCIES = 4
"""Number of frequencies of the position features of an axis: half a period over the tile, one, two and four."""
FRAMES, FRAME_FREQUENCIES = 32, 5
"""Half a period of the lowest frequency of the features of a frame's number, in frames; number of frequencies, each twice the one before."""


class Projector(nn.Module):
    """Linear, GELU, linear; then each square of `pooling` x `pooling` tokens is averaged to one.

    With `norm` the tokens are normalised first. Those of a residual stream without a final norm can be many times as long as
    embeddings of text, and then hardly change on their way through a shallow decoder. With `positions`, the place of each pooled token in its
    tile is added, through a linear layer without bias whose weights start at zero; the last tokens of a tower trained on whole images hardly
    contain it. With `frames`, `numbered` adds the number of the tile or frame in its conversation in the same way. Published models have none of these.
    """

    def __init__(
        self,
        width: int,
        dim: int,
        *,
        pooling: int = 1,
        norm: bool = False,
        positions: bool = False,
        frames: bool = False,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.up = nn.Linear(width, dim)
        self.down = nn.Linear(dim, dim)
        self.place = nn.Linear(4 * FREQUENCIES, dim, bias=False) if positions else None
        self.frame = nn.Linear(2 * FRAME_FREQUENCIES, dim, bias=False) if frames else None
        if not self.up.weight.is_meta:
            self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw weights and biases from a normal of deviation dim^-0.5, cut at three deviations."""
        deviation = self.down.in_features**-0.5
        for layer in (self.up, self.down):
            for parameter in layer.parameters():
                nn.init.trunc_normal_(parameter, std=deviation, a=-CUT * deviation, b=CUT * deviation)
        if isinstance(self.norm, nn.LayerNorm):
            self.norm.reset_parameters()
        for layer in (self.place, self.frame):
            if layer is not None:
                nn.init.zeros_(layer.weight)

    def forward(self, x: Float[Tensor, "k n w"], grid: tuple[int, int]) -> Float[Tensor, "k m d"]:
        """Project the tokens of images, row by row, and pool them.

        Args:
            grid: tokens down and across.
        """
        x = self.down(F.gelu(self.up(self.norm(x))))
        if self.pooling > 1:
            square = x.transpose(1, 2).unflatten(-1, grid)
            grid = (max(1, grid[0] // self.pooling), max(1, grid[1] // self.pooling))
            x = F.adaptive_avg_pool2d(square, grid).flatten(2).transpose(1, 2)
        return x if self.place is None else x + self.place(position_features(grid, x))

    def numbered(self, x: Float[Tensor, "k m d"], numbers: Int[Tensor, " k"]) -> Float[Tensor, "k m d"]:
        """Add the number of each tile or frame in its conversation, counted from 0, to its tokens; return `x` without `frames`."""
        return x if self.frame is None else x + self.frame(frame_features(numbers, x))[:, None]


def position_features(grid: tuple[int, int], like: Tensor) -> Float[Tensor, "m f"]:
    """Return sines and cosines of the centres of a grid's cells, row by row; coordinates go from 0 to 1 across the tile.

    >>> position_features((1, 2), torch.zeros(1)).shape
    torch.Size([2, 16])
    """
    rates = torch.pi * 2.0 ** torch.arange(FREQUENCIES, device=like.device)
    down, across = ((torch.arange(n, device=like.device) + 0.5) / n for n in grid)
    angles = torch.cartesian_prod(down, across)[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1).to(like.dtype)


def frame_features(numbers: Int[Tensor, " k"], like: Tensor) -> Float[Tensor, "k f"]:
    """Return sines and cosines of the numbers of frames.

    >>> frame_features(torch.arange(3), torch.zeros(1)).shape
    torch.Size([3, 10])
    """
    rates = torch.pi / FRAMES * 2.0 ** torch.arange(FRAME_FREQUENCIES, device=like.device)
    angles = numbers.to(like.device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1).to(like.dtype)
