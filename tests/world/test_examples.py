"""examples/make_pictures.py generates the committed files, and none of their compositions was in training."""

import runpy
from itertools import islice
from pathlib import Path

from PIL import Image

from percept.world import held_out, triples

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = runpy.run_path(str(EXAMPLES / "make_pictures.py"))


def test_every_composition_was_held_out() -> None:
    scenes = list(islice(SCRIPT["scenes"](), SCRIPT["COUNT"]))
    assert len(scenes) == 72
    assert all(any(held_out(*triple) for triple in triples(scene)) for scene in scenes)
    assert len({scene.things[0].category for scene in scenes}) > 60


def test_the_script_draws_the_committed_files(tmp_path: Path) -> None:
    SCRIPT["main"](tmp_path)
    drawn = sorted(tmp_path.iterdir())
    assert [path.name for path in drawn] == sorted(path.name for path in (EXAMPLES / "pictures").iterdir())
    assert sum(path.stat().st_size for path in drawn) < 6e6
    shapes, animated = set(), 0
    for path in drawn:
        with Image.open(path) as image, Image.open(EXAMPLES / "pictures" / path.name) as committed:
            shapes.add(image.size)
            animated += getattr(image, "n_frames", 1) > 1
            assert (image.format, image.size) == (committed.format, committed.size)
    assert {path.suffix for path in drawn} == {".jpg", ".png", ".webp", ".gif"}
    assert len(shapes) > 50
    assert animated >= 2
