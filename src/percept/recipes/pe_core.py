"""pe/core: all stages of the Perception Encoder in a row, each in a folder of its own.

    percept train pe/core                                     # pretraining, cool-down, video
    percept train pe/core --pretrain.size B --teacher PE-Core-G14-448 --pretrain.data 'shards/*.tar'   # pretraining, distillation, video

The order is that of Bolya et al. 2025, arXiv:2504.13181: G was cooled down after pretraining, L and B were distilled from G.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from percept.recipes import pe
from percept.recipes.pe_distill import Distill, distill, tiny_distill
from percept.recipes.pe_stages import Cooldown, Video, cooldown, tiny_cooldown, tiny_video, video
from percept.train.chain import Chain
from percept.train.experiment import Experiment


@dataclass(frozen=True, kw_only=True)
class Config:
    """Complete configuration of all stages; each stage begins with the model of the one before."""

    teacher: str = ""
    """Name or folder of a larger model: distil from it in place of the cool-down."""
    pretrain: pe.Config = field(default_factory=pe.Config)
    cooldown: Cooldown = field(default_factory=Cooldown)
    distill: Distill = field(default_factory=Distill)
    video: Video = field(default_factory=Video)


def recipe(config: Config | None = None, *, command: str = "percept train pe/core") -> Chain:
    """Train a Perception Encoder through all stages: images, cool-down or distillation, clips."""
    chosen = config or Config()

    def first(before: Path | None) -> Experiment:
        return pe.recipe(chosen.pretrain, command=command, name="pe/core pretrain")

    def cooled(before: Path | None) -> Experiment:
        return cooldown(replace(chosen.cooldown, init=str(before)), command=command, name="pe/core cooldown")

    def taught(before: Path | None) -> Experiment:
        stage = replace(chosen.distill, init=str(before), teacher=chosen.teacher)
        return distill(stage, command=command, name="pe/core distill")

    def last(before: Path | None) -> Experiment:
        return video(replace(chosen.video, init=str(before)), command=command, name="pe/core video")

    second: tuple[str, Callable[[Path | None], Experiment]]
    second = ("distill", taught) if chosen.teacher else ("cooldown", cooled)
    return Chain(name="pe/core", config=chosen, parts=(("pretrain", first), second, ("video", last)))


def tiny() -> Config:
    """Return a configuration that runs in seconds, for tests and for trying the pipeline."""
    return Config(pretrain=pe.tiny(), cooldown=tiny_cooldown(), distill=tiny_distill(), video=tiny_video())
