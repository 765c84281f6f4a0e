"""A token embedding that is the output layer too."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class TiedEmbedding(nn.Embedding):
    """`torch.nn.Embedding` whose weight also turns final tokens into logits."""

    def logits(self, x: Float[Tensor, "*b w"]) -> Float[Tensor, "*b v"]:
        """Return the product of tokens with all embeddings."""
        return F.linear(x, self.weight)
