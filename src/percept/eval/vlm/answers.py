"""Scores of short answers: VQA accuracy, ANLS, relaxed accuracy, exact match, and yes or no (POPE)."""

from collections.abc import Sequence
from dataclasses import dataclass

from percept.eval.vlm.captions import rapidfuzz_distance
from percept.eval.vlm.item import Version
from percept.eval.vlm.texts import same, vqa_form, words_of

ANLS_THRESHOLD = 0.5
TOLERANCE = 0.05
"""Relative error of a number that the relaxed accuracy allows."""


def vqa_accuracy(prediction: str, answers: Sequence[str], version: Version = "fixed") -> float:
    """Return the share of sets of all answers but one in which at least three agree with the prediction, in thirds below.

    Antol et al. 2015, arXiv:1505.00468, section 4. `published` compares the texts as they are if all people gave the same answer, as
    its code does; `fixed` always compares the normal forms.

    >>> vqa_accuracy("Two", ["2"] * 3 + ["3"] * 7), vqa_accuracy("Two.", ["two"] * 10, "published"), vqa_accuracy("Two.", ["two"] * 10)
    (0.9, 0.0, 1.0)
    """
    answers = [_one_line(answer) for answer in answers]
    prediction = _one_line(prediction)
    if version == "fixed" or len(set(answers)) > 1:
        answers, prediction = [vqa_form(answer) for answer in answers], vqa_form(prediction)
    agree = [answer == prediction for answer in answers]
    if len(answers) == 1:
        return float(agree[0])
    return sum(min(1.0, (sum(agree) - own) / 3) for own in agree) / len(agree)


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def anls(prediction: str, answers: Sequence[str]) -> float:
    """Return the average normalised Levenshtein similarity to the best of the answers; 0 if it is below 0.5.

    Biten et al. 2019, arXiv:1907.00490, equations 1 and 2, with the normalisation of its code: lower case, single spaces.

    Raises:
        PerceptError: rapidfuzz is not installed.

    >>> anls("Coca-Cola", ["coca cola"]), anls("Pepsi", ["coca cola"])
    (0.8888888888888888, 0.0)
    """
    distance = rapidfuzz_distance().Levenshtein.distance
    best = 0.0
    for answer in answers:
        one, other = (" ".join(text.strip().lower().split()) for text in (prediction, answer))
        length = max(len(one), len(other))
        best = max(best, 1.0 - (distance(one, other) / length if length else 0.0))
    return best if best >= ANLS_THRESHOLD else 0.0


def relaxed(prediction: str, answer: str, version: Version = "fixed") -> bool:
    """Return True if two texts are equal in lower case, or two numbers differ by at most 5 % of the correct one.

    Masry et al. 2022, arXiv:2203.10244, section 5. A percent sign divides by 100. `published` compares an answer of 0 as text and does not
    read thousands separators; `fixed` accepts "0.0" for "0" and reads "1,000".

    >>> relaxed("10.4", "10"), relaxed("10.6", "10"), relaxed("12%", "0.12"), relaxed("Red", "red")
    (True, False, True, True)
    >>> relaxed("0.0", "0"), relaxed("0.0", "0", "published")
    (True, False)
    """
    given, expected = number(prediction, version), number(answer, version)
    if given is not None and expected is not None and (expected or version == "fixed"):
        return abs(given - expected) <= TOLERANCE * abs(expected)
    if version == "fixed":
        return same(prediction, answer)
    return prediction.strip().lower() == answer.strip().lower()


def number(text: str, version: Version = "fixed") -> float | None:
    """Return the number that a text consists of, percent as a share; None if it is none.

    >>> number("12 %"), number("1,250"), number("1,250", "published"), number("twelve") is None
    (0.12, 1250.0, None, True)
    """
    text = text.strip()
    if version == "fixed":
        text = text.removesuffix(".").replace(",", "").replace(" ", "")
    try:
        value = float(text.removesuffix("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
    return value if value - value == 0 else None


def exact(prediction: str, answers: Sequence[str]) -> bool:
    """Return True if the plain form of a prediction is that of one of the answers.

    >>> exact("The Cup.", ["mug", "cup"])
    True
    """
    return any(same(prediction, answer) for answer in answers)


def yes_or_no(text: str, version: Version = "fixed") -> bool | None:
    """Return True for yes, False for no.

    `published`, as the code of POPE: no if the first sentence has the word "No", "no" or "not", and yes otherwise. `fixed`: whichever of yes and no
    comes first, then no for "not"; None if the text has none of them.

    >>> yes_or_no("Yes, there is."), yes_or_no("There is not."), yes_or_no("a cup"), yes_or_no("a cup", "published")
    (True, False, None, True)
    """
    if version == "published":
        words = text.split(".")[0].replace(",", "").split(" ")
        return not {"No", "no", "not"} & set(words)
    words = words_of(text)
    first = next((word for word in words if word in ("yes", "no")), None)
    if first is not None:
        return first == "yes"
    return False if any(word == "not" or word.endswith("n't") for word in words) else None


@dataclass(frozen=True, kw_only=True)
class Pope:
    """Scores of yes-or-no questions; yes is the positive class."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    yes: float
    """Share of answers that are yes."""
    unclear: int
    """Answers that are neither; they count as wrong, and as no where a positive is due."""


def pope(answers: Sequence[bool | None], labels: Sequence[bool]) -> Pope:
    """Return accuracy, precision, recall, F1 and the share of yes.

    Li et al. 2023, arXiv:2305.10355, section 5.

    >>> pope([True, True, False, None], [True, False, False, True])
    Pope(accuracy=0.5, precision=0.5, recall=0.5, f1=0.5, yes=0.5, unclear=1)
    """
    pairs = list(zip(answers, labels, strict=True))
    hits = sum(answer is True and label for answer, label in pairs)
    said, due = sum(answer is True for answer in answers), sum(labels)
    precision, recall = hits / said if said else 0.0, hits / due if due else 0.0
    return Pope(
        accuracy=sum(answer == label for answer, label in pairs) / len(pairs),
        precision=precision,
        recall=recall,
        f1=2 * precision * recall / (precision + recall) if hits else 0.0,
        yes=said / len(pairs),
        unclear=sum(answer is None for answer in answers),
    )
