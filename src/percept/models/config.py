"""What shapes a model, as plain data; importing this file imports no torch."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from percept.core.errors import PerceptError, unknown_name

Pool = Literal["attention", "class", "average", "none"]


def _check_counts(config: Any, *names: str) -> None:
    """Refuse numbers below 1, and a width that does not divide into the heads."""
    for name in names:
        if getattr(config, name) < 1:
            raise PerceptError(f"{name}={getattr(config, name)}; it must be at least 1")
    if config.width % config.heads:
        raise PerceptError(f"width {config.width} does not divide into {config.heads} heads; change one of them")


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """A vision tower. The defaults are what all released Perception Encoders share."""

    image_size: int
    """Side of the square the positions were learned on, pixels."""
    patch_size: int
    """Side of a patch, pixels."""
    width: int
    """Channels of the residual stream."""
    layers: int
    """Blocks."""
    heads: int
    """Attention heads of a block."""
    hidden: int | None = None
    """Channels inside the MLP of a block; 4 x width when None."""
    class_token: bool = True
    """A learned token stands before the patches."""
    pool: Pool = "attention"
    """What becomes the vector of a picture: a query's attention to all tokens, the class token, the mean of all, or none."""
    pool_heads: int = 8
    """Heads of that query; for attention only."""
    output_dim: int | None = None
    """Length of the embedding; no projection when None."""
    output_bias: bool = False
    """The projection adds a bias. No released model does; a head trained in timm can."""
    norm_pre: bool = True
    """LayerNorm before the first block."""
    norm_post: bool = True
    """LayerNorm after the last block."""
    rope: bool = True
    """Rotary positions in two dimensions, in every block."""
    absolute_positions: bool = True
    """Learned positions, added before the first block."""
    layer_scale: float | None = None
    """Initial value of LayerScale; no LayerScale when None."""
    drop_path: float = 0.0
    """Probability of dropping a branch in training; the same in every block."""

    def __post_init__(self) -> None:
        _check_counts(self, "patch_size", "width", "layers", "heads", "pool_heads", "mlp_width")
        if self.pool not in get_args(Pool):
            raise unknown_name("pool", self.pool, get_args(Pool))
        if self.grid < 1:
            raise PerceptError(f"image_size {self.image_size} is below one patch of {self.patch_size} pixels")
        if self.rope and (self.width // self.heads) % 4:
            raise PerceptError(
                f"rotary positions need head channels in fours, not {self.width // self.heads}; change heads"
            )
        if self.pool == "attention" and self.width % self.pool_heads:
            raise PerceptError(
                f"width {self.width} does not divide into {self.pool_heads} pooling heads; change pool_heads"
            )
        if self.pool == "class" and not self.class_token:
            raise PerceptError("pool='class' needs class_token=True")
        if self.pool == "none" and self.output_dim is not None:
            raise PerceptError("output_dim needs a pooled vector; choose pool='attention', 'class' or 'average'")
        if self.output_bias and self.output_dim is None:
            raise PerceptError("output_bias=True needs a projection; give output_dim")

    @property
    def grid(self) -> int:
        """Patches along a side at the nominal size."""
        return self.image_size // self.patch_size

    @property
    def mlp_width(self) -> int:
        """Channels inside the MLP of a block."""
        return 4 * self.width if self.hidden is None else self.hidden


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """A text tower: causal transformer pooled at the end-of-text token, which is the largest id."""

    context: int
    """Tokens of the longest text, start and end included."""
    vocabulary: int
    width: int
    layers: int
    heads: int
    output_dim: int

    def __post_init__(self) -> None:
        _check_counts(self, "context", "vocabulary", "width", "layers", "heads", "output_dim")


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """A vision tower and, where the model has one, a text tower in the same space."""

    vision: VisionConfig
    text: TextConfig | None = None

    def __post_init__(self) -> None:
        if self.text is not None and self.text.output_dim != self.vision.output_dim:
            raise PerceptError(
                f"the towers end in different sizes: {self.vision.output_dim} and {self.text.output_dim}"
            )
