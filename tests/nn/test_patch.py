"""The patch embedding is a convolution whose stride is its kernel."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from percept.nn.patch import PatchEmbedding


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [(12, 8), (13, 11), (4, 4)])
def test_it_is_the_convolution(size: tuple[int, int], bias: bool) -> None:
    layer = PatchEmbedding(3, 6, 4, 4, bias=bias)
    image = torch.randn(2, 3, *size)
    expected = F.conv2d(image, layer.weight, layer.bias, stride=4)
    torch.testing.assert_close(layer(image), expected, atol=1e-5, rtol=1e-5)
    assert layer(image).flatten(2).transpose(1, 2).is_contiguous()  # tokens cost no copy


def test_the_image_takes_the_type_of_the_weights_and_the_names_are_those_of_a_convolution() -> None:
    layer = PatchEmbedding(3, 6, 4, 4, bias=False).bfloat16()
    assert layer(torch.randn(1, 3, 8, 8)).dtype == torch.bfloat16
    nn.Conv2d(3, 6, 4, 4, bias=False).load_state_dict(layer.state_dict())
