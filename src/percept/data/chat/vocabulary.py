"""The tokenizer of a language model: from tokenizer.json, from the rank file of tiktoken, or trained in seconds."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.core.io import replacing
from percept.data.chat.rank_file import LLAMA_PATTERN, byte_symbols, convert, llama_specials, read_ranks

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")
IMAGE, RESERVED = "<|image|>", "<|reserved_special_token_0|>"
"""Image token of PLM, and the token of Llama 3 that it takes the place of."""


class LanguageTokenizer:
    """Text to ids and back. Special tokens are inserted by name only: a text that spells "<|eot_id|>" stays text.

    >>> tokens = LanguageTokenizer.train(["a red cup on a table"], vocab_size=300, specials=["<|image|>"])
    >>> tokens.decode(tokens.encode("a red <|image|>")), tokens.special("<|image|>") in tokens.encode("<|image|>")
    ('a red <|image|>', False)
    """

    def __init__(self, library: Any) -> None:
        library.no_padding()
        library.no_truncation()
        library.encode_special_tokens = True
        self._library = library
        self.vocab_size: int = max(library.get_vocab(with_added_tokens=True).values()) + 1
        """Ids run from 0 to vocab_size - 1."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy; the library forgets this setting when it is copied."""
        self.__dict__.update(state)
        self._library.encode_special_tokens = True

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int, specials: Sequence[str]) -> "LanguageTokenizer":
        """Learn byte-pair merges from texts, split as for Llama 3. Every digit is a token, and the special tokens get the first ids.

        Args:
            texts: any iterable; read once.
            vocab_size: largest number of ids, special ones included.
            specials: names of special tokens.
        """
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        if vocab_size < (least := len(alphabet) + len(specials)):
            raise PerceptError(f"vocab_size={vocab_size} is below the {least} ids that bytes and special tokens need.")
        library = Tokenizer(models.BPE())
        library.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
            [
                pre_tokenizers.Split(Regex(LLAMA_PATTERN), "isolated"),
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        library.decoder = decoders.ByteLevel()  # type: ignore[assignment]
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
        )
        library.train_from_iterator(texts, trainer)
        return cls(library)

    @classmethod
    def load(cls, path: Path | str) -> "LanguageTokenizer":
        """Read tokenizer.json, or the rank file tokenizer.model of Llama 3.

        A tokenizer of Llama 3 has no image token; as in PLM, `<|image|>` is the new name of its first reserved one.

        Raises:
            PerceptError: missing, or neither of the two.
        """
        if not Path(path).is_file():
            raise PerceptError(f"there is no tokenizer {path}. Give a tokenizer.json or a tokenizer.model.")
        if Path(path).suffix == ".model":
            return cls(convert(read_ranks(path), llama_specials()))
        return cls(_read_json(Path(path)))

    @classmethod
    def of_folder(cls, folder: Path | str) -> "LanguageTokenizer | None":
        """Read the tokenizer of a model's folder, or of the folder above `original/`; None if there is none."""
        places = [Path(folder), Path(folder, "original"), Path(folder).parent]
        for place in places[: 3 if Path(folder).name == "original" else 2]:
            for name in TOKENIZER_FILES:
                if (place / name).is_file():
                    return cls.load(place / name)
        return None

    def save(self, path: Path | str) -> None:
        """Write tokenizer.json."""
        with replacing(path) as new:
            new.write_text(self._library.to_str(), encoding="utf-8")

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens.

        Raises:
            PerceptError: see `check_text`.
        """
        check_text(text)
        return self._library.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; special tokens are left out."""
        return self._library.decode(list(ids), skip_special_tokens=True)

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yield pieces of text as ids arrive; a character made of several tokens appears when it is whole."""
        step = self.stepper()
        yield from filter(None, map(step, ids))

    def stepper(self) -> Callable[[int], str]:
        """Return a function that takes one id after the other and returns the text that each of them completes."""
        from tokenizers.decoders import DecodeStream

        decoder = DecodeStream(skip_special_tokens=True)
        return lambda number: decoder.step(self._library, number) or ""

    def spellings(self) -> dict[int, bytes]:
        """Return the bytes of every token that is not a special one.

        Raises:
            PerceptError: the tokens are not made of bytes.
        """
        special = self._library.get_added_tokens_decoder()
        byte_of = {symbol: byte for byte, symbol in enumerate(byte_symbols())}
        words = {number: word for word, number in self._library.get_vocab().items() if number not in special}
        try:
            return {number: bytes(byte_of[letter] for letter in word) for number, word in words.items()}
        except KeyError as error:
            raise PerceptError(
                f"the tokens of this tokenizer are not made of bytes ({error} occurs in one). A pattern needs a tokenizer of bytes."
            ) from None

    def special(self, name: str) -> int:
        """Return the id of a special token.

        Raises:
            PerceptError: the tokenizer has no such token.
        """
        number = self._library.token_to_id(name)
        if number is None:
            raise PerceptError(
                f"the tokenizer has no token {name!r}, which the chat template needs. Use the tokenizer and the template of one model."
            )
        return number

    def has(self, name: str) -> bool:
        """Return True if the tokenizer has this special token."""
        return self._library.token_to_id(name) is not None

    def text_of(self, number: int) -> str | None:
        """Return the stored spelling of one id; None for an id that is not used."""
        return self._library.id_to_token(number)


def check_text(text: str) -> None:
    """Refuse a text that is not made of characters: json may hold half of a surrogate pair, such as "\\ud83d".

    Raises:
        PerceptError: there is one.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PerceptError(
            f"the text has half of a surrogate pair, {text[error.start]!r} at place {error.start}. Remove it, or write the whole character."
        ) from None


def _read_json(path: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(_with_image_token(path.read_text(encoding="utf-8")))
    except Exception as error:  # the library raises plain exceptions
        raise PerceptError(f"{path} is not a tokenizer of the tokenizers library ({error}). Fetch it again.") from None


def _with_image_token(text: str) -> str:
    """Rename the first reserved token of Llama 3 in a tokenizer.json without an image token."""
    content = json.loads(text)
    if f'"{IMAGE}"' in text or f'"{RESERVED}"' not in text:
        return text
    for token in content["added_tokens"]:
        if token["content"] == RESERVED:
            token["content"] = IMAGE
    vocabulary = content["model"]["vocab"]
    if RESERVED in vocabulary:
        vocabulary[IMAGE] = vocabulary.pop(RESERVED)
    return json.dumps(content)
