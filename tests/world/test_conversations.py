"""Conversations about generated images as batches."""

import random
from dataclasses import replace

import pytest
import torch

from percept.core.errors import PerceptError
from percept.recipes import plm_nano
from percept.world.clips import generate_clip
from percept.world.conversations import PLAIN, QuestionData, QuestionSource, rows_of_clip


@pytest.fixture(scope="module")
def source() -> QuestionSource:
    config = plm_nano.tiny()
    model = plm_nano.LanguageTokenizer.train(
        plm_nano._texts(config.texts),
        vocab_size=config.vocabulary,
        specials=plm_nano._specials(plm_nano.named_template("plm")),
    )
    return QuestionSource(
        QuestionData(kinds={"colour": 1}, more=3), plm_nano.processor_for(config, model), batch=4, limit=768
    )


def of(source: QuestionSource, data: QuestionData) -> QuestionSource:
    return QuestionSource(data, source.processor, batch=source.size, limit=source.limit)


def test_one_conversation_holds_all_questions_about_an_image(source: QuestionSource) -> None:
    batch = source.batch(0)
    assert len(batch) == 4 == len(batch.tiles)
    assert batch.tile_places is None


def test_questions_apart_are_rows_that_share_their_image(source: QuestionSource) -> None:
    together, apart = source.batch(0), of(source, QuestionData(kinds={"colour": 1}, more=3, apart=1.0)).batch(0)
    assert len(apart) > 4 == len(apart.tiles)
    assert torch.equal(apart.tiles, together.tiles)
    answers = together.learned.sum() - len(together)  # the end of the text follows the last answer
    assert apart.learned.sum() - len(apart) == answers


def test_processes_share_the_images_of_a_batch(source: QuestionSource) -> None:
    apart = of(source, QuestionData(kinds={"colour": 1}, more=3, apart=1.0))
    whole, parts = apart.batch(2), [apart.batch(2, rank=rank, world_size=2) for rank in range(2)]
    assert sum(map(len, parts)) == len(whole)
    assert torch.equal(torch.cat([part.tiles for part in parts]), whole.tiles)


def test_roles_are_single_tokens(source: QuestionSource) -> None:
    tokenizer = plm_nano.LanguageTokenizer.train(
        plm_nano._texts(200), vocab_size=1_000, specials=plm_nano._specials(plm_nano.named_template("plm"))
    )
    assert [len(tokenizer.encode(role)) for role in ("user", "assistant", "system")] == [1, 1, 1]


def test_questions_about_clips_are_weighted_and_counted() -> None:
    clip = generate_clip(5, frames=8, size=32)
    never = QuestionData(regions=0.0, clip_kinds=dict.fromkeys(PLAIN, 0) | {"moment": 3}, clip_questions=4)
    rows = rows_of_clip(clip, random.Random(0), never, sampled=8)
    assert {row.task for row in rows} == {"moment"}
    none = QuestionData(regions=0.0, clip_kinds=dict.fromkeys(PLAIN, 0))
    assert rows_of_clip(clip, random.Random(0), none, sampled=8) == []
    likely = QuestionData(regions=0.0, clip_kinds={"caption": 1000}, clip_questions=1)
    first = [rows_of_clip(clip, random.Random(seed), likely, sampled=8)[0].task for seed in range(20)]
    assert first.count("caption") > 17


def test_questions_about_clips_apart_are_rows_that_share_their_clip(source: QuestionSource) -> None:
    data = QuestionData(clips=1.0, frames=8, apart=1.0, clip_questions=3)
    for regions in (0.0, 1.0):
        apart = of(source, replace(data, regions=regions))
        found = apart._conversations(random.Random(2))
        assert 1 < len(found) <= 3
        first, *others = [apart.processor(each).tiles for each in found]
        assert all(torch.equal(one, two) for other in others for one, two in zip(first, other, strict=True))
    together = of(source, replace(data, apart=0.0))
    assert len(together._conversations(random.Random(2))) == 1


@pytest.mark.parametrize(
    "wrong", [{"clip_questions": 0}, {"clip_kinds": {"moment": -1}}, {"clip_kinds": {"movement": 1}}]
)
def test_impossible_questions_about_clips_are_refused(wrong: dict) -> None:
    with pytest.raises(PerceptError, match="clip"):
        QuestionData(**wrong)
