"""Questions about images as the json lines of Perception LM: one image, several images, and regions."""

import json
from collections.abc import Sequence
from typing import Any

from percept.world.qa import examples
from percept.world.qa.pair import Example, Pair
from percept.world.write.encode import png
from percept.world.write.job import Job, Lines, key_of


def check(job: Job) -> None:
    """Draw the first example.

    Raises:
        PerceptError: an argument is out of range.
    """
    _example(job, 0)


def _example(job: Job, number: int) -> Example:
    return next(examples(job.seed + number, split=job.split, style=job.style, size=job.side))


def write_plm(job: Job, numbers: range) -> Lines:
    """Write the images; return a line per conversation."""
    lines = []
    for number in numbers:
        drawn, key = _example(job, number), key_of(number)
        names = [key] if len(drawn.images) == 1 else [f"{key}-{place}" for place in range(len(drawn.images))]
        files = [
            job.put(f"images/{name}.png", png(image.image)) for name, image in zip(names, drawn.images, strict=True)
        ]
        lines.append(line_of(drawn.row(files), drawn.pairs))
    return {"questions.jsonl": lines}


def line_of(row: dict[str, Any], pairs: Sequence[Pair]) -> str:
    """Return a row as a line, with the kind and the choices of each of its questions."""
    more = {"kinds": [pair.kind for pair in pairs], "choices": [list(pair.choices) for pair in pairs]}
    return json.dumps(row | more, ensure_ascii=False) + "\n"
