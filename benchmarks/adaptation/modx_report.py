"""What the runs of `modx.py` show: means by arm and by part, claims over cells, disorder against what is lost, and the planted rotation."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from family_report import rank
from recorded import Claim, Record, claim, judged, place_of, show_claims

from percept.core.report import table

UNITS = "shares, and angles in degrees"
TOGETHER = ("joint", "images alone")
"""Arms that do not learn one part with texts after the other."""
CELL = ("stream", "model", "seed")
"""Fields that the runs of different arms share."""
CLOSE = 0.02
"""Share that R@1 may be below that of continued training on a part just learned, and by which a prediction may be wrong."""


def says(words: str, arm: str, than: str, score: str, sign: int = 1, margin: float = 0.0) -> Claim:
    """Return a claim."""
    return Claim(words=words, arm=arm, than=than, score=score, sign=sign, margin=margin)


CLAIMS = (
    says("continued training loses R@1 of the old domain", "continued", "", "lost"),
    says("Mod-X keeps the old domain above continued training", "Mod-X", "continued", "old"),
    says("Mod-X has less disorder than continued training", "Mod-X", "continued", "total", -1),
    says("Mod-X is at most 2 points below continued training on a part just learned", "Mod-X", "continued", "new", 1, -CLOSE),
    says("Mod-X keeps earlier parts above continued training", "Mod-X", "continued", "seen"),
    says("Mod-X forgets less of earlier parts than continued training", "Mod-X", "continued", "forgotten", -1),
    says("Mod-X is above continued training on a part that is never learned", "Mod-X", "continued", "never"),
    says("the filter keeps the old domain above the alignment of all rows", "Mod-X", "all rows", "old"),
    says("the filter is above the alignment of all rows on a part just learned", "Mod-X", "all rows", "new"),
    says("all parts at once are above Mod-X on earlier parts", "joint", "Mod-X", "seen"),
    says("training on images alone loses fewer neighbours of the first part", "images alone", "continued", "alike lost", -1),
    says("Mod-X keeps the old domain above EWC", "Mod-X", "EWC", "old"),
    says("Mod-X keeps earlier parts above EWC", "Mod-X", "EWC", "seen"),
    says("Mod-X is at most 2 points below EWC on a part just learned", "Mod-X", "EWC", "new", 1, -CLOSE),
)  # fmt: skip
SHOWN = ("old", "lost", "seen", "new", "forgotten", "never", "alike lost", "image_rotation", "text_rotation", "deviation", "covered", "total")  # fmt: skip


def r1(phase: Record, domain: str) -> float:
    """Return the mean of R@1 both ways."""
    return float(np.mean(phase["domains"][domain]["R@1"]))


def worth(record: Record, images: bool) -> float:
    """Return what rates are chosen by: the mean R@1 of the parts and the old domain in the end, or the share of neighbours alike."""
    last, names = record["phases"][-1], (*record["parts"], "old")
    return float(np.mean([last["domains"][name]["alike"] if images else r1(last, name) for name in names]))


def scores(record: Record) -> dict[str, float]:
    """Return the scores of a run that `CLAIMS` names; a run on all parts at once has no score of a part just learned."""
    (before, *phases), parts = record["phases"], record["parts"]
    last = phases[-1]
    found = {"old": r1(last, "old"), "lost": r1(before, "old") - r1(last, "old"), "never": r1(last, record["never"])}
    found |= {"seen": float(np.mean([r1(last, name) for name in parts[:-1]]))} | last["disorder"]
    if len(phases) == len(parts):
        just = [r1(phase, name) for phase, name in zip(phases, parts, strict=True)]
        found["new"] = float(np.mean(just))
        found["forgotten"] = float(np.mean([new - r1(last, name) for new, name in zip(just[:-1], parts[:-1], strict=True)]))  # fmt: skip
        found["alike lost"] = phases[0]["domains"][parts[0]]["alike"] - last["domains"][parts[0]]["alike"]
    return found


def correlated(records: Sequence[Record], measure: str) -> Record | None:
    """Return Spearman's correlation of a measure of disorder with the R@1 that the old domain lost, over the arms and parts of each cell."""
    cells: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    for record in (each for each in records if each["arm"] not in TOGETHER):
        before, *phases = record["phases"]
        cells.setdefault(place_of(record, CELL), []).extend(
            (phase["disorder"][measure], r1(before, "old") - r1(phase, "old")) for phase in phases
        )
    values = []
    for pairs in cells.values():
        both = np.array(pairs)
        if len(both) > 3 and both.std(axis=0).min() > 0:
            values.append(float(np.corrcoef(rank(both[:, 0]), rank(both[:, 1]))[0, 1]))
    words = f"{measure} ranks the parts and arms as the loss of R@1 of the old domain does (Spearman)"
    return claim(words, values) if values else None


def turned(records: Sequence[Record]) -> list[Record]:
    """Return the claims about planted rotations, over encoders and seeds."""
    share: Callable[[Any], float] = lambda found: float(np.mean(found))  # noqa: E731
    if not records:
        return []
    kept = [-max(abs(share(row["both"]["R@1"]) - share(r["R@1"])) for row in r["turns"]) for r in records]
    lower = [share(r["R@1"]) - share(r["turns"][-1]["texts"]["R@1"]) for r in records]
    wrong = [max(abs(share(row["texts"]["R@1"]) - share(row["predicted R@1"])) for row in r["turns"]) for r in records]
    read = [max(abs(row["texts"]["deviation"] - row["angle"]) for row in r["turns"]) for r in records]
    calm = [max(row["both"]["deviation"] for row in r["turns"]) for r in records]
    return [
        claim("a turn of both modalities changes R@1 by less than half a point", kept, margin=-0.005),
        claim("a turn of the texts by 75 degrees lowers R@1", lower),
        claim("R@1 after a turn of the texts is predicted within 2 points", wrong, sign=-1, margin=CLOSE),
        claim("the deviation is the angle of a turn of the texts, within 1 degree", read, sign=-1, margin=1.0),
        claim("the deviation of a turn of both is below 1 degree", calm, sign=-1, margin=1.0),
    ]


def by_part(records: Sequence[Record]) -> list[Record]:
    """Return the means of every arm with texts after each part."""
    rows = []
    for arm in dict.fromkeys(each["arm"] for each in records if each["arm"] not in TOGETHER):
        own = [each for each in records if each["arm"] == arm]
        for number in range(max(len(each["phases"]) for each in own)):
            some = [(each, each["phases"][number]) for each in own if number < len(each["phases"])]
            row: Record = {"arm": arm, "parts learned": number, "runs": len(some)}
            row["old"] = float(np.mean([r1(phase, "old") for _, phase in some]))
            row["never"] = float(np.mean([r1(phase, each["never"]) for each, phase in some]))
            row["parts"] = float(np.mean([r1(phase, name) for each, phase in some for name in each["parts"][: max(1, number)]]))  # fmt: skip
            if number:
                row |= {name: float(np.mean([phase["disorder"][name] for _, phase in some])) for name in ("image_rotation", "text_rotation", "deviation")}  # fmt: skip
                row["predicted old"] = float(np.mean([np.mean(phase["predicted R@1"]) for _, phase in some]))
            rows.append({name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()})
    return rows


def means_of(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """Return the mean scores of every arm."""
    found: dict[str, list[dict[str, float]]] = {}
    for each in records:
        found.setdefault(each["arm"], []).append(scores(each))
    return {arm: {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]} for arm, rows in found.items()}  # fmt: skip


def report(records: Sequence[Record], planted: str) -> Record:
    """Print and return means, claims over both streams and over each, correlations, and the control; `planted` is the stream of the control."""
    turns = [each for each in records if each["stream"] == planted]
    runs = [each for each in records if each["stream"] not in (planted, "tuning")]
    result: Record = {"means": {}, "by part": {}, "claims": {}}
    streams = tuple(dict.fromkeys(each["stream"] for each in runs))
    for stream in (*streams, *(("all streams",) if len(streams) > 1 else ())):
        own = [each for each in runs if stream in (each["stream"], "all streams")]
        rows = [judged(own, each, CELL, scores) for each in CLAIMS]
        rows += [row for name in ("total", "deviation", "image_rotation", "text_rotation") if (row := correlated(own, name))]  # fmt: skip
        result["claims"][stream] = rows
        show_claims(f"{stream}: {UNITS}", rows)
        if stream in streams:
            result["means"][stream], result["by part"][stream] = means_of(own), by_part(own)
            _tables(stream, result["means"][stream], result["by part"][stream])
    result["claims"]["planted rotation"] = turned(turns)
    show_claims(f"planted rotation: {UNITS}", result["claims"]["planted rotation"])
    rates = sorted({(each["model"], each["arm"], each["rate"], each["strength"]) for each in runs})
    return result | {
        "turns": [{name: each[name] for name in ("model", "seed", "R@1", "turns")} for each in turns], "rates": rates, "runs": len(runs),
        "models": sorted({each["model"] for each in runs}), "seconds of processor": round(sum(each["seconds"] for each in runs)),
    }  # fmt: skip


def _tables(stream: str, means: dict[str, dict[str, float]], parts: Sequence[Record]) -> None:
    table(f"{stream}: after the last part", ("arm", *SHOWN), [(arm, *(f"{row[name]:.3f}" if name in row else "" for name in SHOWN)) for arm, row in means.items()])  # fmt: skip
    columns = ("old", "predicted old", "parts", "never", "image_rotation", "text_rotation", "deviation")
    lines = [(row["arm"], str(row["parts learned"]), *(f"{row[name]:.3f}" if name in row else "" for name in columns)) for row in parts]  # fmt: skip
    table(f"{stream}: after each part", ("arm", "parts", *columns), lines)
