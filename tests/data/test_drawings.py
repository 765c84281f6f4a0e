"""Drawings on white: cut out, changed, put in front of something else; batches are a function of seed and step."""

import csv
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import percept
from percept.core.errors import PerceptError
from percept.data.drawings import DrawingSource, Pasting, Words, coloured, drawn_mask, outlined
from percept.data.sources.open import open_rows

WORDS = Words(templates=("a {}", "a picture of a {}"))


def table(folder: Path, count: int = 6, part: str = "train") -> Path:
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "caption", "keywords", "label", "part"])
        for number in range(count):
            image = Image.new("RGB", (40, 30), "white")
            ImageDraw.Draw(image).ellipse((8, 5, 30, 25), fill=(200, 10 * number, 30), outline="black")
            image.save(folder / f"{number}.png")
            writer.writerow([f"{number}.png", f"thing {number}", "round, red", "apple" if number == 0 else "", part])
    return folder / "rows.csv"


def source(path: Path, **options) -> DrawingSource:
    encoder = percept.load("nano")
    assert encoder.tokenizer is not None
    return DrawingSource([open_rows(path)], encoder.tokenizer, encoder.preprocess, words=WORDS, **options)


def test_the_mask_is_what_paper_does_not_reach() -> None:
    image = Image.new("RGB", (20, 20), "white")
    ImageDraw.Draw(image).rectangle((5, 5, 14, 14), outline="black", fill="white")
    mask = np.asarray(drawn_mask(image))
    assert mask[5:15, 5:15].all()  # white inside a closed line belongs to the drawing
    assert not mask[:5].any()


def test_an_outline_is_dark_and_around_the_drawing() -> None:
    image, mask = Image.new("RGB", (10, 10), "red"), Image.new("L", (10, 10), 255)
    wide, cover = outlined(image, mask)
    assert wide.size == cover.size == (12, 12)
    assert wide.getpixel((0, 6)) == (20, 20, 20)
    assert wide.getpixel((6, 6)) == (255, 0, 0)


def test_no_change_of_colour_leaves_colours() -> None:
    image = Image.new("RGB", (4, 4), (200, 30, 60))
    how = Pasting(hue=0.0, colour=0.0, grey=0.0, flat=0.0)
    assert np.abs(np.asarray(coloured(image, how, random.Random(0)), int) - np.asarray(image, int)).max() <= 3


def test_batches_are_a_function_of_step_and_ranks_share_them(tmp_path) -> None:
    path = table(tmp_path)
    whole, again = (source(path).batch(3, slice(0, 4), 4) for _ in range(2))
    torch.testing.assert_close(whole, again)
    parts = [source(path).batch(3, slice(*ends), 4) for ends in ((0, 2), (2, 4))]
    torch.testing.assert_close(torch.cat([image for image, _ in parts]), whole[0])
    assert not torch.equal(source(path).batch(4, slice(0, 4), 4)[0], whole[0])


def test_a_batch_larger_than_the_table_holds_every_row_once(tmp_path) -> None:
    images, tokens = source(table(tmp_path)).batch(0, slice(0, 50), 50)
    assert len(images) == len(tokens) == 6


def test_labelled_drawings_come_more_often(tmp_path) -> None:
    chances = source(table(tmp_path), labelled=5.0).chances
    assert chances[0] == pytest.approx(5 * chances[1])


def test_rows_for_evaluation_are_refused(tmp_path) -> None:
    with pytest.raises(PerceptError, match="for evaluation"):
        source(table(tmp_path, part="new_artist"))


def test_a_table_without_captions_is_refused(tmp_path) -> None:
    with pytest.raises(PerceptError):
        source(table(tmp_path, count=0))
