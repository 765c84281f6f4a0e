"""Files of the world read back as what was drawn, whatever the format and the number of processes."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from percept.core.errors import PerceptError
from percept.world import generate
from percept.world.noise import Noise
from percept.world.record import describe
from percept.world.render import Rendering
from percept.world.sheet import make_sheet, save_sheet
from percept.world.write import write


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_folder_holds_the_images_and_their_truth(tmp_path: Path) -> None:
    files = _files(write(tmp_path / "w", 5, seed=3, split="evaluation", style="mixed"))
    assert len(files) == 21
    for number in range(5):
        key, rendering = f"{number:06d}", generate(3 + number, split="evaluation", style="mixed")
        assert rendering.masks is not None
        assert rendering.depth is not None
        assert np.array_equal(_pixels(files[f"images/{key}.png"]), rendering.image)
        masks = _pixels(files[f"masks/{key}.png"])
        assert all(np.array_equal(masks == index + 1, mask) for index, mask in enumerate(rendering.masks))
        assert np.abs(_pixels(files[f"depth/{key}.png"]) / 255 - rendering.depth).max() <= 0.5 / 255 + 1e-6
        truth = json.loads(files[f"truth/{key}.json"])
        assert [thing["category"] for thing in truth["things"]] == [thing.category for thing in rendering.scene.things]
        assert np.allclose([thing["box"] for thing in truth["things"]], rendering.boxes, atol=1e-4)
        assert [word["text"] for word in truth["words"]] == [word.text for word in rendering.scene.words]
        assert truth["short_caption"]
        assert all(len(pair) == 2 for pair in truth["questions"])


def test_jsonl_lines_are_in_order_and_name_existing_images(tmp_path: Path) -> None:
    folder = write(tmp_path / "w", 7, format="jsonl")
    lines = [json.loads(line) for line in (folder / "truth.jsonl").read_text().splitlines()]
    assert [line["seed"] for line in lines] == list(range(7))
    assert all((folder / line["image"]).is_file() for line in lines)
    rendering = generate(3)
    assert rendering.masks is not None
    assert rendering.depth is not None
    masks, depth = (_pixels((folder / lines[3][name]).read_bytes()) for name in ("masks", "depth"))
    assert all(np.array_equal(masks == index + 1, mask) for index, mask in enumerate(rendering.masks))
    assert np.abs(depth / 255 - rendering.depth).max() <= 0.5 / 255 + 1e-6


def test_webdataset_groups_the_parts_of_a_sample(tmp_path: Path) -> None:
    folder = write(tmp_path / "w", 4, format="webdataset")
    with tarfile.open(folder / "000000.tar") as tar:
        names = tar.getnames()
        parts = {name: tar.extractfile(name).read() for name in names}  # pyright: ignore[reportOptionalMemberAccess]
    suffixes = ["png", "json", "txt", "masks.png", "depth.png"]
    assert names == [f"{number:06d}.{suffix}" for number in range(4) for suffix in suffixes]
    assert parts["000002.txt"].decode() == json.loads(parts["000002.json"])["short_caption"]
    assert np.array_equal(_pixels(parts["000001.png"]), generate(1).image)


def test_bytes_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    one = _files(write(tmp_path / "one", 252, format="webdataset", workers=0))
    two = _files(write(tmp_path / "two", 252, format="webdataset", workers=2))
    assert list(one) == ["000000.tar", "000001.tar"]
    assert one == two


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(PerceptError, match="is not empty"):
        write(tmp_path, 2)
    with pytest.raises(PerceptError, match="is a file"):
        write(tmp_path / "mine.txt", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    assert len(_files(write(tmp_path / "w", 1))) == 5


def test_the_folder_one_stands_in_is_filled_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w").mkdir()
    monkeypatch.chdir(tmp_path / "w")
    write(".", 1)
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["depth", "images", "masks", "metadata.jsonl", "truth"]
    assert (tmp_path / "w" / "truth" / "000000.json").is_file()


def test_a_link_to_an_empty_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    write(tmp_path / "link", 1)
    assert (tmp_path / "link").is_symlink()
    assert len(_files(tmp_path / "there")) == 5


def test_files_that_another_process_wrote_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    for folder in (tmp_path / "there", tmp_path / "new"):

        def meanwhile(rendering: Rendering, folder: Path = folder) -> dict:
            folder.mkdir(exist_ok=True)
            (folder / "mine.txt").write_text("keep")
            return describe(rendering)

        monkeypatch.setattr("percept.world.write.images.describe", meanwhile)
        with pytest.raises(PerceptError, match="another process wrote into"):
            write(folder, 1)
        assert [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_nothing_remains_of_an_interrupted_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("percept.world.write.images.describe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "w", 3)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, 3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"count": 0}, "at least 1"),
        ({"format": "foldr"}, "'folder'"),
        ({"split": "test"}, "train, validation, evaluation"),
        ({"style": "skech"}, "'sketch'"),
        ({"size": 5}, "32 to 2048"),
        ({"workers": -1}, "at least 0"),
    ],
)
def test_bad_arguments_write_nothing(tmp_path: Path, arguments: dict, hint: str) -> None:
    with pytest.raises(PerceptError, match=hint):
        write(tmp_path / "w", **{"count": 2, **arguments})
    assert list(tmp_path.iterdir()) == []


def test_sheet_shows_every_image(tmp_path: Path) -> None:
    renderings = [generate(seed, aspect=1.5 if seed % 2 else 1.0) for seed in range(5)]
    sheet = make_sheet(renderings, columns=3)
    blank = np.all(np.asarray(sheet) == np.asarray(sheet)[0, 0], axis=2)
    cells = [blank[y : y + 288, x : x + 288].mean() for y in (20, 430) for x in (20, 328, 636)]
    assert max(cells[:5]) < 0.5
    assert cells[5] == 1.0
    save_sheet(tmp_path / "sheet.png", renderings)
    assert _pixels((tmp_path / "sheet.png").read_bytes()).shape[1::-1] == make_sheet(renderings).size


def test_what_a_killed_writing_left_does_not_stop_the_next_one(tmp_path: Path) -> None:
    gone = 2**30  # no system has so many processes
    for left in (tmp_path / "old" / f".{gone}.part", tmp_path / f".new.{gone}.part"):
        left.mkdir(parents=True)
        (left / "0.png").touch()
    for folder in (tmp_path / "old", tmp_path / "new"):
        write(folder, 1, size=32)
    assert not list(tmp_path.rglob("*.part"))
    assert (tmp_path / "old" / "images" / "000000.png").is_file()


def test_numbers_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PerceptError, match="frames must be"):
        write(tmp_path / "a", 1, what="clips", frames=0)
    with pytest.raises(PerceptError, match="shares of noise"):
        Noise(wrong=float("nan"))
