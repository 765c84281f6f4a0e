"""The rank file of tiktoken (`tokenizer.model` of Llama 3), converted to a tokenizer of the `tokenizers` library."""

import base64
import binascii
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.core.io import reasons

LLAMA_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""How Llama 3 splits a text before the merges."""
SPECIAL_TOKENS = 256
"""Special tokens of Llama 3, which follow the ranks."""
_NAMED = {
    0: "<|begin_of_text|>",
    1: "<|end_of_text|>",
    2: "<|image|>",
    6: "<|start_header_id|>",
    7: "<|end_header_id|>",
    9: "<|eot_id|>",
}


def llama_specials() -> list[str]:
    """Return the special tokens in the order of their ids, with the image placeholder of PLM as number 2.

    >>> llama_specials()[:4], llama_specials()[8], len(llama_specials())
    (['<|begin_of_text|>', '<|end_of_text|>', '<|image|>', '<|reserved_special_token_1|>'], '<|reserved_special_token_4|>', 256)
    """
    reserved = (f"<|reserved_special_token_{number}|>" for number in range(1, SPECIAL_TOKENS))
    return [_NAMED.get(number) or next(reserved) for number in range(SPECIAL_TOKENS)]


def read_ranks(path: Path | str) -> dict[bytes, int]:
    """Read a rank file: one token per line, in base64, and its rank.

    Raises:
        PerceptError: missing, or not a rank file.
    """
    with reasons(path):
        lines = Path(path).read_bytes().splitlines()
    try:
        pairs = [line.split() for line in lines if line.strip()]
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in pairs}
    except (ValueError, binascii.Error):
        raise PerceptError(
            f"{path} is not a rank file of tiktoken. Each line has to hold a token in base64 and its rank."
        ) from None
    if sorted(ranks.values()) != list(range(len(pairs))):
        raise PerceptError(f"{path} is damaged: its ranks do not count from 0 to {len(pairs) - 1}. Fetch it again.")
    return ranks


def convert(ranks: dict[bytes, int], specials: list[str], pattern: str = LLAMA_PATTERN) -> Any:
    """Return a `tokenizers.Tokenizer` with the ids of tiktoken.

    A token may arise from several pairs of smaller tokens, so every such pair becomes a merge, in the order of the rank
    of its result; with one merge per token, some texts get different ids.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    symbols = byte_symbols()
    spelled = {token: "".join(symbols[byte] for byte in token) for token in ranks}
    merges = [
        (spelled[token[:cut]], spelled[token[cut:]])
        for token in sorted(ranks, key=ranks.__getitem__)
        for cut in _cuts(token, ranks)
    ]
    vocabulary = {spelled[token]: rank for token, rank in ranks.items()}
    library = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    splitting = pre_tokenizers.Split(Regex(pattern), "isolated")
    library.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [splitting, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    library.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    library.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in specials])
    return library


def _cuts(token: bytes, ranks: dict[bytes, int]) -> list[int]:
    """Return where a token can be cut into two known tokens, the pair of lowest ranks first."""
    cuts = [cut for cut in range(1, len(token)) if token[:cut] in ranks and token[cut:] in ranks]
    return sorted(cuts, key=lambda cut: (ranks[token[:cut]], ranks[token[cut:]]))


def byte_symbols() -> list[str]:
    """Return the printable character that stands for each byte, as GPT-2 introduced it."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    symbols = {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(others)}
    return [symbols[byte] for byte in range(256)]
