"""Question-answer pairs as plain data, and rows for the training of a language model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from percept.core.errors import PerceptError
from percept.data.chat.regions import box_text
from percept.world.render import Rendering

Box: TypeAlias = tuple[float, float, float, float]
"""xyxy in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A question about one or several images, with its answer."""

    kind: str
    """A name of `KINDS`."""
    question: str
    answer: str
    choices: tuple[str, ...] = ()
    """All answers to choose from, the correct one included; empty if any text may be the answer."""
    boxes: tuple[Box, ...] = ()
    """Boxes of the first image in the order in which the question and the answer contain them as text."""
    things: tuple[tuple[int, int], ...] = ()
    """(image, thing) indices of the things that the question is about."""

    @property
    def chance(self) -> float:
        """Share of correct answers if a choice is drawn at random; 0 without choices."""
        return 1 / len(self.choices) if self.choices else 0.0


@dataclass(frozen=True, kw_only=True)
class Example:
    """Images with questions about them. The first pair has the kind that was asked for."""

    images: tuple[Rendering, ...]
    pairs: tuple[Pair, ...]

    def row(self, files: Sequence[str]) -> dict[str, Any]:
        """Return the example as one conversation: a row of the json lines of Perception LM (image, multi-image or region).

        Boxes are xywh in pixels in the field `bbox`, and `<|bbox0|>`, `<|bbox1|>`, … in the text.

        Args:
            files: path of each image.

        Raises:
            PerceptError: the number of paths differs from the number of images.
        """
        if len(files) != len(self.images):
            raise PerceptError(f"{len(files)} paths were given for {len(self.images)} images. Give one path per image.")
        height, width = self.images[0].image.shape[:2]
        return as_row(self.pairs, files, width, height)


def as_row(pairs: Sequence[Pair], files: Sequence[str], width: int, height: int) -> dict[str, Any]:
    """Return pairs as one conversation. `width` and `height` are those of the first image, in pixels."""
    boxes: list[list[float]] = []
    turns = []
    for number, pair in enumerate(pairs):
        question, answer = _with_placeholders(pair, len(boxes))
        boxes += [_in_pixels(box, width, height) for box in pair.boxes]
        if number == 0 and len(files) > 1:
            question = "<image>\n" * len(files) + question
        turns += [{"from": "human", "value": question}, {"from": "assistant", "value": answer}]
    row: dict[str, Any] = {"image": files[0] if len(files) == 1 else list(files), "conversations": turns}
    return row | ({"bbox": boxes, "width": width, "height": height} if boxes else {})


def _with_placeholders(pair: Pair, first: int) -> tuple[str, str]:
    """Replace the text of each box by its placeholder; `first` is the number of the first one."""
    texts = [pair.question, pair.answer]
    for number, box in enumerate(pair.boxes, start=first):
        place = 0 if box_text(box) in texts[0] else 1
        texts[place] = texts[place].replace(box_text(box), f"<|bbox{number}|>", 1)
    return texts[0], texts[1]


def _in_pixels(box: Box, width: int, height: int) -> list[float]:
    left, top, right, bottom = box
    corners = (left * width, top * height, (right - left) * width, (bottom - top) * height)
    return [round(value, 2) for value in corners]
