"""The grids of the public tiler, recorded from its code, and the economical modes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.chat.tiles import Tiler, _candidates, stretched
from percept.data.transforms import pixels_of

MOST_36 = {
    (224, 224): (6, 6),
    (640, 480): (7, 5),
    (480, 640): (5, 7),
    (640, 427): (7, 5),
    (1024, 768): (7, 5),
    (1280, 720): (8, 4),
    (1920, 1080): (8, 4),
    (1080, 1920): (4, 8),
    (300, 800): (4, 9),
    (2480, 3508): (5, 7),
    (4000, 3000): (4, 3),
    (3000, 4000): (4, 5),
    (5000, 500): (18, 2),
    (500, 5000): (2, 18),
    (10000, 100): (36, 1),
    (2688, 2688): (6, 6),
    (2689, 2689): (6, 6),
}
MOST_16 = {
    (640, 480): (4, 3),
    (640, 427): (5, 3),
    (1280, 720): (5, 3),
    (300, 800): (2, 6),
    (3000, 4000): (4, 4),
    (500, 5000): (1, 9),
    (5000, 500): (10, 1),
}
MOST_4 = {(640, 480): (2, 2), (300, 800): (1, 3)}
GOLDEN = [(most, *pair) for most, table in ((36, MOST_36), (16, MOST_16), (4, MOST_4)) for pair in table.items()]


@pytest.mark.parametrize(("most", "size", "grid"), GOLDEN)
def test_the_published_grid(most: int, size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert Tiler(size=448, most=most).grid(*size) == grid


def test_the_candidates_are_as_many_as_published() -> None:
    counts = {most: (sum(map(len, _candidates(most).values())), len(_candidates(most))) for most in (36, 16, 4)}
    assert counts == {36: (140, 109), 16: (50, 41), 4: (8, 7)}


def test_tiles_are_the_thumbnail_and_then_the_canvas_row_by_row() -> None:
    image = Image.effect_noise((50, 30), 90).convert("RGB")
    tiler = Tiler(size=20, most=6)
    grid = tiler.grid(50, 30)
    assert grid is not None
    columns, rows = grid
    tiles = tiler(image)
    canvas = stretched(pixels_of(image), columns * 20, rows * 20)
    assert tiles.shape == (1 + columns * rows, 3, 20, 20)
    assert tiler.count(50, 30) == len(tiles)
    assert torch.equal(tiles[0], stretched(pixels_of(image), 20, 20))
    for row in range(rows):
        for column in range(columns):
            part = canvas[:, row * 20 : row * 20 + 20, column * 20 : column * 20 + 20]
            assert torch.equal(tiles[1 + row * columns + column], part)


def test_resizing_is_that_of_pillow() -> None:
    noise = np.random.default_rng(0).normal(128, 90, (43, 61)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(noise).convert("RGB")
    for size in ((20, 20), (100, 90)):
        theirs = pixels_of(image.resize(size, Image.Resampling.BICUBIC)).int()
        difference = (stretched(pixels_of(image), *size).int() - theirs).abs()
        assert difference.max() <= 2
        assert (difference <= 1).float().mean() > 0.999


def test_the_aspect_mode_does_not_stretch_or_enlarge() -> None:
    tiler = Tiler(size=10, most=9, mode="aspect")
    assert tiler.grid(10, 8) is None
    assert tiler(Image.new("RGB", (8, 8))).shape[0] == 1
    tiles = tiler(Image.new("RGB", (25, 12), (255, 0, 0)))
    assert tiler.grid(25, 12) == (3, 2)
    assert len(tiles) == 7
    canvas = tiles[1:].unflatten(0, (2, 3)).permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
    assert (canvas[0, :12, :25] == 255).all()
    assert (canvas[:, 12:] == 128).all()
    assert (canvas[:, :, 25:] == 128).all()


@given(
    st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 12), st.sampled_from(["published", "aspect", "single"])
)
def test_a_grid_never_exceeds_its_budget(width: int, height: int, most: int, mode: str) -> None:
    grid = Tiler(size=100, most=most, mode=mode).grid(width, height)
    assert grid is None or 1 <= grid[0] * grid[1] <= most


def test_a_budget_of_tokens_bounds_the_tiles() -> None:
    assert Tiler(size=448).within(2000, 256).most == 6
    assert Tiler(size=448).within(256, 256).most == 0
    with pytest.raises(PerceptError, match="one tile takes 256"):
        Tiler(size=448).within(255, 256)


@pytest.mark.parametrize("change", [{"mode": "other"}, {"most": -1}, {"size": 0}])
def test_what_is_no_tiler_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(PerceptError):
        Tiler(**{"size": 448, **change})  # type: ignore[arg-type]
