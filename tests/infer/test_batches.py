"""Batches give the tokens of single calls: any images, tiles, frames, lengths, turns, and any that ended early or began alike."""

import random
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from percept.data.chat.conversation import Conversation, ImageInput, converse
from percept.infer import answers, prefill
from percept.infer.asking import BadPrompt, loaded
from percept.infer.assistant import Assistant
from percept.infer.prefill import alike
from tests.infer import speaking

ASSISTANT = speaking.assistant(batch=5)
"""Its memory stays filled between examples, as that of a user does."""
ALONE = speaking.assistant()
SENTENCES = [*speaking.WORDS[:7], "", "why? " * 9, "naïve 猫"]
ENDING = frozenset((*ASSISTANT.config.stop_ids, *range(20, 60)))
"""Ids that end an answer in these tests, so that rows end at different places."""


SIZES = [(16, 16), (40, 16), (20, 50)]
PLANS = st.tuples(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([None, *SIZES])), max_size=3),
    st.sampled_from([1, 1, 3, 5]),
    st.lists(st.sampled_from(SENTENCES), min_size=5, max_size=5),
)
"""Images as (number, size), or clips where there is no size; the number of turns; and their texts."""


def planned(plan: tuple) -> Conversation:
    media, turns, texts = plan
    shown = [
        ImageInput(source=speaking.picture(number, *size)) if size else speaking.clip(number, 3)
        for number, size in media
    ]
    roles = ("user", "assistant")
    return converse(
        [(roles[place % 2], text or ("" if media else "left?")) for place, text in enumerate(texts[:turns])], shown
    )


@pytest.fixture(autouse=True)
def _ending(monkeypatch: pytest.MonkeyPatch) -> None:
    for assistant in (ASSISTANT, ALONE):
        monkeypatch.setattr(assistant.answerer, "_stops", ENDING)


SOME = (
    st.lists(PLANS, min_size=2, max_size=7),
    st.sampled_from([{}, {"temperature": 1.3, "seed": 5}, {"temperature": 0.8, "seed": 1, "top_p": 0.9, "top_k": 40}]),
    st.sampled_from([{}, {"tiles": 4}, {"tiles": 3, "mode": "aspect"}, {"budget": 8}]),
    st.sampled_from([(), ("e", "ri")]),
)
QUIET = {
    "deadline": None, "phases": [Phase.generate], "suppress_health_check": [HealthCheck.function_scoped_fixture]
}  # fmt: skip


def compare(plans: list, sampling: dict, view: dict, stop: tuple) -> None:
    some = [planned(plan) for plan in plans]
    options: Any = {**sampling, **view, "max_new_tokens": 12, "stop": stop}
    expected = []
    for prompt in some:
        ALONE.forget()
        expected.append(ALONE.reply(prompt, **options))
    assert ASSISTANT.batch(some, **options) == expected


@settings(max_examples=12, derandomize=True, **QUIET)
@given(*SOME)
def test_a_batch_gives_the_answers_of_single_calls(plans: list, sampling: dict, view: dict, stop: tuple) -> None:
    compare(plans, sampling, view, stop)


@pytest.mark.slow
@settings(max_examples=300, **QUIET)
@given(*SOME)
def test_many_batches_give_the_answers_of_single_calls(plans: list, sampling: dict, view: dict, stop: tuple) -> None:
    compare(plans, sampling, view, stop)


@torch.no_grad()
def test_single_calls_give_the_tokens_of_the_plain_loop() -> None:
    """`generate_ids` itself is compared with whole sequences without a cache in test_assistant."""
    for number, text in enumerate(SENTENCES[:5]):
        prompt = speaking.about(number, text)
        prepared = ALONE.processor(prompt, ask=True)
        tiles = ALONE.preprocess.normalise(prepared.stacked)
        ids = torch.tensor([prepared.rendered.ids])
        found = ALONE.generate_ids(ids, tiles, max_new_tokens=15, stop_ids=tuple(ENDING))[0].tolist()
        kept = found[:-1] if found[-1] in ENDING else found
        assert ALONE.reply(prompt, max_new_tokens=15) == ALONE.processor.tokenizer.decode(kept)


def test_rows_that_end_leave_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []
    forward = ALONE.model.decoder.forward

    def watched(ids=None, **options):
        widths.append(len(options["embeddings"] if ids is None else ids))
        return forward(ids, **options)

    monkeypatch.setattr(ALONE.model.decoder, "forward", watched)
    ALONE.forget()
    some = [speaking.about(number % 4, text) for number, text in enumerate(SENTENCES[:7])]
    ALONE.batch(some, max_new_tokens=20)
    steps = widths[-19:]
    assert steps == sorted(steps, reverse=True)
    assert steps[0] > steps[-1]


def test_a_long_prompt_runs_in_parts_and_only_the_last_logits_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    some = [speaking.about(number, text * 3) for number, text in enumerate(SENTENCES[:4])]
    ALONE.forget()
    expected = ALONE.batch(some, max_new_tokens=6, tiles=4)
    sizes, rows = [], []
    forward, logits = ALONE.model.decoder.forward, ALONE.model.decoder.logits

    def watched(ids=None, **options):
        sizes.append((options["embeddings"] if ids is None else ids[..., None]).shape[:2].numel())
        return forward(ids, **options)

    def counted(tokens):
        rows.append(tokens.shape[:-1].numel())
        return logits(tokens)

    monkeypatch.setattr(prefill, "PASS_TOKENS", 16)
    monkeypatch.setattr(ALONE.model.decoder, "forward", watched)
    monkeypatch.setattr(ALONE.model.decoder, "logits", counted)
    ALONE.forget()
    assert ALONE.batch(some, max_new_tokens=6, tiles=4) == expected
    assert max(sizes) <= 16
    assert max(rows) <= len(some)


def test_batches_are_cut_by_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    some = [speaking.about(number) for number in range(5)]
    expected = ALONE.batch(some, max_new_tokens=8)
    each = ALONE.answerer._token_bytes * 60
    monkeypatch.setattr(answers, "CACHE_BYTES", 2 * each)
    groups = []
    answered = ALONE.answerer._answered
    monkeypatch.setattr(
        ALONE.answerer, "_answered", lambda group, *rest: groups.append(len(group)) or answered(group, *rest)
    )
    assert ALONE.batch(some, max_new_tokens=8) == expected
    assert max(groups) <= 2
    monkeypatch.setattr(answers, "CACHE_BYTES", 1)
    assert ALONE.batch(some, max_new_tokens=8) == expected
    assert ALONE.ask(speaking.picture(0), "left?", max_new_tokens=4, temperature=1.0, samples=3, seed=0) is not None


def test_grouping_wastes_little() -> None:
    rng = random.Random(0)
    for _ in range(50):
        lengths = [rng.randint(1, 400) for _ in range(rng.randint(1, 20))]
        groups = alike(lengths)
        assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
        for group in groups:
            some = [lengths[row] for row in group]
            assert max(some) * len(some) <= 1.25 * sum(some)


def test_a_bad_image_is_reported_and_the_others_are_answered(tmp_path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    broken = converse([("user", "what?")], [ImageInput(source=tmp_path / "broken.png")])
    long = speaking.about(0, "why? " * 300)
    good = [speaking.about(number) for number in range(2)]
    found: Any = ALONE.batch([good[0], broken, long, good[1], cast(Any, "text")], max_new_tokens=5)
    assert [found[0], found[3]] == ALONE.batch(good, max_new_tokens=5)
    assert all(isinstance(found[place], BadPrompt) and found[place].number == place for place in (1, 2, 4))
    assert "broken.png" in found[1].reason
    assert "more than the context of 512. Shorten the text" in found[2].reason
    assert "a prompt must be a Conversation, got str" in found[4].reason


def test_samples_depend_on_the_seed_and_their_number_only() -> None:
    options: Any = {"temperature": 1.5, "max_new_tokens": 8}
    five = ALONE.reply(speaking.about(1), samples=5, seed=3, **options)
    assert len(set(five)) > 2
    assert ALONE.reply(speaking.about(1), samples=2, seed=3, **options) == five[:2]
    assert ALONE.reply(speaking.about(1), seed=3, **options) == five[0]
    assert ALONE.batch([speaking.about(2), speaking.about(1)], samples=2, seed=3, **options)[1] == five[:2]
    assert ALONE.reply(speaking.about(1), seed=4, **options) != five[0]
    assert len({ALONE.reply(speaking.about(1), **options) for _ in range(4)}) > 1


def test_ids_that_are_loaded_are_those_of_the_processor() -> None:
    prompt = converse(
        [("user", "Is <image> or <image> larger?")], [ImageInput(source=speaking.picture(n)) for n in (0, 1)]
    )
    for processor in (ALONE.processor, replace(ALONE.processor.changed(tiles=4, mode="published"), tile_several=True)):
        assert loaded(prompt, processor, ALONE._memory.visual).ids == processor(prompt, ask=True).rendered.ids


def test_narrow_types_answer_too() -> None:
    narrow: Assistant = speaking.assistant(dtype=torch.bfloat16)
    some = [speaking.about(number, text) for number, text in enumerate(SENTENCES[:4])]
    assert all(isinstance(answer, str) for answer in narrow.batch(some, max_new_tokens=8))
