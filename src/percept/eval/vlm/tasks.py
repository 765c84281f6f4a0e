"""Tasks: what is asked, how answers are graded and what they should reach; those of public files and those of the generated world."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from percept.core.errors import unknown_name
from percept.eval.vlm import graders
from percept.eval.vlm.graders import Grader
from percept.eval.vlm.item import Item, Version
from percept.eval.vlm.readers import images, videos
from percept.eval.vlm.readers.files import Place

Reader: TypeAlias = Callable[[Place], Iterator[Item]]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One kind of questions."""

    name: str
    summary: str
    grade: Grader
    new_tokens: int = 16
    """Most tokens of an answer."""
    published_tokens: int | None = None
    """The published number, where it cuts answers off."""
    likelihood: bool = False
    """Options are also ranked by their likelihood."""
    target: float | None = None
    """What plm-nano should reach on the evaluation split."""
    read: Reader | None = None
    """Reads the public file layout."""

    def most_tokens(self, version: Version) -> int:
        """Return the most tokens of an answer."""
        return self.published_tokens if version == "published" and self.published_tokens else self.new_tokens


PUBLIC: dict[str, Task] = {
    task.name: task
    for task in (
        Task(name="fgqa", summary="PLM-VideoBench FGQA", grade=graders.mbacc, read=videos.fgqa),
        Task(
            name="sgqa", summary="PLM-VideoBench SGQA", grade=graders.judged_answers, read=videos.sgqa,
            new_tokens=64, published_tokens=16,
        ),
        Task(name="rcap", summary="PLM-VideoBench RCap", grade=graders.judged_captions, read=videos.rcap, new_tokens=512),
        Task(name="rdcap", summary="PLM-VideoBench RDCap", grade=graders.dense, read=videos.rdcap, new_tokens=512),
        Task(name="rtloc", summary="PLM-VideoBench RTLoc", grade=graders.localised, read=videos.rtloc),
        Task(name="charades", summary="Charades-STA", grade=graders.charades, read=videos.charades),
        Task(name="vqav2", summary="VQAv2", grade=graders.vqa, read=images.vqav2),
        Task(name="textvqa", summary="TextVQA", grade=graders.vqa, read=images.textvqa, new_tokens=32),
        Task(name="docvqa", summary="DocVQA and InfographicVQA", grade=graders.anls, read=images.docvqa, new_tokens=32),
        Task(name="chartqa", summary="ChartQA", grade=graders.relaxed, read=images.chartqa),
        Task(name="pope", summary="POPE", grade=graders.pope, read=images.pope),
        Task(name="refcoco", summary="RefCOCO, RefCOCO+ and RefCOCOg", grade=graders.boxes, read=images.refcoco, new_tokens=32),
        Task(name="captions", summary="COCO captions", grade=graders.caption, read=images.captions, new_tokens=64),
        Task(
            name="choice", summary="multiple choice of any source, by text and by likelihood", grade=graders.choice,
            read=images.choice, likelihood=True,
        ),
    )
}  # fmt: skip
"""Tasks of public files."""


def _image(name: str, target: float | None = None, grade: Grader = graders.exact, new_tokens: int = 16) -> Task:
    return Task(
        name=name, summary=f"images: {name.replace('_', ' ')}", grade=grade, target=target, new_tokens=new_tokens
    )


def _clip(
    name: str, summary: str, grade: Grader = graders.exact, new_tokens: int = 32, target: float | None = None
) -> Task:
    return Task(name=name, summary=f"clips: {summary}", grade=grade, new_tokens=new_tokens, target=target)


IMAGES: dict[str, Task] = {
    task.name: task
    for task in (
        _image("category", 0.90),
        _image("colour", 0.90),
        _image("count", 0.80),
        _image("side", 0.85),
        _image("existence", 0.90, graders.pope),
        _image("reading", 0.60),
        _image("region"),
        _image("region_caption", 0.85, graders.kind_and_colour, 32),
        _image("referring", grade=graders.boxes, new_tokens=32),
        _image("attribute"),
        _image("comparison"),
        _image("short_caption", grade=graders.caption, new_tokens=48),
        _image("long_caption", grade=graders.caption, new_tokens=160),
        _image("which_image"),
        _image("same"),
        _image("total"),
        _image("change", new_tokens=48),
    )
}
"""Tasks of generated images, named as in `percept.world.qa`."""
CLIPS: dict[str, Task] = {
    task.name: task
    for task in (
        _clip("direction", "direction of motion", target=0.85),
        _clip("order", "order of events"),
        _clip("speed", "speed"),
        _clip("action", "what happens"),
        _clip("moments", "time of an event", graders.moments, target=0.5),
        _clip("dense", "all events with their times", graders.dense, 192),
        _clip("fgqa", "questions with two options, in both orders", graders.mbacc, 16),
        _clip("sgqa", "free answers, judged", graders.judged_answers),
        _clip("rcap", "what a marked object does in a span", graders.judged_captions, 48),
        _clip("rtloc", "when a marked object does something", graders.localised),
        _clip("rdcap", "everything that a marked object does", graders.dense, 160),
    )
}
"""Tasks of generated clips."""
WORLD: dict[str, Task] = {**IMAGES, **CLIPS}


def public_task(name: str) -> Task:
    """Return the task of a public file.

    Raises:
        PerceptError: unknown name.
    """
    if name not in PUBLIC:
        raise unknown_name("task of a file", name, PUBLIC)
    return PUBLIC[name]


def world_tasks(names: Sequence[str]) -> list[Task]:
    """Return tasks of the world by name; all if no name is given.

    Raises:
        PerceptError: unknown name.
    """
    for name in names:
        if name not in WORLD:
            raise unknown_name("task", name, WORLD)
    return [WORLD[name] for name in (dict.fromkeys(names) or WORLD)]
