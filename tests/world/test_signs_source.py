"""Printed words as training batches."""

import random

import torch

import percept
from percept.world.signs import SignSource, printed, sign
from percept.world.vocabulary import WORDS


def test_pictures_come_with_the_words_they_show() -> None:
    for make in (printed, sign):
        image, text = make(random.Random(4), 96)
        assert image.size == (96, 96)
        assert set(text.split()) <= set(WORDS)


def test_batches_are_a_function_of_step() -> None:
    encoder = percept.load("nano")
    assert encoder.tokenizer is not None
    source = SignSource(encoder.tokenizer, encoder.preprocess)
    whole = source.batch(2, slice(0, 4), 4)
    torch.testing.assert_close(source.batch(2, slice(2, 4), 4)[0], whole[0][2:])
    assert not torch.equal(source.batch(3, slice(0, 4), 4)[0], whole[0])
