"""Rules for captions."""

import pytest

from percept.core.errors import PerceptError
from percept.data.curate.rules import TextRules
from tests.data.curate.making import chunk


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a red cup on a table", None),
        ("красная чашка на столе", None),
        ("桌子上的红色杯子", None),
        ("कुर्सी पर बैठी बिल्ली", None),
        ("cup", "too few words"),
        ("word " * 300, "too many words"),
        ("IMG 1234", "boilerplate"),
        ("Click here to enlarge", "boilerplate"),
        ("holiday photo - All Rights Reserved", "boilerplate"),
        ("see https://example.org/shop/item?id=77", "mostly an address"),
        ("12 34 56 78 90", "too few letters"),
        ("buy buy buy buy buy cup", "repeated words"),
        ("a greeeeeeeeeeat cup", "repeated characters"),
    ],
)
def test_each_rule_finds_its_caption(text: str, reason: str | None) -> None:
    assert TextRules().reason(text) == reason


def test_a_row_stays_with_the_captions_that_break_no_rule() -> None:
    decision = TextRules().decide(chunk([["cup", "a red cup"], ["cup", "12 34"]]), {}, {})
    assert decision.reasons == [None, "too few words"]
    assert decision.texts == [["a red cup"], []]
    assert decision.kept == [[False, True], [False, False]]


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(PerceptError, match="leave no caption"):
        TextRules(min_words=5, max_words=4)
    with pytest.raises(PerceptError, match="not a regular expression"):
        TextRules(boilerplate=("(",))
