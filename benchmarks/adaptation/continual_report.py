"""What the runs of benchmarks/adaptation/continual.py say: mean scores, claims, and what methods keep."""

from collections.abc import Sequence

import numpy as np
from continual_arms import BLENDS, NAMES, UNTOUCHED, ranks_by_chance
from recorded import Claim, Record, judged, show_claims

from percept.core.report import out, table

SCORES = {
    "sequences": ("transfer", "average", "last", "forgetting", "mean", "never"),
    "class-incremental": ("incremental", "last", "forgetting"),
}
"""Scores of both kinds; mean is that of transfer and last, never the accuracy on the set that is never learned."""
LATENCY = "latency"
"""Name in place of a sequence where CoDyRA is timed."""
CELL = ("model", "weights", "sequence", "seed")
"""Fields that two runs of a pair share."""


def above(row: str, arm: str, rivals: Sequence[str], *scores: str) -> list[Claim]:
    """Claim that an arm is above its rivals."""
    return [
        Claim(row=row, words=f"{score} of {arm} is above {than}", arm=arm, than=than, score=score)
        for than in rivals
        for score in scores
    ]


def forgets_less(row: str, arm: str, rivals: Sequence[str]) -> list[Claim]:
    """Claim that the forgetting of the rivals is above that of an arm."""
    return [
        Claim(row=row, words=f"{arm} forgets less than {than}", arm=than, than=arm, score="forgetting")
        for than in rivals
    ]


WISE = tuple(f"WiSE-FT {share:g}" for share in BLENDS)
LORA = tuple(f"LoRA {rank}" for rank in (1, 4, 8, 16))
CLAIMS: tuple[Claim, ...] = (
    Claim(row="S54", words="ZSCL keeps Transfer within 2 points of zero-shot", arm="ZSCL", than=UNTOUCHED, score="transfer", margin=-0.02),
    Claim(row="S54", words="ZSCL loses at most 2 points of Last to fine-tuning", arm="ZSCL", than="fine-tuning", score="last", margin=-0.02),
    *above("S54", "ZSCL", ["fine-tuning"], "transfer"),
    *forgets_less("S54", "ZSCL", ["fine-tuning"]),
    *above("S54", "ZSCL", ["LwF", *WISE, "replay", UNTOUCHED], "average", "incremental"),
    *above("S54", "ZSCL", ["ZSCL, features alone", "ZSCL, weights alone", "L2", "WiSE-FT after each task"], "average", "incremental"),
    *above("S54", "ZSCL", ["ZSCL, noise reference"], "transfer"),
    *above("S38", "mulki-like", ["fine-tuning", "LwF", "mulki-like, initial teacher", "mulki-like, previous teacher"], "transfer", "last"),
    *above("S38", "mulki-like", ["mulki-like, equal teachers"], "transfer", "last", "mean"),
    *above("S38", "mulki-like", [f"mulki-like, no {stage}" for stage in ("eliciting", "relations", "connections")], "mean"),
    *above("S30", "CoDyRA", LORA, "transfer", "last"),
    *forgets_less("S30", "CoDyRA", [*LORA, "fine-tuning"]),
    Claim(row="S30", words="CoDyRA loses at most 1 point to zero-shot on sets not yet learned", arm="CoDyRA", than=UNTOUCHED, score="transfer", margin=-0.01),
    Claim(row="S30", words="CoDyRA loses at most 1 point to zero-shot on the set never learned", arm="CoDyRA", than=UNTOUCHED, score="never", margin=-0.01),
    *above("S30", "CoDyRA", ["CoDyRA, random gates", "CoDyRA, no threshold"], "transfer", "last"),
)  # fmt: skip
"""What is claimed. Scores that one kind of sequence does not have are left out there."""
GAP = Claim(
    row="S38",
    words="mean of mulki-like minus that of ZSCL, which has references",
    arm="mulki-like",
    than="ZSCL",
    score="mean",
)


def derived(records: Sequence[Record]) -> list[Record]:
    """Return the records, with those of arms that were measured in the runs of others: WiSE-FT, and the untouched model once in every cell."""
    found, known = [], set()
    for record in records:
        cell = tuple(record[name] for name in CELL)
        if cell not in known:
            found.append(record | {"arm": UNTOUCHED, "scores": record["untouched"], "kept bytes": {}})
            known.add(cell)
        found.append(record)
        found += [record | {"arm": f"WiSE-FT {share}", "scores": scores} for share, scores in record["blends"].items()]
    return found


def report(records: Sequence[Record]) -> Record:
    """Print means and claims of both kinds of sequences, and return them."""
    timed = [record for record in records if record["sequence"] == LATENCY]
    records = [record for record in records if record["sequence"] != LATENCY]
    everything, results = derived(records), {}
    for kind, scores in SCORES.items():
        chosen = [each for each in everything if (each["sequence"] == "class-incremental") == (kind != "sequences")]
        if not chosen:
            continue
        means = means_of(chosen, scores)
        rows = [(name, *(f"{100 * row[score]:.1f}" if score in row else "-" for score in scores), str(row["runs"])) for name, row in means.items()]  # fmt: skip
        table(f"{kind}, %", ("arm", *scores, "runs"), rows)
        claims = [judged(chosen, each, CELL, scores_of) for each in CLAIMS if each.score in scores]
        show_claims(kind, claims)
        gap = judged(chosen, GAP, CELL, scores_of) if GAP.score in scores else None
        if gap is not None and "value" in gap:
            out.print(f"{gap['claim']}: {gap['value']:+.3f}, 95 % interval {gap['interval']}", soft_wrap=True)
        results[kind] = {"means": means, "claims": claims, "gap to ZSCL": gap}
    more = {"matrices": matrices_of(records), **costs(records), "latency of CoDyRA": latencies(timed)}
    return {"results": results, **more, "runs": len(records)}


def latencies(records: Sequence[Record]) -> Record:
    """Print and return how many times the processor time of an encoder the towers of CoDyRA take."""
    found = {record["model"]: {"times the processor time": record["times the processor time"], "parameters": record["parameters"]} for record in records}  # fmt: skip
    rows = [
        (model, *(f"{value:.3f}" for value in each["times the processor time"].values()))
        for model, each in found.items()
    ]
    if rows:
        table("towers of CoDyRA, times the processor time of those of the encoder", ("encoder", *records[0]["times the processor time"]), rows)  # fmt: skip
    return found


def matrices_of(records: Sequence[Record]) -> Record:
    """Return for every encoder and sequence the tasks, and the mean over seeds of the accuracy on every task after every task, by arm."""
    found: Record = {}
    for model, sequence in dict.fromkeys((record["model"], record["sequence"]) for record in records):
        own = [record for record in records if (record["model"], record["sequence"]) == (model, sequence)]
        means = {
            arm: np.mean([record["after"] for record in own if record["arm"] == arm], axis=0).round(3).tolist()
            for arm in dict.fromkeys(record["arm"] for record in own)
        }
        found[f"{model}, {sequence}"] = {"tasks": own[0]["tasks"], "before": own[0]["before"], "after": means}
    return found


def means_of(records: Sequence[Record], scores: Sequence[str]) -> dict[str, Record]:
    """Return the mean scores of every arm."""
    found: dict[str, Record] = {}
    for name in NAMES:
        own = [record["scores"] for record in records if record["arm"] == name]
        if own:
            found[name] = {score: round(float(np.mean([each[score] for each in own if score in each])), 4) for score in scores if any(score in each for each in own)}  # fmt: skip
            found[name]["runs"] = len(own)
    return found


def scores_of(record: Record) -> dict[str, float]:
    """Return the scores of a run."""
    return record["scores"]


def costs(records: Sequence[Record]) -> Record:
    """Print and return what arms keep from task to task, their active ranks with those of gates without a gradient, and their rates."""
    chosen = [record for record in records if record["sequence"] != "class-incremental"] or list(records)
    kept, ranks, rates = {}, {}, {}
    for name in dict.fromkeys(record["arm"] for record in chosen):
        own = [record for record in chosen if record["arm"] == name]
        kept[name] = {record["model"]: {part: round(size / 1e6, 2) for part, size in record["kept bytes"].items()} for record in own}  # fmt: skip
        if "mean rank" in own[0]:
            ranks[name] = round(float(np.mean([record["mean rank"] for record in own])), 2)
        rates[name] = {record["model"]: record["rate"] for record in own}
    rows = [(name, model, f"{sum(parts.values()):.2f}", ", ".join(parts) or "nothing") for name, each in kept.items() for model, parts in each.items()]  # fmt: skip
    table("kept from task to task besides the model, MB", ("arm", "encoder", "MB", "what"), rows)
    null = {steps: ranks_by_chance(steps) for steps in sorted({record["steps"] for record in chosen})}
    for name, rank in ranks.items():
        out.print(f"{name}: mean active rank {rank}", soft_wrap=True)
    for steps, (value, deviation) in null.items() if ranks else ():
        out.print(f"CoDyRA gates without a gradient, {steps} steps: active rank {value:.2f}, standard deviation {deviation:.2f}", soft_wrap=True)  # fmt: skip
    return {
        "kept from task to task, MB": kept, "mean active rank": ranks, "rates": rates,
        "active rank without a gradient": {str(steps): [round(each, 2) for each in values] for steps, values in null.items()},
    }  # fmt: skip
