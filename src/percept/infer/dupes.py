"""Near duplicates among image and video files: groups, and the one of each that is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from percept.core.errors import PerceptError
from percept.data.copies import FileFacts, best_first, led, read_facts
from percept.data.files import BadFile, is_video

if TYPE_CHECKING:
    from percept.infer.clips import Sampling
    from percept.infer.encoder import Encoder

ABOVE = 0.95


@dataclass(frozen=True, kw_only=True)
class Copy:
    """A file that repeats the one that is kept."""

    file: FileFacts
    cosine: float
    """With the file that is kept."""
    exact: bool
    """True if the content is the same, byte for byte."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Files that are nearly the same: one to keep, and its copies, the nearest first."""

    keep: FileFacts
    copies: tuple[Copy, ...]

    @property
    def bytes(self) -> int:
        """Bytes of the copies."""
        return sum(copy.file.bytes for copy in self.copies)


@dataclass(frozen=True, kw_only=True)
class Dupes:
    """Groups of near duplicates, the largest first."""

    groups: tuple[Group, ...]
    files: int
    """Files that were compared."""
    bad: tuple[BadFile, ...] = ()


def find_dupes(
    encoder: "Encoder",
    files: Sequence[Path],
    *,
    above: float = ABOVE,
    keep: str = "largest",
    sampling: "Sampling | None" = None,
) -> Dupes:
    """Return the groups of near duplicates: files of equal content, and files whose cosine with the one that is kept is at least `above`.

    Files are taken in the order of the rule, so the best of a group leads it, and every copy is close to what is kept. Each content is
    encoded once, and images are not compared with videos.

    Args:
        encoder: its image vectors are compared.
        files: image and video files.
        above: least cosine.
        keep: rule of `percept.data.copies.KEEP`: largest, sharpest, oldest, newest or first.
        sampling: which frames stand for a video.

    Raises:
        PerceptError: a threshold outside 0 to 1, an unknown rule, or no file can be read.
    """
    check_rule(above, keep)
    results = list(read_facts(files, sharpness=keep == "sharpest"))
    bad = [each for each in results if isinstance(each, BadFile)]
    facts = ordered([each for each in results if not isinstance(each, BadFile)], keep)
    read = encoder.files([each.path for each in first_of_each(facts).values()], sampling=sampling)
    bad += read.bad
    if not read.paths:
        reason = f", such as {bad[0].path}: {bad[0].reason}" if bad else ""
        raise PerceptError(f"none of the {len(files)} files can be read{reason}")
    return grouped(facts, read.paths, read.vectors.float().numpy(), above=above, bad=bad)


def check_rule(above: float, keep: str) -> None:
    """Raise a PerceptError for a threshold outside 0 to 1 or an unknown rule, before any work."""
    if not 0 < above <= 1:
        raise PerceptError(f"above must be a cosine above 0 and at most 1, got {above}.")
    best_first((), keep)


def ordered(facts: Sequence[FileFacts], keep: str) -> list[FileFacts]:
    """Return the files in the order of the rule `keep`: of a group, the first is kept."""
    return [facts[number] for number in best_first(facts, keep)]


def first_of_each(facts: Sequence[FileFacts]) -> dict[str, FileFacts]:
    """Return the first file of each content, by its hash; its vector stands for all of them."""
    first: dict[str, FileFacts] = {}
    for each in facts:
        first.setdefault(each.hash, each)
    return first


def grouped(
    facts: Sequence[FileFacts],
    paths: Sequence[Path],
    vectors: Float[np.ndarray, "n d"],
    *,
    above: float,
    bad: Sequence[BadFile] = (),
) -> Dupes:
    """Return the groups of near duplicates among files.

    Args:
        facts: files in the order of the rule.
        paths: the first file of each content, in the same order; contents without a vector are left out.
        vectors: unit vector of each of these.
        above: least cosine of a copy with the file that is kept.
        bad: files that could not be used.
    """
    first = first_of_each(facts)
    kept = _led_by_kind(paths, vectors, above)
    hashes = {each.path: each.hash for each in first.values()}
    leaders = {hashes[path]: (hashes[leader], cosine) for path, (leader, cosine) in kept.items()}
    return Dupes(
        groups=_groups(facts, first, leaders), files=sum(each.hash in leaders for each in facts), bad=tuple(bad)
    )


def _led_by_kind(
    paths: Sequence[Path], vectors: Float[np.ndarray, "n d"], above: float
) -> dict[Path, tuple[Path, float]]:
    """Return for each path the one that leads it, and their cosine; images and videos apart."""
    result = {}
    videos = np.array([is_video(path) for path in paths], dtype=bool)
    for kind in (False, True):
        rows = np.flatnonzero(videos == kind)
        leader, cosine = led(vectors[rows], above)
        for row, lead, value in zip(rows.tolist(), rows[leader].tolist(), cosine, strict=True):
            result[paths[row]] = paths[lead], min(1.0, float(value))
    return result


def _groups(
    facts: Sequence[FileFacts], first: dict[str, FileFacts], leaders: dict[str, tuple[str, float]]
) -> tuple[Group, ...]:
    groups: dict[str, list[Copy]] = {}
    for each in facts:
        if each.hash not in leaders:
            continue  # it could not be encoded
        lead, cosine = leaders[each.hash]
        if each is not first[lead]:
            exact = each.hash == lead
            groups.setdefault(lead, []).append(Copy(file=each, cosine=1.0 if exact else cosine, exact=exact))
    found = [
        Group(keep=first[lead], copies=tuple(sorted(copies, key=lambda copy: -copy.cosine)))
        for lead, copies in groups.items()
    ]
    return tuple(sorted(found, key=lambda group: -len(group.copies)))
