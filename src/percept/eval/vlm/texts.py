"""Normal forms of short answers: those of the VQA evaluation, and a plain one."""

import re

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {"none": "0", **{word: str(number) for number, word in enumerate(_NUMBERS)}}
ARTICLES = ("a", "an", "the")
_CONTRACTED = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's "
    "how'd how'll how's I've isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't "
    "needn't not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'll somebody's someone'd "
    "someone'll someone's something'd something'll that's there'd there're there's they'd they'd've they'll they're "
    "they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've "
    "who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll you'd you'd've you'll you're you've"
)
CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word
    for word in _CONTRACTED.split()
    for place, letter in enumerate(word)
    if letter == "'"
}
"""Contraction without one of its apostrophes: with all."""
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_GROUPED = re.compile(r"\d,\d")
_STOP = re.compile(r"\.(?!\d)")
_WORD = re.compile(r"[^\W_]+(?:['\x00][^\W_]+)*")
_DECIMAL = re.compile(r"(?<=\d)[.,](?=\d)")


def vqa_form(text: str) -> str:
    """Return an answer in the normal form of the VQA evaluation.

    Antol et al. 2015, arXiv:1505.00468, and its evaluation code: a punctuation mark disappears if the text has it next to a space, or if it has
    a number with a thousands separator anywhere, and else becomes a space; full stops disappear, except before a digit;
    number words to ten become digits; articles disappear; contractions get their apostrophes.

    >>> vqa_form("Two, in the  dog-house."), vqa_form("dont"), vqa_form("1,000")
    ('2 in dog house', "don't", '1000')
    """
    text = " ".join(text.replace("\n", " ").replace("\t", " ").split(" ")).strip()
    result, grouped = text, _GROUPED.search(text) is not None
    for mark in _PUNCTUATION:
        remove = grouped or f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if remove else " ")
    words = (NUMBERS.get(word, word) for word in _STOP.sub("", result).lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def words_of(text: str) -> list[str]:
    """Return the lower-case words and numbers of a text, without punctuation.

    >>> words_of("It's a Cup, 2.5 cm (red).")
    ["it's", 'a', 'cup', '2.5', 'cm', 'red']
    """
    marked = _DECIMAL.sub("\x00", text.lower())
    return [word.replace("\x00", ".") for word in _WORD.findall(marked)]


def plain(text: str) -> str:
    """Return a text in lower case, without punctuation and articles, with number words to ten as digits.

    >>> plain("The red cup."), plain("Three")
    ('red cup', '3')
    """
    return " ".join(NUMBERS.get(word, word) for word in words_of(text) if word not in ARTICLES)


def same(prediction: str, reference: str) -> bool:
    """Return True if two answers are equal in their plain form.

    >>> same("A red cup.", "red cup"), same("", "no")
    (True, False)
    """
    return plain(prediction) == plain(reference)
