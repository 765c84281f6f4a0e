"""What the cells of `rlcf.py` and `rlcf_captions.py` say: accuracies, R@1, scores of captions, and claims over cells."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from recorded import ABOVE, NOT_ABOVE, Record, claim, over_images, show_claims

from percept.core.report import table
from percept.eval.vlm.captions import cider

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


# captions

CAPTION_CLAIMS: tuple[tuple[str, str, str, Any], ...] = (
    *((score, "RLCF", rival, ABOVE) for score in ("right", "CIDEr", "reward") for rival in ("un-adapted", "entropy", "random reward")),
    *((score, "RLCF", "best of samples", ABOVE) for score in ("right", "CIDEr")),
    ("right", "random reward", "un-adapted", NOT_ABOVE),
)  # fmt: skip
"""Score, arm, rival, and how the difference is claimed to be."""


def caption_shares(record: Record) -> dict[str, float]:
    """Return the share of right captions of every arm of a cell."""
    return {arm: round(float(np.mean(each["right"])), 4) for arm, each in record["arms"].items()}


def caption_scores(records: Sequence[Record]) -> list[dict[str, dict[str, np.ndarray]]]:
    """Return for every cell the scores of each arm, one value for each image; CIDEr weighs words by the captions of all cells."""
    arms, cells = list(records[0]["arms"]), [{} for _ in records]
    references = [texts for record in records for texts in record["references"]]
    ends = np.cumsum([len(record["references"]) for record in records])[:-1]
    for arm in arms:
        values = np.array(cider([text for record in records for text in record["arms"][arm]["captions"]], references))
        for cell, record, similar in zip(cells, records, np.split(values, ends), strict=True):
            own = record["arms"][arm]
            changed = [one != other for one, other in zip(own["captions"], record["arms"]["un-adapted"]["captions"], strict=True)]  # fmt: skip
            scores = {"right": own["right"], "CIDEr": similar, "reward": own["reward"], "changed": changed}
            cell[arm] = {name: np.array(each, dtype=float) for name, each in scores.items()}
    return cells


def by_images(records: Sequence[Record], differences: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return an interval over images; policies that see the same images are averaged first."""
    sets: dict[tuple[str, int], list[np.ndarray]] = {}
    for record, values in zip(records, differences, strict=True):
        sets.setdefault((record["bed"], record["seed"]), []).append(values)
    return over_images([np.mean(each, axis=0) / len(sets) for each in sets.values()])


def captions_report(records: Sequence[Record]) -> Record:
    """Print and return the mean scores of every arm and the claims."""
    cells = caption_scores(records)
    means = {arm: {name: round(float(np.mean([cell[arm][name].mean() for cell in cells])), 4) for name in scores} for arm, scores in cells[0].items()}  # fmt: skip
    names = list(next(iter(means.values())))
    table("captions, means over cells", ("arm", *names), [(arm, *(f"{row[name]:.3f}" for name in names)) for arm, row in means.items()])  # fmt: skip
    claims = []
    for score, arm, than, how in CAPTION_CLAIMS:
        values = [cell[arm][score] - cell[than][score] for cell in cells]
        claims.append(claim(f"{score}: {arm} - {than}", [float(each.mean()) for each in values], by_images(records, values), **how))  # fmt: skip
    show_claims("captions: shares, cosines, and CIDEr from 0 to 10", claims)
    rates = {record["policy"]: record["rates"] for record in records}
    images = sum(len(record["references"]) for record in records)
    shares = [{name: record[name] for name in ("policy", "bed", "seed")} | caption_shares(record) for record in records]
    return {"means": means, "claims": claims, "cells": shares, "images": images, "rates": rates}
