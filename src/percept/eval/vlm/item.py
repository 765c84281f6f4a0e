"""What is asked and what is expected, as one value that readers, metrics and logs share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from percept.data.chat.conversation import Conversation, Media, Turn, converse
from percept.eval.statistics import Score

Version: TypeAlias = Literal["published", "fixed"]
"""published: as the code that defined the task scores, quirks included, for numbers that are compared with printed ones.
fixed: without the quirks, which docs/evaluating_plm.md lists."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """One question to a model, with what its answer is compared with."""

    key: str
    """Identifies the item within its task."""
    prompt: Conversation
    reference: Any
    """Plain data in the form that the metric of the task takes."""
    options: tuple[str, ...] = ()
    """Answers to choose from; empty if any text may be the answer."""
    group: str = ""
    """Items of one group are scored together, as the task says."""
    chance: float | None = None
    """Expected score of a random guess."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Answered:
    """An item with the answer of a model."""

    item: Item
    text: str
    """Empty if the model gave no answer."""
    likelihoods: Sequence[float] | None = None
    """Log-likelihood of each option, in nats; None if it was not asked for."""


@dataclass(frozen=True, kw_only=True)
class Graded:
    """Scores of a task."""

    scores: tuple[Score, ...]
    """The score that the task is known by comes first."""
    samples: tuple[float, ...]
    """Value of each answer."""
    notes: tuple[str, ...] = field(default=())
    """What a reader of the scores has to know."""


def ask(question: str, media: Sequence[Media] = ()) -> Conversation:
    """Return the prompt of one question, with media before its text or at its tags."""
    return converse([("user", question)], tuple(media))


def without_media(prompt: Conversation) -> Conversation:
    """Return a prompt without its images and videos, for a model that must answer blindly.

    >>> from percept.data.chat.conversation import ImageInput
    >>> without_media(ask("What is it?", [ImageInput(source="cup.jpg")])).turns[0].parts
    ('What is it?',)
    """
    turns = (Turn(role=turn.role, parts=(turn.text,) if turn.text else ()) for turn in prompt.turns)
    return Conversation(turns=tuple(turns))


def text_of(prompt: Conversation) -> str:
    """Return the texts of all turns, one per line."""
    return "\n".join(turn.text for turn in prompt.turns)
