"""A second kind of image tower: a few convolutions, whose configuration and parts have nothing of the first kind's."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.models.config import TowerConfig
from percept.models.towers import VisionOut
from percept.nn.stack import resolve_layer


@dataclass(frozen=True, kw_only=True)
class ConvConfig(TowerConfig):
    kind: ClassVar[str] = "conv"
    output_dim: int | None = None
    pool: str = "average"
    norm_post: bool = False


class ConvTower(nn.Module):
    def __init__(self, config: ConvConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Conv2d(3, config.width, config.patch_size, config.patch_size)
        self.stages = nn.ModuleList(nn.Conv2d(config.width, config.width, 3, padding=1) for _ in range(config.layers))
        self.head = nn.Linear(config.width, config.output_dim or config.width)

    def forward(
        self, image: Tensor | None = None, *, layers: Collection[int] = (), pool: bool = True, **other: Any
    ) -> VisionOut:
        if image is None or other:
            raise PerceptError("this tower takes images only")
        x, states = self.stem(image), []
        for stage in self.stages:
            x = x + F.gelu(stage(x))
            states.append(x.flatten(2).transpose(1, 2))
        hidden = {layer: states[resolve_layer(layer, len(states))] for layer in layers}
        vector = self.head(states[-1].mean(dim=1)) if pool else None
        return VisionOut(states[-1], 0, (x.shape[-2], x.shape[-1]), hidden, vector)

    def packed(self, images: Sequence[Tensor], *, layers: Collection[int] = (), pool: bool = True) -> list[VisionOut]:
        return [self(batch, layers=layers, pool=pool) for batch in images]

    def normed(self, tokens: Tensor) -> Tensor:
        raise PerceptError("this tower has no final norm")

    def pool_weights(self, tokens: Tensor) -> Tensor:
        raise PerceptError("this tower takes the mean of its cells")

    def cut(self, after: int) -> "ConvTower":
        last = resolve_layer(after, self.config.layers)
        tower = ConvTower(replace(self.config, layers=last + 1))
        tower.stem, tower.stages, tower.head = self.stem, self.stages[: last + 1], self.head
        return tower


def facts() -> Mapping[str, str]:
    """Where the classes are, for `percept.models.config.Kind`."""
    return {"config": "tests.models.second:ConvConfig", "tower": "tests.models.second:ConvTower"}
