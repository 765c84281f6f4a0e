"""Batches of conversations about generated images, drawn as they are needed: a batch is a function of seed and step."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from percept.core.seed import derive
from percept.data.chat.batch import ChatBatch, chat_batch
from percept.data.chat.conversation import Conversation, ImageInput, converse
from percept.data.chat.processor import Prepared, Processor
from percept.data.source import share
from percept.world.qa import SEVERAL, WEIGHTS, example
from percept.world.qa.pair import Example


@dataclass(frozen=True, kw_only=True)
class QuestionData:
    """Which questions are asked about which images."""

    kinds: Mapping[str, int] = field(default_factory=lambda: dict(WEIGHTS))
    """Relative frequency of the kind of the first question of each image."""
    more: int = 6
    """Most further questions about the same image."""
    style: str = "mixed"
    """A style of the world, or "mixed"."""
    blind: bool = False
    """Leave the images out, for a baseline that knows the questions and answers alone."""


class QuestionSource:
    """A `Source` of conversations about generated images of the split "train"."""

    def __init__(self, data: QuestionData, processor: Processor, *, batch: int, limit: int, seed: int = 0) -> None:
        """Describe the source.

        Args:
            processor: its tiler gives the size of the images.
            batch: conversations of a global batch.
            limit: most tokens of a conversation; what follows is cut off between turns.
            seed: of everything that is drawn.
        """
        self.data, self.processor, self.size = data, processor, batch
        self.limit, self.seed = limit, seed

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> ChatBatch:
        """Return a rank's share of the batch of a step."""
        part = share(self.size, rank, world_size)
        return chat_batch([self.sample(step * self.size + slot) for slot in range(part.start, part.stop)])

    def sample(self, number: int) -> Prepared:
        """Return conversation number `number`; one that does not fit the limit is replaced."""
        attempt = 0
        while True:
            rng = random.Random(derive(self.seed, "question", number, attempt))
            prepared = self.processor(self._conversation(rng))
            rendered = prepared.rendered.cut(self.limit)
            if rendered is not None:
                return Prepared(rendered=rendered, tiles=prepared.tiles)
            attempt += 1

    def _conversation(self, rng: random.Random) -> Conversation:
        data = self.data
        kind = rng.choices(tuple(data.kinds), tuple(data.kinds.values()))[0]
        more = 0 if kind in SEVERAL else data.more
        side = self.processor.tiler.size
        drawn = example(rng.getrandbits(48), kind=kind, style=data.style, size=side, more=more)
        return conversation_of_example(drawn, blind=data.blind)


def conversation_of_example(drawn: Example, *, blind: bool = False) -> Conversation:
    """Return the questions and answers of an example as one conversation, with its images first."""
    turns: list[tuple[str, str]] = []
    for pair in drawn.pairs:
        turns += [("user", pair.question), ("assistant", pair.answer)]
    media: list[Any] = [] if blind else [ImageInput(source=each.image) for each in drawn.images]
    if len(media) > 1:
        turns[0] = ("user", "<image>" * len(media) + turns[0][1])
    return converse(turns, media)
