"""Two small models that read an image and a text together: one stream (as in ViLT) and two with co-attention (as in METER).

Kim et al. 2021, arXiv:2102.03334; Dou et al. 2022, arXiv:2111.02387. Both read frozen states of an image tower and of a text tower, so only
their own layers are computed while they are trained. Ours: sizes, and that the image tokens are means over parts of the image.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from percept.data.batch import Batch
from percept.nn.attention import Attention, attend
from percept.nn.block import Block
from percept.nn.context import Context
from percept.nn.mlp import MLP


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs(Batch):
    """Images with one text each, as frozen states of two towers."""

    image: Float[Tensor, "b k d"]
    words: Float[Tensor, "b n e"]
    """Shorter texts are padded at the end."""
    count: Int[Tensor, " b"]
    """Words of each text."""
    label: Int[Tensor, " b"]


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """Sizes of a fusion model."""

    image_width: int
    """Channels of the image states."""
    word_width: int
    """Channels of the word states."""
    width: int = 64
    layers: int = 6
    """Blocks of one stream, or of each of two."""
    heads: int = 4
    image_tokens: int = 16
    words: int = 32
    """Most words of a text."""


class Inputs(nn.Module):
    """Tokens of both sides in one width: position and kind added, a class token in front of the words."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        width = config.width
        self.image, self.words = nn.Linear(config.image_width, width), nn.Linear(config.word_width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in (config.image_width, config.word_width))
        self.class_token = nn.Parameter(0.02 * torch.randn(width))
        self.image_positions = nn.Parameter(0.02 * torch.randn(config.image_tokens, width))
        self.word_positions = nn.Parameter(0.02 * torch.randn(config.words + 1, width))

    def forward(self, pairs: Pairs) -> tuple[Float[Tensor, "b k w"], Float[Tensor, "b n w"], Bool[Tensor, "b n"]]:
        """Return image tokens, text tokens with the class token first, and True at the text tokens that are not padding."""
        image = self.image(self.norms[0](pairs.image)) + self.image_positions
        words = self.words(self.norms[1](pairs.words))
        text = torch.cat([self.class_token.expand(len(words), 1, -1), words], dim=1)
        text = text + self.word_positions[: text.shape[1]]
        places = torch.arange(text.shape[1], device=text.device)
        return image, text, places <= pairs.count[:, None]


def hiding(inside: Bool[Tensor, "b n"]) -> Float[Tensor, "b 1 1 n"]:
    """Return an attention bias that hides the tokens of the padding."""
    return torch.zeros(inside.shape, device=inside.device).masked_fill(~inside, float("-inf"))[:, None, None]


class SingleStream(nn.Module):
    """One transformer over class token, words and image tokens together."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.inputs = Inputs(config)
        self.blocks = nn.ModuleList(
            Block(width, attention=Attention(width, config.heads), mlp=MLP(width, 4 * width))
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)

    @property
    def stacks(self) -> tuple[nn.ModuleList, ...]:
        """The stacks of layers, each of the same width."""
        return (self.blocks,)

    def forward(self, pairs: Pairs) -> Float[Tensor, "b w"]:
        """Return one vector for each pair: the class token after the last block."""
        image, text, inside = self.inputs(pairs)
        seen = torch.cat([inside, inside.new_ones(image.shape[:2])], dim=1)
        x, context = torch.cat([text, image], dim=1), Context(bias=hiding(seen))
        for block in self.blocks:
            x = block(x, context)
        return self.norm(x[:, 0])


class CrossAttention(nn.Module):
    """Attention of the tokens of one stream to those of the other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "b m w"], other: Float[Tensor, "b n w"], bias: Float[Tensor, "b 1 1 n"] | None = None
    ) -> Float[Tensor, "b m w"]:
        """Mix the other tokens."""
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(other).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(attend(q, k, v, bias=bias).transpose(1, 2).flatten(-2))


class CoBlock(nn.Module):
    """Self-attention, attention to the other stream, MLP; each with a norm before it and a residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2, self.norm_3 = (nn.LayerNorm(width) for _ in range(3))
        self.attention, self.cross, self.mlp = (
            Attention(width, heads),
            CrossAttention(width, heads),
            MLP(width, 4 * width),
        )

    def forward(
        self, x: Float[Tensor, "b m w"], context: Context, other: Float[Tensor, "b n w"], bias: Tensor | None
    ) -> Float[Tensor, "b m w"]:
        """Transform the tokens of one stream; `context` is of its own tokens, `bias` hides tokens of the other stream."""
        x = x + self.attention(self.norm_1(x), context)
        x = x + self.cross(self.norm_2(x), other, bias)
        return x + self.mlp(self.norm_3(x))


class CoAttention(nn.Module):
    """One stream for the words and one for the image; in every layer each attends to the other."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.inputs = Inputs(config)
        self.text_blocks, self.image_blocks = (
            nn.ModuleList(CoBlock(width, config.heads) for _ in range(config.layers)) for _ in range(2)
        )
        self.norm = nn.LayerNorm(2 * width)
        self.pooler = nn.Linear(2 * width, width)

    @property
    def stacks(self) -> tuple[nn.ModuleList, ...]:
        """The stacks of layers, each of the same width: that of the words, then that of the image."""
        return self.text_blocks, self.image_blocks

    def forward(self, pairs: Pairs) -> Float[Tensor, "b w"]:
        """Return one vector for each pair, from the class token and the mean image token."""
        image, text, inside = self.inputs(pairs)
        bias = hiding(inside)
        for text_block, image_block in zip(self.text_blocks, self.image_blocks, strict=True):
            text, image = (
                text_block(text, Context(bias=bias), image, None),
                image_block(image, Context(), text, bias),
            )
        return self.pooler(self.norm(torch.cat([text[:, 0], image.mean(dim=1)], dim=1))).tanh()
