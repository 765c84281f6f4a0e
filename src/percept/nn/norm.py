"""Root-mean-square normalisation (Zhang and Sennrich 2019, arXiv:1910.07467)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """weight * x / sqrt(mean(x²) + eps); the quotient is computed in float32 or wider and rounded to the type of x."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def reset_parameters(self) -> None:
        """Set the weight to 1."""
        nn.init.ones_(self.weight)

    def forward(self, x: Float[Tensor, "*b w"]) -> Float[Tensor, "*b w"]:
        """Normalise each token."""
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        return self.weight * (exact * (exact.square().mean(-1, keepdim=True) + self.eps).rsqrt()).to(x.dtype)
