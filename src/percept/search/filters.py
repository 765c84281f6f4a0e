"""Filters as people type them: dates, sizes, and which of several copies a filter means."""

import os
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

from percept.core.errors import PerceptError
from percept.search.store import Filter

FORMS = ("%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S")


def moment_of(text: str) -> float:
    """Return the first second of a year, month, day or time of the local clock, in seconds since 1970.

    >>> moment_of("2024-05") == moment_of("2024-05-01 00:00")
    True

    Raises:
        PerceptError: not a date.
    """
    for form in FORMS:
        try:
            return datetime.strptime(text.strip(), form).astimezone().timestamp()
        except (ValueError, OverflowError):
            continue
    raise PerceptError(f"{text!r} is not a date. Write 2024, 2024-05, 2024-05-31 or '2024-05-31 14:30'.")


def make_filter(
    *,
    path: tuple[str, ...] = (),
    not_path: tuple[str, ...] = (),
    kind: str | None = None,
    after: str | None = None,
    before: str | None = None,
    min_side: int | None = None,
    max_side: int | None = None,
) -> Filter | None:
    """Return the filter of the options of a command; None if nothing was chosen.

    Args:
        path: patterns, or folders and files that exist.
        not_path: patterns to leave out.
        kind: image or video.
        after: date, included.
        before: date, excluded.
        min_side: pixels that the shorter side has at least.
        max_side: pixels that the longer side has at most.

    Raises:
        PerceptError: an unknown kind, a date that is not one or an empty period, or a size below 1.
    """
    start, stop = (None if text is None else moment_of(text) for text in (after, before))
    if start is not None and stop is not None and start >= stop:
        raise PerceptError(f"no time is after {after} and before {before}. Give an earlier date first.")
    for name, size in (("the shorter side", min_side), ("the longer side", max_side)):
        if size is not None and size < 1:
            raise PerceptError(f"the limit of {name} must be at least 1 pixel, got {size}.")
    if kind not in (None, "image", "video"):
        raise PerceptError(f"the type of files must be image or video, got {kind!r}.")
    folders = tuple(filter(os.path.exists, path))
    condition = Filter(
        include=tuple(each for each in path if each not in folders), exclude=not_path,
        below=tuple(map(os.path.abspath, folders)), kind=kind, after=start, before=stop, min_side=min_side,
        max_side=max_side,
    )  # fmt: skip
    return None if condition == Filter() else condition


def prefers(condition: Filter | None, path: Path) -> bool:
    """True if a path meets the parts of a filter that concern paths."""
    if condition is None:
        return True
    name = os.fspath(path)
    included = not condition.include or any(_matches(name, pattern) for pattern in condition.include)
    inside = not condition.below or any(path.is_relative_to(folder) for folder in condition.below)
    return included and inside and not any(_matches(name, pattern) for pattern in condition.exclude)


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern if pattern.startswith(("/", "*")) else f"*/{pattern}")
