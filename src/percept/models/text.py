"""The text tower: a causal transformer pooled at the end-of-text token.

Radford et al. 2021, arXiv:2103.00020; initialisation as in mlfoundations/open_clip, transformer.py.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.models.config import TextConfig
from percept.nn.block import Block
from percept.nn.stack import Step, call_block, run_stack


@dataclass(frozen=True)
class TextOut:
    """What a text tower gives."""

    tokens: Float[Tensor, "b n w"]
    """After the last block and the final norm."""
    pooled: Float[Tensor, "b d"]
    """Projected token at the end of the text, not of unit length."""
    hidden: dict[int, Float[Tensor, "b m w"]]
    """Residual stream after the blocks asked for; keys as they were asked."""


class TextTower(nn.Module):
    """Token and position embeddings, causal blocks, norm, projection of the end token."""

    no_decay = ("positions",)

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False
        self.step: Step = call_block
        """How blocks are called; `compiled_step()` compiles them."""
        self.embedding = nn.Embedding(
            config.vocabulary, config.width, _weight=torch.empty(config.vocabulary, config.width)
        )
        self.positions = nn.Parameter(torch.empty(config.context, config.width))
        self.blocks = nn.ModuleList(Block(config.width, config.heads, 4 * config.width) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.projection = nn.Parameter(torch.empty(config.width, config.output_dim))
        if not self.embedding.weight.is_meta:  # on meta there is nothing to fill, and trying costs a second of imports
            self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise as CLIP does: small normals, residual outputs scaled down with depth."""
        width, depth = self.config.width, self.config.layers
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.positions, std=0.01)
        nn.init.normal_(self.projection, std=width**-0.5)
        residual = width**-0.5 * (2 * depth) ** -0.5
        deviations = {"qkv": width**-0.5, "out": residual, "down": residual, "up": (2 * width) ** -0.5}
        for name, module in self.named_modules():
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=deviations[name.rsplit(".", 1)[-1]])
                nn.init.zeros_(module.bias)

    def forward(
        self,
        ids: Int[Tensor, "b n"] | None = None,
        *,
        embeddings: Float[Tensor, "b n w"] | None = None,
        ends: Int[Tensor, " b"] | None = None,
        layers: Collection[int] = (),
        extra: Mapping[int, Tensor] | None = None,
        bias: Tensor | None = None,
    ) -> TextOut:
        """Run the tower on token ids, or on `embeddings` with the positions `ends` of their end tokens.

        Args:
            layers: blocks whose output to return in `hidden`, counted from either end.
            extra: {block: tokens [m, w] or [b, m, w]} put in front of the text before that block.
            bias: added to the attention logits beside the causal mask, broadcastable to [b, h, n, n]; n counts the
                tokens of `extra`.

        Raises:
            PerceptError: longer than the context, an id outside the vocabulary, or embeddings without their ends.
        """
        if ids is not None and embeddings is not None:
            raise PerceptError("give token ids, or embeddings together with their ends; both were given")
        if ids is not None:
            if ids.numel() and (int(ids.max()) >= self.config.vocabulary or int(ids.min()) < 0):
                raise PerceptError(
                    f"token ids must be 0 to {self.config.vocabulary - 1}; given {int(ids.min())} to {int(ids.max())}"
                )
            embeddings, ends = self.embedding(ids), ids.argmax(dim=-1) if ends is None else ends
        if embeddings is None or ends is None:
            raise PerceptError("give token ids, or embeddings together with the positions of their end tokens")
        length = embeddings.shape[1]
        if length > self.config.context:
            raise PerceptError(f"a text of {length} tokens does not fit the context of {self.config.context}")
        x = embeddings + self.positions[:length]
        out = run_stack(
            self.blocks, x, layers=layers, extra=extra, bias=bias, causal=True, checkpointing=self.checkpointing,
            step=self.step,
        )  # fmt: skip
        tokens = self.norm(out.tokens)
        pooled = tokens[torch.arange(x.shape[0], device=x.device), ends + out.prefix] @ self.projection
        return TextOut(tokens, pooled, out.hidden)
