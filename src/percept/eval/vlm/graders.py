"""From the answers of a model to the scores of a task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from percept.data.chat.regions import parse_box
from percept.eval.statistics import RESAMPLES, Score, mean, proportion
from percept.eval.vlm import answers, captions, choices, soda, spans
from percept.eval.vlm.item import Answered, Graded, Version
from percept.eval.vlm.judge import Case, Judge, RulesJudge, Verdict
from percept.eval.vlm.texts import same, words_of


@dataclass(frozen=True, kw_only=True)
class Grading:
    """How answers are graded."""

    judge: Judge = field(default_factory=RulesJudge)
    version: Version = "fixed"
    seed: int = 0
    """Of bootstrap intervals."""


Grader: TypeAlias = Callable[[Sequence[Answered], Grading], Graded]


def exact(answered: Sequence[Answered], how: Grading) -> Graded:
    """Grade by exact match with the reference, a text or a list of texts."""
    right = [answers.exact(each.text, _list(each.item.reference)) for each in answered]
    return _shares("exact match", right)


def vqa(answered: Sequence[Answered], how: Grading) -> Graded:
    """Grade by VQA accuracy; a reference is the list of all answers."""
    values = [answers.vqa_accuracy(each.text, each.item.reference, how.version) for each in answered]
    return _means("VQA accuracy", values, how)


def anls(answered: Sequence[Answered], how: Grading) -> Graded:
    """Grade by ANLS, and by exact match."""
    values = [answers.anls(each.text, each.item.reference) for each in answered]
    right = proportion("exact match", [answers.exact(each.text, each.item.reference) for each in answered])
    return _means("ANLS", values, how, right)


def relaxed(answered: Sequence[Answered], how: Grading) -> Graded:
    """Grade by relaxed accuracy."""
    return _shares(
        "relaxed accuracy", [answers.relaxed(each.text, each.item.reference, how.version) for each in answered]
    )


def pope(answered: Sequence[Answered], how: Grading) -> Graded:
    """Grade yes and no: accuracy, precision, recall, F1, share of yes."""
    said = [answers.yes_or_no(each.text, how.version) for each in answered]
    due = [each.item.reference == "yes" for each in answered]
    right = [answer == label for answer, label in zip(said, due, strict=True)]
    scores = answers.pope(said, due)
    rng, draws = np.random.default_rng(how.seed), []
    for _ in range(RESAMPLES // 4):
        rows = rng.integers(0, len(said), len(said))
        drawn = answers.pope([said[row] for row in rows], [due[row] for row in rows])
        draws.append((drawn.precision, drawn.recall, drawn.f1))
    lows, highs = np.quantile(np.array(draws), (0.025, 0.975), axis=0)
    more = [
        Score(name=name, value=value, n=len(said), low=float(low), high=float(high))
        for name, value, low, high in zip(
            ("precision", "recall", "F1"), (scores.precision, scores.recall, scores.f1), lows, highs, strict=True
        )
    ]
    yes = proportion("share of yes", [answer is True for answer in said])
    notes = (f"{scores.unclear} answers are neither yes nor no",) if scores.unclear else ()
    return _shares("accuracy", right, *more, yes, notes=notes)


def choice(answered: Sequence[Answered], how: Grading) -> Graded:
    """Grade multiple choice by the text of the answer, and by the likelihood of each option if it is known."""
    right = [choices.chosen(each.text, each.item.options) == each.item.reference for each in answered]
    likely = [
        choices.most_likely(each.likelihoods) == each.item.reference
        for each in answered
        if each.likelihoods is not None
    ]
    more = [proportion("accuracy by likelihood", likely)] if len(likely) == len(answered) else []
    return _shares("accuracy by text", right, *more)


def mbacc(answered: Sequence[Answered], how: Grading) -> Graded:
    """Grade binary questions in groups; a reference is the number of the right option."""
    right = [choices.binary_right(each.text, each.item.options, each.item.reference, how.version) for each in answered]
    groups = choices.mbacc(right, [each.item.group for each in answered])
    return Graded(
        scores=(proportion("MBAcc", groups), proportion("accuracy of the pairs", right)),
        samples=tuple(map(float, right)),
    )


def judged_answers(answered: Sequence[Answered], how: Grading) -> Graded:
    """Grade free answers by a judge; a reference has `question` and `answer`."""
    cases = [
        Case(
            kind="answer", prediction=each.text, reference=each.item.reference["answer"],
            question=each.item.reference["question"],
        )
        for each in answered
    ]  # fmt: skip
    verdicts = how.judge(cases)
    points = mean("judge score", [verdict.score for verdict in verdicts], seed=how.seed)
    right = [verdict.right for verdict in verdicts]
    return _shares(f"judge accuracy ({how.judge.name})", right, points, notes=_unread(verdicts))


def judged_captions(answered: Sequence[Answered], how: Grading) -> Graded:
    """Grade captions by a judge; also by exact match."""
    cases = [Case(kind="caption", prediction=each.text, reference=each.item.reference) for each in answered]
    verdicts = how.judge(cases)
    right = proportion("exact match", [same(each.text, each.item.reference) for each in answered])
    values = [verdict.score for verdict in verdicts]
    return _means(f"judge score ({how.judge.name})", values, how, right, notes=_unread(verdicts))


def _unread(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    count = sum(not verdict.understood for verdict in verdicts)
    return (f"{count} of {len(verdicts)} replies of the judge could not be read",) if count else ()


def localised(answered: Sequence[Answered], how: Grading) -> Graded:
    """Grade spans as RTLoc does: mean recall, then mean IoU; a reference is [start, end]."""
    ious = _ious(answered, how.version)
    return _means("mean recall", [spans.mean_recall(iou) for iou in ious], how, *_of_spans(answered, ious, how))


def moments(answered: Sequence[Answered], how: Grading) -> Graded:
    """Grade spans by mean IoU; a reference is [start, end]."""
    ious = _ious(answered, how.version)
    _, *more = _of_spans(answered, ious, how)
    return _means("mean IoU", ious, how, *more)


def _ious(answered: Sequence[Answered], version: Version) -> list[float]:
    found = [spans.parse_span(each.text) for each in answered]
    return [
        0.0 if span is None else spans.overlap(span, tuple(each.item.reference), version)
        for span, each in zip(found, answered, strict=True)
    ]


def _of_spans(answered: Sequence[Answered], ious: Sequence[float], how: Grading) -> list[Score]:
    parsed = [spans.parse_span(each.text) is not None for each in answered]
    return [
        mean("mean IoU", ious, seed=how.seed),
        proportion("IoU above 0.5", [iou > 0.5 for iou in ious]),
        proportion("answers with a span", parsed),
    ]


def charades(answered: Sequence[Answered], how: Grading) -> Graded:
    """Grade spans of frames against spans of seconds: mean IoU and recall at 0.3, 0.5, 0.7."""
    ious = []
    for each in answered:
        span, reference = spans.parse_span(each.text), each.item.reference
        seconds = None if span is None else spans.frame_to_seconds(span, reference["duration"])
        ious.append(0.0 if seconds is None else spans.seconds_overlap(seconds, tuple(reference["span"])))
    recalls = [proportion(f"R@{limit}", [iou >= limit for iou in ious]) for limit in (0.3, 0.5, 0.7)]
    return _means("mean IoU", ious, how, *recalls)


def dense(answered: Sequence[Answered], how: Grading) -> Graded:
    """Grade lists of events by SODA, with a judge's similarity of each pair of texts."""
    gold = [
        [soda.Event(span=tuple(event["span"]), text=event["text"]) for event in each.item.reference]
        for each in answered
    ]
    given = [soda.parse_events(each.text) for each in answered]
    pairs = [
        Case(kind="caption", prediction=event.text, reference=correct.text)
        for correct_ones, events in zip(gold, given, strict=True)
        for correct in correct_ones
        for event in events
    ]
    verdicts = how.judge(pairs) if pairs else []
    similar, values = iter(verdict.score for verdict in verdicts), []
    for correct_ones, events in zip(gold, given, strict=True):
        similarity = soda.table([next(similar) for _ in correct_ones for _ in events], correct_ones, events)
        values.append(soda.soda(soda.overlaps(correct_ones, events, how.version), similarity))
    parsed = proportion("answers with events", [bool(events) for events in given])
    return _means(f"SODA ({how.judge.name})", values, how, parsed, notes=_unread(verdicts))


def caption(answered: Sequence[Answered], how: Grading) -> Graded:
    """Grade captions by CIDEr, BLEU-4, ROUGE-L and METEOR; a reference is a list of captions."""
    texts, references = [each.text for each in answered], [each.item.reference for each in answered]
    pairs = list(zip(texts, references, strict=True))
    value, low, high = captions.bleu(texts, references)
    more = [
        Score(name="BLEU-4", value=value, n=len(texts), low=low, high=high),
        mean("ROUGE-L", [captions.rouge_l(text, others) for text, others in pairs], seed=how.seed),
        mean("METEOR (exact, stem)", [captions.meteor(text, others) for text, others in pairs], seed=how.seed),
    ]
    values = captions.cider(texts, references)
    return Graded(scores=(mean("CIDEr", values, unit="", seed=how.seed), *more), samples=tuple(values))


def boxes(answered: Sequence[Answered], how: Grading) -> Graded:
    """Grade boxes by the share with an IoU of at least 0.5, and by mean IoU; a reference is x0, y0, x1, y1 as shares."""
    ious = []
    for each in answered:
        box = parse_box(each.text)
        ious.append(0.0 if box is None else spans.box_iou(box, tuple(each.item.reference)))
    graded = _shares("accuracy at IoU 0.5", [iou >= 0.5 for iou in ious], mean("mean IoU", ious, seed=how.seed))
    return Graded(scores=graded.scores, samples=tuple(ious))


def kind_and_colour(answered: Sequence[Answered], how: Grading) -> Graded:
    """Grade captions of regions: right if what comes first has the kind and the colour of the object.

    A reference has `kind`, `colour`, which is empty if the image has no colours, and `caption`.
    """
    right = [_names(each.text, each.item.reference) for each in answered]
    whole = proportion("exact match", [same(each.text, each.item.reference["caption"]) for each in answered])
    return _shares("kind and colour", right, whole)


def _names(text: str, reference: dict[str, Any]) -> bool:
    """Return True if the first object that a caption names is the right one.

    >>> _names("a red cup below a blue dog", {"kind": "dog", "colour": "blue"}), _names("a red cup", {"kind": "cup", "colour": "red"})
    (False, True)
    """
    words = words_of(text.replace("-", " "))
    kind = words_of(reference["kind"].replace("-", " "))
    ends = [place + len(kind) for place in range(len(words)) if words[place : place + len(kind)] == kind]
    if not ends:
        return False
    head = words[: ends[0] - len(kind)]
    others = {"left", "right", "above", "below"} & set(head)
    return not others and (not reference["colour"] or reference["colour"] in head)


def _list(reference: Any) -> list[str]:
    return [reference] if isinstance(reference, str) else list(reference)


def _shares(name: str, right: Sequence[bool], *more: Score, notes: tuple[str, ...] = ()) -> Graded:
    return Graded(scores=(proportion(name, right), *more), samples=tuple(map(float, right)), notes=notes)


def _means(name: str, values: Sequence[float], how: Grading, *more: Score, notes: tuple[str, ...] = ()) -> Graded:
    return Graded(scores=(mean(name, values, seed=how.seed), *more), samples=tuple(values), notes=notes)
