"""excl/nano from the command to an answer: features on disk, a trained folder, a localiser, and the option of the search."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import percept
from percept.cli import main
from percept.core.errors import PerceptError
from percept.infer.localizer import LONGEST, Localizer
from percept.methods.video.excl import ExCL
from percept.recipes import excl, excl_data
from percept.recipes.excl_data import MomentSource, features_of, joined
from percept.world.clips.queries import queried_clip
from percept.world.write.encode import mp4

CONFIG = excl.tiny().method


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _few(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERCEPT_CACHE", str(home))
    monkeypatch.setattr(excl_data, "CHUNK", 3)


def test_features_are_those_of_each_clip_and_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder: Any = percept.load("nano", dtype="float32")
    found = features_of(encoder, CONFIG, "albums", 4)
    clips = [queried_clip("albums", number, size=CONFIG.image_size) for number in range(4)]
    assert found.frame_count.tolist() == [len(clip.frames) for clip in clips]
    spans = [(number, each.start, each.end) for number, clip in enumerate(clips) for each in clip.moments]
    assert list(zip(found.clip.tolist(), found.start.tolist(), found.end.tolist(), strict=True)) == spans
    texts = [each.text for clip in clips for each in clip.moments]
    torch.testing.assert_close(found.text.float(), encoder.text(texts), atol=2e-3, rtol=0)
    batch = found.batch([len(found) - 1, 0])
    small = replace(encoder.preprocess, size=CONFIG.image_size)
    last = small.normalise(torch.from_numpy(clips[3].frames[-1]).permute(2, 0, 1)[None])
    with torch.no_grad():
        pooled = encoder.model.vision(last).pooled[0]
    frame = batch.frames[0, len(clips[3].frames) - 1]
    assert torch.cosine_similarity(frame[: len(pooled)], pooled, dim=0) > 0.999
    monkeypatch.setattr(excl_data, "queried_clip", None)
    again = features_of(encoder, CONFIG, "albums", 2)
    assert (len(again.frame_count), int(again.clip.max())) == (2, 1)
    assert len(again.frames) == int(again.frame_count.sum())
    assert len(again.words) == int(again.word_count.sum())
    both = joined([again, again])
    torch.testing.assert_close(both.batch([len(again)]).frames, again.batch([0]).frames)


def test_ranks_share_a_batch_and_an_epoch_has_every_query_once() -> None:
    source = MomentSource(features_of(percept.load("nano"), CONFIG, "albums", 3), batch=4, seed=1)
    whole = source.batch(2)
    parts = [source.batch(2, rank=rank, world_size=2) for rank in range(2)]
    torch.testing.assert_close(torch.cat([part.start for part in parts]), whole.start)
    count = len(source.features) // 4
    seen = torch.cat([source.batch(step).start for step in range(count)])
    assert len(seen) == 4 * count
    with pytest.raises(PerceptError, match="fewer than"):
        MomentSource(source.features, batch=1000)


def test_the_command_trains_a_localizer_that_a_search_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "excl/nano", "--tiny", "--out", "finder"]) == 0
    localizer: Any = percept.load("finder")
    assert isinstance(localizer, Localizer)
    assert isinstance(localizer.method, ExCL)
    assert "Localizer(finder, ExCL on nano" in repr(localizer)
    clip = queried_clip("albums", 9, size=96)
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "album.mp4").write_bytes(mp4(clip.frames))
    found = localizer.find("films/album.mp4", clip.moments[0].text)
    assert 0 <= found.start < found.stop <= len(clip.frames) / CONFIG.rate + 1e-6
    assert main(["index", "films", "--index", "index"]) == 0
    arguments = ["search", clip.moments[0].text, "--index", "index", "--moments", "--localizer", "finder"]
    assert main([*arguments, "--out", "hits.json"]) == 0
    capsys.readouterr()
    hit = json.loads(Path("hits.json").read_text())["rows"][0]
    assert (hit["start"], hit["stop"]) == pytest.approx((found.start, found.stop))


def test_a_localizer_reads_the_part_of_a_long_video_around_a_second(tmp_path: Path) -> None:
    class Kept:
        config = ExCL.Config(image_size=16, rate=2.0)

        def find(self, pixels: torch.Tensor, tokens: torch.Tensor, /) -> object:
            self.pixels = pixels
            place = torch.tensor([float(len(pixels) - 1)])
            return type("Spans", (), {"start": torch.zeros(1), "end": place, "score": place})()

    frames = np.tile(np.arange(0, 250, 1, dtype=np.uint8)[:, None, None, None], (1, 32, 32, 3))
    (tmp_path / "long.mp4").write_bytes(mp4(frames))
    method = Kept()
    localizer = Localizer(method, percept.load("nano"), name="kept")
    found = localizer.find(tmp_path / "long.mp4", "it becomes bright", near=28.0)
    assert len(method.pixels) == LONGEST
    assert (found.start, found.stop) == pytest.approx((28 - LONGEST / 4, 28 + LONGEST / 4), abs=0.01)
    grey = (method.pixels.float().mean((1, 2, 3)) + 1) / 2 * 255
    assert float(grey[LONGEST // 2]) == pytest.approx(28 * 6, abs=8)
    with pytest.raises(PerceptError, match="empty"):
        localizer.find(tmp_path / "long.mp4", " ")
