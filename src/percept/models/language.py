"""Configurations of language decoders and perception language models, as plain data; importing this does not import torch."""

from dataclasses import dataclass, field
from typing import ClassVar

from percept.core.errors import PerceptError
from percept.models.config import PE, TowerConfig, check_counts, tower_from_dict, tower_to_dict


@dataclass(frozen=True, kw_only=True)
class RopeScaling:
    """How Llama 3.1 slows the rotation of low frequencies for longer texts; see `percept.nn.rope_1d.stretched`."""

    factor: float
    low: float = 1.0
    high: float = 4.0
    context: int = 8192
    """Tokens of the texts that the model was trained with first."""

    def __post_init__(self) -> None:
        if self.factor < 1 or self.high <= self.low or self.context < 1:
            raise PerceptError(
                f"factor={self.factor}, low={self.low}, high={self.high} and context={self.context} do not scale rotary "
                "positions. factor must be at least 1, high above low, and context positive."
            )


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """A causal language model of the Llama 3 family, or of Qwen2.5, whose queries, keys and values have biases."""

    kind: ClassVar[str] = "lm"
    vocabulary: int
    """Number of token ids."""
    width: int
    layers: int
    heads: int
    """Heads of the queries."""
    kv_heads: int
    """Heads of keys and values."""
    hidden: int
    """Channels inside the MLP of a block."""
    head_dim: int | None = None
    """Channels of a head; width / heads when None."""
    context: int = 8192
    """Tokens of the longest text, images included."""
    rope_base: float = 500_000.0
    """Base of the rotary frequencies."""
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-5
    qkv_bias: bool = False
    """Queries, keys and values have biases (Qwen2.5)."""
    tied: bool = False
    """The output layer is the token embedding."""

    def __post_init__(self) -> None:
        names = ("vocabulary", "width", "layers", "heads", "kv_heads", "hidden", "head_width", "context")
        check_counts(self, *names, divide=self.head_dim is None)
        if self.heads % self.kv_heads:
            raise PerceptError(f"{self.heads} heads do not share {self.kv_heads} kv_heads; change one of them")
        if self.head_width % 2:
            raise PerceptError(f"rotary positions need an even number of head channels, not {self.head_width}")

    @property
    def head_width(self) -> int:
        """Channels of a head."""
        return self.width // self.heads if self.head_dim is None else self.head_dim


@dataclass(frozen=True, kw_only=True)
class VLMConfig:
    """An image tower in front of a language decoder: how its tokens are projected, pooled and put among those of the text."""

    kind: ClassVar[str] = "vlm"
    vision: TowerConfig = field(metadata={"read": tower_from_dict, "write": tower_to_dict})
    """The tower as it is used: cut after the layer whose tokens are projected. Pooling and final norm are never used."""
    decoder: DecoderConfig
    pooling: int = 2
    """Side of the square of projected tokens that are averaged to one."""
    projector_norm: bool = False
    """Whether the tokens of the tower are normalised before they are projected; published models do not."""
    projector_positions: bool = False
    """Whether the place of a visual token in its tile is added to it; published models do not."""
    projector_frames: bool = False
    """Whether the number of its tile or frame in the conversation is added to a visual token; published models do not."""
    image_token: int = 128_002
    """Id of the placeholder of one visual token of an image."""
    video_token: int | None = None
    """Id of the placeholder of one visual token of a video frame; `image_token` stands for these too when None."""
    stop_ids: tuple[int, ...] = (128_001, 128_009)
    """Ids that end an answer."""
    tiles: int = 36
    """Most tiles that an image is cut into; a thumbnail of the whole image comes on top. 1: only the whole image."""
    frames: int = 32
    """Most frames of a video."""

    def __post_init__(self) -> None:
        for name in ("pooling", "tiles", "frames"):
            if getattr(self, name) < 1:
                raise PerceptError(f"{name}={getattr(self, name)}; it must be at least 1")
        if self.vision.kind == PE and (self.vision.pool != "none" or self.vision.norm_post):
            raise PerceptError(
                f"the tower pools its tokens (pool={self.vision.pool!r}) or ends in a norm (norm_post={self.vision.norm_post}), "
                "which is never used here; cut it with tower.cut(LAYER)"
            )
        ids = [self.image_token, *self.stop_ids, *([] if self.video_token is None else [self.video_token])]
        if min(ids) < 0 or max(ids) >= self.decoder.vocabulary:
            raise PerceptError(
                f"image_token, video_token and stop_ids have to be ids below {self.decoder.vocabulary}, the size of the "
                f"vocabulary, not {sorted(ids)}"
            )
        if self.vision.grid < self.pooling:
            raise PerceptError(
                f"pooling={self.pooling} needs at least as many patches along a side; this tower has {self.vision.grid}"
            )

    @property
    def placeholders(self) -> tuple[int, ...]:
        """Ids in whose places visual tokens are put."""
        return (self.image_token,) if self.video_token is None else (self.image_token, self.video_token)

    @property
    def tile_tokens(self) -> int:
        """Visual tokens of a tile or frame of the tower's own size."""
        return (self.vision.grid // self.pooling) ** 2
