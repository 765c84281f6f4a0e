"""The source of clips: a batch is a function of seed and step, and each process renders only its rows."""

import pytest
import torch

from percept.core.errors import PerceptError
from percept.data.source import Source
from percept.data.tokenizers import Tokenizer
from percept.world.clips import source as module
from percept.world.clips.language import long_caption, short_caption
from percept.world.clips.source import ClipSource, ClipText, generated_rows

TEXTS = ["a red car moves to the left, then a blue cat spins clockwise", "the scene changes to a street"]
TOKENIZER = Tokenizer.train(TEXTS * 20, vocab_size=300, context=40)


def made(**changes: object) -> ClipSource:
    return ClipSource(TOKENIZER, **{"batch": 5, "size": 32, "seed": 3, **changes})  # type: ignore[arg-type]


def test_a_batch_is_what_an_encoder_wants() -> None:
    source = made()
    batch = source.batch(0)
    assert isinstance(source, Source)
    assert isinstance(batch, ClipText)
    assert batch.frames.shape == (5, 8, 3, 32, 32)
    assert batch.frames.dtype == torch.float32
    assert -1 <= float(batch.frames.min()) < -0.5 < 0.5 < float(batch.frames.max()) <= 1
    assert batch.tokens.shape == (5, 40)
    pixels = torch.from_numpy(source.clip(0, 2).frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    assert torch.allclose(batch.frames[2], pixels, atol=1e-6)


@pytest.mark.parametrize("world_size", [2, 3, 7])
def test_ranks_share_the_same_batch_and_render_only_their_rows(
    world_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = made().batch(4)
    rendered = []
    original = module.render_clip
    monkeypatch.setattr(module, "render_clip", lambda plan, **how: rendered.append(plan.seed) or original(plan, **how))
    parts = [made().batch(4, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert torch.equal(torch.cat([part.frames for part in parts]), whole.frames)
    assert torch.equal(torch.cat([part.tokens for part in parts]), whole.tokens)
    assert rendered == made().keys(4)


def test_steps_differ_and_repeat() -> None:
    source = made()
    assert torch.equal(source.batch(1).frames, made().batch(1).frames)
    assert not torch.equal(source.batch(1).frames, source.batch(2).frames)
    assert not torch.equal(source.batch(1).frames, made(seed=4).batch(1).frames)


def test_a_limited_source_shows_every_clip_once_per_epoch() -> None:
    source = made(batch=3, clips=12)
    epochs = [[key for step in range(4 * epoch, 4 * epoch + 4) for key in source.keys(step)] for epoch in (0, 1)]
    assert set(epochs[0]) == set(epochs[1])
    assert len(set(epochs[0])) == 12
    assert epochs[0] != epochs[1]
    shares = [source.keys(2, rank=rank, world_size=2) for rank in (0, 1)]
    assert [*shares[0], *shares[1]] == source.keys(2)


def test_a_step_has_one_kind_of_text() -> None:
    assert {made(text="mixed").batch(step).tokens.count_nonzero(1).float().mean().item() > 30 for step in range(6)} == {
        True,
        False,
    }
    assert made(text="short").batch(0).tokens.tolist() != made(text="long").batch(0).tokens.tolist()
    assert {"short": short_caption, "long": long_caption} == module.TEXTS


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"text": "medium"}, "mixed"), ({"batch": 0}, "at least 1"), ({"clips": 4}, "fewer than the 5")],
)
def test_mistakes_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(PerceptError, match=message):
        made(**changes)


def test_rows_of_many_clips() -> None:
    rows = list(generated_rows(3, 2, frames=8, size=32, split="validation", tasks=("caption", "rcap")))
    assert {row.data["video"] for row in rows} == {"validation-000003.mp4", "validation-000004.mp4"}
    assert [row.data for row in rows] == [
        row.data for row in generated_rows(3, 2, frames=8, size=32, split="validation", tasks=("caption", "rcap"))
    ]
