"""The language decoder: a causal transformer of the Llama 3 family, or of Qwen2.5, with openings for other inputs.

Llama team 2024, arXiv:2407.21783; Qwen team 2024, arXiv:2412.15115. Keys of the published weights are in `percept.weights`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.fast import compiled_call
from percept.models.language import DecoderConfig
from percept.models.text import check_ids
from percept.nn.block import Block
from percept.nn.cache import KVCache, Step
from percept.nn.context import Rope
from percept.nn.grouped import GroupedAttention
from percept.nn.mlp import SwiGLU
from percept.nn.norm import RMSNorm
from percept.nn.packing import Branches, Segments, branch_bias, packed_positions
from percept.nn.rope_1d import frequencies_1d, rope_1d, stretched
from percept.nn.stack import Call, call_block, run_stack
from percept.nn.tied import TiedEmbedding

DEVIATION = 0.02
"""Standard deviation of new weights; those that end a residual branch are divided by sqrt(2 x layers)."""


@dataclass(frozen=True)
class DecoderOut:
    """The result of a decoder."""

    tokens: Float[Tensor, "b n w"]
    """After the last block and the final norm; `Decoder.logits` takes them."""
    hidden: dict[int, Float[Tensor, "b n w"]]
    """Residual stream after the requested blocks, without final norm; the keys are the layers as requested."""


torch.export.register_dataclass(DecoderOut)  # torch.export and FSDP look for the tensors in it


class Decoder(nn.Module):
    """Token embedding, causal blocks, norm, and an output layer that may be the embedding itself."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False
        self.call: Call = call_block
        """Runs a block; set by `compile`."""
        width = config.width
        table = TiedEmbedding if config.tied else nn.Embedding
        self.embedding = table(config.vocabulary, width, _weight=torch.empty(config.vocabulary, width))
        norm = partial(RMSNorm, eps=config.norm_eps)
        self.blocks = nn.ModuleList(
            Block(
                width,
                attention=GroupedAttention(
                    width, config.heads, config.kv_heads, head_dim=config.head_dim, bias=config.qkv_bias
                ),
                mlp=SwiGLU(width, config.hidden),
                norm=norm,
            )
            for _ in range(config.layers)
        )
        self.norm = norm(width)
        self.head = None if config.tied else nn.Linear(width, config.vocabulary, bias=False)
        self._frequencies: dict[torch.device, Float[Tensor, " f"]] = {}
        if not self.embedding.weight.is_meta:  # there are no values on meta, and trying costs a second of imports
            self.reset_parameters()

    def compile(self, *_: Any, **options: Any) -> None:
        """Run the blocks through `torch.compile`, one compiled for all of them; neither packed rows nor calls with a cache.

        Args:
            options: of `torch.compile`.
        """
        self.call = compiled_call(**options)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialise with small normals; what ends a residual branch is scaled down with depth."""
        residual = DEVIATION * (2 * self.config.layers) ** -0.5
        nn.init.normal_(self.embedding.weight, std=DEVIATION)
        for name, module in self.named_modules():
            if isinstance(module, RMSNorm):
                module.reset_parameters()
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=residual if name.endswith((".out", ".down")) else DEVIATION)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """Return an empty cache for `batch` rows of at most `capacity` tokens, in the type and on the device of the weights.

        Raises:
            PerceptError: the capacity is beyond the context of the model.
        """
        self._check_length(capacity)
        weight = self.embedding.weight
        return KVCache(
            layers=self.config.layers, batch=batch, heads=self.config.kv_heads, head_dim=self.config.head_width,
            capacity=capacity, dtype=weight.dtype, device=weight.device,
        )  # fmt: skip

    def forward(
        self,
        ids: Int[Tensor, "b n"] | None = None,
        *,
        embeddings: Float[Tensor, "b n w"] | None = None,
        cache: KVCache | None = None,
        counts: Sequence[int] | None = None,
        segments: Segments | None = None,
        branches: Branches | None = None,
        layers: Collection[int] = (),
    ) -> DecoderOut:
        """Run the decoder on token ids, or on embeddings in their place.

        Rows of different lengths are padded on the right: no token sees a later one, so the padding changes nothing before
        it, and what the decoder returns for it is to be ignored.

        Args:
            cache: keys and values of earlier tokens of these rows, to which the new ones are added.
            counts: with a cache, the real tokens of each row, first in the row; all are real if None.
            segments: the input is one packed row of these sequences, which do not see each other; positions restart in each.
            branches: of the runs of a packed row; branches see the beginning of their sequence and themselves, and positions restart at its end.
            layers: blocks whose output to return in `hidden`, counted from either end.

        Raises:
            PerceptError: longer than the context, an id outside the vocabulary, both or neither of ids and embeddings.
        """
        x = self.embed(ids, embeddings)
        step = None if cache is None else cache.begin(x.shape[1], counts)
        positions = _positions(x, step, segments, branches)
        if step is None:
            self._check_length(x.shape[1] if segments is None else _longest(segments, branches))
        out = run_stack(
            self.blocks,
            x,
            layers=layers,
            rope=self._rope(positions),
            bias=None if step is None else step.bias,
            causal=step is None or step.bias is None,
            segments=segments,
            biases=None
            if branches is None
            else [branch_bias(parts, x.device) if parts else None for parts in branches],
            caches=None if cache is None else cache.layers,
            checkpointing=self.checkpointing and cache is None,
            call=self.call if cache is None else call_block,
        )
        if cache is not None:
            cache.finish()
        return DecoderOut(self.norm(out.tokens), out.hidden)

    def embed(
        self, ids: Int[Tensor, "b n"] | None, embeddings: Float[Tensor, "b n w"] | None = None
    ) -> Float[Tensor, "b n w"]:
        """Return the embeddings of token ids, or those given in their place.

        Raises:
            PerceptError: both or neither, or an id outside the vocabulary.
        """
        if (ids is None) == (embeddings is None):
            raise PerceptError(
                f"{'neither' if ids is None else 'both'} token ids and embeddings were given; give one of the two"
            )
        if embeddings is not None:
            return embeddings
        assert ids is not None
        if (
            ids.device.type == "cpu" and not torch.compiler.is_compiling()
        ):  # reading values would break the graph, or wait
            check_ids(ids, self.config.vocabulary)
        return self.embedding(ids)

    def logits(self, tokens: Float[Tensor, "*b w"]) -> Float[Tensor, "*b v"]:
        """Return the logits of the next token for final tokens, of all positions or of chosen ones."""
        if self.head is not None:
            return self.head(tokens)
        assert isinstance(self.embedding, TiedEmbedding)
        return self.embedding.logits(tokens)

    def _check_length(self, length: int) -> None:
        if length > self.config.context:
            raise PerceptError(
                f"{length} tokens, images and answer included, do not fit the context of {self.config.context}. Shorten the "
                "text, or use fewer tiles, frames or new tokens."
            )

    def _rope(self, positions: Int[Tensor, "..."]) -> Any:
        """Return the function that gives the stack its rotation table."""
        table: Rope = rope_1d(positions, self.frequencies(positions.device))
        return lambda _: table

    def frequencies(self, device: torch.device) -> Float[Tensor, " f"]:
        """Return the rotary frequencies, in radians per token; cached."""
        if device not in self._frequencies:
            with torch.inference_mode(False):  # a table made in inference mode must work in training too
                table = frequencies_1d(self.config.head_width, self.config.rope_base)
                if (scaling := self.config.rope_scaling) is not None:
                    table = stretched(
                        table, factor=scaling.factor, low=scaling.low, high=scaling.high, context=scaling.context
                    )
                self._frequencies[device] = table.to(device)
        return self._frequencies[device]


def _positions(
    x: Float[Tensor, "b n w"], step: Step | None, segments: Segments | None, branches: Branches | None
) -> Int[Tensor, "..."]:
    if step is not None:
        return step.positions
    if segments is not None:
        return packed_positions(segments, branches, x.device)
    return torch.arange(x.shape[1], device=x.device)


def _longest(segments: Segments, branches: Branches | None) -> int:
    """Return the tokens of the longest sequence of a packed row, one branch included."""
    given = branches or [None] * len(segments)
    return max(
        parts[0] + max(parts[1:]) if parts else length for (_, length), parts in zip(segments, given, strict=True)
    )
