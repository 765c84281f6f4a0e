"""Files that a person has: class names, in several common forms, and prompt templates."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.core.io import read_json
from percept.data.inputs import read_bytes
from percept.infer.labels import check_templates

WORDNET = re.compile(r"n\d{8}")
"""A WordNet id, such as n01440764."""
NAMED = ("classnames.txt", "classes.txt", "LOC_synset_mapping.txt", "imagenet_class_index.json")
"""Class files that are found without being named, in the folder of a set or the one above it."""
TEMPLATES = ("zeroshot_classification_templates.txt", "templates.txt")
"""Template files that are found without being named."""
LARGEST = 16 << 20
"""Bytes of the largest list that is read."""
FORMS = (
    "A class file has one name per line, or lines of an id and a name such as 'n01440764 tench', or is json: a list of names, "
    "{id: name}, or {number: [id, name]}"
)


@dataclass(frozen=True, kw_only=True)
class ClassFile:
    """The classes of a file, in order."""

    path: Path
    names: tuple[str, ...]
    ids: tuple[str, ...] = ()
    """Id of each class, such as a WordNet id or the name of its folder; empty if the file has names only."""

    def name_of(self, folder: str) -> str | None:
        """Return the name of the class with an id; None if there is none."""
        return self._by_id().get(folder)

    def _by_id(self) -> dict[str, str]:
        return dict(zip(self.ids, self.names, strict=True)) if self.ids else {}


def class_file(named: Path | None, *folders: Path) -> ClassFile | None:
    """Return the class file that was named, or the first of the usual ones in the folders; None if there is none.

    Raises:
        PerceptError: the file cannot be read or is not a list of classes.
    """
    if named is not None:
        return read_classes(named)
    usual = (folder / name for folder in folders for name in NAMED)
    return next((read_classes(path) for path in usual if path.is_file()), None)


def read_classes(path: Path) -> ClassFile:
    """Read a class file: text or json, see `FORMS`.

    Raises:
        PerceptError: it cannot be read, holds no names, or an empty one.
    """
    pairs = _from_json(path, read_json(path)) if path.suffix.lower() == ".json" else list(map(_pair, _lines(path)))
    if not pairs:
        raise PerceptError(f"{path} holds no class names. {FORMS}.")
    if any(not name for _, name in pairs):
        raise PerceptError(f"{path} holds an empty class name. {FORMS}.")
    ids = tuple(each for each, _ in pairs if each is not None)
    if ids and len(ids) < len(pairs):
        raise PerceptError(f"{path} has an id in {len(ids)} of {len(pairs)} lines. {FORMS}.")
    if len(set(ids)) < len(ids):
        raise PerceptError(f"{path} has one id more than once. Give each class one line.")
    return ClassFile(path=path, names=tuple(name for _, name in pairs), ids=ids)


def _lines(path: Path) -> list[str]:
    data = read_bytes(path, kind="list", max_bytes=LARGEST)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PerceptError(f"{path} is not UTF-8 text. Save it as UTF-8.") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _pair(line: str) -> tuple[str | None, str]:
    """Split a line into id and name: at a tab, or after a WordNet id; of several synonyms the first counts.

    >>> _pair("n01440764 tench, Tinca tinca"), _pair("alarm_clock\\talarm clock"), _pair("great white shark")
    (('n01440764', 'tench'), ('alarm_clock', 'alarm clock'), (None, 'great white shark'))
    """
    if "\t" in line:
        left, _, right = line.partition("\t")
        return left.strip(), _first(right) if WORDNET.fullmatch(left.strip()) else right.strip()
    match = re.match(rf"({WORDNET.pattern})[\s,:]+(.*)", line)
    return (match[1], _first(match[2])) if match else (None, line)


def _first(synonyms: str) -> str:
    return synonyms.split(",")[0].strip()


def _from_json(path: Path, value: Any) -> list[tuple[str | None, str]]:
    """Return (id, name) pairs of a list of names, {id: name}, or {number: [id, name]}."""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return [(None, each.strip()) for each in value]
    if isinstance(value, dict) and all(isinstance(each, str) for each in value.values()):
        if all(key.isdecimal() for key in value):
            return [(None, value[key].strip()) for key in sorted(value, key=int)]
        return [(key, each.strip()) for key, each in value.items()]
    if isinstance(value, dict) and all(key.isdecimal() for key in value) and all(map(_is_pair, value.values())):
        return [(value[key][0], value[key][1].replace("_", " ").strip()) for key in sorted(value, key=int)]
    raise PerceptError(f"{path} is json of a different form. {FORMS}.")


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value)


def templates_of(named: Path | None, *folders: Path) -> tuple[str, ...]:
    """Return the templates of a file that was named, or of a usual one in the folders; none if there is none.

    `{c}` and `{classname}` may stand for the class name, as well as `{}`.

    Raises:
        PerceptError: the file cannot be read, or a template has no place for the class name.
    """
    usual = (folder / name for folder in folders for name in TEMPLATES)
    path = named if named is not None else next((each for each in usual if each.is_file()), None)
    if path is None:
        return ()
    if path.suffix.lower() == ".json":
        value = read_json(path)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise PerceptError(f'{path} is not a json list of templates. Give ["a photo of a {{}}.", ...].')
        lines: Sequence[str] = value
    else:
        lines = _lines(path)
    if not lines:
        raise PerceptError(f"{path} holds no templates. Give one per line, such as 'a photo of a {{}}.'")
    return check_templates([re.sub(r"\{(c|classname)\}", "{}", line) for line in lines])


def read_mapping(path: Path) -> dict[str, str]:
    """Return a json file of the form {text: text}.

    Raises:
        PerceptError: it cannot be read, or has a different form.
    """
    value = read_json(path)
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise PerceptError(f"{path} is not a json object of texts: {json.dumps(value)[:60]}. Fetch the file again.")
    return value
