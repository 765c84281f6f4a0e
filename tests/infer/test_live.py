"""Answers that join and leave a running batch are those of single calls."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from percept.infer.asking import loaded
from percept.infer.decode import Row
from percept.infer.generation import Generation
from percept.infer.live import LiveBatch
from tests.infer import speaking

ASSISTANT = speaking.assistant()
ANSWERER = ASSISTANT.answerer


def prompt(number: int) -> speaking.Conversation:
    return speaking.about(number % 3, "cup " * (number % 7 + 1))


def begun(batch: LiveBatch, numbers: list[int], ways: list[Generation]) -> list[Row]:
    """Let prompts join; return their rows."""
    rows = [ANSWERER.row(way, None, stream=True) for way in ways]
    ready = [loaded(prompt(number), ANSWERER.processor, ANSWERER.memory.visual) for number in numbers]
    batch.add(ready, [[row] for row in rows])
    return rows


def way(number: int) -> Generation:
    sampled = number % 3 == 0
    return Generation(
        max_new_tokens=2 + number % 11, temperature=0.9 if sampled else 0.0, top_p=0.8 if sampled else 1.0, seed=number,
        stop=("e",) if number % 4 == 1 else (),
    )  # fmt: skip


def alone(number: int) -> str:
    made = way(number)
    return ASSISTANT.reply(
        prompt(number), max_new_tokens=made.max_new_tokens, temperature=made.temperature, top_p=made.top_p, seed=number,
        stop=made.stop,
    )  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.integers(0, 99), max_size=3), min_size=1, max_size=6), st.booleans())
def test_every_answer_is_that_of_a_single_call(arrivals: list[list[int]], forget: bool) -> None:
    if forget:
        ASSISTANT.forget()
    batch, rows, pieces = LiveBatch(ANSWERER), {}, {}
    for numbers in (*arrivals, *[[]] * 14):
        if numbers:
            made = begun(batch, numbers, [way(number) for number in numbers])
            rows |= {id(row): (row, number) for row, number in zip(made, numbers, strict=True)}
        if batch.rows:
            for row in batch.step():
                pieces[id(row)] = pieces.get(id(row), "") + row.piece()
    assert not batch.rows
    for row, number in rows.values():
        assert row.text == pieces.get(id(row), "") == alone(number)


def test_dropped_rows_leave_the_others_as_they_are() -> None:
    batch = LiveBatch(ANSWERER)
    first, second, third = begun(batch, [1, 2, 4], [way(10), way(10), way(10)])
    batch.step()
    batch.drop({second})
    assert batch.rows == [first, third]
    while batch.rows:
        batch.step()
    assert [first.text, third.text] == [ASSISTANT.reply(prompt(number), max_new_tokens=12) for number in (1, 4)]
    assert not second.ended
    batch.drop({first})
    (lonely,) = begun(batch, [3], [way(10)])
    batch.drop({lonely})
    assert not batch.rows


def test_a_prompt_that_fails_leaves_the_batch_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = LiveBatch(ANSWERER)
    (row,) = begun(batch, [1], [way(10)])
    batch.step()
    with monkeypatch.context() as patch:
        patch.setattr(ANSWERER, "encoded", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            begun(batch, [2], [way(10)])
    while batch.rows:
        batch.step()
    assert row.text == ASSISTANT.reply(prompt(1), max_new_tokens=12)


def test_the_memory_of_a_batch_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = LiveBatch(ANSWERER)
    assert batch.fits([100] * 16)
    assert not batch.fits([100] * 17)
    monkeypatch.setattr("percept.infer.answers.CACHE_BYTES", 3 * 100 * ANSWERER._token_bytes)
    begun(batch, [1], [Generation(max_new_tokens=60)])
    used = batch._needs[0]
    assert used <= 100
    assert batch.fits([100, 100])
    assert not batch.fits([100, 101])
    assert not batch.fits([1, 1, used])


def test_the_capacity_shrinks_to_what_the_rows_need() -> None:
    batch = LiveBatch(ANSWERER)
    begun(batch, [1, 2], [Generation(max_new_tokens=300), Generation(max_new_tokens=40)])
    wide = batch._cache
    batch.drop({batch.rows[0]})
    assert wide is not None
    assert batch._cache is not None
    assert batch._cache.capacity == batch._needs[0] < wide.capacity


def test_an_answer_knows_why_it_ended() -> None:
    stop = next(iter(ANSWERER._stops))
    first, second, third, *_ = ANSWERER.processor.tokenizer.encode("xyz")
    for tokens, cut in (([first, second, third], True), ([first, stop], False), ([first, second, stop], False)):
        row = ANSWERER.row(Generation(max_new_tokens=3), None)
        for token in tokens:
            assert not row.ended
            row.add(token)
        assert (row.ended, row.cut_off) == (True, cut)
    row = ANSWERER.row(Generation(max_new_tokens=1, stop=("x",)), None)
    row.add(first)
    assert (row.text, row.ended, row.cut_off) == ("", True, False)
