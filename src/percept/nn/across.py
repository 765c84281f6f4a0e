"""Maps between the embedding spaces of two models."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

INITIAL = 1e-3
"""Standard deviation of the initial output of the perceptron: it hardly changes the linear map."""


class MapAcross(nn.Module):
    """y = normalise(W x + MLP(x)): unit vectors of one space as unit vectors of another."""

    def __init__(self, d_in: int, d_out: int, *, hidden: int = 0) -> None:
        """Make a map of random weights.

        Args:
            d_in: length of the vectors that are mapped.
            d_out: length of the result.
            hidden: width of the perceptron; 0 for a linear map.
        """
        super().__init__()
        self.linear = nn.Linear(d_in, d_out, bias=False)
        self.mlp: nn.Sequential | None = None
        if hidden:
            last = nn.Linear(hidden, d_out)
            nn.init.normal_(last.weight, std=INITIAL)
            nn.init.zeros_(last.bias)
            self.mlp = nn.Sequential(nn.Linear(d_in, hidden), nn.GELU(), last)

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b e"]:
        """Map unit vectors to unit vectors."""
        y = self.linear(x)
        return F.normalize(y if self.mlp is None else y + self.mlp(x), dim=-1)


def procrustes(source: Float[Tensor, "n d"], target: Float[Tensor, "n e"]) -> Float[Tensor, "e d"]:
    """Return the matrix R with orthonormal rows or columns that maximises the sum of <R source, target>.

    R = U V' with U S V' the singular value decomposition of target' source (Schoenemann 1966).
    """
    u, _, vh = torch.linalg.svd(target.double().T @ source.double(), full_matrices=False)
    return (u @ vh).to(source.dtype)


def least_squares(
    source: Float[Tensor, "n d"], target: Float[Tensor, "n e"], *, ridge: float = 0.1
) -> Float[Tensor, "e d"]:
    """Return the matrix W that minimises the mean of |W source - target|^2, plus a penalty on W.

    Args:
        source: vectors.
        target: what they should become.
        ridge: penalty, as a multiple of the mean variance of `source`.
    """
    x, y = source.double(), target.double()
    gram = x.T @ x / len(x)
    gram += ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
    return torch.linalg.solve(gram, x.T @ y / len(x)).T.to(source.dtype)
