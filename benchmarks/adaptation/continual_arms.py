"""Arms of benchmarks/adaptation/continual.py: published methods and their rivals, methods without one of their parts, and LoRA in one place."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from percept.methods.continual.codyra import CoDyRA
from percept.methods.continual.contract import CommonConfig, Continual
from percept.methods.continual.finetune import FineTuning
from percept.methods.continual.lwf import LwF
from percept.methods.continual.mulki import MulKILike
from percept.methods.continual.replay import Replay
from percept.methods.continual.zscl import ZSCL

SMOOTHING = 0.2
"""Label smoothing of every arm."""
UNTOUCHED = "untouched"
"""Arm of the model that nothing is taught to; it is measured in every run."""
BLENDS = (0.2, 0.5, 0.8)
"""Shares of the fine-tuned weights in WiSE-FT."""
TOWER, LOW_RANK = (3e-6, 1e-5, 3e-5, 1e-4), (1e-4, 5e-4, 2e-3)
"""Learning rates that are tried for whole towers and for low-rank updates."""
Group = Literal["headline", "ablations", "location"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A method with its configuration."""

    name: str
    kind: type[Continual]
    config: Any
    rates: tuple[float, ...] = TOWER
    reference: str = ""
    """Kind of the reference: world, noise or none."""
    blends: tuple[float, ...] = ()
    """Shares of the trained weights in means with the initial ones that are measured too."""
    group: Group = "ablations"


def lora(name: str, **fields: Any) -> Arm:
    """Return plain LoRA, or CoDyRA with some fields."""
    return Arm(name=name, kind=CoDyRA, config=CoDyRA.Config(**fields), rates=LOW_RANK)


ZSCL_ = ZSCL.Config(every=10)
MULKI = MulKILike.Config()
HEADLINE = (
    Arm(name="fine-tuning", kind=FineTuning, config=FineTuning.Config(), blends=BLENDS),
    Arm(name="LwF", kind=LwF, config=LwF.Config()),
    Arm(name="replay", kind=Replay, config=Replay.Config()),
    Arm(name="ZSCL", kind=ZSCL, config=ZSCL_, reference="world"),
    Arm(name="mulki-like", kind=MulKILike, config=MULKI),
    lora("CoDyRA"),
    *(lora(f"LoRA {rank}", rank=rank, gates="one") for rank in (1, 4, 8, 16)),
)
ABLATIONS = (
    Arm(name="L2", kind=FineTuning, config=FineTuning.Config(penalty=1.0)),
    Arm(name="WiSE-FT after each task", kind=FineTuning, config=FineTuning.Config(share=0.8)),
    Arm(name="ZSCL, features alone", kind=ZSCL, config=replace(ZSCL_, penalty=0.0, every=0), reference="world"),
    Arm(name="ZSCL, weights alone", kind=ZSCL, config=replace(ZSCL_, images=0.0, sentences=0.0)),
    Arm(name="ZSCL, noise reference", kind=ZSCL, config=ZSCL_, reference="noise"),
    Arm(name="mulki-like, equal teachers", kind=MulKILike, config=replace(MULKI, teachers="fixed")),
    Arm(name="mulki-like, initial teacher", kind=MulKILike, config=replace(MULKI, teachers="initial")),
    Arm(name="mulki-like, previous teacher", kind=MulKILike, config=replace(MULKI, teachers="previous")),
    Arm(name="mulki-like, no eliciting", kind=MulKILike, config=replace(MULKI, eliciting=0.0)),
    Arm(name="mulki-like, no relations", kind=MulKILike, config=replace(MULKI, relations=0.0)),
    Arm(name="mulki-like, no connections", kind=MulKILike, config=replace(MULKI, connections=0.0)),
    lora("CoDyRA, no threshold", threshold=0.0),
    lora("CoDyRA, random gates", gates="random"),
)
LOCATION = tuple(
    lora(f"LoRA {rank}, {tower} {'+'.join(layers)}", rank=rank, gates="one", towers=(tower,), layers=layers)
    for tower in ("vision", "text")
    for layers in (("qkv",), ("out",), ("up", "down"))
    for rank in (1, 8)
)
ARMS: tuple[Arm, ...] = (
    *(replace(arm, group="headline") for arm in HEADLINE), *ABLATIONS, *(replace(arm, group="location") for arm in LOCATION),
)  # fmt: skip
NAMES = (
    UNTOUCHED,
    "fine-tuning",
    *(f"WiSE-FT {share:g}" for share in BLENDS),
    *(arm.name for arm in ARMS if arm.name != "fine-tuning"),
)
"""All arms in the order of tables, those that are measured in the runs of others included."""


def config_of(arm: Arm, steps: int) -> CommonConfig:
    """Return the configuration of an arm with the smoothing of all; gates shrink as much in `steps` as in the steps of the paper."""
    config = replace(arm.config, smoothing=SMOOTHING)
    if arm.kind is not CoDyRA:
        return config
    return replace(config, threshold=config.threshold * CoDyRA.schedule().steps / max(1, steps))


def ranks_by_chance(steps: int) -> tuple[float, float]:
    """Return mean and standard deviation of the active ranks of an update of CoDyRA whose gates get no gradient."""
    config: Any = config_of(next(arm for arm in ARMS if arm.name == "CoDyRA"), steps)
    return CoDyRA.ranks_by_chance(config, steps)
