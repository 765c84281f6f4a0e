"""What is claimed about adaptation methods, one line each, and the arms that the claims compare. `family.py` runs and judges them.

A new method adds its arms to `ARMS` and its claims to `CLAIMS`. A claim names a row of the list of systems, so that one row can be run alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from percept.methods.adaptation.bench import Arm, config_of
from percept.methods.adaptation.biomedcoop import BiomedCoOp
from percept.methods.adaptation.coop import CoOp
from percept.methods.adaptation.coprompt import CoPrompt
from percept.methods.adaptation.deep import DeepConfig, Towers
from percept.methods.adaptation.dpl_like import DPLLike
from percept.methods.adaptation.few import LabelledSet
from percept.methods.adaptation.gram import Gram, MetaConfig
from percept.methods.adaptation.maple import MaPLe
from percept.methods.adaptation.mmrl import MMRL
from percept.methods.adaptation.mocoop import MoCoOp
from percept.methods.adaptation.pre import PRE
from percept.methods.adaptation.prompts import PHRASE, PromptConfig
from percept.methods.adaptation.restore import RESTORE

Setting = Literal["base-new", "few-shot", "transfer"]
"""base-new: trained on base classes; few-shot: on all classes, by number of shots; transfer: on all classes of some sets, tested on others."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One line: an arm, its rival, a number, and the side of a margin that the paired difference is claimed to be on."""

    row: str
    """Of the list of systems, or "family"."""
    words: str
    arm: str
    than: str
    score: str = "harmonic"
    """base, new, harmonic or all; alignment; gap, text shift or image shift of deep prompts; cross or shift of transfers; processor or trainable."""
    setting: Setting = "base-new"
    sign: int = 1
    """1: above the margin; -1: below."""
    margin: float = 0.0
    ratio: bool = False
    """The quotient is compared with the margin, in place of the difference."""
    shots: tuple[int, ...] = ()
    """Numbers of shots that count; all that were run if empty."""
    than_shots: int = 0
    """Shots of the rival, if it has others."""

    def needs(self, shots: int) -> bool:
        """Return whether runs with so many shots belong to the claim."""
        return not self.shots or shots in (*self.shots, self.than_shots)

    def counts(self, record: dict[str, Any]) -> bool:
        """Return whether a run belongs to the claim."""
        split = "base" if self.setting == "base-new" else "all"
        return record["split"] == split and self.needs(record["shots"])


NEAR = 0.01
"""A claim that one arm is not above another holds if the upper end of the interval is below this."""
FOUR = PromptConfig(context=4, phrase=PHRASE)
RATES = (0.0005, 0.001, 0.004, 0.008, 0.016)
"""Of CoOp with the prompt of PRE and KgCoOp, besides its own 0.002."""


def maple(towers: Towers, name: str) -> Arm:
    """Return MaPLe with tokens in some towers."""
    return Arm(method="maple", label=f"maple:{name}", config=MaPLe.Config(prompts=DeepConfig(towers=towers)))


def restore(name: str, **fields: Any) -> Arm:
    """Return RESTORE without some part."""
    return Arm(method="restore", label=f"restore:{name}", config=RESTORE.Config(**fields))


def mmrl(name: str, **fields: Any) -> Arm:
    """Return MMRL without some part."""
    return Arm(method="mmrl", label=f"mmrl:{name}", config=MMRL.Config(**fields))


def dpl(name: str, towers: Towers = "free", **fields: Any) -> Arm:
    """Return DPL-like prompts without some part."""
    return Arm(
        method="dpl-like", label=f"dpl:{name}", config=DPLLike.Config(prompts=DeepConfig(towers=towers), **fields)
    )


def mocoop(name: str, **fields: Any) -> Arm:
    """Return the mixture of prompts without some part."""
    return Arm(method="mocoop", label=f"mocoop:{name}", config=MoCoOp.Config(**fields))


def biomedcoop(name: str, **fields: Any) -> Arm:
    """Return BiomedCoOp without some part."""
    return Arm(method="biomedcoop", label=f"biomedcoop:{name}", config=BiomedCoOp.Config(**fields))


def coprompt(name: str, **fields: Any) -> Arm:
    """Return CoPrompt without some part."""
    return Arm(method="coprompt", label=f"coprompt:{name}", config=CoPrompt.Config(**fields))


def gram(name: str, method: str = "coop", learn: Any = "gram", **settings: Any) -> Arm:
    """Return a method with a learned start, trained as the method itself is."""
    config = Gram.Config(method=method, settings=settings, meta=MetaConfig(learn=learn))
    return Arm(method="gram", label=f"gram:{name}", config=config)


GRAM_METHODS = ("kgcoop", "maple")
"""Methods that get a learned start, besides CoOp."""

PLAIN = DPLLike.Config(instance_to_prompt=1.0, prompt_to_instance=1.0, condition="none")
"""The same tokens with plain attention."""


def plain(name: str, **fields: Any) -> Arm:
    """Return DPL-like prompts with plain attention and no condition, except for some fields."""
    return Arm(method="dpl-like", label=f"dpl:{name}", config=replace(PLAIN, **fields))


ARMS: tuple[Arm, ...] = (
    *(Arm(method=name) for name in ("zero-shot", "templates", "linear-probe", "tip-adapter")),
    *(Arm(method=name) for name in ("coop", "cocoop", "kgcoop", "maple", "pre", "restore", "mmrl", "dpl-like")),
    Arm(method="coop", label="coop:per class", config=CoOp.Config(prompt=PromptConfig(per_class=True))),
    Arm(method="coop", label="coop:4", config=CoOp.Config(prompt=FOUR), training={"epochs": 50}),
    *(
        Arm(method="coop", label=f"coop:4 rate {rate}", config=CoOp.Config(prompt=FOUR), training={"epochs": 50, "rate": rate})
        for rate in RATES
    ),
    Arm(method="pre", label="pre:mlp", config=PRE.Config(encoder="mlp")),
    Arm(method="pre", label="pre:no skip", config=PRE.Config(skip=False)),
    maple("text", "text"),
    maple("image", "image"),
    restore("no consistency", weight=0.0),
    restore("no surgery", surgery=False),
    restore("neither", weight=0.0, surgery=False),
    restore("embedding", shift="embedding"),
    mmrl("no regulariser", regulariser=0.0),
    mmrl("fused", decoupled=False),
    mmrl("class only", share=1.0),
    mmrl("two spaces", shared=False),
    mmrl("lower", layers=(1, 7)),
    plain("plain"),
    dpl("flows", condition="none"),
    plain("conditioned", condition="class"),
    dpl("text", "text"),
    dpl("image", "image"),
    *(Arm(method=name) for name in ("mocoop", "biomedcoop", "coprompt", "gram")),
    Arm(method="coop", label="coop:24", config=CoOp.Config(prompt=PromptConfig(context=24)), training={"epochs": 50}),
    mocoop("uniform", router="uniform"),
    mocoop("random", router="random"),
    mocoop("no gating", gate_weight=0.0),
    mocoop("no texts", text_weight=0.0),
    mocoop("new names"),
    biomedcoop("no consistency", consistency=0.0),
    biomedcoop("no distillation", distillation=0.0),
    biomedcoop("no selection", select=False),
    coprompt("no consistency", weight=0.0),
    coprompt("not perturbed", perturbed=False),
    coprompt("no adapters", reduction=0),
    coprompt("prompts only", weight=0.0, reduction=0),
    gram("maml", learn="maml"),
    gram("pretraining", learn="pretraining"),
    *(gram(method, method) for method in GRAM_METHODS),
    gram("text", "maple", prompts={"towers": "text"}),
    gram("image", "maple", prompts={"towers": "image"}),
)  # fmt: skip
"""Everything that a claim may name; `Arm.name` is its name in tables and records."""


def adjusted(arm: Arm, setting: str, data: LabelledSet) -> Arm:
    """Return an arm as it is run on a set: with the paper's constants for base and new classes, or the names of new classes, where it has some."""
    if arm.name == "mocoop:new names":
        return replace(arm, config=MoCoOp.Config(more_names=data.names("new")))
    if arm.method == "biomedcoop" and setting == "base-new":
        config = config_of(arm)
        distillation = 0.5 if config.distillation else 0.0
        config = replace(config, distillation=distillation, threshold=1.25)
        return replace(arm, config=config, training={"epochs": 50, **arm.training})
    return arm


def better(row: str, arm: str, rivals: Sequence[str], *scores: str) -> list[Claim]:
    """Claim that an arm is above its rivals in some scores."""
    return [
        Claim(row=row, words=f"{arm} above {than} by {score}", arm=arm, than=than, score=score)
        for than in rivals
        for score in scores
    ]


def few(row: str, arm: str, than: str, words: str = "with few shots", **fields: Any) -> Claim:
    """Claim that an arm is above a rival, or below it with sign=-1, with few shots of all classes."""
    side = "below" if fields.get("sign") == -1 else "above"
    return Claim(row=row, words=f"{arm} {side} {than} {words}", arm=arm, than=than, score="all", setting="few-shot", **fields)  # fmt: skip


def moved(row: str, arm: str, than: str, *scores: str) -> list[Claim]:
    """Claim that an arm is above a rival on sets of other classes [cross], on a different style of the same classes [shift], or both."""
    places = {"cross": "on sets of other classes", "shift": "in a different style"}
    return [
        Claim(row=row, words=f"{arm} above {than} {places[score]}", arm=arm, than=than, score=score, setting="transfer")
        for score in scores or places
    ]


def transfers(row: str, arm: str, than: str) -> list[Claim]:
    """Claim that an arm is above a rival with few shots of all classes, on sets of other classes, and on a different style of the same classes."""
    return [few(row, arm, than), *moved(row, arm, than)]


CLAIMS: tuple[Claim, ...] = (
    Claim(row="family", words="CoOp gains on base classes", arm="coop", than="zero-shot", score="base"),
    Claim(row="family", words="CoOp loses on new classes", arm="coop", than="zero-shot", score="new", sign=-1),
    *better("family", "kgcoop", ["coop", "coop:4"], "new", "harmonic"),
    *better("family", "maple", ["coop"], "new", "harmonic"),
    *better("family", "cocoop", ["coop"], "new", "harmonic"),
    *better("family", "tip-adapter", ["zero-shot"], "base"),
    *better("family", "linear-probe", ["zero-shot"], "base"),
    *(claim for than in ("coop", "coop:4") for claim in transfers("family", "kgcoop", than)),
    *transfers("family", "maple", "coop"),
    # CoOp
    *(
        few("S43", arm, than, "with 2 shots", shots=(2,))
        for arm in ("coop", "coop:per class")
        for than in ("zero-shot", "templates")
    ),
    *(
        replace(few("S43", arm, arm, shots=(16,), than_shots=1), words=f"{arm} gains from 1 to 16 shots")
        for arm in ("coop", "coop:per class")
    ),
    few("S43", "coop", "zero-shot", "by 15 points with 16 shots", shots=(16,), margin=0.15),
    few("S43", "coop:per class", "coop", "with 16 shots", shots=(16,)),
    few("S43", "coop:per class", "coop", "with 1 shot", shots=(1,), sign=-1),
    *(claim for than in ("zero-shot", "templates") for claim in moved("S43", "coop", than, "shift")),
    # PRE
    *better("S16", "pre", ["coop", "coop:4"], "new", "harmonic"),
    Claim(row="S16", words="PRE loses at most 2 points on base classes", arm="pre", than="coop", score="base", margin=-0.02),
    Claim(row="S16", words="PRE gains 3 points of the harmonic mean", arm="pre", than="coop", margin=0.03),
    *better("S16", "pre", [f"coop:4 rate {rate}" for rate in RATES], "harmonic"),
    *better("S16", "pre", ["pre:no skip", "pre:mlp"], "harmonic"),
    Claim(
        row="S16", words="PRE trains at most 1.5 times as long as CoOp with as many steps", arm="pre", than="coop:4", score="processor", sign=-1,
        margin=1.5, ratio=True,
    ),
    *transfers("S16", "pre", "coop"),
    # RESTORE
    *better("S19", "restore", ["maple", "coop", "restore:no consistency", "restore:no surgery", "restore:neither"], "new", "harmonic"),
    *better("S19", "maple", ["maple:text", "maple:image"], "new"),
    *(
        Claim(row="S19", words=f"prompts in one tower ({one}) widen the gap of the shifts", arm=f"maple:{one}", than="maple", score="gap")
        for one in ("text", "image")
    ),
    Claim(row="S19", words="RESTORE halves the gap", arm="restore", than="maple", score="gap", sign=-1, margin=0.5, ratio=True),
    Claim(row="S19", words="the embedding form halves the gap", arm="restore:embedding", than="maple", score="gap", sign=-1, margin=0.5, ratio=True),
    *better("S19", "restore", ["restore:embedding"], "harmonic"),
    Claim(row="S19", words="RESTORE keeps the alignment on new classes", arm="restore", than="zero-shot", score="alignment", margin=-0.02),
    Claim(row="S19", words="MaPLe loses alignment on new classes", arm="maple", than="zero-shot", score="alignment", margin=-0.02, sign=-1),
    *(
        Claim(row="S19", words=f"consistency without surgery lets the {side} grow", arm="restore:no surgery", than="maple", score=side)
        for side in ("text shift", "image shift")
    ),
    *transfers("S19", "restore", "maple"),
    # MMRL
    *better("S47", "mmrl", ["coop", "maple"], "harmonic"),
    *(
        Claim(row="S47", words=f"MMRL loses at most 1 point to {than} by {score}", arm="mmrl", than=than, score=score, margin=-0.01)
        for than in ("coop", "maple")
        for score in ("base", "new")
    ),
    Claim(row="S47", words="without the regulariser base rises", arm="mmrl:no regulariser", than="mmrl", score="base"),
    Claim(row="S47", words="without the regulariser new falls", arm="mmrl:no regulariser", than="mmrl", score="new", sign=-1),
    Claim(row="S47", words="fused logits are worse on new classes", arm="mmrl:fused", than="mmrl", score="new", sign=-1),
    Claim(row="S47", words="without the feature of the tokens base falls", arm="mmrl:class only", than="mmrl", score="base", sign=-1),
    *better("S47", "mmrl", ["mmrl:two spaces", "mmrl:lower", "mmrl:class only"], "harmonic"),
    *transfers("S47", "mmrl", "coop"),
    # DPL-like
    *better("S50", "dpl-like", ["dpl:plain", "coop", "maple"], "new", "harmonic"),
    *better("S50", "dpl:flows", ["dpl:plain"], "new", "harmonic"),
    Claim(row="S50", words="weighted flows train no more values", arm="dpl:flows", than="dpl:plain", score="trainable", sign=-1, margin=1.001, ratio=True),
    *better("S50", "dpl-like", ["dpl:flows"], "new"),
    *better("S50", "dpl:conditioned", ["dpl:plain"], "new"),
    *better("S50", "dpl-like", ["dpl:text", "dpl:image"], "harmonic"),
    *transfers("S50", "dpl-like", "coop"),
    # mixture of prompts
    *better("S42", "mocoop", ["coop", "coop:24", "mocoop:uniform", "mocoop:random"], "harmonic"),
    *better("S42", "mocoop", ["mocoop:no gating", "mocoop:no texts"], "harmonic"),
    *better("S42", "mocoop:new names", ["mocoop"], "new"),
    *transfers("S42", "mocoop", "coop"),
    # BiomedCoOp
    *better("S41", "biomedcoop", ["coop"], "harmonic"),
    *better("S41", "biomedcoop", ["biomedcoop:no consistency", "biomedcoop:no distillation", "biomedcoop:no selection"], "harmonic"),
    few("S41", "biomedcoop", "coop", "with 1 to 4 shots", shots=(1, 2, 4)),
    *transfers("S41", "biomedcoop", "coop"),
    # CoPrompt
    *better("S53", "coprompt", ["coop", "maple", "coprompt:prompts only"], "harmonic"),
    *better("S53", "coprompt", ["coprompt:no consistency", "coprompt:not perturbed", "coprompt:no adapters"], "harmonic"),
    Claim(
        row="S53", words="adapters without consistency lose on new classes", arm="coprompt:no consistency", than="coprompt:prompts only", score="new",
        sign=-1,
    ),
    *transfers("S53", "coprompt", "maple"),
    *moved("S53", "coprompt", "coprompt:prompts only"),
    # GRAM
    *better("S59", "gram", ["coop", "gram:maml", "gram:pretraining"], "harmonic"),
    *(claim for method in GRAM_METHODS for claim in better("S59", f"gram:{method}", [method], "harmonic")),
    *better("S59", "gram:maple", ["gram:text", "gram:image"], "harmonic"),
    *(
        Claim(row="S59", words=f"without GRAM both towers are not above the {one} alone", arm="maple", than=f"maple:{one}", sign=-1, margin=NEAR)
        for one in ("text", "image")
    ),
    *transfers("S59", "gram", "coop"),
    *(claim for method in GRAM_METHODS for claim in transfers("S59", f"gram:{method}", method)),
)  # fmt: skip
"""Judged by `family.py`: holds, does not hold, within noise, too few cells, or not measured."""


def chosen(rows: Sequence[str]) -> list[Claim]:
    """Return the claims of some rows; all of them for none."""
    return [claim for claim in CLAIMS if not rows or claim.row in rows]


def arms_of(claims: Sequence[Claim], setting: str, shots: int = 16) -> list[Arm]:
    """Return the arms that the claims of a setting compare with so many shots, in the order of `ARMS`; zero-shot is always one."""
    wanted = [claim for claim in claims if claim.setting == setting and claim.needs(shots)]
    names = {"zero-shot"} | {name for claim in wanted for name in (claim.arm, claim.than)}
    missing = names - {arm.name for arm in ARMS}
    assert not missing, f"claims name arms that do not exist: {sorted(missing)}"
    return [arm for arm in ARMS if arm.name in names]
