"""What the runs of `ip_clip.py` show: the measures of protection, and claims with two intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from recorded import claim, over_images

from percept.methods.adaptation.ip_domains import applicability, ownership, protection

PAIR = ("model", "scenario", "cell", "seed")
"""Fields that the runs of different arms share."""


def measures(records: Sequence[dict[str, Any]], scenario: str, arm: str) -> dict[str, float]:
    """Return the measures of an arm, averaged over its cells."""
    rows = []
    for one in (r for r in records if r["scenario"] == scenario and r["arm"] == arm):
        start = next(r for r in records if r["arm"] == "before" and all(r[k] == one[k] for k in PAIR))  # fmt: skip
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


def domains_of(run: dict[str, Any], part: str) -> tuple[str, ...]:
    """Return the domains of the test images of a part; those of several are equally many, one after the other. A mark leaves the images the same."""
    own, other = run["cell"]
    if part == "authorised" or run["scenario"] == "ownership":
        return (own,)
    return (own, other) if run["scenario"] == "applicability" else (other,)


def by_image(
    pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]], parts: Sequence[str], *, share: float = 1.0, sign: float = 1.0
) -> list[np.ndarray]:  # fmt: skip
    """Return sign * (IP-CLIP - share * other) of every test image of each domain, whose means add up to the mean over runs.

    Pairs of domains, foundations and seeds share their test images, so the values of an image are added before images are resampled.

    Args:
        parts: authorised, unauthorised; the second one counts with the opposite sign.
    """
    found: dict[str, np.ndarray] = {}
    for one, other in pairs:
        for part, factor in zip(parts, (sign, -sign), strict=False):
            values = factor * (np.array(one[part], float) - share * np.array(other[part], float))
            names = domains_of(one, part)
            for name, own in zip(names, np.split(values, len(names)), strict=True):
                found[name] = found.get(name, 0.0) + own / len(names) / len(pairs)
    return list(found.values())


def against(records: Sequence[dict[str, Any]], than: str) -> dict[str, Any]:
    """Return how much larger the gap between both domains is with IP-CLIP than with a different arm, where the domain is given."""
    pairs = pairs_of(records, "given", than)
    if not pairs:
        return {}
    gaps = [[float(np.mean(each["authorised"]) - np.mean(each["unauthorised"])) for each in pair] for pair in pairs]
    images = over_images(by_image(pairs, ("authorised", "unauthorised")))
    words = f"the gap A_a - A_u is larger than with: {than}"
    return claim(words, [one - other for one, other in gaps], images)


def thresholds(records: Sequence[dict[str, Any]], scenario: str) -> list[dict[str, Any]]:
    """Return whether the drop in the authorised domain is at most 2 points, and the other at least half of the accuracy."""
    pairs = pairs_of(records, scenario, "before")
    if not pairs:
        return []
    kept = [float(np.mean(one["authorised"]) - np.mean(other["authorised"])) for one, other in pairs]
    lost = [float(0.5 * np.mean(other["unauthorised"]) - np.mean(one["unauthorised"])) for one, other in pairs]
    return [
        claim(f"{scenario}: the authorised drop is at most 2 points", kept, over_images(by_image(pairs, ("authorised",))), margin=-0.02),
        claim(f"{scenario}: the unauthorised drop is at least half", lost, over_images(by_image(pairs, ("unauthorised",), share=0.5, sign=-1.0))),
    ]  # fmt: skip
