"""The patch embedding of a vision transformer."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class PatchEmbedding(nn.Conv2d):
    """A convolution whose stride is its kernel, computed as one matrix product over the pixels of each patch.

    Arguments, weights, input and output are those of `torch.nn.Conv2d`, so a convolution or a wrapper of one can take its
    place. The product is faster than the convolution on CPUs and for patches of 14 pixels.
    """

    def forward(self, input: Float[Tensor, "b c y x"]) -> Float[Tensor, "b w rows columns"]:
        """Embed each patch; pixels beyond the last whole patch are dropped. The image is cast to the type of the weights."""
        assert self.kernel_size == self.stride
        height, width = self.stride
        rows, columns = input.shape[-2] // height, input.shape[-1] // width
        cells = input[..., : rows * height, : columns * width].to(self.weight.dtype)
        cells = cells.unflatten(-1, (columns, width)).unflatten(-3, (rows, height))
        cells = cells.permute(0, 2, 4, 1, 3, 5).flatten(3)  # (b, rows, columns, c height width)
        return F.linear(cells, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
