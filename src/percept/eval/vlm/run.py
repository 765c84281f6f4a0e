"""Ask a model the items of a task, in batches, and grade its answers; the same once more without images."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from percept.core.errors import PerceptError
from percept.core.report import track
from percept.eval.statistics import Score
from percept.eval.vlm.graders import Grading
from percept.eval.vlm.item import Answered, Graded, Item, text_of, without_media
from percept.eval.vlm.tasks import Task
from percept.infer.contracts import Generates, Prompt

CHUNK = 64
"""Prompts that are handed to the model together."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured on one task."""

    task: Task
    scores: tuple[Score, ...]
    chance: float | None
    """Expected first score of a guess; None if there is no natural guess."""
    blind: Score | None
    """First score of a model that sees no image."""
    seconds: float
    """Of asking and grading, without the blind model."""
    records: list[dict[str, Any]] = field(repr=False)
    """One per item: key, prompt, answer, reference, score, seed, and more."""
    notes: tuple[str, ...] = ()


class Ungraded(PerceptError):
    """A model has answered, but its answers cannot be graded; `records` has them."""

    def __init__(self, reason: str, records: list[dict[str, Any]]) -> None:
        super().__init__(reason)
        self.records = records


class Answers:
    """Answers of a model to items; those that it cannot be asked are empty, with the reason."""

    def __init__(self, model: Generates, task: Task, how: Grading, *, blind: bool = False) -> None:
        self.model, self.task, self.blind = model, task, blind
        self.most = task.most_tokens(how.version)
        self.errors: dict[str, str] = {}

    def __call__(self, items: Iterable[Item], total: int) -> list[Answered]:
        """Return the answers to items, in order.

        Raises:
            PerceptError: none of the first items can be asked.
        """
        title = f"{self.task.name}, blind" if self.blind else self.task.name
        return list(track(self._answered(items), title, total))

    def _answered(self, items: Iterable[Item]) -> Iterator[Answered]:
        stream = iter(items)
        while chunk := list(islice(stream, CHUNK)):
            prompts = [without_media(item.prompt) if self.blind else item.prompt for item in chunk]
            for item, prompt, text in zip(chunk, prompts, self._texts(chunk, prompts), strict=True):
                yield Answered(item=item, text=text, likelihoods=self._likelihoods(item, prompt))

    def _texts(self, chunk: Sequence[Item], prompts: Sequence[Prompt]) -> list[str]:
        try:
            return self.model.answers(prompts, max_new_tokens=self.most)
        except PerceptError as error:
            if len(chunk) == 1:
                self.errors[chunk[0].key] = str(error)
                return [""]
            first = error
        texts = [self._texts([item], [prompt])[0] for item, prompt in zip(chunk, prompts, strict=True)]
        if all(item.key in self.errors for item in chunk):
            raise first
        return texts

    def _likelihoods(self, item: Item, prompt: Prompt) -> list[float] | None:
        if not self.task.likelihood or not item.options or item.key in self.errors:
            return None
        return self.model.scores(prompt, item.options)


def measure(
    model: Generates, task: Task, items: Sequence[Item], how: Grading, *, blind: Generates | None = None
) -> Measured:
    """Return the scores of a model on a task.

    Args:
        items: at least one; media that are read when they are asked for are read batch by batch.
        blind: a model that is asked the same without images, for comparison.

    Raises:
        Ungraded: the judge cannot be reached, or a library is missing.
        PerceptError: there are no items, or the model cannot be asked.
    """
    if not items:
        raise PerceptError(f"{task.name} has no items. Raise --count, or check the file.")
    start = time.perf_counter()
    ask = Answers(model, task, how)
    answered = ask(items, len(items))
    records = [_record(task, each, how.seed, ask.errors) for each in answered]
    try:
        graded = task.grade(answered, how)
    except PerceptError as error:
        raise Ungraded(str(error), records) from None
    seconds = time.perf_counter() - start
    for record, value in zip(records, graded.samples, strict=True):
        record["score"] = value
    unanswered = (f"{len(ask.errors)} items could not be asked and count as wrong",) if ask.errors else ()
    return Measured(
        task=task, scores=graded.scores, chance=chance_of(items), blind=_blind(blind, task, items, how, records),
        seconds=round(seconds, 1), records=records, notes=(*graded.notes, *unanswered),
    )  # fmt: skip


def _blind(
    model: Generates | None, task: Task, items: Sequence[Item], how: Grading, records: list[dict[str, Any]]
) -> Score | None:
    """Return the first score of a blind model, and add its answers to the records."""
    if model is None:
        return None
    answered = Answers(model, task, how, blind=True)(items, len(items))
    graded: Graded = task.grade(answered, how)
    for record, each, value in zip(records, answered, graded.samples, strict=True):
        record |= {"blind_answer": each.text, "blind_score": value}
    return graded.scores[0]


def chance_of(items: Sequence[Item]) -> float | None:
    """Return the expected score of a guess: the mean over groups of the product of their items' chances; None if one is unknown."""
    groups: dict[str, float] = {}
    for number, item in enumerate(items):
        if item.chance is None:
            return None
        name = item.group or f"\x00{number}"
        groups[name] = groups.get(name, 1.0) * item.chance
    return sum(groups.values()) / len(groups)


def _record(task: Task, answered: Answered, seed: int, errors: Mapping[str, str]) -> dict[str, Any]:
    item = answered.item
    record = {
        "task": task.name, "key": item.key, "prompt": text_of(item.prompt), "answer": answered.text,
        "reference": item.reference, "score": None, "seed": seed,
    }  # fmt: skip
    if answered.likelihoods is not None:
        record["likelihoods"] = dict(zip(item.options, answered.likelihoods, strict=True))
    return record | ({"error": errors[item.key]} if item.key in errors else {})
