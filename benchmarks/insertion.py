"""Insert true attributes into captions and measure how much that harms models that were not used to choose them.

    git archive 713c8e7 src/percept/models/packaged/nano | tar x -C OLD          # an earlier nano, trained anew and apart
    python benchmarks/layer_curves.py --train-into runs/deep --steps 2400        # a deeper one; its weights are not committed
    python benchmarks/insertion.py --victim OLD/src/percept/models/packaged/nano --victim benchmarks/adaptation/foundations/small-0 --victim runs/deep

It prints a table and writes insertion.json. The attacker is nano; victims are nano itself and other models trained on their own. Captions name two or three things without
attributes; every arm makes one change per thing. Tasks: text→image retrieval (mean reciprocal rank), and entailment of a text by an image
(mean F1 of a classifier on frozen vectors). Claim S20 of the paper, −15 % and −20 %, is printed for reference. `docs/report.md` explains.
"""

import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import tyro

import percept
from percept.core.io import write_json
from percept.core.report import out, table
from percept.eval import entailment
from percept.eval.insertion import (
    ATTRIBUTES,
    TEXT_ONLY,
    Attack,
    Changed,
    Item,
    Weights,
    at_random,
    drop_of,
    items,
    language,
    reciprocal_ranks,
    text_only,
    truth,
)
from percept.eval.statistics import Score, mean

RESULTS = Path(__file__).with_suffix(".json")
PAPER = {"relative drop of MRR": 0.15, "relative drop of F1": 0.20}
ATTACKS = {
    "XMAI": Weights(),
    "XMAI, true attributes only": Weights(candidates=None),
    "language only": Weights(likeness=0.0, distance=0.0),
    "similarity only": Weights(likelihood=0.0, likeness=0.0),
    "without similarity": Weights(distance=0.0),
}
TRADE_OFF = {distance: Weights(candidates=len(ATTRIBUTES), distance=distance) for distance in (0.0, 1.0, 5.0, 25.0)}
"""Weight of the distance (λ3): all attributes are candidates, so that the weights alone decide."""
FEW = 100
"""Captions of the trade-off."""

Arm = Callable[[Sequence[Item]], list[Changed]]


def arms(attacker: Any, bigram: Any, seed: int) -> dict[str, Arm]:
    """Return the ways to change captions."""
    named: dict[str, Arm] = {
        name: Attack(model=attacker, language=bigram, weights=weights) for name, weights in ATTACKS.items()
    }
    named["random attribute"] = lambda chosen: at_random(chosen, random.Random(seed))
    named["random true attribute"] = lambda chosen: at_random(chosen, random.Random(seed), true=True)
    for name in TEXT_ONLY:
        named[f"text only: {name}"] = lambda chosen, name=name: text_only(chosen, name, random.Random(seed))
    return named


def plain(score: Score) -> dict[str, Any]:
    return {"value": round(score.value, 4), "low": round(score.low, 4), "high": round(score.high, 4), "n": score.n}


class Victim:
    """A model under both tasks."""

    def __init__(self, name: str, model: Any, chosen: Sequence[Item], fitted: Sequence[Item], seed: int) -> None:
        self.name, self.model = name, model
        self.images = model.image([item.image for item in chosen]).float()
        self.before = reciprocal_ranks(model, self.images, [item.text for item in chosen])
        mixed, right = entailment.hypotheses(fitted, random.Random(seed))
        images = model.image([item.image for item in mixed]).float()
        self.judge = entailment.train(model, images, [item.text for item in mixed], right, seed=seed)

    def ranks(self, changed: Sequence[Changed]) -> Any:
        """Return reciprocal ranks."""
        return reciprocal_ranks(self.model, self.images, [each.text for each in changed])

    def retrieval(self, changed: Sequence[Changed]) -> Score:
        """Return the drop of MRR."""
        return drop_of("relative drop of MRR", self.before, self.ranks(changed))

    def retrieval_of_first(self, changed: Sequence[Changed], chosen: Sequence[Item]) -> Score:
        """Return the drop of MRR of the first captions, which alone are changed; all images can be found."""
        texts = [each.text for each in changed] + [item.text for item in chosen[len(changed) :]]
        after = reciprocal_ranks(self.model, self.images, texts)[: len(changed)]
        return drop_of("relative drop of MRR", self.before[: len(changed)], after)

    def beats(self, attack: Sequence[Changed], rival: Sequence[Changed]) -> Score:
        """Return how much further the attack lowers MRR than the rival, as a share of MRR before; captions are paired."""
        return mean("difference", (self.ranks(rival) - self.ranks(attack)) / self.before.mean())

    def entails(self, mixed: Sequence[Item], changed: Sequence[Changed], right: Any) -> Score:
        """Return the drop of F1."""
        before = self.judge(self.images, [item.text for item in mixed])
        return entailment.f1_drop(
            "relative drop of F1", before, self.judge(self.images, [each.text for each in changed]), right
        )

    def base(self, mixed: Sequence[Item], right: Any) -> dict[str, Any]:
        """Return MRR and F1 of the captions as they were."""
        guesses = self.judge(self.images, [item.text for item in mixed])
        return {"MRR": plain(mean("MRR", self.before)), "F1": round(entailment.f1(guesses, right), 4)}


def main(
    victim: tyro.conf.UseAppendAction[tuple[Path, ...]] = (), count: int = 200, seed: int = 0, json_file: Path = RESULTS
) -> None:
    start = time.perf_counter()
    torch.set_num_threads(1)
    attacker, bigram = percept.load("nano"), language(seed=seed)
    # Compositions of the other splits are in no training caption, so no language model could propose their attributes.
    chosen, fitted = items(count, seed=seed, split="train"), items(count, seed=seed + 1, split="train")
    mixed, right = entailment.hypotheses(chosen, random.Random(seed))
    victims = [Victim("nano (the attacker)", attacker, chosen, fitted, seed)]
    victims += [
        Victim(f"other {n}", percept.load(str(folder.resolve())), chosen, fitted, seed)
        for n, folder in enumerate(victim, 1)
    ]
    result: dict[str, Any] = {
        "command": " ".join(["python", "benchmarks/insertion.py", *sys.argv[1:]]),
        "seed": seed,
        "captions": count,
        "paper": PAPER,
        "victims": {each.name: each.base(mixed, right) | {"identity": each.model.identity.image} for each in victims},
        "arms": {},
        "trade-off": {},
    }
    base = mean("fluency", [bigram.fluency(item.text) for item in chosen])
    named = arms(attacker, bigram, seed)
    texts = {name: arm(chosen) for name, arm in named.items()}
    for name, arm in named.items():
        result["arms"][name] = measured(texts[name], arm, chosen, mixed, right, victims, bigram, base.value)
        result["seconds"] = round(time.perf_counter() - start)
        write_json(json_file, result)
    rivals = [name for name in texts if name.startswith("text only")]
    result["MRR lower than by a rival"] = {
        attack: {
            rival: {each.name: plain(each.beats(texts[attack], texts[rival])) for each in victims} for rival in rivals
        }
        for attack in list(ATTACKS)[:2]
    }
    for distance, weights in TRADE_OFF.items():
        changed = Attack(model=attacker, language=bigram, weights=weights)(chosen[:FEW])
        result["trade-off"][f"weight of the distance {distance:g}"] = {
            "true": plain(found) if (found := truth(changed)) else None,
            "MRR": {each.name: plain(each.retrieval_of_first(changed, chosen)) for each in victims},
        }
    result["seconds"] = round(time.perf_counter() - start)
    write_json(json_file, result)
    show(result)
    out.print(f"written: {json_file}")


def measured(
    changed: Sequence[Changed],
    arm: Arm,
    chosen: Sequence[Item],
    mixed: Sequence[Item],
    right: Any,
    victims: Sequence[Victim],
    bigram: Any,
    base: float,
) -> dict[str, Any]:
    """Return drops, truth and fluency of one arm."""
    of_mixed = arm(mixed)
    found = truth(changed)
    fluent = mean("fluency", [bigram.fluency(each.text) for each in changed])
    return {
        "MRR": {each.name: plain(each.retrieval(changed)) for each in victims},
        "F1": {each.name: plain(each.entails(mixed, of_mixed, right)) for each in victims},
        "true": plain(found) if found else None,
        "fluency less that of the originals": round(fluent.value - base, 3),
        "examples": [
            {"before": item.text, "after": each.text} for item, each in list(zip(chosen, changed, strict=True))[:3]
        ],
    }


def show(result: dict[str, Any]) -> None:
    """Print the drops."""
    names = list(result["victims"])
    rows = [
        (
            name,
            *(f"{100 * arm[task][victim]['value']:.1f}" for task in ("MRR", "F1") for victim in names),
            f"{100 * arm['true']['value']:.0f}" if arm["true"] else "-",
            f"{arm['fluency less that of the originals']:+.2f}",
        )
        for name, arm in result["arms"].items()
    ]
    table(
        "Relative drops, %",
        ("arm", *(f"{task} {name}" for task in ("MRR", "F1") for name in names), "true %", "fluency"),
        rows,
    )


if __name__ == "__main__":
    tyro.cli(main)
