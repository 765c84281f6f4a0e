"""Words that a model was trained on: counted, kept beside the tokenizer, and missed by name."""

import percept
from percept.cli import main
from percept.data.known_words import FILE, unknown, words_of
from percept.data.tokenizers import Tokenizer
from percept.infer.labels import class_vectors


def trained() -> Tokenizer:
    return Tokenizer.train(["a red cup", "two DOGS"], vocab_size=300, context=8)


def test_words_are_lower_case_and_of_three_letters():
    assert words_of("It's A Cup, x2") == ["cup"]


def test_plurals_are_known_with_their_singular():
    known = frozenset({"box", "cup"})
    assert unknown(["boxes and cups", "foxes"], known) == ["and", "foxes"]


def test_the_words_of_training_texts_are_saved_beside_the_tokenizer(tmp_path):
    tokenizer = trained()
    assert tokenizer.words == {"red", "cup", "two", "dogs"}
    tokenizer.save(tmp_path / "tokenizer.json")
    read = Tokenizer.load(tmp_path / "tokenizer.json")
    assert read.words == tokenizer.words
    assert read.unknown("a red zebra") == ["zebra"]


def test_without_a_record_no_word_is_called_unknown(tmp_path):
    tokenizer = trained()
    tokenizer.save(tmp_path / "tokenizer.json")
    (tmp_path / FILE).unlink()
    assert Tokenizer.load(tmp_path / "tokenizer.json").unknown(["zebra"]) == []


def test_a_label_that_nano_never_saw_is_named_once(capsys):
    encoder = percept.load("nano")
    class_vectors(encoder, ["cat", "okapi"])
    said = capsys.readouterr().err
    assert "okapi" in said
    assert "PE-Core" in said
    assert " cat" not in said
    class_vectors(encoder, ["okapi"])
    assert not capsys.readouterr().err


def test_the_command_names_it_too(tmp_path, capsys):
    from PIL import Image

    Image.new("RGB", (96, 96), "red").save(tmp_path / "a.png")
    assert main(["classify", str(tmp_path), "--labels", "cat,wombat"]) == 0
    assert "wombat" in capsys.readouterr().err
