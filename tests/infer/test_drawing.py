"""Colours of principal components, heat, and where things lie on the drawing."""

import pytest
import torch
from PIL import Image

from percept import PerceptError
from percept.data.transforms import Preprocess
from percept.infer.dense import PoolAttention
from percept.infer.drawing import (
    HEAT,
    Panel,
    as_seen,
    attention_row,
    draw_rows,
    enlarged,
    heat_colours,
    pca_colours,
    pca_rows,
    save_png,
)


def test_colours_are_the_scores_of_the_first_three_components():
    given = torch.randn(9, 11, 20, dtype=torch.float64) * torch.linspace(3, 0.1, 20).double()
    (found,) = pca_colours([given.float()])
    points = given.float().double().flatten(0, 1)
    _, _, directions = torch.linalg.svd(points - points.mean(dim=0), full_matrices=False)
    scores = (points - points.mean(dim=0)) @ directions[:3].T
    for channel in range(3):
        shown = found[..., channel].double().flatten()
        inside = (shown > 0) & (shown < 255)  # the ends are cut
        pair = torch.stack([shown[inside], scores[inside, channel]])
        assert abs(float(torch.corrcoef(pair)[0, 1])) > 0.999
        assert inside.double().mean() > 0.9


def test_colours_are_the_same_for_turned_and_shared_maps():
    left, right = torch.randn(4, 6, 8), torch.randn(5, 3, 8)
    both = pca_colours([left, right])
    assert [tuple(one.shape) for one in both] == [(4, 6, 3), (5, 3, 3)]
    again = pca_colours([right, left])
    assert (again[1].int() - both[0].int()).abs().max() <= 1  # one set of components for all maps
    assert not torch.equal(pca_colours([left])[0], both[0])
    assert torch.equal(pca_colours([left])[0], pca_colours([left.clone()])[0])


def test_signs_follow_the_largest_weight():
    scores = torch.linspace(-1, 1, 12).view(3, 4, 1)
    rising, falling = (
        pca_colours([scores * torch.tensor([2.0, 1.0])])[0],
        pca_colours([scores * torch.tensor([-2.0, 1.0])])[0],
    )
    assert rising[0, 0, 0] == 0
    assert rising[2, 3, 0] == 255
    assert (falling[0, 0, 0], falling[2, 3, 0]) == (255, 0)
    assert not rising[..., 2].any()  # a width of two has no third component


def test_maps_without_colours():
    assert pca_colours([torch.ones(2, 2, 4)])[0].unique().tolist() == [0]
    with pytest.raises(PerceptError, match="no maps"):
        pca_colours([])
    with pytest.raises(PerceptError, match="NaN or infinite"):
        pca_colours([torch.full((2, 2, 4), float("nan"))])


def test_heat_runs_from_dark_to_light():
    colours = heat_colours(torch.tensor([[0.0, 0.25], [0.5, 1.0]]))
    assert [tuple(one) for one in colours.flatten(0, 1).tolist()] == [HEAT[0], HEAT[1], HEAT[2], HEAT[4]]
    assert heat_colours(torch.zeros(1, 1)).tolist() == [[list(HEAT[0])]]


def test_the_drawn_picture_is_the_part_that_the_model_sees():
    image = Image.new("RGB", (200, 100), "black")
    image.paste("white", (50, 0, 150, 100))
    for way in ("squash", "keep", "native"):
        assert as_seen(image, Preprocess(size=96).resizing(way, patch=8), 60).size == (60, 30)
    cropped = as_seen(image, Preprocess(size=96, resize="crop"), 60)
    assert cropped.size == (60, 60)
    assert min(cropped.convert("L").tobytes()[60 * 30 + 2 : 60 * 30 + 58]) > 250
    padded = as_seen(image, Preprocess(size=(48, 96), resize="pad"), 60)
    assert padded.size == (60, 30)


def test_cells_are_rectangles_over_the_picture():
    drawn = enlarged(torch.tensor([[[255, 0, 0], [0, 255, 0]]], dtype=torch.uint8), (40, 10))
    assert drawn.size == (40, 10)
    assert drawn.getpixel((19, 9)) == (255, 0, 0)
    assert drawn.getpixel((20, 0)) == (0, 255, 0)


def test_rows_hold_the_picture_and_a_column_per_layer_or_head():
    frames = [Image.new("RGB", (60, 30), "red"), Image.new("RGB", (40, 40), "blue")]
    maps = [{2: torch.randn(3, 6, 8), 5: torch.randn(3, 6, 8)}, {2: torch.randn(4, 4, 8), 5: torch.randn(4, 4, 8)}]
    rows = pca_rows(frames, maps, ["one.png", "two.png"])
    assert [[panel.title for panel in row] for row in rows] == [
        [name, "layer 2", "layer 5"] for name in ("one.png", "two.png")
    ]
    assert rows[1][1].remark == "4 x 4 patches"
    assert all(panel.image.size == frame.size for row, frame in zip(rows, frames, strict=True) for panel in row)
    maps_of = torch.tensor([[[0.5, 0.0]], [[0.1, 0.5]]])
    looked = attention_row(frames[0], PoolAttention(maps=maps_of, class_token=torch.tensor([0.5, 0.4])), "one.png")
    assert [(panel.title, panel.remark) for panel in looked[1:]] == [
        ("all heads", "class token 45 %"), ("head 0", "class token 50 %"), ("head 1", "class token 40 %"),
    ]  # fmt: skip
    left, right = looked[2].image.getpixel((5, 5)), looked[2].image.getpixel((55, 5))
    assert sum(left) > sum(right)  # type: ignore[arg-type]


def test_panels_lie_side_by_side_and_rows_below_each_other(tmp_path):
    def panel(colour: str, width: int, height: int) -> Panel:
        return Panel(image=Image.new("RGB", (width, height), colour), title="t")

    sheet = draw_rows(
        [[panel("#ff0000", 60, 20), panel("#00ff00", 30, 20)], [panel("#0000ff", 40, 50), panel("#ff00ff", 35, 50)]]
    )
    save_png(tmp_path / "sheet.png", sheet)
    with Image.open(tmp_path / "sheet.png") as stored:
        assert stored.format == "PNG"
        assert stored.getpixel((24, 24)) == (255, 0, 0)
        assert stored.getpixel((24 + 60 + 14, 24)) == (0, 255, 0)
        below = 24 + 20 + 42 + 14
        assert stored.getpixel((24, below)) == (0, 0, 255)
        assert stored.getpixel((24 + 60 + 14, below)) == (255, 0, 255)
        assert stored.size == (24 + 60 + 14 + 35 + 24, below + 50 + 42 + 24)
