"""The traceable form of the towers gives what the eager towers give."""

from dataclasses import replace

import pytest
import torch

from percept.export.graph import ImageGraph, TextGraph
from percept.models.vision import VisionTower
from percept.nn.posembed import interpolate_positions
from tests.models import small

SIZES = [(16, 16), (8, 24), (4, 4), (20, 16), (18, 31), (64, 12)]


@pytest.mark.parametrize(
    "changes",
    [{}, {"rope": False}, {"absolute_positions": False}, {"class_token": False}, {"pool": "none", "output_dim": None}],
    ids=str,
)
@torch.no_grad()
def test_pictures_of_any_size(changes):
    tower = small.clip(**changes).vision if changes.get("pool") != "none" else _dense()
    graph = ImageGraph(tower, dynamic=True, layers=True)
    for height, width in SIZES:
        images = small.images(2, height, width)
        out = tower(images, layers=range(3))
        found = dict(zip(graph.outputs, graph(images), strict=True))
        expected = {f"block_{layer}": tokens for layer, tokens in out.hidden.items()} | {"tokens": out.tokens}
        if out.pooled is not None:
            expected["vector"] = out.pooled
        assert found.keys() == expected.keys()
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], msg=f"{name} at {height}x{width}")


def _dense() -> VisionTower:
    return VisionTower(replace(small.VISION, pool="none", output_dim=None)).eval()


@torch.no_grad()
def test_one_size_and_no_layers():
    tower, images = small.clip().vision, small.images()
    graph = ImageGraph(tower, dynamic=False, layers=False)
    assert graph.outputs == ["vector", "tokens"]
    vector, tokens = graph(images)
    out = tower(images)
    torch.testing.assert_close((vector, tokens), (out.pooled, out.tokens))


@torch.no_grad()
def test_texts_of_any_length():
    tower, ids = small.clip().text, small.texts()
    assert tower is not None
    graph = TextGraph(tower, layers=True)
    for length in (small.TEXT.context, int(ids.argmax(dim=-1).max()) + 1):
        out = tower(ids[:, :length], layers=range(2))
        found = dict(zip(graph.outputs, graph(ids[:, :length]), strict=True))
        torch.testing.assert_close(found["vector"], out.pooled)
        torch.testing.assert_close(found["tokens"], out.tokens)
        torch.testing.assert_close(found["block_1"], out.hidden[1])


def test_an_equal_grid_gives_equal_positions():
    positions = torch.randn(1 + 5 * 5, 8)
    assert torch.equal(interpolate_positions(positions, (5, 5), (5, 5), prefix=1), positions)
