"""CLIP's vocabulary: built from a list of merges, and where the real one is on this machine, its published ids."""

import gzip
from pathlib import Path

import pytest

from percept.core.errors import PerceptError
from percept.data import clip_vocabulary
from percept.data.clip_vocabulary import MERGES, clean, find_vocabulary, read_vocabulary
from percept.data.tokenizers import Tokenizer

START, END, CONTEXT = 49_406, 49_407, 12
WORDS = [("a", "t</w>"), ("c", "at</w>"), ("d", "o"), ("do", "g</w>")]


def merges() -> list[str]:
    """A list of the real one's size: four words, then pairs of letters that no test writes."""
    letters = [chr(number) for number in range(0xC0, 0x100) if chr(number).isalpha()]
    rows = [f"{left} {right}" for left, right in WORDS]
    level = [(one, other) for one in letters for other in letters]
    rows += [f"{one} {other}" for one, other in level]
    for one, other in level:
        rows += [f"{one}{other} {third}" for third in letters[:12]]
        if len(rows) >= MERGES:
            break
    return rows[:MERGES]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vocabulary")
    text = "\n".join(["#version: 0.2", *merges(), "one more"]) + "\n"
    (folder / "merges.txt").write_text(text, encoding="utf-8")
    with gzip.open(folder / "bpe_simple_vocab_16e6.txt.gz", "wt", encoding="utf-8") as file:
        file.write(text)
    return folder


@pytest.fixture(scope="module")
def tokenizer(files: Path) -> Tokenizer:
    return read_vocabulary(files / "merges.txt", context=CONTEXT)


def test_ids_are_bytes_word_ends_merges_start_end(tokenizer: Tokenizer) -> None:
    assert (tokenizer.vocab_size, tokenizer.start_id, tokenizer.end_id) == (49_408, START, END)
    assert tokenizer("!~").tolist() == [[START, 0, 93 + 256, END] + [0] * (CONTEXT - 4)]
    assert tokenizer.encode("a") == [ord("a") - ord("!") + 256]
    cat, dog = 512 + 1, 512 + 3
    assert tokenizer.encode("cat dog") == [cat, dog]
    assert tokenizer.encode("\n CAT  dog ") == [cat, dog]
    # byte 0 is the first byte that is not a letter; its id follows those of the 188 letters
    assert tokenizer.encode("é")[0] in range(512)


def test_words_digits_contractions_and_signs_are_apart(tokenizer: Tokenizer) -> None:
    def parts(text: str) -> int:
        return sum(identity >= 256 for identity in tokenizer.encode(text))  # every part ends in one word end

    assert parts("cat's") == 2
    assert parts("42") == 2
    assert parts("cat-dog") == 3
    assert parts("?!.") == 1
    assert parts("I'll we've isn't") == 6


def test_text_comes_back(tokenizer: Tokenizer) -> None:
    for text in ("cat dog", "a red cup", "日本 naïve"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_compressed_list_and_the_saved_tokenizer_give_the_same(
    files: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    others = [
        read_vocabulary(files / "bpe_simple_vocab_16e6.txt.gz", context=CONTEXT),
        Tokenizer.load(tmp_path / "tokenizer.json"),
        read_vocabulary(tmp_path / "tokenizer.json", context=CONTEXT),
    ]
    texts = ["cat &amp;amp; dog", "l\u2019été ΣΑΣ", "a " * 30, "<|endoftext|>"]
    for other in others:
        assert other.fingerprint == tokenizer.fingerprint
        assert other(texts).tolist() == tokenizer(texts).tolist()


def test_long_texts_keep_their_end_and_special_tokens_are_text(tokenizer: Tokenizer) -> None:
    row = tokenizer("cat " * 40)[0].tolist()
    assert row == [START, *[513] * (CONTEXT - 2), END]
    assert not {START, END} & set(tokenizer.encode("<|endoftext|> <|startoftext|>"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Fish &amp;amp; CHIPS\t", "fish & chips"),
        ("schÃ¶n", "schön"),
        ("“quoted”…", '"quoted"…'),
        ("&lt;b&gt;", "<b>"),
        ("a\u00a0b\n\nc", "a b c"),
        ("ΣΟΦΟΣ", "σοφος"[:-1] + "ς"),
    ],
)
def test_texts_are_cleaned_as_clip_does(text: str, expected: str) -> None:
    assert clean(text) == expected


def test_the_vocabulary_is_looked_for_beside_the_weights_then_in_packages(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "some_clip_package"
    package.mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(clip_vocabulary, "PACKAGES", ("no_such_package", "some_clip_package"))
    assert find_vocabulary(tmp_path) is None
    (package / "__init__.py").write_text("raise SystemExit('never imported')")
    (package / "bpe_simple_vocab_16e6.txt.gz").write_bytes((files / "bpe_simple_vocab_16e6.txt.gz").read_bytes())
    assert find_vocabulary(tmp_path) == package / "bpe_simple_vocab_16e6.txt.gz"
    (tmp_path / "merges.txt").write_text("")
    assert find_vocabulary(tmp_path, files) == tmp_path / "merges.txt"


def test_damaged_lists_are_refused(files: Path, tmp_path: Path) -> None:
    rows = (files / "merges.txt").read_text(encoding="utf-8").splitlines()
    damaged = {
        "short.txt": "\n".join(rows[:100]).encode(),
        "twice.txt": "\n".join([*rows[:5], *rows[1:]]).encode(),
        "words.txt": "\n".join(["one two three"] * 50_000).encode(),
        "bytes.txt": b"\xff\xfe" * 50_000,
        "text.txt.gz": b"not compressed",
        "cut.txt.gz": (files / "bpe_simple_vocab_16e6.txt.gz").read_bytes()[:2000],
    }
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(PerceptError, match=r"not CLIP's vocabulary|cannot be read|lists a merge twice"):
            read_vocabulary(tmp_path / name, context=CONTEXT)
    with pytest.raises(PerceptError, match="cannot be read: No such file"):
        read_vocabulary(tmp_path / "absent.txt", context=CONTEXT)


VECTORS = {
    "a cat": [320, 2368],
    "a dog": [320, 1929],
    "a diagram": [320, 22697],
    "perception encoder": [20591, 524, 41561],
    "42 %": [275, 273, 260],
}
"""Ids that the public tokenizer gives, without start and end."""


@pytest.mark.skipif(find_vocabulary() is None, reason="no installed package brings CLIP's vocabulary (open_clip does)")
@pytest.mark.parametrize("text", VECTORS)
def test_published_ids(text: str) -> None:
    path = find_vocabulary()
    assert path is not None
    ids = VECTORS[text]
    row = read_vocabulary(path, context=32)(text)[0].tolist()
    assert row == [START, *ids, END] + [0] * (30 - len(ids))
