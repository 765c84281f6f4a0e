"""Read rows of any known kind in chunks whose keys, captions and images have fixed names."""

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.core.io import content_hash, file_hash
from percept.data.curate.readers import READERS, BadRows, Record, arrow, read_file
from percept.data.sources.places import is_media

CHUNK_ROWS, CHUNK_BYTES = 8192, 64 << 20
"""A chunk ends at this number of rows, or when the images inside its rows take this many bytes."""
KEY, TEXTS, IMAGE = "key", "captions", "image"
"""Names of the columns that every chunk has: a string, a list of strings, and a path, the bytes of a file or null."""
KEY_NAMES = ("key", "__key__", "id", "uid", "uuid", "image_id")
TEXT_NAMES = ("captions", "caption", "texts", "text", "txt", "alt_text", "short_caption", "title")
IMAGE_NAMES = (
    "image",
    "images",
    "image_path",
    "path",
    "filename",
    "file",
    "file_name",
    "filepath",
    "jpg",
    "png",
    "url",
)
CAPTION = "caption"
"""Column of the result with the first caption; a list of all is written as well where a row has several."""
RESULT = (KEY, TEXTS, IMAGE, CAPTION)
FILE_NAME = re.compile(r"[^\n\0]{1,1000}\.\w{1,8}")
"""What may be the path of a file: it has an ending."""
LOOK = 1000
"""Rows of a file that are read before it is refused for columns that none of them has."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of the columns of the source; by default the first that exists of the usual names."""

    key: str | None = None
    """Column with a unique name of each row. Default: the row's number."""
    text: str | None = None
    """Column with a caption or a list of captions."""
    image: str | None = None
    """Column with the path of an image, relative to the source's folder, or the bytes of its file."""


class BadRowError(Exception):
    """A row cannot be used; the message is the reason."""


def source_files(source: Path) -> list[Path]:
    """Return the files of a source: the file itself, all files of known kinds in a folder, sorted by name, or a folder of images.

    Raises:
        PerceptError: there are none.
    """
    if source.is_dir():
        inside = (path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
        files = sorted(path for path in inside if path.suffix.lower() in READERS)
        if not files and any(map(is_media, source.rglob("*"))):
            files = [source]
    elif source.is_file():
        files = [source] if source.suffix.lower() in READERS else []
    else:
        raise PerceptError(f"there is no file or folder {source}.")
    if not files:
        raise PerceptError(
            f"{source} holds no rows that can be read. Give a file of {' '.join(READERS)}, or a folder of such files or of images."
        )
    return files


def identity(file: Path) -> dict[str, Any]:
    """Return name, size and hash of a file of a source; of a folder of images the names and sizes, and the contents of their texts."""
    if not file.is_dir():
        return {"file": file.name, "bytes": file.stat().st_size, "hash": file_hash(file)}
    from percept.data.sources.open import open_rows

    rows = open_rows(file)
    images = [rows.key(number) for number in range(len(rows))]
    sizes = [(file / image).stat().st_size for image in images]
    texts = [(file / image).with_suffix(suffix) for image in images for suffix in (".txt", ".json")]
    hashes = [file_hash(text) for text in texts if text.is_file()]
    return {"file": file.name, "bytes": sum(sizes), "hash": content_hash(repr((images, sizes, hashes)).encode())}


def read_chunks(files: list[Path], columns: Columns, out: Path, bad: BadRows) -> Iterator[Any]:
    """Yield Arrow tables of at most `CHUNK_ROWS` rows; bad rows are left out and counted.

    Args:
        files: files of the source, in order.
        columns: where keys, captions and images are.
        out: folder of the result; relative paths of images are made relative to it.
        bad: receives the rows that cannot be used.
    """
    rows: list[Record] = []
    size = number = 0
    for file in files:
        seen: dict[str, None] = {}
        for place, (where, record) in enumerate(read_file(file, bad)):
            if place < LOOK:
                seen |= dict.fromkeys(map(str, record))
            if place == LOOK - 1:
                check_columns(columns, seen, file)
            try:
                rows.append(normalised(record, resolve(columns, tuple(record)), number, file.parent, out))
                bad.missing += is_missing(rows[-1][IMAGE], out)
                size += len(rows[-1][IMAGE]) if isinstance(rows[-1][IMAGE], bytes) else 0
            except BadRowError as error:
                bad.add(str(error), where)
            number += 1
            if len(rows) >= CHUNK_ROWS or size >= CHUNK_BYTES:
                yield as_table(rows)
                rows, size = [], 0
        if seen:
            check_columns(columns, seen, file)
    if rows:
        yield as_table(rows)


def check_columns(columns: Columns, known: Collection[str], file: Path) -> None:
    """Check that a file has the columns that were named, and one with captions.

    Raises:
        PerceptError: it has not.
    """
    for what, chosen in (("caption", columns.text), ("key", columns.key), ("image", columns.image)):
        if chosen is not None and chosen not in known:
            raise PerceptError(f"{file} has no column {chosen!r} for the {what}. It has: {', '.join(known)}.")
    if columns.text is None and not any(name in known for name in TEXT_NAMES):
        if file.is_dir():
            raise PerceptError(
                f"{file} has images without captions. Put captions into .txt files of the same names, or use --text label if "
                "its subfolders are classes."
            )
        raise PerceptError(f"{file} has no caption column among its columns {', '.join(known)}. Name it with --text.")


@lru_cache
def resolve(columns: Columns, present: tuple[str, ...]) -> Columns:
    """Return the names of the columns of a row; those of json lines may differ from row to row.

    >>> resolve(Columns(), ("url", "text")).text
    'text'
    """

    def pick(chosen: str | None, usual: tuple[str, ...]) -> str | None:
        return next((name for name in (usual if chosen is None else (chosen,)) if name in present), None)

    return Columns(
        key=pick(columns.key, KEY_NAMES), text=pick(columns.text, TEXT_NAMES), image=pick(columns.image, IMAGE_NAMES)
    )


def normalised(record: Mapping[str, Any], names: Columns, number: int, folder: Path, out: Path) -> Record:
    """Return a row with the columns KEY, TEXTS and IMAGE, and all other columns, with the paths of files made relative to `out`.

    A column that is not used and has the name of one of the result gets the name `source_NAME`.

    Raises:
        BadRowError: there is no caption, it is not a text, or the image is neither a path nor bytes.
    """
    if names.text is None:
        raise BadRowError("there is no caption")
    key = record.get(names.key) if names.key else None
    image = record.get(names.image) if names.image else None
    if isinstance(image, list) and len(image) == 1:
        image = image[0]
    if isinstance(image, dict):  # a Hugging Face image: {"bytes": ..., "path": ...}
        image = image.get("bytes") or image.get("path")
    if not isinstance(image, str | bytes | None):
        raise BadRowError(f"the image is neither a path nor bytes but {type(image).__name__}")
    row: Record = {
        KEY: f"{number:09d}" if key is None else str(key),
        TEXTS: texts_of(record.get(names.text)),
        IMAGE: relative(image, folder, out) if isinstance(image, str) else image,
    }
    used = {names.key, names.text, names.image}
    rest = {name: moved(value, folder, out) for name, value in record.items() if name not in used}
    return row | {f"source_{name}" if name in RESULT else name: value for name, value in rest.items()}


def texts_of(value: Any) -> list[str]:
    """Return the captions in a value: a text or a list of texts.

    Raises:
        BadRowError: it is neither, or there is no text.
    """
    texts = [value] if isinstance(value, str) else value
    if texts is None or texts == [] or texts == [""]:
        raise BadRowError("there is no caption")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadRowError("the caption is neither a text nor a list of texts")
    return texts


def relative(image: str, folder: Path, out: Path) -> str:
    """Return the path of an image for a reader in the folder `out`; absolute paths and addresses stay."""
    if "://" in image or os.path.isabs(image):
        return image
    return os.path.relpath(folder / image, out).replace(os.sep, "/")


def moved(value: Any, folder: Path, out: Path) -> Any:
    """Return a value in which relative paths of files in `folder`, such as those of masks, start from `out`."""
    if isinstance(value, list):
        return [moved(each, folder, out) for each in value]
    if isinstance(value, dict):
        return {name: moved(each, folder, out) for name, each in value.items()}
    if isinstance(value, str) and FILE_NAME.fullmatch(value) and os.path.isfile(folder / value):
        return relative(value, folder, out)
    return value


def is_missing(image: Any, out: Path) -> bool:
    """True if an image is a path, relative to `out`, at which there is no file."""
    return isinstance(image, str) and "://" not in image and "\0" not in image and not os.path.isfile(out / image)


def as_table(rows: list[Record]) -> Any:
    """Return an Arrow table; a column whose values differ in type becomes json."""
    pa = arrow()
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({str(name): _column([row.get(name) for row in rows], name) for name in names})


def _column(values: list[Any], name: str) -> Any:
    pa = arrow()
    if name == TEXTS:
        return pa.array(values, pa.list_(pa.string()))
    kinds = {type(value) for value in values if value is not None}
    if bytes in kinds and len(kinds) > 1:
        raise PerceptError(f"column {name!r} has both bytes and other values. Use one kind for all rows.")
    try:
        array = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        array = None
    if array is None or _has_empty_struct(array.type):  # which parquet cannot hold
        array = pa.array([json.dumps(value, ensure_ascii=False, sort_keys=True, default=str) for value in values])
    return array


def _has_empty_struct(kind: Any) -> bool:
    inner = [kind.field(number).type for number in range(kind.num_fields)]
    return (str(kind).startswith("struct") and not inner) or any(map(_has_empty_struct, inner))
