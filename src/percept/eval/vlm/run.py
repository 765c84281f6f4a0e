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
from percept.eval.vlm.item import Answered, Item, text_of, without_media
from percept.eval.vlm.kept import Kept
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
    """Of asking and grading, the blind model included."""
    records: list[dict[str, Any]] = field(repr=False)
    """One per item: key, prompt, answer, reference, score, seed, and more."""
    notes: tuple[str, ...] = ()


class Answers:
    """Answers of a model to items; those that it cannot be asked are empty, with the reason."""

    def __init__(self, model: Generates, task: Task, how: Grading, kept: Kept, *, blind: bool = False) -> None:
        self.model, self.task, self.kept, self.blind = model, task, kept, blind
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
            names = [self.kept.identify(self.task.name, item, blind=self.blind, most=self.most) for item in chunk]
            missing = {name: item for name, item in zip(names, chunk, strict=True) if self.kept.get(name) is None}
            found = self._asked(missing)
            self.kept.add({name: each for name, each in found.items() if missing[name].key not in self.errors})
            for item, name in zip(chunk, names, strict=True):
                answer = found.get(name) or self.kept.get(name) or {}
                yield Answered(item=item, text=answer["text"], likelihoods=answer["likelihoods"])

    def _asked(self, items: Mapping[str, Item]) -> dict[str, dict[str, Any]]:
        """Return `text` and `likelihoods` for each item, by the same names."""
        prompts = [without_media(item.prompt) if self.blind else item.prompt for item in items.values()]
        texts = self._texts(list(items.values()), prompts) if prompts else []
        return {
            name: {"text": text, "likelihoods": self._likelihoods(item, prompt)}
            for (name, item), prompt, text in zip(items.items(), prompts, texts, strict=True)
        }

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
    model: Generates,
    task: Task,
    items: Sequence[Item],
    how: Grading,
    *,
    blind: Generates | None = None,
    kept: Kept | None = None,
) -> Measured:
    """Return the scores of a model on a task.

    Args:
        items: at least one; media that are read when they are asked for are read batch by batch.
        blind: a model that is asked the same without images, for comparison.
        kept: answers of an earlier run, which are not asked for again; new ones are added.

    Raises:
        PerceptError: there are no items, the model cannot be asked, the judge cannot be reached, or a library is missing.
    """
    if not items:
        raise PerceptError(f"{task.name} has no items. Raise --count, or check the file.")
    start, kept = time.perf_counter(), Kept() if kept is None else kept
    ask = Answers(model, task, how, kept)
    answered = ask(items, len(items))
    blind_answers = None if blind is None else Answers(blind, task, how, kept, blind=True)(items, len(items))
    graded = task.grade(answered, how)
    blind_graded = None if blind_answers is None else task.grade(blind_answers, how)
    records = [
        _record(task, each, value, how.seed, ask.errors) for each, value in zip(answered, graded.samples, strict=True)
    ]
    if blind_answers is not None and blind_graded is not None:
        for record, each, value in zip(records, blind_answers, blind_graded.samples, strict=True):
            record |= {"blind_answer": each.text, "blind_score": value}
    unanswered = (f"{len(ask.errors)} items could not be asked and count as wrong",) if ask.errors else ()
    return Measured(
        task=task, scores=graded.scores, chance=chance_of(items),
        blind=None if blind_graded is None else blind_graded.scores[0],
        seconds=round(time.perf_counter() - start, 1), records=records, notes=(*graded.notes, *unanswered),
    )  # fmt: skip


def chance_of(items: Sequence[Item]) -> float | None:
    """Return the expected score of a guess: the mean over groups of the product of their items' chances; None if one is unknown."""
    groups: dict[str, float] = {}
    for number, item in enumerate(items):
        if item.chance is None:
            return None
        name = item.group or f"\x00{number}"
        groups[name] = groups.get(name, 1.0) * item.chance
    return sum(groups.values()) / len(groups)


def _record(task: Task, answered: Answered, value: float, seed: int, errors: Mapping[str, str]) -> dict[str, Any]:
    item = answered.item
    record = {
        "task": task.name, "key": item.key, "prompt": text_of(item.prompt), "answer": answered.text,
        "reference": item.reference, "score": value, "seed": seed,
    }  # fmt: skip
    if answered.likelihoods is not None:
        record["likelihoods"] = dict(zip(item.options, answered.likelihoods, strict=True))
    return record | ({"error": errors[item.key]} if item.key in errors else {})
