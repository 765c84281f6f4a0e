"""CLIP's byte-pair vocabulary, read from files that others publish; no part of it is in this repository.

Radford et al. 2021, arXiv:2103.00020, section 2.4. Ids in order: 256 bytes, the 256 bytes that end a word, the merges as
listed, start, end; 49,408 in all.
"""

import gzip
import zlib
from functools import cache
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.data.cleaning import clean
from percept.data.tokenizers import CLIP_END, Tokenizer

__all__ = ["clean", "find_vocabulary", "read_vocabulary"]

CLIP_START, WORD_END = "<|startoftext|>", "</w>"
MERGES = 48_894
PACKAGES = ("open_clip", "clip", "eva_clip", "mobileclip")
"""Python packages that bring the list of merges."""
LISTS = ("bpe_simple_vocab_16e6.txt.gz", "merges.txt")
FILES = ("tokenizer.json", *LISTS)
"""Names of the vocabulary's file in a folder with weights."""
SHAPE = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
"""A token is a contraction's end, a run of letters, one digit, or a run of other characters."""


def read_vocabulary(path: Path | str, *, context: int) -> Tokenizer:
    """Open a vocabulary: a tokenizer.json, or a list of merges (.txt, .txt.gz), one pair a line, most frequent first.

    Args:
        context: ids per row.

    Raises:
        PerceptError: missing, damaged, or a different vocabulary.
    """
    path = Path(path)
    if path.suffix not in (".txt", ".gz"):
        return Tokenizer.load(path, context=context)
    return Tokenizer(_library(_merges(path)), context=context)


def find_vocabulary(*folders: Path | str) -> Path | None:
    """Return the vocabulary's file from `folders`, else from an installed Python package; None if neither has it."""
    for folder in map(Path, folders):
        for name in FILES:
            if (folder / name).is_file():
                return folder / name
    return _installed()


def _installed() -> Path | None:
    for package in PACKAGES:
        try:
            spec = find_spec(package)
        except (ImportError, ValueError):
            continue
        for place in (spec.submodule_search_locations or ()) if spec else ():
            for name in LISTS:
                if (file := Path(place, name)).is_file():
                    return file
    return None


def _merges(path: Path) -> list[tuple[str, str]]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            next(file, None)  # a line about the format
            pairs = [tuple(line.split()) for line in islice(file, MERGES)]
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise PerceptError(f"the vocabulary {path} cannot be read: {reason}") from None
    if len(pairs) < MERGES or any(len(pair) != 2 for pair in pairs):
        raise PerceptError(
            f"{path} is not CLIP's vocabulary: expected a first line and {MERGES:,} lines with two tokens each. "
            "Take merges.txt or bpe_simple_vocab_16e6.txt.gz."
        )
    return [(left, right) for left, right in pairs]


@cache
def _letters() -> list[str]:
    """Return the printable letter of every byte, bytes that are printable themselves first: the order of the ids."""
    own = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in own] + [chr(256 + number) for number in range(256 - len(own))]


def _library(merges: list[tuple[str, str]]) -> Any:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokens = [*_letters(), *(letter + WORD_END for letter in _letters())]
    tokens += ["".join(pair) for pair in merges] + [CLIP_START, CLIP_END]
    ids = {token: number for number, token in enumerate(tokens)}
    if len(ids) != len(tokens):
        raise PerceptError("the vocabulary lists a merge twice. Fetch the file again.")
    library = Tokenizer(models.BPE(ids, merges, end_of_word_suffix=WORD_END, unk_token=CLIP_END))
    library.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    split = pre_tokenizers.Split(Regex(SHAPE), behavior="removed", invert=True)
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    library.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace(WORD_END, " ")])
    ends = [(name, ids[name]) for name in (CLIP_START, CLIP_END)]
    library.add_special_tokens([AddedToken(name, special=True, normalized=False) for name, _ in ends])
    library.post_processor = processors.TemplateProcessing(single=f"{CLIP_START} $A {CLIP_END}", special_tokens=ends)
    return library
