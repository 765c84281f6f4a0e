"""The table of weight layouts, and which of them a file or a folder is in."""

from collections.abc import Collection, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError, unknown_name
from percept.weights.facts import facts_file
from percept.weights.files import INDEX, SUFFIXES
from percept.weights.layout import Layout

LAYOUTS = {
    "open_clip": "percept.weights.layouts.open_clip:LAYOUT",
    "percept": "percept.weights.layouts.percept:LAYOUT",
    "official": "percept.weights.layouts.official:LAYOUT",
    "timm": "percept.weights.layouts.timm:LAYOUT",
    "transformers": "percept.weights.layouts.refused:TRANSFORMERS",
    "checkpoint": "percept.weights.layouts.refused:CHECKPOINT",
}
"""Name: module and object. The first layout that matches keys or files is taken."""
SHARED_FILES = ("tokenizer.json", "words.txt", "metrics.json")
"""Files that may belong to a model in any layout."""


@cache
def _imported(address: str) -> Layout:
    module, _, name = address.partition(":")
    return getattr(import_module(module), name)


def layouts() -> dict[str, Layout]:
    """Return every layout by its name, refused ones included."""
    return {name: _imported(address) for name, address in LAYOUTS.items()}


def readable() -> dict[str, Layout]:
    """Return the layouts that can be read and written."""
    return {name: layout for name, layout in layouts().items() if not layout.refusal}


def find_layout(name: str) -> Layout:
    """Return a layout that can be read and written.

    Raises:
        PerceptError: no such layout; the nearest ones are suggested.
    """
    known = readable()
    if name not in known:
        raise unknown_name("layout", name, known)
    return known[name]


def recognise(keys: Collection[str], *, source: str) -> Layout:
    """Return the layout that a file with these keys is in.

    Raises:
        PerceptError: the layout is unknown, or it is not read here.
    """
    for layout in layouts().values():
        if any(key.startswith(layout.marks) for key in keys):
            return _accepted(layout, source)
    shown = ", ".join(sorted(keys)[:4])
    known = "; ".join(f"{name} ({' or '.join(layout.marks[:2])}...)" for name, layout in readable().items())
    raise PerceptError(
        f"the layout of {source} is unknown: its {len(keys)} keys are {shown}... Convert the file to one of: {known}"
    )


def claimant(folder: Path, files: Collection[str], config: Mapping[str, Any]) -> Layout | None:
    """Return the layout that the configuration files of a folder belong to; None if there are none.

    Raises:
        PerceptError: the layout is not read here, or the folder lacks a file that the layout needs.
    """
    for layout in layouts().values():
        if layout.claims(files, config):
            _accepted(layout, str(folder)).check_folder(folder)
            return layout
    return None


def _accepted(layout: Layout, source: str) -> Layout:
    if layout.refusal:
        raise PerceptError(layout.refusal.format(source=source))
    return layout


def generic_stems() -> set[str]:
    """Return the weight files' names, without endings, that are the same for every model."""
    return {Path(file).stem for layout in layouts().values() for file in layout.weight_files if "{" not in file}


def pick_files(files: Collection[str], name: str, *, place: str | None = None) -> list[str]:
    """Return the files that a model consists of, weights (or their index) first, among those of a folder or repository.

    Args:
        files: names in the folder or repository.
        name: name of the model; NAME.pt and NAME.safetensors count as its weights.
        place: the folder or repository, for the message; `name` if None.

    Raises:
        PerceptError: there is no weight file, or there are several and none has a known name.
    """
    for layout in layouts().values():
        if layout.config_files and layout.config_files[0] not in files:
            continue
        for weights in (file.format(name=name) for file in layout.weight_files):
            for stored in (weights, weights + INDEX):
                if stored in files:
                    return _with_companions(stored, layout.config_files, files)
    indexes = [file for file in files if "/" not in file and file.endswith(INDEX)]
    rest = indexes or [file for file in files if "/" not in file and file.endswith(SUFFIXES)]
    if len(rest) == 1:
        return _with_companions(rest[0], (), files)
    if rest:
        raise PerceptError(f"{place or name} holds several weight files: {', '.join(sorted(rest))}; name one of them")
    raise PerceptError(
        f"{place or name} holds no weights (a file ending in {', '.join(SUFFIXES)}); give a folder or file with weights"
    )


def _with_companions(weights: str, configs: Collection[str], files: Collection[str]) -> list[str]:
    extras = (*configs, facts_file(Path(weights)).name, *SHARED_FILES)
    return [weights, *(extra for extra in extras if extra in files)]
