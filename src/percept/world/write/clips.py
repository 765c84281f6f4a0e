"""Clips as MP4: tar shards as in the PE Video Dataset, the lists of MSR-VTT, and the rows of Perception LM."""

import csv
import io
import json
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path

from percept.core.seed import derive
from percept.world.clips import Clip, clip_rows, generate_clip, pvd_record
from percept.world.clips.language import long_caption, short_caption
from percept.world.clips.rows import SAMPLED
from percept.world.write.encode import RATE, add_member, mp4
from percept.world.write.folder import taken_lines, write_object
from percept.world.write.job import UNITS, Job, Lines, key_of

SENTENCES = 5
"""Most captions of a clip in MSR-VTT's list."""
_SUBSETS = {"train": "train", "validation": "validate", "evaluation": "test"}
"""Names of the splits in MSR-VTT."""
_COLUMNS = ("key", "vid_key", "video_id", "sentence")


def check(job: Job) -> None:
    """Render the first clip.

    Raises:
        PerceptError: an argument is out of range.
    """
    clip_of(job, 0)


def clip_of(job: Job, number: int) -> Clip:
    """Return clip `number` of a job."""
    return generate_clip(job.seed + number, split=job.split, frames=job.frames, size=job.side)


def write_webdataset(job: Job, numbers: range) -> Lines:
    """Write one tar shard: `KEY.mp4`, `KEY.json` with `human_caption` and `video_duration_in_s`, and all truth in `KEY.truth.json`."""
    folder = Path(job.folder, "train" if job.split == "train" else "test")
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / f"{numbers.start // UNITS['clips']:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for number in numbers:
            clip, key = clip_of(job, number), key_of(number)
            add_member(tar, f"{key}.mp4", mp4(clip.frames))
            add_member(tar, f"{key}.json", json.dumps(pvd_record(clip, frames_per_second=float(RATE))).encode())
            add_member(tar, f"{key}.truth.json", json.dumps(clip.record()).encode())
    return {}


def write_msrvtt(job: Job, numbers: range) -> Lines:
    """Write the videos; return the lines of the lists."""
    lines: dict[str, list[str]] = {".videos": [], ".sentences": [], ".rows": []}
    for number in numbers:
        clip, name = clip_of(job, number), f"video{number}"
        job.put(f"videos/all/{name}.mp4", mp4(clip.frames))
        seconds = round(len(clip.frames) / RATE, 3)
        video = {"id": number, "video_id": name, "split": _SUBSETS[job.split], "start time": 0.0, "end time": seconds}
        lines[".videos"].append(json.dumps(video) + "\n")
        captions = _sentences(clip)
        for place, caption in enumerate(captions):
            entry = {"caption": caption, "video_id": name, "sen_id": number * SENTENCES + place}
            lines[".sentences"].append(json.dumps(entry) + "\n")
        lines[".rows"].append(_cells(f"ret{number}", f"msr{number}", name, captions[0]))
    return lines


def write_msrvtt_lists(job: Job) -> None:
    """Write `MSRVTT_data.json` with all captions, and a csv file with one caption per video, as for retrieval."""
    folder = Path(job.folder)
    head = {"info": {"description": "percept world", "split": job.split, "seed": job.seed}}
    lists = {name: taken_lines(folder / f".{name}") for name in ("videos", "sentences")}
    write_object(folder / "MSRVTT_data.json", head, lists)
    with (folder / f"MSRVTT_{_SUBSETS[job.split]}.csv").open("w", encoding="utf-8", newline="") as file:
        file.write(_cells(*_COLUMNS))
        file.writelines(taken_lines(folder / ".rows"))


def _sentences(clip: Clip) -> list[str]:
    """Return a long and several short captions, all different."""
    rng = random.Random(derive(clip.plan.seed, "sentences", clip.plan.split, clip.plan.frames))
    short = (short_caption(clip.plan, rng) for _ in range(SENTENCES - 1))
    return list(dict.fromkeys([long_caption(clip.plan, rng), *short]))


def _cells(*cells: str) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def write_plm(job: Job, numbers: range) -> Lines:
    """Write the videos; return a line per row in a file per task. In evaluation, only rows about held-out actions are kept."""
    lines: dict[str, list[str]] = {}
    for number in numbers:
        clip = clip_of(job, number)
        video = job.put(f"videos/{key_of(number)}.mp4", mp4(clip.frames))
        for name, line in _rows(clip, video):
            lines.setdefault(name, []).append(line)
    return lines


def _rows(clip: Clip, video: str) -> Iterator[tuple[str, str]]:
    """Yield the file and the line of each row."""
    for row in clip_rows(clip, video=video, sampled=min(SAMPLED, clip.plan.frames)):
        if row.held_out or clip.plan.split != "evaluation":
            yield f"{row.task}.jsonl", json.dumps(row.data) + "\n"
