"""Questions about videos: the five tasks of PLM-VideoBench, and Charades-STA."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from percept.core.errors import PerceptError
from percept.data.chat.conversation import Box, VideoInput
from percept.data.video import open_video
from percept.eval.vlm.choices import lettered
from percept.eval.vlm.item import Item, ask
from percept.eval.vlm.readers.files import Place, field, media_file, rows_of, texts
from percept.eval.vlm.spans import sampled

BOXES = "metadata_test.jsonl"
"""File with the boxes of the region tasks, beside the data or in its folder metadata."""
FGQA = "Question: {question}\nOptions:\n{options}\nReply with the best option only."
SGQA = (
    "The person who wears the camera asks the following question at the end of the video. Answer it in one or two sentences of 20 to 30 "
    "words altogether: {question}"
)
RCAP = "The video has {total} frames. Describe what the subject in the red rectangle does from frame {start} to frame {end}."
RDCAP = (
    "The video has {total} frames, from {first} to {last}. List everything that the subject in the red rectangle does, in order, also when it "
    "is out of the frame. Write one line for each event, in the form [start, end]: description."
)
RTLOC = (
    "The video has {total} frames, from {first} to {last}. In which of them does this happen to the subject in the red rectangle: {caption} "
    "Answer with [start, end] and nothing else."
)
CHARADES = "The video has {total} frames, from 1 to {total}. In which of them does this happen: {sentence} Answer with [start, end] and nothing else."
_CHARADES_LINE = re.compile(r"(\S+)\s+([\d.]+)\s+([\d.]+)\s*##\s*(.+)")


class UniformFrames(Sequence[Image.Image]):
    """Frames at equal distances of a video file, the first and the last included, decoded one after the other as they are read.

    Args:
        path: the file.
        most: most frames.
        total: frames that the annotations count; a file with several times as many is thinned out to them. None for all frames.
    """

    def __init__(self, path: Path, most: int, total: int | None = None) -> None:
        self.path, self.most, self.total = path, most, total
        self._running: Iterator[Image.Image] | None = None
        self._next = 0
        self._length: int | None = None

    def __len__(self) -> int:
        if self._length is None:
            if self.total is None:
                with open_video(self.path) as video:
                    self._length = min(self.most, len(video))
            else:
                self._length = min(self.most, self.total)
        return self._length

    def __getitem__(self, number: Any) -> Any:
        if not isinstance(number, int) or not 0 <= number < len(self):
            raise IndexError(number)
        if self._running is None or number != self._next:
            self._running = self._decoded(number)
        frame, self._next = next(self._running), number + 1
        if self._next == len(self):
            self._running = None
        return frame

    def _decoded(self, first: int) -> Iterator[Image.Image]:
        with open_video(self.path) as video:
            total = self.total or len(video)
            if len(video) < total:
                raise PerceptError(
                    f"{self.path} has {len(video)} frames, but its annotations count {total}. Use the files that were annotated."
                )
            step = round(len(video) / total)
            numbers = [min(place * step, len(video) - 1) for place in positions(total, self.most)]
            for _, frame in video.frames(numbers[first:]):
                yield frame


def positions(total: int, count: int) -> list[int]:
    """Return the places of up to `count` of `total` frames at equal distances, rounded to even.

    >>> positions(60, 5), positions(3, 32)
    ([0, 15, 30, 44, 59], [0, 1, 2])
    """
    count = min(count, total)
    return [round(number * (total - 1) / (count - 1)) for number in range(count)] if count > 1 else [0]


def fgqa(place: Place) -> Iterator[Item]:
    """Yield the questions with two options of FGQA; questions of one `qa_uid` are a group.

    The video is the cut segment named in `video`, or the source video with the times in `metadata`.
    """
    for where, row in rows_of(place.data):
        options = field(row, "options", dict, where)
        choices = [str(options[name]) for name in sorted(options) if options[name] is not None]
        answer = field(row, "answer_index", int, where)
        if not 0 <= answer < len(choices):
            raise PerceptError(
                f"{where}: answer_index is {answer}, but there are {len(choices)} options. Check the file."
            )
        question = FGQA.format(question=field(row, "question", str, where), options=lettered(choices))
        yield Item(
            key=str(row.get("uid", where)), prompt=ask(question, [_segment(place, where, row)]), reference=answer,
            options=tuple(choices), group=str(row.get("qa_uid", where)), chance=1 / len(choices),
        )  # fmt: skip


def _segment(place: Place, where: str, row: Mapping[str, Any]) -> VideoInput:
    name = field(row, "video", str, where)
    source = row.get("metadata") or {}
    whole = str(source.get("source_video_id") or "")
    if not (place.media / name).is_file() and whole:
        files = [whole, f"{whole}.mp4", f"{source.get('source_dataset')}/{whole}.mp4"]
        if any((place.media / file).is_file() for file in files):
            times = [field(source, f"source_{edge}_time", float, where) for edge in ("start", "end")]
            return VideoInput(source=media_file(place, where, files, "video"), start=times[0], end=times[1])
    return VideoInput(source=media_file(place, where, [name, f"{name}.mp4"], "video"))


def sgqa(place: Place) -> Iterator[Item]:
    """Yield the questions of SGQA."""
    for where, row in rows_of(place.data):
        name, question = field(row, "video", str, where), field(row, "question", str, where)
        path = media_file(place, where, [name, f"{name}.mp4"], "video")
        media = VideoInput(source=UniformFrames(path, place.frames))
        reference = {"question": question, "answer": texts(row, "answer", where)[0]}
        yield Item(
            key=str(row.get("uid", where)), prompt=ask(SGQA.format(question=question), [media]), reference=reference
        )


def rcap(place: Place) -> Iterator[Item]:
    """Yield the spans of RCap. The published prompt names the number of frames of the file, the fixed one that of the sampled frames."""
    for where, row, media in _marked(place):
        total = field(row, "total_frames", int, where)
        start, end = _span(row, where, total, place.frames)
        said = total if place.version == "published" else place.frames
        prompt = ask(RCAP.format(start=start, end=end, total=said), [media])
        yield Item(key=_key(row, where), prompt=prompt, reference=field(row, "caption", str, where))


def rtloc(place: Place) -> Iterator[Item]:
    """Yield the captions of RTLoc; a reference is [start, end] in sampled frames."""
    for where, row, media in _marked(place):
        span = _span(row, where, field(row, "total_frames", int, where), place.frames)
        question = RTLOC.format(
            caption=_sentence(field(row, "caption", str, where)), first=0, last=place.frames - 1, total=place.frames
        )
        yield Item(key=_key(row, where), prompt=ask(question, [media]), reference=list(span))


def rdcap(place: Place) -> Iterator[Item]:
    """Yield the tracks of RDCap; a reference is a list of {"span": [start, end], "text": caption} in sampled frames."""
    for where, row, media in _marked(place):
        total = field(row, "total_frames", int, where)
        events = field(row, "dense_captions", list, where)
        reference = [
            {"span": list(_span(event, where, total, place.frames)), "text": field(event, "caption", str, where)}
            for event in events
        ]
        question = RDCAP.format(first=0, last=place.frames - 1, total=place.frames)
        yield Item(key=_key(row, where), prompt=ask(question, [media]), reference=reference)


def _key(row: Mapping[str, Any], where: str) -> str:
    return str(row.get("uid", where))


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _span(row: Mapping[str, Any], where: str, total: int, frames: int) -> tuple[int, int]:
    start, end = (field(row, f"{edge}_frame", int, where) for edge in ("start", "end"))
    return sampled(start, total, frames), sampled(end, total, frames)


def _marked(place: Place) -> Iterator[tuple[str, Mapping[str, Any], VideoInput]]:
    """Yield name, row and video of a region task, with the box of its subject drawn on the sampled frames."""
    boxes = _boxes(place)
    for where, row in rows_of(place.data):
        name, track = field(row, "video", str, where), row.get("masklet_id")
        if (name, str(track)) not in boxes:
            raise PerceptError(
                f"{where}: {BOXES} has no boxes for the masklet {track} of {name}. Give files of one split."
            )
        path = media_file(place, where, [name, f"{name}.mp4"], "video")
        total = field(row, "total_frames", int, where)
        if total < 1:
            raise PerceptError(f"{where}: total_frames is {total}. It should be a positive number; check the file.")
        by_frame = boxes[name, str(track)]
        drawn = {number: by_frame.get(frame) for number, frame in enumerate(positions(total, place.frames))}
        yield where, row, VideoInput(source=UniformFrames(path, place.frames, total), boxes=drawn)


def _boxes(place: Place) -> dict[tuple[str, str], dict[int, Box | None]]:
    """Return boxes in pixels by (video, masklet) and annotated frame."""
    folder = place.data.parent
    options = [folder / BOXES, folder / "metadata" / BOXES, folder.parent / "metadata" / BOXES]
    file = next((path for path in options if path.is_file()), None)
    if file is None:
        raise PerceptError(f"the boxes of the region tasks are missing. Put {BOXES} beside {place.data}.")
    result = {}
    for where, row in rows_of(file):
        by_frame = field(row, "bbox", dict, where)
        key = field(row, "video", str, where), str(row.get("masklet_id"))
        result[key] = {int(frame): None if box is None else tuple(box) for frame, box in by_frame.items()}
    return result


def charades(place: Place) -> Iterator[Item]:
    """Yield the sentences of a Charades-STA file of lines `VIDEO start end##sentence`, in seconds.

    The model answers in frames from 1 to 32, which stand for linspace(0, duration, 32) seconds.
    """
    try:
        lines = place.data.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise PerceptError(f"{place.data} cannot be read: {error.strerror}. Give the file with --data.") from None
    lengths: dict[Path, float] = {}
    for number, line in enumerate(lines, start=1):
        where, match = f"{place.data.name}:{number}", _CHARADES_LINE.match(line)
        if not line.strip():
            continue
        if match is None:
            raise PerceptError(f"{where} is {line[:60]!r}. A line is: VIDEO start end##sentence.")
        path = media_file(place, where, [f"{match[1]}.mp4", match[1]], "video")
        if path not in lengths:
            with open_video(path) as video:
                lengths[path] = video.duration
        reference = {"span": [float(match[2]), float(match[3])], "duration": lengths[path]}
        media = VideoInput(source=UniformFrames(path, place.frames))
        question = CHARADES.format(sentence=_sentence(match[4]), total=place.frames)
        yield Item(key=where, prompt=ask(question, [media]), reference=reference)
