"""Probes of pixels where images have no labels."""

from dataclasses import replace

import pytest

from percept.core.errors import PerceptError
from percept.eval.layers import layers
from tests.eval.probes.test_layers import data, encoder


@pytest.mark.parametrize(
    ("task", "probe", "blank"), [("masks", "linear", -1), ("depth", "linear", 0), ("depth", "dpt", 0)]
)
def test_training_images_without_labels_are_an_error(task: str, probe: str, blank: int):
    whole = data(task, 30)
    hidden = replace(
        whole,
        target=lambda number: whole.target(number) * 0 + blank if number < 20 else whole.target(number),
        given=(range(20), range(20, 30)),
    )
    with pytest.raises(PerceptError, match=r"none of the 20 training images has a (labelled pixel|depth)"):
        layers(encoder(), hidden, task, probe=probe, layers=(1,))


def test_a_light_dpt_does_not_need_depth_in_every_image():
    whole = data("depth", 30)
    hidden = replace(whole, target=lambda number: whole.target(number) * (number % 2))
    assert layers(encoder(), hidden, "depth", probe="dpt", layers=(1,)).scores[0].value < 2
