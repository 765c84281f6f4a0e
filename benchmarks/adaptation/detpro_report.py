"""Precisions of the detectors of `detpro.py`, and what they show: AP with resampled values, averages, and claims with two intervals."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from detpro_sets import BASE, NAMES
from recorded import RESAMPLES, claim

from percept.core.seed import derive
from percept.eval.probes.boxes import RECALLS, OfClass, Precision, average_precision
from percept.eval.probes.masks import MaskDetected, MaskTruth, mask_precision

CLAIMS = (
    ("DetPro is above hand prompts on new classes", "DetPro", "hand prompt", "new"),
    ("DetPro is above CoOp on exact boxes, new classes", "DetPro", "CoOp, exact boxes", "new"),
    ("DetPro is above CoOp on all regions, new classes", "DetPro", "CoOp, all regions", "new"),
    ("DetPro is not more than 1 point below hand prompts on base classes", "DetPro", "hand prompt", "base"),
    ("Background interpretation helps new classes", "DetPro", "DetPro - background", "new"),
    ("Grading helps new classes", "DetPro", "DetPro - grading", "new"),
    ("No class is better than a learned background", "DetPro", "DetPro, learned background", "new"),
)
"""What is claimed, of boxes and of masks, on the style that was trained on; the first two on every other set too."""
MARGIN = {"base": 1.0, "new": 0.0}
"""Points that a difference may be below 0: base classes must not get worse."""
SCORES = ("base box", "new box", "base mask", "new mask")


def precisions(targets: Sequence[MaskTruth], found: Sequence[MaskDetected], style: str) -> dict[str, Any]:
    """Return AP by the library, and resampled values of the weighted form, of boxes and masks of base and new classes."""
    rng = np.random.default_rng(derive(0, style))
    weights = rng.multinomial(len(targets), np.full(len(targets), 1 / len(targets)), size=RESAMPLES).astype(float)
    result = {}
    for part, classes in (("base", range(len(BASE))), ("new", range(len(BASE), len(NAMES)))):
        kept = [[_only(one, classes) for one in rows] for rows in (targets, found)]
        measured: dict[str, Precision] = {
            "box": average_precision(*kept, len(NAMES))["AP"],  # type: ignore[arg-type]
            "mask": mask_precision(*kept, classes)["AP"],  # type: ignore[arg-type]
        }
        for kind, value in measured.items():
            result[f"{part} {kind}"] = {
                "AP": round(100 * value.library, 3),
                "draws": np.round(100 * resampled(value, weights), 2).tolist(),
            }
    return result


def resampled(precision: Precision, weights: np.ndarray) -> np.ndarray:
    """Return `precision.values(weights)` [r], for all rows of whole weights [r, n] together."""
    sums, counts = np.zeros(len(weights)), np.zeros(len(weights))
    for one in precision.classes:
        total = weights @ one.truths
        for at in precision.thresholds:
            sums += np.where(total > 0, _weighted(one, weights, np.maximum(total, 1), at), 0.0)
            counts += total > 0
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _weighted(found: OfClass, weights: np.ndarray, total: np.ndarray, at: int) -> np.ndarray:
    """Return the precision averaged over 101 recalls for every row of weights, as `percept.eval.probes.boxes.weighted_ap` does for one."""
    kept = ~found.ignored[at]
    weight = weights[:, found.images[kept]]
    if not weight.shape[1]:
        return np.zeros(len(weights))
    seen, right = np.cumsum(weight, axis=1), np.cumsum(weight * found.hit[at][kept], axis=1)
    precision = right / np.maximum(seen, np.finfo(np.float64).tiny)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    needed = np.floor(RECALLS * total[:, None])
    needed += needed / total[:, None] < RECALLS  # the least whole number that is a recall of at least so much
    apart = (total.max() + 1) * np.arange(len(weights))[:, None]  # one sorted row after the other
    places = np.searchsorted((right + apart).ravel(), (needed + apart).ravel()).reshape(needed.shape)
    places -= weight.shape[1] * np.arange(len(weights))[:, None]
    padded = np.pad(precision, ((0, 0), (0, 1)))
    return np.take_along_axis(padded, places, axis=1).mean(axis=1)


def _only(one: Any, classes: Sequence[int]) -> Any:
    kept = np.isin(one.labels, list(classes))
    fields = {"boxes": one.boxes[kept], "labels": one.labels[kept], "masks": one.masks[kept]}
    return replace(one, **fields, **({"scores": one.scores[kept]} if hasattr(one, "scores") else {"crowd": one.crowd[kept]}))  # fmt: skip


def compared(
    records: Sequence[dict[str, Any]], words: str, pair: tuple[str, str], styles: Sequence[str], score: str, heads: str = "both heads"
) -> dict[str, Any]:  # fmt: skip
    """Return the difference of a pair of arms with its interval over cells of set, encoder and seed, and over images; empty without cells."""
    values, draws = [], {style: [] for style in styles}
    for style in styles:
        one, other = (
            {(r["model"], r["seed"]): r["sets"][style][heads][score] for r in records if r["arm"] == arm and style in r["sets"]}
            for arm in pair
        )  # fmt: skip
        for cell in one.keys() & other.keys():
            values.append(one[cell]["AP"] - other[cell]["AP"])
            draws[style].append(np.subtract(one[cell]["draws"], other[cell]["draws"]))
    if not values:
        return {}
    together = np.mean([np.mean(each, axis=0) for each in draws.values() if each], axis=0)
    low, high = np.nanquantile(together, (0.025, 0.975))
    about_it = {"arms": " - ".join(pair), "set": ", ".join(styles), "heads": heads, "score": score}
    row = claim(words, values, (float(low), float(high)), margin=-MARGIN[score.split()[0]], places=2)
    return about_it | row


def judged(records: Sequence[dict[str, Any]], sets: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for every claim, of boxes and of masks; the first two also on the other sets, together and one by one."""
    rows = []
    for number, (words, arm, than, part) in enumerate(CLAIMS):
        cases: list[tuple[Sequence[str], str]] = [(sets[:1], "both heads"), (sets[:1], "image head")]
        if number < 2 and len(sets) > 1:
            cases += [
                (styles, "both heads") for styles in dict.fromkeys((tuple(sets[1:]), *zip(sets[1:], strict=True)))
            ]
        for styles, heads in cases:
            told = words if styles[0] == sets[0] else f"{words}, untrained on {', '.join(styles)}"
            rows += [compared(records, told, (arm, than), styles, f"{part} {kind}", heads) for kind in ("box", "mask")]
    return [row for row in rows if row]


def averages(records: Sequence[dict[str, Any]], style: str, arms: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the mean AP of every arm that was tested on a set."""
    cells = {arm: [r["sets"][style]["both heads"] for r in records if r["arm"] == arm and style in r["sets"]] for arm in arms}  # fmt: skip
    return {
        arm: {score: round(float(np.mean([cell[score]["AP"] for cell in own])), 2) for score in SCORES}
        for arm, own in cells.items()
        if own
    }
