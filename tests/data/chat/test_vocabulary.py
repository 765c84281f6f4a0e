"""Tokenizers of language models against tiktoken, and their round trips."""

import base64
import copy
import json
import pickle
import random
from pathlib import Path

import pytest
import tiktoken
from tiktoken.load import load_tiktoken_bpe

from percept.core.errors import PerceptError
from percept.data.chat.rank_file import LLAMA_PATTERN, llama_specials
from percept.data.chat.vocabulary import LanguageTokenizer

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat,",
    "it's",
    "1234",
    "o'clock!",
    "Don't\n\n",
    "stop",
    "",
    "now",
    "über",
    "猫",
    "😀",
    "naïve",
]


def write_ranks(path: Path, seed: int = 0, merges: int = 400) -> None:
    """Write a rank file in which some tokens arise from several pairs, and some intermediate tokens are missing."""
    rng = random.Random(seed)
    tokens = [bytes([byte]) for byte in range(256)]
    known = set(tokens)
    for _ in range(merges):
        text = " ".join(rng.choices(WORDS, k=3)).encode()
        start = rng.randrange(len(text))
        token = text[start : start + rng.randint(2, 6)]
        if len(token) > 1 and token not in known:
            known.add(token)
            tokens.append(token)
    path.write_text("".join(f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(tokens)))


@pytest.mark.parametrize("seed", range(3))
def test_a_rank_file_gives_the_ids_of_tiktoken(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "tokenizer.model"
    write_ranks(path, seed)
    ours = LanguageTokenizer.load(path)
    theirs = tiktoken.Encoding(
        "test", pat_str=LLAMA_PATTERN, mergeable_ranks=load_tiktoken_bpe(str(path)), special_tokens={}
    )
    rng = random.Random(seed + 100)
    for _ in range(300):
        text = rng.choice(("", " ")).join(rng.choices(WORDS, k=rng.randint(1, 12)))
        assert ours.encode(text) == theirs.encode(text)
        assert ours.decode(ours.encode(text)) == text


def test_the_special_tokens_follow_the_ranks(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    write_ranks(path)
    tokens = LanguageTokenizer.load(path)
    first = tokens.special("<|begin_of_text|>")
    places = {"<|end_of_text|>": 1, "<|image|>": 2, "<|start_header_id|>": 6, "<|end_header_id|>": 7, "<|eot_id|>": 9}
    assert {name: tokens.special(name) - first for name in places} == places
    assert tokens.special("<|reserved_special_token_250|>") - first == 255
    assert tokens.vocab_size == first + 256
    assert len(set(llama_specials())) == 256


def test_saved_copied_and_pickled_tokenizers_are_the_same(tmp_path: Path) -> None:
    tokens = LanguageTokenizer.train(["a red cup"], vocab_size=300, specials=["<|image|>"])
    tokens.save(tmp_path / "tokenizer.json")
    found = LanguageTokenizer.of_folder(tmp_path)
    assert found is not None
    for other in (found, copy.deepcopy(tokens), pickle.loads(pickle.dumps(tokens))):
        assert other.encode("a red <|image|> cup 42") == tokens.encode("a red <|image|> cup 42")
        assert other.vocab_size == tokens.vocab_size


def test_the_first_reserved_token_of_llama_is_the_image_token(tmp_path: Path) -> None:
    """tokenizer.json of Llama 3 as its authors store it for transformers: special tokens outside of the vocabulary, and no <|image|>."""
    specials = [name.replace("<|image|>", "<|reserved_special_token_0|>") for name in llama_specials()]
    tokens = LanguageTokenizer.train(["a red cup"], vocab_size=620, specials=specials)
    tokens.save(tmp_path / "tokenizer.json")
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    for outside in (False, True):
        if outside:
            vocabulary = content["model"]["vocab"]
            words = sorted((word for word in vocabulary if word not in specials), key=vocabulary.get)
            content["model"]["vocab"] = {word: number for number, word in enumerate(words)}
            for number, token in enumerate(content["added_tokens"]):
                token["id"] = len(words) + number
            (tmp_path / "tokenizer.json").write_text(json.dumps(content))
        read = LanguageTokenizer.load(tmp_path / "tokenizer.json")
        assert read.special("<|image|>") == read.special("<|begin_of_text|>") + 2
        assert not read.has("<|reserved_special_token_0|>")
        assert read.vocab_size == tokens.vocab_size
        assert read.decode(read.encode("a red cup")) == "a red cup"


def test_half_of_a_surrogate_pair_is_refused() -> None:
    tokens = LanguageTokenizer.train(["a"], vocab_size=258, specials=["<|image|>"])
    with pytest.raises(PerceptError, match=r"half of a surrogate pair, .* at place 2"):
        tokens.encode("a " + json.loads('"\\ud83d"'))


def test_a_stream_gives_whole_characters() -> None:
    tokens = LanguageTokenizer.train(["a"], vocab_size=258, specials=["<|image|>"])
    ids = tokens.encode("a 猫 😀!")
    pieces = list(tokens.stream(ids))
    assert "".join(pieces) == "a 猫 😀!"
    assert "猫" in pieces
    assert "�" not in "".join(pieces)


@pytest.mark.parametrize("content", [b"not base64 0\n", b"YQ== x\n", b"YQ== 0\nYg== 5\n"])
def test_a_damaged_rank_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(PerceptError, match=r"tokenizer\.model"):
        LanguageTokenizer.load(tmp_path / "tokenizer.model")


def test_a_missing_or_damaged_tokenizer_is_refused(tmp_path: Path) -> None:
    assert LanguageTokenizer.of_folder(tmp_path) is None
    with pytest.raises(PerceptError, match="no tokenizer"):
        LanguageTokenizer.load(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(PerceptError, match="not a tokenizer"):
        LanguageTokenizer.load(tmp_path / "tokenizer.json")
    with pytest.raises(PerceptError, match="below the"):
        LanguageTokenizer.train([], vocab_size=10, specials=[])


def test_spellings_are_the_bytes_of_a_text() -> None:
    tokens = LanguageTokenizer.train(["naïve 猫 cups"], vocab_size=300, specials=["<|x|>"])
    spelled, step = tokens.spellings(), tokens.stepper()
    for text in ("naïve 猫 cups\n", "é"):
        assert b"".join(spelled[number] for number in tokens.encode(text)).decode() == text
        assert "".join(step(number) for number in tokens.encode(text)) == text
    assert tokens.special("<|x|>") not in spelled
    assert {bytes([byte]) for byte in range(256)} <= set(spelled.values())
