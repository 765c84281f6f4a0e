"""Which files a path, a folder or a pattern stands for, and of which kind they are."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from percept.core.errors import PerceptError
from percept.data.files import VIDEO_SUFFIXES, PathLike, image_suffixes, natural_order
from percept.data.sources.arrow import saved_files

KINDS = {
    ".tar": "tar", ".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "table", ".tsv": "table",
    ".parquet": "arrow", ".pq": "arrow", ".arrow": "arrow", ".feather": "arrow",
}  # fmt: skip
"""Kind of a file by its ending."""
IN_FOLDERS = tuple(ending for ending in KINDS if ending != ".json")
"""Endings that make a folder one of tables or shards; it is one of images otherwise. A .json file may belong to an image."""
SPLITS = re.compile(r"(train|test|val|valid|validation|dev)(?=[-_.])", re.IGNORECASE)
COMPRESSED = re.compile(r"\.(tar\.(gz|bz2|xz|zst)|tgz|tbz2|txz)$", re.IGNORECASE)
UNDERSTOOD = (
    "a folder of images or videos (with .txt or .json files of the same names), .csv and .tsv tables, .jsonl and .json rows, "
    ".parquet and .arrow files, folders of Hugging Face datasets, and WebDataset shards (.tar)"
)


def matching(where: PathLike) -> list[Path]:
    """Return the paths that a path or pattern stands for, in natural order.

    Raises:
        PerceptError: there is none.
    """
    name = os.fspath(where)
    if os.path.lexists(name):
        return [Path(name)]
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", name):
        raise PerceptError(f"{name} is an address. Download the files first, and give their path.")
    found = [
        Path(path)
        for each in expanded(name)
        for path in (glob.glob(each, recursive=True) if _is_glob(each) else [each])
    ]
    if not found:
        raise PerceptError(f"nothing matches {name}. Check the path; a source is {UNDERSTOOD}.")
    if missing := [path for path in found if not path.exists()]:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise PerceptError(f"there is no file or folder {missing[0]}{more}. Check the path or pattern.")
    return sorted(found, key=natural_order)


def _is_glob(name: str) -> bool:
    return any(letter in name for letter in "*?[")


def expanded(pattern: str) -> list[str]:
    """Expand braces as shells do.

    >>> expanded("{train,test}-{08..10}.tar")[1:4]
    ['train-09.tar', 'train-10.tar', 'test-08.tar']
    """
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None or not ("," in match[1] or ".." in match[1]):
        return [pattern]
    head, tail = pattern[: match.start()], pattern[match.end() :]
    if (numbers := re.fullmatch(r"(\d+)\.\.(\d+)", match[1])) is not None:
        width = len(numbers[1]) if numbers[1].startswith("0") else 0
        options = [f"{number:0{width}d}" for number in range(int(numbers[1]), int(numbers[2]) + 1)]
    else:
        options = match[1].split(",")
    return [head + option + rest for option in options for rest in expanded(tail)]


def files_in(path: Path) -> list[Path]:
    """Return the tables or shards of a folder; none for a folder of images, or for a file.

    Raises:
        PerceptError: the folder holds several kinds or splits, or nothing that is known.
    """
    if not path.is_dir():
        return []
    if (saved := saved_files(path)) is not None:
        return saved
    inside = [file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")]
    files = [file for file in inside if file.suffix.lower() in IN_FOLDERS]
    if described := [file for file in files if file.stem == "metadata"]:
        files = described
    if not files:
        files = _deeper(path)
    if len({KINDS[file.suffix.lower()] for file in files}) > 1:
        raise PerceptError(
            f"{path} holds several kinds of files: {endings(files)}. Name those to read, such as {path}/*.tar."
        )
    splits = {match[1].lower() for file in files if (match := SPLITS.match(file.name))}
    if len(splits) > 1:
        raise PerceptError(
            f"{path} holds the splits {', '.join(sorted(splits))}. Name one, such as '{path}/{sorted(splits)[0]}*'."
        )
    return sorted(files, key=natural_order)


def _deeper(path: Path) -> list[Path]:
    """Look for shards in subfolders, then for other tables, then for .json files, unless there are images or videos.

    Raises:
        PerceptError: there is nothing that is known.
    """
    seen: Counter[str] = Counter()
    by_rank: dict[int, list[Path]] = {}
    media = image_suffixes() | VIDEO_SUFFIXES | {".ts"}
    for folder, subfolders, names in os.walk(path):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for file in (Path(folder, name) for name in names if not name.startswith(".")):
            suffix = file.suffix.lower()
            if suffix in media:
                return []
            seen[suffix or "(none)"] += 1
            if suffix in KINDS:
                rank = 0 if suffix in (".tar", ".parquet") else 1 if suffix in IN_FOLDERS else 2
                by_rank.setdefault(rank, []).append(file)
    shards = by_rank[min(by_rank)] if by_rank else []
    folders = {shard.relative_to(path).parts[0] for shard in shards if shard.parent != path}
    if len(folders) > 1:
        raise PerceptError(f"{path} holds files in {', '.join(sorted(folders))}. Name one of these folders.")
    if not shards:
        check_not_compressed(path.rglob("*"))
        found = ", ".join(f"{number} {ending}" for ending, number in seen.most_common(8))
        found = f"{found}, none of which is known" if found else "no files"
        raise PerceptError(f"{path} holds {found}. A source is {UNDERSTOOD}.")
    return shards


def check_not_compressed(files: Iterable[Path]) -> None:
    """Check that no file is a compressed shard.

    Raises:
        PerceptError: one is.
    """
    for file in files:
        if COMPRESSED.search(file.name):
            raise PerceptError(
                f"{file} is compressed, so single samples cannot be read. Decompress it; images do not get smaller."
            )


def is_media(path: Path) -> bool:
    """True if a file's ending is that of an image or a video."""
    return path.suffix.lower() in image_suffixes() | VIDEO_SUFFIXES


def endings(files: Iterable[Path]) -> str:
    """Return how many files have each ending, as text."""
    counts = Counter(file.suffix.lower() or file.name for file in files)
    return ", ".join(f"{number} {ending}" for ending, number in counts.most_common(8))


def labelled(files: Sequence[Path]) -> list[tuple[Path, str]]:
    """Return absolute paths with what distinguishes them, for keys."""
    parent = Path(os.path.commonpath([file.absolute().parent for file in files]))
    return [(file.absolute(), file.absolute().relative_to(parent).as_posix()) for file in files]
