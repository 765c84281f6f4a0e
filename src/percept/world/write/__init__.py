"""Write the labelled world as files of the formats of the field. An interrupted run leaves no files.

Images:

- folder: `images/KEY.png`, `truth/KEY.json`, `masks/KEY.png`, `depth/KEY.png`
- jsonl: `images/KEY.png`, `masks/KEY.png`, `depth/KEY.png`, and one line of truth per image in `truth.jsonl`, with
  the paths of these files as `image`, `masks` and `depth`
- webdataset: `SHARD.tar` with `KEY.png`, `KEY.json`, `KEY.txt` (short caption), `KEY.masks.png`, `KEY.depth.png`
- coco: `train2017/KEY.png`, `annotations/instances_train2017.json`, `annotations/captions_train2017.json`, `depth/train2017/KEY.png`

Clips:

- webdataset: tar files of the PE Video Dataset, with `KEY.mp4`, `KEY.json` and `KEY.truth.json`
- davis: `JPEGImages`, `Annotations` and `ImageSets`, with `Depth` and `Truth`
- msrvtt: `videos/all/videoN.mp4`, `MSRVTT_data.json`, `MSRVTT_train.csv`
- plm: `videos/KEY.mp4`, and a json lines file per task

Questions: plm. Documents: folder, plm. Rooms: folder, plm.

Folders of images, and folders in COCO's layout, of documents and of rooms have a `metadata.jsonl`, which lists the images that are rows
and their captions, so that `open_source` reads the folder.

Pixels of masks are the number of the visible thing, or 0; those of depth are from 0 (near) to 255 (far), in rooms millimetres.
"""

import os
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError, unknown_name
from percept.core.parallel import map_processes
from percept.core.report import track
from percept.world.languages import LANGUAGES
from percept.world.noise import Noise
from percept.world.write.folder import appearing, append
from percept.world.write.job import UNITS, Format, Job, Lines

FORMATS: dict[str, dict[str, Format]] = {
    "images": {
        "folder": Format(write="images:write_folder"),
        "jsonl": Format(write="images:write_jsonl"),
        "webdataset": Format(write="images:write_webdataset"),
        "coco": Format(write="coco:write_images", finish="coco:write_annotations"),
    },
    "clips": {
        "webdataset": Format(write="clips:write_webdataset"),
        "davis": Format(write="davis:write_frames"),
        "msrvtt": Format(write="clips:write_msrvtt", finish="clips:write_msrvtt_lists"),
        "plm": Format(write="clips:write_plm"),
    },
    "questions": {"plm": Format(write="questions:write_plm")},
    "documents": {"folder": Format(write="documents:write_folder"), "plm": Format(write="documents:write_plm")},
    "rooms": {"folder": Format(write="rooms:write_folder"), "plm": Format(write="rooms:write_plm")},
}
"""Formats of each kind of sample; the first one is the default. The module of each kind has a `check` that makes the first sample."""
MANY = 6
"""Smallest number of units of work for which processes are started by default."""
_USED = {
    "images": ("style", "noise", "languages"),
    "clips": ("frames",),
    "questions": ("style",),
    "documents": (),
    "rooms": (),
}
"""Arguments that not all kinds of samples take."""


def write(
    folder: Path | str,
    count: int,
    *,
    what: str = "images",
    format: str | None = None,
    seed: int = 0,
    split: str = "train",
    style: str | None = None,
    size: int | None = None,
    frames: int | None = None,
    noise: Noise | None = None,
    languages: tuple[str, ...] = (),
    workers: int | None = None,
) -> Path:
    """Write samples number `seed`, `seed` + 1, … of a split with their truth; return the folder.

    The bytes do not depend on the number of workers.

    Args:
        folder: new or empty folder.
        count: number of images, clips, questions, documents or rooms.
        what: a name of `FORMATS`.
        format: a name of `FORMATS[what]`; the first one by default.
        seed: number of the first sample.
        split: a name of `SPLITS`.
        style: a name of `STYLES`, or "mixed", for images and questions; "plain" by default.
        size: shorter side in pixels, 96 by default; the width of documents, which by default makes their text legible.
        frames: frames of a clip, from 8 to 64; 32 by default.
        noise: rates of wrong, empty and other bad captions of images; `caption` is then the noisy text.
        languages: names of `LANGUAGES`; captions of images are written in each.
        workers: number of processes, 0 for the calling process; None for one per core if there are many samples.

    Raises:
        PerceptError: the folder is not empty, or an argument is out of range or has no effect.
    """
    if what not in FORMATS:
        raise unknown_name("kind of sample", what, FORMATS)
    format = format or next(iter(FORMATS[what]))
    if format not in FORMATS[what]:
        raise _unknown_format(what, format)
    _check_used(what, {"style": style, "frames": frames, "noise": noise, "languages": languages or None})
    _check_numbers(count, workers, languages)
    job = Job(
        folder="", count=count, seed=seed, split=split, style=style or "plain", size=size, frames=32 if frames is None else frames,
        noise=noise, languages=languages,
    )  # fmt: skip
    _function(f"{what}:check")(job)  # refuses wrong arguments before anything is written
    with appearing(Path(folder)) as temporary:
        _write_units(job.within(temporary), what, FORMATS[what][format], workers)
    return Path(folder)


def _unknown_format(what: str, format: str) -> PerceptError:
    """Return an error that names the kinds of samples that are written in a format."""
    kinds = [kind for kind, formats in FORMATS.items() if format in formats]
    if not kinds:
        return unknown_name(f"format of {what}", format, FORMATS[what])
    advice = " or ".join(f"--what {kind}" for kind in kinds)
    return PerceptError(
        f"{format} is a format of {' and '.join(kinds)}, not of {what}. Choose {advice}, or a format of {what}: "
        f"{', '.join(FORMATS[what])}."
    )


def _write_units(job: Job, what: str, format: Format, workers: int | None) -> None:
    """Write all units of work in several processes, and what the units list in the calling process, in order."""
    units = [range(start, min(start + UNITS[what], job.count)) for start in range(0, job.count, UNITS[what])]
    workers = workers if workers is not None else (os.cpu_count() or 1 if len(units) >= MANY else 0)
    processes = min(max(1, workers), len(units))
    listed = map_processes(partial(_write_unit, format, job), units, processes=processes)
    for lines in track(listed, f"writing {job.count} {what}", len(units)):
        append(Path(job.folder), lines)
    if format.finish is not None:
        _function(format.finish)(job)


def _write_unit(format: Format, job: Job, numbers: range) -> Lines:
    return _function(format.write)(job, numbers)


def _function(name: str) -> Any:
    """Return a function by `module:name`; only what is written is imported."""
    module, _, function = name.partition(":")
    return getattr(import_module(f"{__name__}.{module}"), function)


def _check_used(what: str, given: dict[str, object]) -> None:
    """Check that no argument is given that has no effect.

    Raises:
        PerceptError: there is one.
    """
    for name, value in given.items():
        if value is not None and name not in _USED[what]:
            kinds = " and ".join(kind for kind, used in _USED.items() if name in used)
            raise PerceptError(f"{name} has no effect on {what}, only on {kinds}. Leave it out.")


def _check_numbers(count: int, workers: int | None, languages: tuple[str, ...]) -> None:
    if count < 1:
        raise PerceptError(f"count must be at least 1, got {count}.")
    if workers is not None and workers < 0:
        raise PerceptError(f"workers must be at least 0, got {workers}.")
    for language in languages:
        if language not in LANGUAGES:
            raise unknown_name("language", language, LANGUAGES)
