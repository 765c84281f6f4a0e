"""Answers out of a list and answers that match a pattern: the automaton against Python's `re`, and a model that has to obey."""

import itertools
import random
import re

import numpy as np
import pytest

from percept.core.errors import PerceptError
from percept.infer.choices import OneOf
from percept.infer.grammar import Matches, Words, characters
from percept.infer.regular import parsed
from tests.infer import speaking

TOKENS = speaking.tokenizer()
WORDS = Words(TOKENS)
SPOKEN = speaking.assistant()
PATTERNS = [
    r"[a-c]{2,4}", r"(ab|a)*c?", r"\d+(\.\d+)?", r"yes|no|left or right", r"[^a-y\W]+", r".{0,3}", r"é+|[ß-ÿ]z", r"\[\d, \d\]", r"a{0}b",
    r"(?:x|yz?){2}", r"[\]\-a]+", r"\x41\u00e9", r"a*?b??c", r"(a|b)(c|)", r"猫{1,2}[一-三]?", r"\$\.\\\n", r"a{,2}", r"[--/]", r"\w\s\S\D", "",
]  # fmt: skip


def consumed(pattern: Matches, text: bytes) -> bool:
    """Whether the automaton takes a text byte by byte and may end after it."""
    state = pattern.start
    for byte in text:
        state = pattern._step(state, byte)
        if state < 0:
            return False
    return pattern.complete(state)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_automaton_agrees_with_re(pattern: str) -> None:
    matches, oracle = Matches(pattern, WORDS).within(50), re.compile(pattern, re.ASCII)
    letters = "abcxyzé猫ß一 1.,-[]$\\\n"
    short = ["".join(some) for count in range(3) for some in itertools.product(letters, repeat=count)]
    rng = random.Random(0)
    longer = ["".join(rng.choices(letters, k=rng.randint(3, 6))) for _ in range(300)]
    for text in [*short, *longer, "yes", "no", "left or right", "12.5", "[1, 2]", "Aé", "$.\\\n", "a bc", "aabb", "bc"]:
        assert consumed(matches, text.encode()) == bool(oracle.fullmatch(text)), text


@pytest.mark.parametrize("pattern", PATTERNS)
def test_allowed_tokens_are_those_of_the_naive_loop(pattern: str) -> None:
    matches = Matches(pattern, WORDS).within(50)
    rng, state = random.Random(1), matches.start
    for _ in range(4):
        naive = []
        for number, word in zip(WORDS.ids, WORDS.words, strict=True):
            after = state
            for byte in word:
                after = matches._step(after, byte) if after >= 0 else after
            naive += [number] if after >= 0 else []
        assert sorted(matches.allowed(state, 10**6).tolist()) == sorted(naive)
        if not naive:
            break
        state = matches.after(state, rng.choice(naive))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("most", [9, 14])
def test_every_way_through_ends_in_a_match_of_bounded_length(pattern: str, most: int) -> None:
    matches = Matches(pattern, WORDS).within(most)
    for seed in range(20):
        rng, state, ids = random.Random(seed), matches.start, []
        while True:
            allowed = matches.allowed(state, most - len(ids)).tolist()
            if not allowed or (matches.complete(state) and rng.random() < 0.3):
                break
            ids.append(rng.choice(allowed))
            state = matches.after(state, ids[-1])
        assert len(ids) <= most
        assert re.fullmatch(pattern, b"".join(WORDS.by_id[number] for number in ids).decode(), re.ASCII)


def test_beginnings_of_characters() -> None:
    for code in [*range(0, 0x3000, 7), 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF]:
        data = chr(code).encode()
        for count in range(1, len(data) + 1):
            span = characters(data[:count])
            assert span is not None
            assert span[0] <= code <= span[1]
        assert characters(data) == (code, code)
    for data in (b"\x80", b"\xc0", b"\xc1\x80", b"\xf5", b"\xe0\x80", b"\xf4\x90", b"aa", b"\xed\xa0\x80", b"\xc3a"):
        assert characters(data) is None


@pytest.mark.parametrize("sampling", [{}, {"temperature": 2.0, "seed": 4}])
@pytest.mark.parametrize(
    "pattern", [r"\d{2}:\d{2}", r"(yes|no)[.!]", r"[a-z ]{1,12}", r"\[\d{1,3}(, \d{1,3}){3}\]", r"naïve 猫"]
)
def test_a_model_has_to_match(pattern: str, sampling: dict) -> None:
    prompts = [speaking.about(number) for number in range(3)]
    found = SPOKEN.batch(prompts, pattern=pattern, max_new_tokens=25, **sampling)
    assert all(isinstance(answer, str) and re.fullmatch(pattern, answer, re.ASCII) for answer in found)
    assert found == [SPOKEN.reply(prompt, pattern=pattern, max_new_tokens=25, **sampling) for prompt in prompts]
    assert "".join(SPOKEN.reply(prompts[0], pattern=pattern, max_new_tokens=25, stream=True, **sampling)) == found[0]


def test_a_model_has_to_choose() -> None:
    choices = ["yes", "no", "a red cup", "a red cup on the table", "left"]
    sampled = SPOKEN.reply(speaking.about(0), choices=choices, temperature=30.0, samples=60, seed=1)
    assert set(sampled) == set(choices)
    assert SPOKEN.reply(speaking.about(0), choices=choices, max_new_tokens=12) in choices
    assert SPOKEN.reply(speaking.about(0), choices=["猫"]) == "猫"


def test_the_trie() -> None:
    trie = OneOf(["red", "red cup"], TOKENS, most=20)
    state, left = trie.start, 20
    for number in TOKENS.encode("red"):
        assert number in trie.allowed(state, left)
        state = trie.after(state, number)
    assert trie.complete(state)
    assert len(trie.allowed(state, 20))
    assert not len(trie.allowed(state, 0))
    assert trie.allowed(state, 5).dtype == np.int64


REFUSED = {
    "(a": "is not a regular expression",
    "^a": r"uses '\^', which is not supported",
    "a$": r"uses '\$'",
    r"(a)\1": r"uses '\\\\1'",
    "(?=a)b": r"uses '\(\?='",
    "(?P<x>a)": r"uses '\(\?P'",
    r"\bword": r"uses '\\\\b'",
    "a++": r"uses '\++'",
    "(?i)a": r"uses '\(\?i'",
    "(a{100}){300}": "needs more than 20,000 states",
    "a{60}": "may take 60 tokens, but max_new_tokens=50",
    "[^\\x00-\U0010ffff]": "no text matches the pattern",
}  # fmt: skip


@pytest.mark.parametrize("pattern", REFUSED)
def test_refused_patterns(pattern: str) -> None:
    with pytest.raises(PerceptError, match=REFUSED[pattern]):
        Matches(pattern, WORDS).within(50)


def test_a_pattern_of_many_counts_is_read() -> None:
    assert parsed("(ab?){3,5}|[x-z]") is not None
