"""Conversations about generated images as batches."""

import pytest
import torch

from percept.recipes import plm_nano
from percept.world.conversations import QuestionData, QuestionSource


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
