"""Clips through the encoder: averaged as published, the same from a file as from its frames, windows by the clock."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.files import find_images, find_media
from percept.data.video import open_video
from percept.infer.clips import Sampling
from tests.data.video.films import film, gif, sound_only
from tests.infer import tiny

COUNT = 50


@pytest.fixture(scope="module")
def encoder() -> Any:
    return tiny.encoder()


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("films") / "walk.mp4", COUNT)


def frames_of(path: Path, numbers: list[int]) -> list[Image.Image]:
    """Decode a clip and give the frames numbered, repeated where a number is."""
    with open_video(path) as video:
        found = dict(video.frames(numbers))
    return [found[number] for number in numbers]


def published(encoder: Any, frames: list[Image.Image], *, normalize: bool) -> torch.Tensor:
    """What the model itself makes of a clip [1, t, 3, y, x]."""
    pixels = encoder.preprocess.normalise(encoder.preprocess.stack(frames))
    with torch.no_grad():
        return encoder.model.encode_video(pixels[None], normalize=normalize)[0]


def test_a_file_is_its_eight_frames_averaged_as_published(encoder: Any, walk: Path) -> None:
    frames = frames_of(walk, [0, 7, 14, 21, 28, 35, 42, 49])
    retrieval, zero_shot = (published(encoder, frames, normalize=way) for way in (True, False))
    clip = encoder.video(walk)
    assert clip.shape == (tiny.DIM,)
    torch.testing.assert_close(clip, retrieval, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        encoder.video(walk, average="zero-shot"), F.normalize(zero_shot, dim=0), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(encoder.video(walk, normalize=True), F.normalize(retrieval, dim=0), atol=1e-6, rtol=0)
    torch.testing.assert_close(encoder.video(frames), clip, atol=1e-6, rtol=0)
    torch.testing.assert_close(encoder.video(str(walk)), clip, atol=0, rtol=0)
    torch.testing.assert_close(encoder.video(walk.read_bytes()), clip, atol=0, rtol=0)
    assert not torch.allclose(F.normalize(retrieval, dim=0), F.normalize(zero_shot, dim=0), atol=1e-4)


@pytest.mark.parametrize(
    ("choice", "numbers"),
    [("pe-evaluation", [0, 16, 32, 49]), ("pe-demo", [0, 12, 25, 37]), ("plm", [0, 16, 33, 49]), ("time", [6, 18, 31, 43])],
)  # fmt: skip
def test_frames_are_chosen_by_the_convention_asked_for(
    encoder: Any, walk: Path, choice: str, numbers: list[int]
) -> None:
    expected = encoder.video(frames_of(walk, numbers))
    torch.testing.assert_close(encoder.video(walk, frames=4, choice=choice), expected, atol=1e-6, rtol=0)


def test_windows_give_one_vector_each(encoder: Any, walk: Path) -> None:
    windows = [[1.2, 2.0], [0, 0.4], [0.32, 1.3], [1.96, 60]]  # out of order, overlapping, reaching over the end
    parts = [range(30, 50), range(10), range(8, 33), range(49, 50)]
    numbers = [[part[i * (len(part) - 1) // 2] for i in range(3)] for part in parts]
    expected = torch.stack([encoder.video(frames_of(walk, row)) for row in numbers])
    for given in (windows, np.array(windows), torch.tensor(windows, dtype=torch.float64)):
        torch.testing.assert_close(encoder.video(walk, windows=given, frames=3), expected, atol=1e-6, rtol=0)
    assert encoder.video(walk, windows=[]).shape == (0, tiny.DIM)


def test_a_frame_in_several_windows_is_embedded_once(encoder: Any, walk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = encoder.model.encode_image
    monkeypatch.setattr(encoder.model, "encode_image", lambda batch: seen.append(len(batch)) or real(batch))
    encoder.video(walk, windows=[[0, 1], [0, 1], [0, 2]], frames=2)
    assert sum(seen) == 3  # frames 0 and 24, 0 and 24, 0 and 49


def test_a_clip_shorter_than_the_frames_asked_for(encoder: Any, tmp_path: Path) -> None:
    path = film(tmp_path / "one.mp4", 1)
    picture = frames_of(path, [0])[0]
    torch.testing.assert_close(encoder.video(path), encoder.image(picture)[0], atol=1e-6, rtol=0)
    three = film(tmp_path / "three.mp4", 3)
    repeated = frames_of(three, [0, 0, 0, 0, 1, 1, 1, 2])
    torch.testing.assert_close(encoder.video(three), encoder.video(repeated), atol=1e-6, rtol=0)


def test_an_animated_gif_is_a_clip(encoder: Any, tmp_path: Path) -> None:
    path = gif(tmp_path / "a.gif", ["red", "lime", "blue"], [100, 100, 100])
    colours = [Image.new("RGB", (32, 24), colour) for colour in ("red", "lime", "blue")]
    torch.testing.assert_close(encoder.video(path, frames=3), encoder.video(colours), atol=1e-6, rtol=0)


def test_some_of_a_list_of_frames(encoder: Any) -> None:
    frames = [torch.full((3, 24, 24), number / 9) for number in range(10)]
    torch.testing.assert_close(encoder.video(frames, frames=3), encoder.video([frames[0], frames[4], frames[9]]))
    torch.testing.assert_close(encoder.video(torch.stack(frames)), encoder.video(frames))
    assert torch.equal(encoder.video(frames, frames=np.int64(3)), encoder.video(frames, frames=3))


def picture(width: int, height: int = 20) -> Image.Image:
    return Image.new("RGB", (width, height), "red")


MISTAKES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "unequal frames": ([picture(20), picture(20), picture(21)], {}, "frame 2 of the clip has 21 × 20 .*frame 0 has 20 × 20"),
    "unequal arrays": ([np.zeros((4, 6, 3), np.uint8), np.zeros((6, 4, 3), np.uint8)], {}, "frame 1 of the clip has 4 × 6"),
    "unequal tensors": ([torch.zeros(3, 24, 24), torch.zeros(3, 24, 32)], {}, "frame 1 of the clip has 32 × 24"),
    "no frames": ([], {}, "at least one frame"),
    "one picture": (picture(8), {}, r"\[image\]"),
    "a list of files": (["a.mp4", "b.mp4"], {}, "one file at a time"),
    "a number": (3, {}, "int is not an image"),
    "numbers as frames": ([1, 2], {}, "int is not an image"),
    "float arrays": ([np.zeros((4, 4, 3))], {}, "uint8"),
    "windows of a list": ([picture(8)], {"windows": [[0, 1]]}, "has no times"),
    "no such choice": ([picture(8)], {"choice": "demo"}, "'pe-demo'"),
    "no such average": ([picture(8)], {"average": "mean"}, "retrieval, zero-shot"),
    "half a frame": ([picture(8)], {"frames": 2.5}, r"frames must be a positive integer, got 2\.5"),
    "a truth as frames": ([picture(8)], {"frames": True}, "frames must be a positive integer, got True"),
    "a word as frames": ([picture(8)], {"frames": "8"}, "frames must be a positive integer, got '8'"),
    "half a frame of a file": ("nowhere.mp4", {"frames": 2.5}, "must be a positive integer"),
    "no frame asked for": ([picture(8)], {"frames": 0}, "from 1 on"),
    "a missing file": ("nowhere.mp4", {}, "there is no file nowhere.mp4"),
    "a url": ("https://example.org/walk.mp4", {}, "nothing is fetched"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_explained(encoder: Any, case: str) -> None:
    clip, options, words = MISTAKES[case]
    with pytest.raises(PerceptError, match=words):
        encoder.video(clip, **options)


@pytest.mark.parametrize(
    ("windows", "words"),
    [([0, 1], r"\[\[0, 2.5\]"), ([[0, 1, 2]], "list of"), ([["a", "b"]], "list of"), ([[1, 1]], "not a stretch"), ([[2, 3]], "after the end")],
)  # fmt: skip
def test_impossible_windows(encoder: Any, walk: Path, windows: Any, words: str) -> None:
    with pytest.raises(PerceptError, match=words):
        encoder.video(walk, windows=windows)


def test_a_model_of_tokens_makes_no_clip_vectors(walk: Path) -> None:
    with pytest.raises(PerceptError, match="tokens"):
        tiny.encoder(text=False).video(walk)


def test_files_take_videos_among_pictures(encoder: Any, walk: Path, tmp_path: Path) -> None:
    (tmp_path / "b.mp4").write_bytes(walk.read_bytes())
    picture(30).save(tmp_path / "a.png")
    (tmp_path / "c.mov").write_bytes(walk.read_bytes()[:400])
    film(tmp_path / "d.webm", 3, codec="libvpx", deadline="realtime")
    sound_only(tmp_path / "e.mp4")
    (tmp_path / "f.ts").write_text("export const a = 1;")
    paths = find_media(tmp_path)
    assert [path.name for path in paths] == ["a.png", "b.mp4", "c.mov", "d.webm", "e.mp4"]
    assert [path.name for path in find_images(tmp_path)] == ["a.png"]
    found = encoder.files(paths, sampling=Sampling(frames=5))
    assert [path.name for path in found.paths] == ["a.png", "b.mp4", "d.webm"]
    assert [one.path.name for one in found.bad] == ["c.mov", "e.mp4"]
    assert found.bad[0].reason.startswith("is damaged or cut short")
    assert "no video stream" in found.bad[1].reason
    expected = [
        encoder.image(paths[0])[0],
        *(encoder.video(paths[place], frames=5, average="zero-shot") for place in (1, 3)),
    ]
    torch.testing.assert_close(found.vectors, torch.stack(expected), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.vectors.norm(dim=1), torch.ones(3))


def test_nothing_to_look_at_says_so(tmp_path: Path) -> None:
    with pytest.raises(PerceptError, match=r"no images or videos in .*\.mp4"):
        find_media(tmp_path)
