"""What the cells of benchmarks/adaptation/rlcf.py say: accuracies, R@1 and claims over cells."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from recorded import ABOVE, NOT_ABOVE, Record, claim, show_claims

from percept.core.report import table

OBJECTIVES: dict[str, Any] = {
    "RLCF": "reward",
    "entropy (TPT)": "entropy",
    "distilled": "distil",
    "random reward": "random",
}
"""Arms that are adapted, to their objectives."""
ITSELF = "judged by itself"
"""Arm whose reward model is the policy."""
SIDES: dict[str, Literal["text", "image"]] = {"text to image": "text", "image to text": "image"}
"""Directions of retrieval to the kind of their queries."""
RIVALS = (
    "un-adapted",
    "mean of views",
    "mean of kept views",
    "entropy (TPT)",
    "distilled",
    ITSELF,
    "reward model alone",
    "both models",
)
"""What RLCF is compared with in classification."""


def accuracies(record: Record) -> dict[str, float]:
    """Return the accuracy of every arm of a cell."""
    truth = np.array(record["truth"])
    return {
        arm: round(float((np.array(answers) == truth).mean()), 4)
        for arm, answers in record["answers"].items()
        if arm != "sure"
    }


def found_shares(record: Record) -> dict[str, float]:
    """Return R@1 of every arm of a cell of retrieval."""
    return {arm: round(float(np.mean(hits)), 4) for arm, hits in record["hits"].items()}


def compared(words: str, values: Sequence[dict[str, float]], arm: str, than: str, **how: Any) -> Record:
    """Return a claim about the difference of two arms in every cell."""
    return claim(f"{words}: {arm} - {than}", [each[arm] - each[than] for each in values], **how)


def corrected(record: Record, arm: str) -> float | None:
    """Return the share of the confident mistakes of the un-adapted model that an arm corrects, None without any.

    A mistake is confident if its confidence is at least the median of its cell.
    """
    truth, sure = np.array(record["truth"]), np.array(record["answers"]["sure"])
    wrong = (np.array(record["answers"]["un-adapted"]) != truth) & (sure >= np.median(sure))
    return float((np.array(record["answers"][arm]) == truth)[wrong].mean()) if wrong.any() else None


def classification_report(records: Sequence[Record]) -> Record:
    """Print and return accuracies and claims of classification."""
    values = [accuracies(record) for record in records]
    table(
        "accuracy, %", ("policy", "bed", "seed", *values[0]),
        [(r["policy"], r["bed"], str(r["seed"]), *(f"{100 * value:.1f}" for value in each.values())) for r, each in zip(records, values, strict=True)],
    )  # fmt: skip
    claims = [compared("accuracy", values, "RLCF", rival, **ABOVE) for rival in RIVALS]
    claims.append(compared("accuracy", values, "random reward", "un-adapted", **NOT_ABOVE))
    mended = [{arm: corrected(record, arm) for arm in (*OBJECTIVES, "mean of kept views")} for record in records]
    some: list[dict[str, Any]] = [each for each in mended if None not in each.values()]
    claims += [
        compared("share of confident mistakes corrected", some, "RLCF", rival)
        for rival in ("entropy (TPT)", "mean of kept views")
    ]
    means = {arm: round(float(np.mean([each[arm] for each in some])), 4) for arm in (some[0] if some else ())}
    show_claims("classification, over cells", claims)
    cells = [
        {name: r[name] for name in ("policy", "bed", "seed", "rates")} | each
        for r, each in zip(records, values, strict=True)
    ]
    return {"cells": cells, "confident mistakes corrected": means, "claims": claims}


def retrieval_report(records: Sequence[Record]) -> Record:
    """Print and return R@1 and claims of both directions."""
    result: Record = {}
    for direction in SIDES:
        own = [record for record in records if record["bed"] == direction]
        values = [found_shares(record) for record in own]
        if not values:
            continue
        means = {arm: round(float(np.mean([each[arm] for each in values])), 4) for arm in values[0]}
        claims = [compared(direction, values, arm, "un-adapted", **how) for arm, how in (("RLCF", ABOVE), ("distilled", ABOVE), ("random reward", NOT_ABOVE))]  # fmt: skip
        table(f"{direction}, R@1", tuple(means), [[f"{100 * value:.1f}" for value in means.values()]])
        show_claims(f"{direction}, over cells", claims)
        rates = {record["policy"]: record["rates"] for record in own}
        result[direction] = {"R@1": means, "cells": len(own), "rates": rates, "claims": claims}
    return result
