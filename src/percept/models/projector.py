"""From the tokens of an image tower to embeddings of a language decoder.

Cho et al. 2025, arXiv:2504.13180; reference: facebookresearch/perception_models, core/vision_projector/mlp.py.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

CUT = 3
"""Standard deviations at which new weights are cut off."""


class Projector(nn.Module):
    """Linear, GELU, linear; then each square of `pooling` x `pooling` tokens is averaged to one.

    With `norm` the tokens are normalised first. Those of a residual stream without a final norm can be many times as long as
    embeddings of text, and then hardly change on their way through a shallow decoder. Published models have no such norm.
    """

    def __init__(self, width: int, dim: int, *, pooling: int = 1, norm: bool = False) -> None:
        super().__init__()
        self.pooling = pooling
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.up = nn.Linear(width, dim)
        self.down = nn.Linear(dim, dim)
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

    def forward(self, x: Float[Tensor, "k n w"], grid: tuple[int, int]) -> Float[Tensor, "k m d"]:
        """Project the tokens of images, row by row, and pool them.

        Args:
            grid: tokens down and across.
        """
        x = self.down(F.gelu(self.up(self.norm(x))))
        if self.pooling == 1:
            return x
        square = x.transpose(1, 2).unflatten(-1, grid)
        small = (max(1, grid[0] // self.pooling), max(1, grid[1] // self.pooling))
        return F.adaptive_avg_pool2d(square, small).flatten(2).transpose(1, 2)
