"""The two-layer perceptron of a transformer block."""

from jaxtyping import Float
from torch import Tensor, nn

from percept.nn.linear import linear


class MLP(nn.Module):
    """Linear, GELU, linear; GELU is exact but where `percept.nn.linear.linear` says otherwise."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "*b w"]) -> Float[Tensor, "*b w"]:
        """Transform each token by itself."""
        return linear(self.down, linear(self.up, x, gelu=True))
