"""Configurations of models, as plain data; importing this file does not import torch.

Image towers come in kinds. A kind is a configuration class and a tower class; `TOWERS` names them, and "kind" in a
config.json selects one, "pe" where it is absent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from percept.core.config import from_dict, to_dict
from percept.core.errors import PerceptError, unknown_name

Pool = Literal["attention", "class", "average", "none"]
MOST_LAYERS = 512
"""Blocks of a tower at most; a larger number is a mistake in a file, and building it would take minutes."""
PE = "pe"
"""Kind of the Perception Encoder's tower."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Where the classes of a kind of image tower are, as "module:Class"."""

    config: str
    tower: str


TOWERS: dict[str, Kind] = {
    PE: Kind(config="percept.models.config:VisionConfig", tower="percept.models.vision:VisionTower"),
}
"""Kinds of image towers; nothing is imported before it is needed."""


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """What every configuration of an image tower has; each kind derives from it.

    A kind also has the fields `pool` ("none" for a tower that returns tokens only), `output_dim` (length of the vector; `width`
    when None) and `norm_post` (a norm follows the last block), and may have more.
    """

    kind: ClassVar[str]
    """Key of `TOWERS`."""
    image_size: int
    """Side in pixels of the square image the tower was trained on."""
    patch_size: int
    """Side in pixels of a patch, the square that one token stands for."""
    width: int
    """Channels of a token."""
    layers: int
    """Number of blocks."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    @property
    def grid(self) -> int:
        """Patches along a side at the nominal size."""
        return self.image_size // self.patch_size

    @property
    def prefix(self) -> int:
        """Tokens in front of the patches."""
        return 0

    def canonical(self) -> "TowerConfig":
        """Return an equal configuration for all that compute the same vectors from the same weights."""
        return self


def load_class(name: str) -> Any:
    """Return a class from its name "module:Class"."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def kind_of(name: Any) -> Kind:
    """Return a kind of image tower.

    Raises:
        PerceptError: the kind does not exist.
    """
    if not isinstance(name, str) or name not in TOWERS:
        raise unknown_name("kind of image tower", str(name), TOWERS)
    return TOWERS[name]


def tower_from_dict(data: Any) -> TowerConfig:
    """Read the configuration of an image tower of any kind; "pe" where the kind is not given."""
    kind = data.get("kind", PE) if isinstance(data, Mapping) else PE
    fields = {key: value for key, value in data.items() if key != "kind"} if isinstance(data, Mapping) else data
    return from_dict(load_class(kind_of(kind).config), fields)


def tower_to_dict(config: TowerConfig) -> dict[str, Any]:
    """Return the configuration of an image tower as plain data; the kind is left out for "pe"."""
    return ({} if config.kind == PE else {"kind": config.kind}) | to_dict(config)


def check_counts(config: Any, *names: str, divide: bool = True) -> None:
    """Refuse numbers below 1, too many layers and, with `divide`, a width that is not a multiple of the heads."""
    for name in names:
        if getattr(config, name) < 1:
            raise PerceptError(f"{name}={getattr(config, name)}; it must be at least 1")
    if config.layers > MOST_LAYERS:
        raise PerceptError(f"layers={config.layers}; it must be at most {MOST_LAYERS}")
    if divide and config.width % config.heads:
        raise PerceptError(f"width {config.width} does not divide into {config.heads} heads; change one of them")


@dataclass(frozen=True, kw_only=True)
class VisionConfig(TowerConfig):
    """The image tower of the Perception Encoder. The defaults are what all released ones share."""

    kind: ClassVar[str] = PE
    heads: int
    """Attention heads of a block."""
    hidden: int | None = None
    """Channels inside the MLP of a block; 4 x width when None."""
    class_token: bool = True
    """A learned token precedes the patches."""
    pool: Pool = "attention"
    """The vector of an image: a learned query's attention to all tokens, the class token, the mean of all tokens, or none."""
    pool_heads: int = 8
    """Heads of the pooling query; used by pool="attention" only."""
    output_dim: int | None = None
    """Length of the embedding; no projection when None."""
    output_bias: bool = False
    """The projection adds a bias. No released model has one; a head trained in timm can."""
    norm_pre: bool = True
    """LayerNorm before the first block."""
    norm_post: bool = True
    """LayerNorm after the last block."""
    rope: bool = True
    """Rotary positions in two dimensions, in every block."""
    rope_grid: int | None = None
    """Patches along a side to which the rotary positions of every grid are stretched; as they are when None."""
    absolute_positions: bool = True
    """Learned positions, added before the first block."""
    layer_scale: float | None = None
    """Initial value of LayerScale; no LayerScale when None."""
    drop_path: float = 0.0
    """Probability of dropping a branch in training; the same in every block."""

    def __post_init__(self) -> None:
        check_counts(self, "patch_size", "width", "layers", "heads", "pool_heads", "mlp_width")
        if self.pool not in get_args(Pool):
            raise unknown_name("pool", str(self.pool), get_args(Pool))
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
    def prefix(self) -> int:
        """Tokens in front of the patches."""
        return int(self.class_token)

    @property
    def mlp_width(self) -> int:
        """Channels inside the MLP of a block."""
        return 4 * self.width if self.hidden is None else self.hidden

    def canonical(self) -> "VisionConfig":
        """Return the configuration with its defaults filled in and without what only training uses."""
        return replace(self, hidden=self.mlp_width, drop_path=0.0)


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """A text tower: causal transformer pooled at the end-of-text token, which is the largest id."""

    context: int
    """Tokens of the longest text, start and end token included."""
    vocabulary: int
    width: int
    layers: int
    heads: int
    output_dim: int

    def __post_init__(self) -> None:
        check_counts(self, "context", "vocabulary", "width", "layers", "heads", "output_dim")


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """An image tower and, where the model has one, a text tower in the same space."""

    vision: TowerConfig = field(metadata={"read": tower_from_dict, "write": tower_to_dict})
    text: TextConfig | None = None

    def __post_init__(self) -> None:
        if self.text is not None and self.text.output_dim != self.vision.output_dim:
            raise PerceptError(
                f"the towers end in different sizes: {self.vision.output_dim} and {self.text.output_dim}"
            )
