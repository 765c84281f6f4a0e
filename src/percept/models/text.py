"""The text tower: a causal transformer pooled at the end-of-text token.

Radford et al. 2021, arXiv:2103.00020; initialisation as in mlfoundations/open_clip, transformer.py.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.fast import compiled_call
from percept.models.config import TextConfig
from percept.nn.attention import Attention
from percept.nn.block import Block
from percept.nn.cache import SharedStart
from percept.nn.mlp import MLP
from percept.nn.stack import Call, StackOut, call_block, run_stack

PREFIX = 1
"""Tokens in front of the text proper: the start token."""


@dataclass(frozen=True)
class TextOut:
    """The result of a text tower."""

    tokens: Float[Tensor, "b n w"]
    """After the last block and the final norm."""
    pooled: Float[Tensor, "b d"]
    """Projected token at the end of the text, not of unit length."""
    hidden: dict[int, Float[Tensor, "b m w"]]
    """Residual stream after the requested blocks; the keys are the layers as requested."""


torch.export.register_dataclass(TextOut)  # torch.export and FSDP look for the tensors in it


def check_ids(ids: Int[Tensor, "b n"], vocabulary: int) -> None:
    """Refuse token ids outside a vocabulary.

    Raises:
        PerceptError: an id is negative or too large.
    """
    if ids.numel() and (int(ids.max()) >= vocabulary or int(ids.min()) < 0):
        raise PerceptError(f"token ids must be 0 to {vocabulary - 1}; given {int(ids.min())} to {int(ids.max())}")


class TextTower(nn.Module):
    """Token and position embeddings, causal blocks, norm, projection of the end token."""

    no_decay = ("positions",)

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False
        self.call: Call = call_block
        """Runs a block; set by `compile`."""
        self.embedding = nn.Embedding(
            config.vocabulary, config.width, _weight=torch.empty(config.vocabulary, config.width)
        )
        self.positions = nn.Parameter(torch.empty(config.context, config.width))
        self.blocks = nn.ModuleList(
            Block(
                config.width,
                attention=Attention(config.width, config.heads),
                mlp=MLP(config.width, 4 * config.width),
            )
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.projection = nn.Parameter(torch.empty(config.width, config.output_dim))
        if not self.embedding.weight.is_meta:  # there are no values on meta, and trying costs a second of imports
            self.reset_parameters()

    def compile(self, *_: Any, **options: Any) -> None:
        """Run the blocks through `torch.compile`, one compiled for all of them.

        Args:
            options: of `torch.compile`.
        """
        self.call = compiled_call(**options)

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
        shared: int = 0,
        starts: int = 1,
    ) -> TextOut:
        """Run the tower on token ids, or on `embeddings` with the positions `ends` of their end tokens.

        Args:
            layers: blocks whose output to return in `hidden`, counted from either end.
            extra: {block: tokens [m, w] or [b, m, w]} to insert after the start token before that block.
            bias: added to the attention logits together with the causal mask, broadcastable to [b, h, n, n]; n counts the
                tokens of `extra`.
            shared: number of first tokens, in front of all ends, that are equal in all texts of a group. They are computed once for the
                group, since later tokens do not change them, and are not returned. Excludes `layers`, `extra` and `bias`; ignored with
                checkpointing, where all tokens are returned.
            starts: number of groups. The texts of a group are neighbours, and all groups have the same size.

        Raises:
            PerceptError: longer than the context, an id outside the vocabulary, or embeddings without their ends.
        """
        embeddings, ends = self._embedded(ids, embeddings, ends)
        length = embeddings.shape[1]
        if length > self.config.context:
            raise PerceptError(f"a text of {length} tokens does not fit the context of {self.config.context}")
        if shared and not self.checkpointing:
            assert bias is None
            assert not layers
            assert not extra
            tokens = self.norm(self._after(embeddings + self.positions[:length], shared, starts).tokens)
            return TextOut(tokens, self._pooled(tokens, ends - shared), {})
        out = run_stack(
            self.blocks,
            embeddings + self.positions[:length],
            prefix=PREFIX,
            layers=layers,
            extra=extra,
            bias=bias,
            causal=True,
            checkpointing=self.checkpointing,
            call=self.call,
        )
        tokens = self.norm(out.tokens)
        ends = ends + (out.prefix - PREFIX) * (ends >= PREFIX)  # inserted tokens move all but the first
        return TextOut(tokens, self._pooled(tokens, ends), out.hidden)

    def _pooled(self, tokens: Float[Tensor, "b n w"], ends: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        return tokens[torch.arange(tokens.shape[0], device=tokens.device), ends] @ self.projection

    def _after(self, x: Float[Tensor, "b n w"], shared: int, starts: int) -> StackOut:
        """Run the blocks on the first tokens of one text of each group, and then on the other tokens of all texts."""
        caches = [SharedStart() for _ in self.blocks]
        firsts = x[:: len(x) // starts, :shared]
        run_stack(self.blocks, firsts, causal=True, caches=caches, call=self.call)
        return run_stack(self.blocks, x[:, shared:], causal=True, caches=caches, call=self.call)

    def _embedded(
        self, ids: Tensor | None, embeddings: Tensor | None, ends: Tensor | None
    ) -> tuple[Float[Tensor, "b n w"], Int[Tensor, " b"]]:
        """Return token embeddings and the positions of the end tokens."""
        if ids is not None:
            if embeddings is not None:
                raise PerceptError("token ids and embeddings were given; give one of the two")
            if not torch.compiler.is_compiling():  # the check reads values, which would break the graph
                check_ids(ids, self.config.vocabulary)
            return self.embedding(ids), ids.argmax(dim=-1) if ends is None else ends
        if embeddings is None or ends is None:
            raise PerceptError("give token ids, or embeddings together with the positions of their end tokens")
        return embeddings, ends
