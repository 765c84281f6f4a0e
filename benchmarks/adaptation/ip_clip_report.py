"""What the runs of `ip_clip.py` show: the measures of protection, and claims with two intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from cells import Images, claim_row, over_images

from percept.methods.adaptation.ip_domains import applicability, ownership, protection

PAIR = ("model", "scenario", "cell", "seed")
"""Fields that the runs of different arms share."""


def measures(records: Sequence[dict[str, Any]], scenario: str, arm: str) -> dict[str, float]:
    """Return the measures of an arm, averaged over its cells."""
    rows = []
    for one in (r for r in records if r["scenario"] == scenario and r["arm"] == arm):
        start = next(r for r in records if r["arm"] == "before" and all(r[k] == one[k] for k in ("model", "scenario", "cell", "seed")))  # fmt: skip
        before, after = ([float(np.mean(r[part])) for part in ("authorised", "unauthorised")] for r in (start, one))
        row = {"A_a": after[0], "A_u": after[1], **protection((before[0], before[1]), (after[0], after[1]))}
        row |= {"O_ua": ownership(before[1], (after[0], after[1]))} if scenario == "ownership" else {}
        row |= {"A_a (A_a - A_u)": applicability(*after)} if scenario == "applicability" else {}
        row |= {name: float(np.mean(one[name])) for name in ("unseen", "prompt dropped", "recovered") if name in one}
        rows.append(row | {"share of A_u lost": row["D_u"] / max(before[1], 1e-9)})
    return {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]} if rows else {}


def pairs_of(
    records: Sequence[dict[str, Any]], scenario: str, than: str
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the runs of IP-CLIP with those of a different arm on the same images."""
    others = {tuple(map(str, map(r.get, PAIR))): r for r in records if r["arm"] == than}
    own = [r for r in records if r["scenario"] == scenario and r["arm"] == "IP-CLIP"]
    return [(r, others[key]) for r in own if (key := tuple(map(str, map(r.get, PAIR)))) in others]


def by_image(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], parts: Sequence[str], *, share: float = 1.0, sign: float = 1.0) -> Images:  # fmt: skip
    """Return sign * (IP-CLIP - share * other) of every test image of each pair of domains, averaged over foundations and seeds.

    Args:
        parts: authorised, unauthorised; the second one counts with the opposite sign.
    """
    found: dict[str, list[list[np.ndarray]]] = {}
    for one, other in pairs:
        signed = zip(parts, (sign, -sign), strict=False)
        found.setdefault(str(one["cell"]), []).append(
            [factor * (np.array(one[part], float) - share * np.array(other[part], float)) for part, factor in signed]
        )
    return [[np.mean(each, axis=0) for each in zip(*runs, strict=True)] for runs in found.values()]


def against(records: Sequence[dict[str, Any]], than: str) -> dict[str, Any]:
    """Return how much larger the gap between both domains is with IP-CLIP than with a different arm, where the domain is given."""
    pairs = pairs_of(records, "given", than)
    if not pairs:
        return {}
    gaps = [[float(np.mean(each["authorised"]) - np.mean(each["unauthorised"])) for each in pair] for pair in pairs]
    images = over_images(by_image(pairs, ("authorised", "unauthorised")))
    words = f"the gap A_a - A_u is larger than with: {than}"
    return claim_row(words, [one - other for one, other in gaps], images)


def thresholds(records: Sequence[dict[str, Any]], scenario: str) -> list[dict[str, Any]]:
    """Return whether the drop in the authorised domain is at most 2 points, and the other at least half of the accuracy."""
    pairs = pairs_of(records, scenario, "before")
    if not pairs:
        return []
    kept = [float(np.mean(one["authorised"]) - np.mean(other["authorised"])) for one, other in pairs]
    lost = [float(0.5 * np.mean(other["unauthorised"]) - np.mean(one["unauthorised"])) for one, other in pairs]
    return [
        claim_row(f"{scenario}: the authorised drop is at most 2 points", kept, over_images(by_image(pairs, ("authorised",))), margin=-0.02),
        claim_row(f"{scenario}: the unauthorised drop is at least half", lost, over_images(by_image(pairs, ("unauthorised",), share=0.5, sign=-1.0))),
    ]  # fmt: skip
