"""Blind ratings of captions with inserted attributes, of the originals and of text-only changes (XMAI, arXiv:2306.11065).

    python benchmarks/insertion_rating.py page --file rating.html                   # also writes rating.key.json, which raters do not get
    python benchmarks/insertion_rating.py summarise rating.key.json ratings-*.json  # mean of every arm, differences, agreement

The page needs no network. Ratings are 1 to 5 for "reads naturally" and for "is true of the image"; 15 captions in seven arms are 105 ratings
of each, about 20 minutes. A mean is over captions, with the mean of the raters for each; intervals are bootstraps over captions; agreement
is Krippendorff's alpha on an interval scale.
"""

import random
from pathlib import Path
from typing import Any

import tyro

import percept
from percept.core.io import write_json
from percept.core.report import out, table
from percept.eval.insertion import TEXT_ONLY, Attack, Weights, at_random, items, language, text_only
from percept.eval.rating import QUESTIONS, Sheet, Shown, agreement, by_arm, differences, rater_pairs, read_ratings
from percept.eval.rating_page import write_rating_page
from percept.eval.statistics import Score


def page(file: Path = Path("rating.html"), count: int = 15, seed: int = 0) -> None:
    """Write the page and its key.

    Args:
        file: The page; its key ends in .key.json.
        count: Captions, each in all arms.
        seed: Of the captions and their order.
    """
    chosen, attacker, bigram = items(count, seed=seed, split="train"), percept.load("nano"), language(seed=seed)
    arms = {
        "original": [item.text for item in chosen],
        "XMAI": _texts(Attack(model=attacker, language=bigram)(chosen)),
        "XMAI, true attributes only": _texts(
            Attack(model=attacker, language=bigram, weights=Weights(candidates=None))(chosen)
        ),
        "random attribute": _texts(at_random(chosen, random.Random(seed))),
        **{f"text only: {name}": _texts(text_only(chosen, name, random.Random(seed))) for name in TEXT_ONLY},
    }
    rows = [
        Shown(image=item.image, caption=text, source=number, arm=arm)
        for arm, texts in arms.items()
        for number, (item, text) in enumerate(zip(chosen, texts, strict=True))
    ]
    sheet = Sheet.shuffled(rows, seed=seed)
    write_rating_page(file, sheet)
    write_json(key := file.with_suffix(".key.json"), sheet.key(rows))
    out.print(f"{file}: {len(sheet.rows)} captions to rate. {key} says which arm made them; keep it from raters.")


def summarise(
    key: tyro.conf.Positional[Path],
    ratings: tyro.conf.Positional[tuple[Path, ...]],
    arm: str = "XMAI",
    json_file: Path | None = None,
) -> None:
    """Evaluate saved ratings.

    Args:
        key: Key file of the page.
        ratings: Files that raters saved, one per rater.
        arm: Arm that is compared with all others.
        json_file: File for the result.
    """
    read = read_ratings(key, ratings)
    arms, gaps = by_arm(read), differences(read, arm)
    agreed = {question: agreement(values) for question, values in read.values.items()}
    table("Mean rating, 1 to 5", ("arm", *QUESTIONS), [(name, *map(_plain, scores)) for name, scores in arms.items()])
    table(
        f"{arm} minus another arm, same captions",
        ("arm", *QUESTIONS),
        [(name, *map(_plain, scores)) for name, scores in gaps.items()],
    )
    for question, score in agreed.items():
        shown = "needs two raters" if score is None else _plain(score)
        out.print(f"agreement of {len(read.raters)} raters, {question}: {shown}")
    if json_file is not None:
        write_json(json_file, _result(read, arms, gaps, agreed))


def _result(read: Any, arms: Any, gaps: Any, agreed: dict[str, Score | None]) -> dict[str, Any]:
    return {
        "sheet": read.key["sheet"],
        "raters": list(read.raters),
        "arms": {name: [vars(score) for score in scores] for name, scores in arms.items()},
        "differences": {name: [vars(score) for score in scores] for name, scores in gaps.items()},
        "agreement": {question: None if score is None else vars(score) for question, score in agreed.items()},
        "within one point": {question: rater_pairs(read, question) for question in QUESTIONS},
    }


def _texts(changed: Any) -> list[str]:
    return [each.text for each in changed]


def _plain(score: Score) -> str:
    return f"{score.value:.2f} [{score.low:.2f} – {score.high:.2f}], n={score.n}"


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"page": page, "summarise": summarise}, description=__doc__)
