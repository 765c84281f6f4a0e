"""The patch embedding of a vision transformer."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class PatchEmbedding(nn.Conv2d):
    """A convolution whose stride is its kernel, computed as one matrix product over the pixels of each patch.

    Weights, input and output are those of `torch.nn.Conv2d`, so a convolution or a wrapper of one can take its place.
    The product is faster than the convolution on CPUs and for patches of 14 pixels.
    """

    def __init__(self, width: int, patch_size: int) -> None:
        super().__init__(3, width, patch_size, patch_size, bias=False)

    def forward(self, input: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b w rows columns"]:
        """Embed each patch; pixels beyond the last whole patch are dropped. The image is cast to the type of the weights."""
        size = self.kernel_size[0]
        rows, columns = input.shape[-2] // size, input.shape[-1] // size
        cells = input[..., : rows * size, : columns * size].to(self.weight.dtype)
        cells = cells.unflatten(-1, (columns, size)).unflatten(-3, (rows, size))
        cells = cells.permute(0, 2, 4, 1, 3, 5).flatten(3)  # (b, rows, columns, 3 size size)
        return F.linear(cells, self.weight.flatten(1)).permute(0, 3, 1, 2)
