"""Batches of conversations about generated images and clips, drawn as they are needed: a batch is a function of seed and step."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from percept.core.errors import PerceptError, unknown_name
from percept.core.seed import derive
from percept.data.chat.batch import ChatBatch, chat_batch
from percept.data.chat.conversation import Conversation, ImageInput, VideoInput, converse
from percept.data.chat.processor import Prepared, Processor
from percept.data.source import share
from percept.world.clips import Clip, Row, clip_rows, generate_clip
from percept.world.clips.questions import KINDS
from percept.world.clips.rows import TASKS
from percept.world.qa import SEVERAL, WEIGHTS, example
from percept.world.qa.pair import Example

PLAIN = ("caption", "dense", "moment", "place", "qa", "choice")
"""Tasks of a clip in which nothing is marked."""
ROLES = {"human": "user", "assistant": "assistant"}


@dataclass(frozen=True, kw_only=True)
class QuestionData:
    """Which questions are asked about which images and clips."""

    kinds: Mapping[str, int] = field(default_factory=lambda: dict(WEIGHTS))
    """Relative frequency of the kind of the first question of each image."""
    more: int = 6
    """Most further questions about the same image."""
    others: Mapping[str, int] | None = None
    """Relative frequency of the kinds of further questions, which may then occur again; by default each other kind at most once."""
    apart: float = 0.0
    """Share of the images and clips whose questions are conversations of their own. In one conversation a question may be answered from the words before it."""
    style: str = "mixed"
    """A style of the world, or "mixed"."""
    clips: float = 0.0
    """Share of the conversations that are about a clip."""
    frames: int = 32
    """Frames of a clip, of which the model sees as many as its processor takes."""
    regions: float = 0.3
    """Share of the clips in which one object is marked and all questions are about it."""
    clip_kinds: Mapping[str, int] = field(default_factory=dict)
    """Relative frequency of the kinds of questions about clips: types such as direction, or else tasks such as moment; 1 where none is given, 0 for never."""
    clip_questions: int | None = None
    """Most questions about a clip; as many as about an image if None."""
    blind: bool = False
    """Leave images and clips out, for a baseline that knows the questions and answers alone."""

    def __post_init__(self) -> None:
        if self.clip_questions is not None and self.clip_questions < 1:
            raise PerceptError(f"clip_questions={self.clip_questions} asks nothing about a clip. Use at least 1.")
        if unknown := [name for name in self.clip_kinds if name not in (*TASKS, *KINDS)]:
            raise unknown_name("kind of questions about clips", unknown[0], (*TASKS, *KINDS))
        if wrong := [f"{name}={weight}" for name, weight in self.clip_kinds.items() if weight < 0]:
            raise PerceptError(
                f"clip_kinds has {', '.join(wrong)}. Use 0 for kinds that are never asked, and positive numbers."
            )


class QuestionSource:
    """A `Source` of conversations about generated images of the split "train"."""

    def __init__(self, data: QuestionData, processor: Processor, *, batch: int, limit: int, seed: int = 0) -> None:
        """Describe the source.

        Args:
            processor: its tiler gives the size of the images.
            batch: images and clips of a global batch.
            limit: most tokens of a conversation; what follows is cut off between turns.
            seed: of everything that is drawn.
        """
        self.data, self.processor, self.size = data, processor, batch
        self.limit, self.seed = limit, seed

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> ChatBatch:
        """Return a rank's share of the batch of a step; an image or clip whose questions are apart gives a row for each of them."""
        part = share(self.size, rank, world_size)
        numbers = range(step * self.size + part.start, step * self.size + part.stop)
        return chat_batch([row for number in numbers for row in self.rows(number)])

    def rows(self, number: int) -> list[Prepared]:
        """Return the conversations about image or clip number `number`; it is replaced if it has no question, or none fits the limit."""
        attempt = 0
        while True:
            rng = random.Random(derive(self.seed, "question", number, attempt))
            prepared = [self.processor(conversation) for conversation in self._conversations(rng)]
            rendered = [found for each in prepared if (found := each.rendered.cut(self.limit)) is not None]
            if rendered:  # all are about the same image or clip
                return [Prepared(rendered=each, tiles=prepared[0].tiles) for each in rendered]
            attempt += 1

    def _conversations(self, rng: random.Random) -> list[Conversation]:
        """Return the conversations about one image or clip: one, several if its questions are apart, or none if a clip has no question that is asked."""
        data, side = self.data, self.processor.tiler.size
        if rng.random() < data.clips:
            clip = generate_clip(rng.getrandbits(48), frames=data.frames, size=side)
            rows = rows_of_clip(clip, rng, data, sampled=self.processor.frames)
            parts = [[row] for row in rows] if rng.random() < data.apart else [rows] * bool(rows)
            return [conversation_of_clip(clip, part, blind=data.blind) for part in parts]
        kind = rng.choices(tuple(data.kinds), tuple(data.kinds.values()))[0]
        more = 0 if kind in SEVERAL else data.more
        drawn = example(rng.getrandbits(48), kind=kind, style=data.style, size=side, more=more, others=data.others)
        if rng.random() < data.apart:
            singles = [replace(drawn, pairs=(pair,)) for pair in drawn.pairs]
            return [conversation_of_example(single, blind=data.blind) for single in singles]
        return [conversation_of_example(drawn, blind=data.blind)]


def conversation_of_example(drawn: Example, *, blind: bool = False) -> Conversation:
    """Return the questions and answers of an example as one conversation, with its images first."""
    turns: list[tuple[str, str]] = []
    for pair in drawn.pairs:
        turns += [("user", pair.question), ("assistant", pair.answer)]
    media: list[Any] = [] if blind else [ImageInput(source=each.image) for each in drawn.images]
    if len(media) > 1:
        turns[0] = ("user", "<image>" * len(media) + turns[0][1])
    return converse(turns, media)


def rows_of_clip(clip: Clip, rng: random.Random, data: QuestionData, *, sampled: int) -> list[Row]:
    """Return questions about a clip in random order; about a marked object with chance `data.regions`.

    Args:
        sampled: frames that the model sees, which the texts count.
    """
    marked = list(clip_rows(clip, video="", tasks=("rcap", "rtloc", "rdcap"), sampled=sampled))
    if marked and rng.random() < data.regions:
        chosen = rng.choice(marked).data["masklet_id"]
        rows = [row for row in marked if row.data["masklet_id"] == chosen]
    else:
        rows = list(clip_rows(clip, video="", tasks=PLAIN, sampled=sampled))
    most = data.more + 1 if data.clip_questions is None else data.clip_questions
    weights = [data.clip_kinds.get(row.data.get("question_type", ""), data.clip_kinds.get(row.task, 1)) for row in rows]
    asked = [(row, weight) for row, weight in zip(rows, weights, strict=True) if weight]
    order = sorted(asked, key=lambda each: rng.random() ** (1 / each[1]), reverse=True)  # draws without replacement
    return [row for row, _ in order[:most]]


def conversation_of_clip(clip: Clip, rows: Sequence[Row], *, blind: bool = False) -> Conversation:
    """Return questions and answers about a clip as one conversation, with the clip first."""
    turns = [(ROLES[turn["from"]], turn["value"]) for row in rows for turn in row.data["conversations"]]
    return converse(turns, [] if blind else [_video(clip, rows[0])])


def _video(clip: Clip, row: Row) -> VideoInput:
    boxes = row.data.get("bbox_map", {})
    return VideoInput(
        source=list(clip.frames), boxes={int(number): box and tuple(box) for number, box in boxes.items()}
    )
