"""Scores of captions against reference captions: CIDEr, BLEU, ROUGE-L and METEOR with exact and stem matches.

The published numbers of COCO split texts by the Penn Treebank rules; here a word is a run of letters and digits in lower case. Scores
are the same on texts that both split alike.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from math import exp, log
from typing import Any

from percept.core.errors import missing_extra
from percept.eval.vlm.stem import stem
from percept.eval.vlm.texts import words_of

ORDERS = 4
"""Longest n-gram of CIDEr and BLEU."""
SIGMA = 6.0
"""Width of CIDEr's penalty for a different length, in words."""
BETA = 1.2
"""Weight of recall in ROUGE-L."""
ALPHA, FRAGMENTS, PENALTY = 0.9, 3.0, 0.5
"""METEOR: weight of recall, exponent and weight of the penalty for matches that are not contiguous."""
RESAMPLES = 500
Grams = Counter[tuple[str, ...]]


def cider(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Return CIDEr-D of each prediction, from 0 to 10; in publications the mean is printed times 100.

    Vedantam et al. 2015, arXiv:1411.5726, equations 2 and 4. An n-gram is weighted by the logarithm of the number of images, divided by
    the number of images whose references contain it: on a single image all weights are 0.

    Args:
        predictions: one for each image.
        references: of each image, at least one.
    """
    counted = [[_grams(text) for text in texts] for texts in references]
    frequency = Counter(gram for texts in counted for gram in set().union(*texts))
    images = log(max(1, len(references)))

    def weighted(grams: Grams) -> list[dict[tuple[str, ...], float]]:
        """Return the weight of each n-gram, by n - 1."""
        result: list[dict[tuple[str, ...], float]] = [{} for _ in range(ORDERS)]
        for gram, count in grams.items():
            result[len(gram) - 1][gram] = count * (images - log(max(1, frequency[gram])))
        return result

    scores = []
    for text, texts in zip(predictions, counted, strict=True):
        grams = _grams(text)
        hypothesis, length = weighted(grams), _length(grams)
        similar = [_similarity(hypothesis, weighted(other), length - _length(other)) for other in texts]
        scores.append(10.0 * sum(similar) / len(similar))
    return scores


def _grams(text: str) -> Grams:
    words = words_of(text)
    return Counter(
        tuple(words[start : start + size]) for size in range(1, ORDERS + 1) for start in range(len(words) - size + 1)
    )


def _length(grams: Grams) -> int:
    return sum(count for gram, count in grams.items() if len(gram) == 1)


def _similarity(one: list[dict[Any, float]], other: list[dict[Any, float]], difference: int) -> float:
    total = 0.0
    for first, second in zip(one, other, strict=True):
        norms = (sum(value**2 for value in first.values()) * sum(value**2 for value in second.values())) ** 0.5
        dot = sum(min(value, second.get(gram, 0.0)) * second.get(gram, 0.0) for gram, value in first.items())
        total += dot / norms if norms > 0 else 0.0
    return total / ORDERS * exp(-(difference**2) / (2 * SIGMA**2))


def bleu(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[float, float, float]:
    """Return BLEU-4 of a corpus, from 0 to 1, with its bootstrap 95 % interval, by sacrebleu.

    Raises:
        PerceptError: sacrebleu is not installed.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError:
        raise missing_extra("sacrebleu", "eval", "BLEU") from None
    most = max(len(texts) for texts in references)
    streams = [
        [_joined(texts[number]) if number < len(texts) else None for texts in references] for number in range(most)
    ]
    metric = BLEU(tokenize="none", force=True)
    result: Any = metric.corpus_score([_joined(text) for text in predictions], streams, n_bootstrap=RESAMPLES)  # type: ignore[arg-type]
    value, half = result.score / 100, result._ci / 100
    return value, max(0.0, value - half), min(1.0, value + half)


def _joined(text: str) -> str:
    return " ".join(words_of(text))


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """Return ROUGE-L as COCO computes it: best precision and best recall of all references, recall weighted by 1.2².

    Lin 2004, "ROUGE: A package for automatic evaluation of summaries", section 3.

    >>> round(rouge_l("a red cup on a table", ["the red cup is on the table"]), 4)
    0.607

    Raises:
        PerceptError: rapidfuzz is not installed.
    """
    common, words = rapidfuzz_distance().LCSseq.similarity, words_of(prediction)
    pairs = [(common(words, other), len(other)) for other in map(words_of, references)]
    precision = max(shared / len(words) if words else 0.0 for shared, _ in pairs)
    recall = max(shared / length if length else 0.0 for shared, length in pairs)
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision) if precision and recall else 0.0


def rapidfuzz_distance() -> Any:
    """Return `rapidfuzz.distance`.

    Raises:
        PerceptError: rapidfuzz is not installed.
    """
    try:
        from rapidfuzz import distance
    except ImportError:
        raise missing_extra("rapidfuzz", "eval", "this score") from None
    return distance


def meteor(prediction: str, references: Sequence[str]) -> float:
    """Return METEOR with exact and stem matches, without synonyms; the best of all references.

    Banerjee and Lavie 2005, with the weights of its later versions: the harmonic mean of precision and recall with 9 parts of recall, times
    1 - 0.5 (chunks / matches)³.

    >>> round(meteor("the cups moved left", ["the cup moves left"]), 4), meteor("a", ["the"])
    (0.9922, 0.0)
    """
    return max(_meteor(words_of(prediction), words_of(reference)) for reference in references)


def _meteor(words: list[str], reference: list[str]) -> float:
    matches = _matched(words, reference)
    if not matches:
        return 0.0
    precision, recall = len(matches) / len(words), len(matches) / len(reference)
    mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
    chunks = 1 + sum(after != (before[0] + 1, before[1] + 1) for before, after in pairwise(matches))
    return mean * (1 - PENALTY * (chunks / len(matches)) ** FRAGMENTS)


def _matched(words: list[str], reference: list[str]) -> list[tuple[int, int]]:
    """Return (place, place in the reference) of matched words: equal words first, then equal stems, each from the end."""
    free, left = list(range(len(words))), list(range(len(reference)))
    matches = []
    for form in (str, stem):
        for place in reversed(free.copy()):
            other = next((each for each in reversed(left) if form(reference[each]) == form(words[place])), None)
            if other is not None:
                matches.append((place, other))
                free.remove(place)
                left.remove(other)
    return sorted(matches)
