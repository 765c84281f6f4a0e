"""Sizes of the Perception Encoder, the points of its ablation, and published settings, as plain data.

Bolya et al. 2025, arXiv:2504.13181, tables 18 and 19 and figure 2.
"""

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from percept.models.config import ClipConfig, TextConfig, VisionConfig
from percept.models.zoo import CONFIGS

if TYPE_CHECKING:
    from percept.train.experiment import Settings

SizeName: TypeAlias = Literal["pico", "nano", "T", "S", "B", "L", "G"]
Point: TypeAlias = Literal[
    "vanilla",
    "progressive",
    "batch",
    "lamb",
    "resolution",
    "rope",
    "attention_pool",
    "augmentation",
    "pe_core",
]
POINTS: tuple[Point, ...] = get_args(Point)
"""Points of the ablation in the order of the paper; each has the change it is named after and all earlier ones. The last one
adds mask regularisation."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """A size; all points share it."""

    model: ClipConfig
    """Shapes of both towers at the last point."""
    sides: tuple[int, ...]
    """Image sizes of the stages in pixels, ascending; the last one is that of the model."""
    own_vocabulary: bool = False
    """Train the vocabulary on the texts, in place of CLIP's."""


def _small(width: int, layers: int, side: int, text: TextConfig) -> ClipConfig:
    vision = VisionConfig(
        image_size=side, patch_size=8, width=width, layers=layers, heads=width // 64, output_dim=text.output_dim
    )
    return ClipConfig(vision=vision, text=text)


def _words(width: int, layers: int, output_dim: int) -> TextConfig:
    return TextConfig(context=64, vocabulary=1536, width=width, layers=layers, heads=width // 64, output_dim=output_dim)


SIZES: dict[str, Size] = {
    "pico": Size(model=_small(128, 4, 64, _words(128, 2, 128)), sides=(24, 32, 48, 64), own_vocabulary=True),
    "nano": Size(model=_small(256, 6, 96, _words(192, 4, 256)), sides=(32, 48, 64, 96), own_vocabulary=True),
    "T": Size(model=CONFIGS["PE-Core-T16-384"], sides=(112, 176, 256, 384)),
    "S": Size(model=CONFIGS["PE-Core-S16-384"], sides=(112, 176, 256, 384)),
    "B": Size(model=CONFIGS["PE-Core-B16-224"], sides=(112, 160, 224)),
    "L": Size(model=CONFIGS["PE-Core-L14-336"], sides=(98, 154, 224, 336)),
    "G": Size(model=CONFIGS["PE-Core-G14-448"], sides=(98, 154, 224, 336, 448)),
}
"""Sizes by name. The stages of B, L and G are the published ones; those of T and S, which are not reported, have the same numbers of
patches as those of L. pico and nano are ours; pico is for ablations that take minutes."""
SHARES = (10, 8, 4, 2, 1)
"""Samples of the stages with the higher final resolution: 10:8:4:2 in the paper, for four stages. For three or five stages, which are not
reported, the first three or all of these."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """Published settings of a stage."""

    steps: int
    batch: int
    learning_rate: float
    warmup: int = 2_000
    optimiser: str = "lamb"
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)

    def over(self, settings: "Settings") -> "Settings":
        """Return settings with these values."""
        return replace(settings, **{each.name: getattr(self, each.name) for each in fields(self)})


PRETRAINING: dict[str, Published] = {
    name: Published(steps=steps, batch=65_536, learning_rate=5e-4, optimiser="adamw")
    for name, steps in {"T": 443_000, "S": 443_000, "B": 443_000, "L": 443_000, "G": 656_000}.items()
}
"""Settings of image pretraining before the switches act on them: the batch is doubled, and LAMB takes 4 times the learning rate. The
schedules of T and S are not reported; these are those of B."""
VIDEO = Published(steps=5_400, batch=4_096, learning_rate=1e-6)
DISTILLATION = Published(steps=269_000, batch=16_384, learning_rate=1e-6)
COOLDOWN_SAMPLES = 50_000_000
"""Samples of the cool-down; its learning rate and batch are not reported."""
