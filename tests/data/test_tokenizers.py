"""The tokenizer: rows of ids a text tower can pool, whatever is written in the text."""

import copy
import inspect
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from percept.core.errors import PerceptError
from percept.data import tokenizers
from percept.data.tokenizers import Tokenizer

TEXTS = [
    f"a {colour} {thing} and {number} blue cups"
    for number in range(30)
    for colour in ("red", "green")
    for thing in ("car", "tree")
]
TOKENIZER = Tokenizer.train(TEXTS, vocab_size=340, context=16)


def test_rows_are_start_text_end_padding() -> None:
    rows = TOKENIZER(["a red car", ""])
    assert rows.shape == (2, 16)
    assert rows.dtype == torch.int64
    ids = TOKENIZER.encode("a red car")
    assert rows[0].tolist() == [TOKENIZER.start_id, *ids, TOKENIZER.end_id] + [0] * (14 - len(ids))
    assert rows[1].tolist() == [TOKENIZER.start_id, TOKENIZER.end_id] + [0] * 14
    assert TOKENIZER("a red car").tolist() == rows[:1].tolist()
    assert TOKENIZER([]).shape == (0, 16)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80))
def test_any_text_keeps_the_promises(text: str) -> None:
    row = TOKENIZER(text)[0]
    end = int(row.argmax())
    assert row[0] == TOKENIZER.start_id
    assert row[end] == TOKENIZER.end_id == TOKENIZER.vocab_size - 1
    assert all(number < TOKENIZER.start_id for number in row[1:end].tolist())
    assert not row[end + 1 :].any()


def test_case_spaces_and_composed_letters_do_not_matter() -> None:
    assert TOKENIZER.encode("A  Red\n car ") == TOKENIZER.encode("a red car")
    assert TOKENIZER.encode("cafe\u0301") == TOKENIZER.encode("café")


def test_digits_stand_alone_and_words_are_merged() -> None:
    assert TOKENIZER.encode("12")[-2:] == [TOKENIZER.encode("1")[-1], TOKENIZER.encode("2")[-1]]
    assert len(TOKENIZER.encode("blue")) == 1
    assert TOKENIZER.encode("blue blue") == TOKENIZER.encode("blue") * 2


def test_a_long_text_is_cut_keeps_its_end_and_is_announced_once(capsys: pytest.CaptureFixture[str]) -> None:
    rows = TOKENIZER(["red " * 40, "a car", "blue " * 40, "red " * 14])
    assert rows[0, -1] == rows[2, -1] == rows[3, -1] == TOKENIZER.end_id
    assert rows[0, :-1].tolist() == [TOKENIZER.start_id, *TOKENIZER.encode("red " * 40)[:14]]
    assert capsys.readouterr().err.strip() == "texts longer than 16 tokens were cut: 2 of 4"


def test_special_tokens_cannot_be_written_by_a_user() -> None:
    ids = TOKENIZER.encode("<start> <end> <pad>")
    assert not {0, TOKENIZER.start_id, TOKENIZER.end_id} & set(ids)


def test_text_comes_back_from_its_ids() -> None:
    for text in ("a red car and 12 blue cups", "naïve 日本語 🚗 text!", "<end>"):
        assert TOKENIZER.decode(TOKENIZER.encode(text)) == text
    assert TOKENIZER.decode(TOKENIZER("a green tree")[0].tolist()) == "a green tree"


def test_file_round_trip_and_fingerprint(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "tokenizer.json")
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    texts = ["a red car", "7 <end> 日本", "", "blue " * 40]
    assert torch.equal(again(texts), TOKENIZER(texts))
    assert (again.context, again.vocab_size, again.end_id) == (16, TOKENIZER.vocab_size, TOKENIZER.end_id)
    assert again.fingerprint == TOKENIZER.fingerprint
    assert Tokenizer.load(tmp_path / "tokenizer.json", context=9)("a red car").shape == (1, 9)
    other = Tokenizer.train(TEXTS[:-1], vocab_size=339, context=16)
    assert other.fingerprint != TOKENIZER.fingerprint


def test_the_file_means_the_same_to_the_library_alone(tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Library

    TOKENIZER.save(tmp_path / "tokenizer.json")
    library = Library.from_file(str(tmp_path / "tokenizer.json"))
    for text in ("a red car", "", "blue " * 40):
        assert library.encode(text).ids == TOKENIZER(text)[0].tolist()


def test_training_is_deterministic_and_bounded() -> None:
    again = Tokenizer.train(iter(TEXTS), vocab_size=340, context=16)
    assert again.fingerprint == TOKENIZER.fingerprint
    assert Tokenizer.train(TEXTS, vocab_size=280, context=16).vocab_size == 280


def test_only_strings_are_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("__call__", "_cleaned"):  # as a user runs it, without checked annotations
        monkeypatch.setattr(Tokenizer, name, inspect.unwrap(getattr(Tokenizer, name)))
    monkeypatch.setattr(tokenizers, "_checked", inspect.unwrap(tokenizers._checked))
    with pytest.raises(PerceptError, match="texts are strings, not int: 3"):
        TOKENIZER(["a", 3])  # type: ignore[list-item]


def test_mistakes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PerceptError, match="vocab_size=100 is below"):
        Tokenizer.train(TEXTS, vocab_size=100, context=16)
    with pytest.raises(PerceptError, match="no room for a text"):
        Tokenizer.train(TEXTS, vocab_size=300, context=2)
    with pytest.raises(PerceptError, match="cannot be read"):
        Tokenizer.load(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text('{"a": 1}')
    with pytest.raises(PerceptError, match=r"not a tokenizer\.json"):
        Tokenizer.load(tmp_path / "tokenizer.json")
    data = json.loads(TOKENIZER.to_json())
    data["truncation"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(PerceptError, match="Give context="):
        Tokenizer.load(tmp_path / "tokenizer.json")


def language_model(kind: str) -> Any:
    """A byte-level tokenizer as language models have, in several arrangements of special tokens."""
    from tokenizers import AddedToken, models, pre_tokenizers, processors
    from tokenizers import Tokenizer as Library

    ids = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    library = Library(models.BPE(ids, []))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    names = {"none": [], "end only": ["<|endoftext|>"], "turns": ["<|im_start|>", "<|im_end|>"]}.get(
        kind, ["<s>", "</s>", "<r0>", "<r1>"]
    )
    library.add_special_tokens([AddedToken(name, special=True) for name in names])
    if kind == "ends below others":
        ends = [(name, library.token_to_id(name)) for name in ("<s>", "</s>")]
        library.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return library


@pytest.mark.parametrize("kind", ["none", "end only", "turns", "ends below others"])
def test_tokenizers_of_other_families_are_refused(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    language_model(kind).save(str(file))
    with pytest.raises(
        PerceptError, match=r"tokenizer\.json cannot be used: this is not a tokenizer of the CLIP family"
    ):
        Tokenizer.load(file, context=16)


def test_copies_and_pickles_give_the_same_ids() -> None:
    text = "a text that spells <end> and <start>"
    for other in (copy.deepcopy(TOKENIZER), pickle.loads(pickle.dumps(TOKENIZER))):
        assert other.encode(text) == TOKENIZER.encode(text)
        assert other.pieces == TOKENIZER.pieces
