"""Blind ratings: what the page shows and hides, the means and differences by hand, and Krippendorff's published example."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from percept.core.errors import PerceptError
from percept.core.io import write_json
from percept.eval.rating import Sheet, Shown, agreement, alpha, by_arm, differences, rater_pairs, read_ratings
from percept.eval.rating_page import rating_page, write_rating_page

NONE = np.nan
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NONE, NONE, NONE],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NONE, 3],
        [NONE, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NONE],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NONE],
    ]
)
"""Four observers and twelve units of Krippendorff 2011, section D, whose interval alpha is .849."""


def rows() -> list[Shown]:
    images = [np.full((8, 8, 3), value, np.uint8) for value in (10, 200)]
    texts = {"original": ("a cup", "a car"), "secret arm": ("a red cup", "a car")}
    return [
        Shown(image=images[source], caption=text, source=source, arm=arm)
        for arm, captions in texts.items()
        for source, text in enumerate(captions)
    ]


def sheet_and_files(folder: Path, ratings: dict[str, dict[str, tuple[int, int]]]) -> tuple[Path, list[Path]]:
    """Write a key and the ratings (natural, true) that raters give captions."""
    sheet = Sheet.shuffled(rows())
    write_json(folder / "key.json", sheet.key(rows()))
    captions = [row.caption for row in sheet.rows]
    files = []
    for rater, given in ratings.items():
        found = {
            str(captions.index(text)): dict(zip(("natural", "true"), values, strict=True))
            for text, values in given.items()
        }
        write_json(file := folder / f"{rater}.json", {"sheet": sheet.name, "rater": rater, "ratings": found})
        files.append(file)
    return folder / "key.json", files


def test_the_page_holds_every_caption_once_and_no_arm(tmp_path: Path):
    sheet = Sheet.shuffled(rows())
    assert sorted(row.caption for row in sheet.rows) == ["a car", "a cup", "a red cup"]
    assert [row.caption for row in Sheet.shuffled(rows()).rows] == [row.caption for row in sheet.rows]
    write_rating_page(tmp_path / "page.html", sheet)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "secret arm" not in text
    assert "original" not in text
    assert "http" not in text
    data = json.loads(text.split('id="sheet">')[1].split("</script>")[0])
    assert [row["caption"] for row in data["rows"]] == [row.caption for row in sheet.rows]
    assert len(data["images"]) == 2
    key = sheet.key(rows())
    arms = {(row["source"], row["caption"]): row["arms"] for row in key["rows"]}
    assert arms[1, "a car"] == ["original", "secret arm"]
    with pytest.raises(PerceptError, match="no captions"):
        Sheet.shuffled([])


def test_a_caption_cannot_end_the_script():
    hostile = Shown(image=np.zeros((2, 2, 3), np.uint8), caption="</script><b>", source=0, arm="x")
    text = rating_page(Sheet.shuffled([hostile]))
    assert "</script><b>" not in text


def test_means_differences_and_agreement_by_hand(tmp_path: Path):
    given = {
        "ann": {"a cup": (5, 4), "a car": (4, 4), "a red cup": (3, 1)},
        "ben": {"a cup": (3, 4), "a car": (4, 4), "a red cup": (3, 2)},
    }
    read = read_ratings(*sheet_and_files(tmp_path, given))
    scores = {arm: [score.value for score in each] for arm, each in by_arm(read).items()}
    assert scores == {"original": [4.0, 4.0], "secret arm": [3.5, 2.75]}
    gaps = differences(read, "secret arm")
    assert [score.value for score in gaps["original"]] == [-0.5, -1.25]
    assert [score.n for score in gaps["original"]] == [2, 2]
    assert rater_pairs(read, "natural") == {"ann, ben": pytest.approx(2 / 3)}
    found = agreement(read.values["true"])
    assert found is not None
    assert found.value == pytest.approx(alpha([np.array([4, 4]), np.array([4, 4]), np.array([1, 2])]))
    with pytest.raises(PerceptError, match="has no arm 'x'"):
        differences(read, "x")


def test_krippendorffs_example_and_limits():
    found = agreement(PUBLISHED)
    assert found is not None
    assert found.value == pytest.approx(0.849, abs=5e-4)
    assert found.n == 11
    assert found.low <= found.value <= found.high
    assert agreement(PUBLISHED[:1]) is None
    assert alpha([np.array([1, 1]), np.array([5, 5])]) == 1.0
    assert np.isnan(alpha([np.array([2, 2])]))


def test_an_unfinished_rating_counts_what_is_there(tmp_path: Path):
    read = read_ratings(*sheet_and_files(tmp_path, {"ann": {"a cup": (5, 4)}}))
    assert set(by_arm(read)) == {"original"}
    assert differences(read, "original") == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sheet": "other"}, "rates the sheet 'other', but the key is of"),
        ({"ratings": {"0": {"natural": 6}}}, "gives caption 0 6. Ratings are whole numbers from 1 to 5"),
        ({"ratings": {"0": {"natural": True}}}, "gives caption 0 True"),
        ({"ratings": {"99": {"natural": 3}}}, "of caption 99, which the sheet does not have"),
        ({"ratings": {"0": {"nice": 3}}}, "rates 'nice' of caption 0"),
        ({"ratings": {}}, "holds no rating"),
        ({"ratings": []}, "does not hold ratings"),
    ],
)
def test_ratings_that_cannot_be_used_are_refused(change: dict[str, Any], message: str, tmp_path: Path):
    key, files = sheet_and_files(tmp_path, {"ann": {"a cup": (5, 4)}})
    write_json(files[0], json.loads(files[0].read_text()) | change)
    with pytest.raises(PerceptError, match=message):
        read_ratings(key, files)


def test_two_files_of_a_rater_and_a_wrong_key_are_refused(tmp_path: Path):
    key, files = sheet_and_files(tmp_path, {"ann": {"a cup": (5, 4)}})
    with pytest.raises(PerceptError, match="second file of the rater 'ann'"):
        read_ratings(key, [files[0], files[0]])
    with pytest.raises(PerceptError, match="is not a key file"):
        read_ratings(files[0], files)
    with pytest.raises(PerceptError, match="there are no ratings"):
        read_ratings(key, [])
