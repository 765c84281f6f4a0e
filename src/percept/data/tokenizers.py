"""Text to token ids: a byte-pair tokenizer that is trained in seconds and stored as one tokenizer.json."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.io import content_hash, replacing
from percept.core.report import notice
from percept.data.cleaning import clean
from percept.data.known_words import WordCount, read_words, save_words, unknown

PADDING, START, END = "<pad>", "<start>", "<end>"
CLIP_END = "<|endoftext|>"
"""The end token of CLIP's own vocabulary, whose texts are cleaned as CLIP does."""
PROBE = "It's a CAF\u00c9,  e\u0301 at 12:30 -- don't stop_now (x2)!\nA second line, <end> <|endoftext|>"
"""A text whose tokens differ between tokenizers of one vocabulary that clean or split texts differently."""


class Tokenizer:
    """Turns texts into rows of ids: start, the text, end, then 0 up to `context`.

    The start and end tokens are the two largest ids, and the end token is the largest: text towers of the CLIP family pool at
    the position of the largest id. Tokenizers without such tokens, those of language models among them, are refused. A text
    that is too long is cut and keeps its end token, and a notice reports how many were cut.

    >>> tokens = Tokenizer.train(["a red cup"], vocab_size=300, context=8)
    >>> tokens.decode(tokens("A RED  cup")[0].tolist())
    'a red cup'
    """

    def __init__(self, library: Any, *, context: int, words: frozenset[str] = frozenset()) -> None:
        if context < 3:
            raise PerceptError(f"a context of {context} tokens leaves no room for a text. Use at least 3.")
        library.no_padding()
        library.no_truncation()
        library.encode_special_tokens = True  # a text that spells "<end>" is text
        self._library = library
        self.context = context
        """Ids per row."""
        self.words = words
        """Words of the texts that the model was trained on; none if they are not known."""
        self.named: set[str] = set()
        """Unknown words that a notice has named."""
        self.vocab_size: int = library.get_vocab_size()
        """Number of ids: they run from 0 to vocab_size - 1."""
        self.start_id, self.end_id = _ends(library)
        self._clean: Callable[[str], str] | None = clean if library.id_to_token(self.end_id) == CLIP_END else None
        """What is done to a text before the library sees it."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a copy; the library forgets this setting when it is copied."""
        self.__dict__.update(state)
        self._library.encode_special_tokens = True

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int, context: int) -> "Tokenizer":
        """Learn byte-pair merges from `texts`: lower-cased, NFC, spaces collapsed, every digit a token of its own.

        Args:
            texts: any iterable; read once.
            vocab_size: largest number of ids, special ones included; fewer when the texts hold no more pairs.
            context: ids per row, start and end included.
        """
        from tokenizers import processors, trainers

        alphabet = _byte_alphabet()
        if vocab_size < (least := len(alphabet) + 3):
            raise PerceptError(f"vocab_size={vocab_size} is below the {least} ids that bytes and special tokens need.")
        library = _untrained()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - 2, special_tokens=[PADDING], initial_alphabet=alphabet, show_progress=False
        )
        words = WordCount()
        library.train_from_iterator(words.passing(texts), trainer)
        library.add_special_tokens([START, END])
        ends = [(name, library.token_to_id(name)) for name in (START, END)]
        library.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=ends)
        return cls(library, context=context, words=words.known())

    def __call__(self, texts: str | Sequence[str]) -> Int[Tensor, "b n"]:
        """Return int64 rows of `context` ids, one per text (one row for a plain string)."""
        encodings = self._library.encode_batch_fast(self._cleaned(texts), add_special_tokens=False)
        texts_ids = [encoding.ids for encoding in encodings]
        room = self.context - 2
        if cut := sum(len(ids) > room for ids in texts_ids):
            notice(f"texts longer than {self.context} tokens were cut: {cut} of {len(texts_ids)}")
        rows = [self._row(ids[:room]) for ids in texts_ids]
        return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), self.context)

    def _cleaned(self, texts: str | Sequence[str]) -> list[str]:
        rows = _checked(texts)
        return rows if self._clean is None else [self._clean(text) for text in rows]

    def _row(self, ids: list[int]) -> list[int]:
        return [self.start_id, *ids, self.end_id, *[0] * (self.context - 2 - len(ids))]

    def unknown(self, texts: str | Sequence[str]) -> list[str]:
        """Return the words that the model never saw in training, each once; none if its words are not recorded."""
        return unknown(_checked(texts), self.words) if self.words else []

    def encode(self, text: str) -> list[int]:
        """Return all ids of one text: no start, end or padding, nothing cut."""
        return self._library.encode(self._cleaned(text)[0], add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`; padding, start and end are left out."""
        plain = [number for number in ids if number not in (0, self.start_id, self.end_id)]
        return self._library.decode(plain).strip()

    def to_json(self) -> str:
        """Return the whole tokenizer as the `tokenizers` library's json; read by that library it gives the same rows."""
        from tokenizers import Tokenizer as Library

        whole = Library.from_str(self._library.to_str())
        whole.enable_truncation(self.context)
        whole.enable_padding(length=self.context, pad_id=0, pad_token=whole.id_to_token(0))
        return whole.to_str(pretty=True)

    @property
    def pieces(self) -> str:
        """Hash of the tokens that texts are split into, without the context: the same in every version of the library."""
        model = json.loads(self._library.to_str())["model"]
        merges = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model.get("merges", ())]
        return content_hash(json.dumps([model["vocab"], merges, self.encode(PROBE)], sort_keys=True).encode())

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides the ids."""
        return content_hash(self.to_json().encode())

    def save(self, path: Path | str) -> None:
        """Write tokenizer.json, and words.txt beside it if the words of the training texts are known."""
        with replacing(path) as temporary:
            temporary.write_text(self.to_json() + "\n", encoding="utf-8")
        if self.words:
            save_words(self.words, Path(path).parent)

    @classmethod
    def load(cls, path: Path | str, *, context: int | None = None) -> "Tokenizer":
        """Read a tokenizer.json whose start and end tokens are the two largest ids, as ours and CLIP's.

        Args:
            path: the file.
            context: ids per row; needed only where the file does not say.

        Raises:
            PerceptError: missing, not a tokenizer of the CLIP family, or of unknown context.
        """
        from tokenizers import Tokenizer as Library

        try:
            text = Path(path).read_text(encoding="utf-8")
            library, stored = Library.from_str(text), json.loads(text).get("truncation")
        except OSError as error:
            raise PerceptError(f"the tokenizer {path} cannot be read: {error.strerror}") from None
        except Exception as error:  # the library raises plain Exception
            raise PerceptError(f"{path} is not a tokenizer.json of the tokenizers library: {error}") from None
        context = context or (stored or {}).get("max_length")
        if context is None:
            raise PerceptError(f"{path} does not say how long a text may be. Give context=, the model's text length.")
        try:
            return cls(library, context=context, words=read_words(Path(path).parent))
        except PerceptError as error:
            raise PerceptError(f"{path} cannot be used: {error}") from None


def _ends(library: Any) -> tuple[int, int]:
    """Return the ids of the start and end tokens.

    Raises:
        PerceptError: they are not the two largest ids, or not special tokens that the tokenizer puts around a text.
    """
    start, end = library.get_vocab_size() - 2, library.get_vocab_size() - 1
    around = [number for number in library.encode("").ids if number]
    special = {number for number, token in library.get_added_tokens_decoder().items() if token.special}
    if around == [start, end] and special >= {start, end}:
        return start, end
    names = " and ".join(repr(library.id_to_token(number)) for number in (start, end))
    raise PerceptError(
        f"this is not a tokenizer of the CLIP family: its two largest ids are {names}, not the special tokens that start and "
        "end a text. Take the tokenizer.json or merges.txt of the model."
    )


def _checked(texts: str | Sequence[str]) -> list[str]:
    rows = [texts] if isinstance(texts, str) else list(texts)
    for row in rows:
        if not isinstance(row, str):
            raise PerceptError(f"texts are strings, not {type(row).__name__}: {row!r}")
        if any("\ud800" <= letter <= "\udfff" for letter in row):
            raise PerceptError(
                f"the text {row!r} is not valid Unicode: it holds bytes that are not UTF-8. Write it in UTF-8."
            )
    return rows


def _byte_alphabet() -> list[str]:
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _untrained() -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    library = Tokenizer(models.BPE())
    # The leading space makes the first word of a text the same token as that word further on.
    steps = [normalizers.NFC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    library.normalizer = normalizers.Sequence([*steps, normalizers.Prepend(" ")])
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    library.decoder = decoders.ByteLevel()
    return library
