"""What a name or path means: the one place where it is decided. Nothing is opened or fetched here."""

import os
import re
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from percept.core.errors import PerceptError, unknown_name
from percept.core.io import read_object, reasons
from percept.models import zoo
from percept.models.config import ClipConfig
from percept.models.manifest import is_export
from percept.weights import hub
from percept.weights.cast import DTYPES
from percept.weights.files import SUFFIXES, shard_files
from percept.weights.layouts import claimant, pick_files
from percept.weights.layouts.percept import CONFIG, WEIGHTS

PACKAGED = Path(__file__).parents[1] / "models" / "packaged"
"""Folder with the models that ship with percept, one folder each."""
TYPES = (*DTYPES, "int8")
DEVICES = ("cpu", "cuda", "mps")
REPOSITORY = r"[\w-][\w.-]*/[\w.-]+(@[\w./-]+)?"
"""OWNER/NAME on the hub; a path begins with a dot or a slash, or has more parts."""
FILES = (*SUFFIXES, ".ckpt")
"""Extensions by which a name that does not exist is taken for a file."""

Kind = Literal["file", "folder", "hub", "export", "method"]


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where a model is."""

    kind: Kind
    """file: a weight file, or weights given for a name. folder: a folder with weights. hub: a repository. export: a folder
    of graphs that `percept export` wrote. method: a folder with a trained method."""
    source: str
    """The name or path as given, without @TYPE and @DEVICE."""
    path: Path | None = None
    """The weight file or its index; the folder of an export or method; None for a repository."""
    name: str | None = None
    """The model that the weights are for; None if the files say it."""
    config: ClipConfig | None = None
    """Of that model, for a released one."""
    like: Path | None = None
    """Weight file of the packaged model whose configuration, preprocessing and tokenizer go with these weights."""
    repository: str | None = None
    revision: str | None = None
    """Branch, tag or commit of the repository."""
    dtype: str | None = None
    """Number type given as @TYPE."""
    device: str | None = None
    """Device given as @DEVICE."""


def locate(
    name: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None, *, revision: str | None = None
) -> Location:
    """Return what a name, address or path means.

    >>> locate("nano@bfloat16").dtype
    'bfloat16'
    >>> locate("hf://somebody/model@v1.0@cuda").revision
    'v1.0'

    Args:
        name: name of a model, hf://OWNER/NAME, or a path, possibly followed by @REVISION (hub only), @TYPE and @DEVICE.
            The name of a model is never taken for a folder.
        weights: weight file or folder for the model `name`.
        revision: as @REVISION.

    Raises:
        PerceptError: unknown name, type or device (the nearest is suggested), or nothing there can be a model.
    """
    source, suffixes = without_suffixes(os.fspath(name))
    location = _located(source, weights, revision)
    return replace(location, dtype=suffixes.get("type"), device=suffixes.get("device"))


def lasting(source: str) -> str:
    """Return a model's name unchanged and a path as an absolute path; a suffix after an @ is kept.

    As for `locate`, a known name is never a path.
    """
    path, suffix = source, ""
    while not os.path.exists(path) and "@" in path:
        path, _, word = path.rpartition("@")
        suffix = f"@{word}{suffix}"
    named = path in zoo.ZOO or source.startswith("hf://") or not os.path.exists(path)
    return source if named else f"{os.path.abspath(path)}{suffix}"


def _located(source: str, weights: str | os.PathLike[str] | None, revision: str | None) -> Location:
    if source not in zoo.ZOO and os.path.exists(source):
        if weights is not None:
            raise PerceptError(
                f"{source} is a file or folder with its own weights; leave out weights, or give the name of a model"
            )
        _refuse_revision(source, revision)
        return _local(Path(source), source)
    address = hub.parse_address(source)
    if address.name in zoo.ASSISTANTS and address.owner in (None, "facebook"):
        raise _is_assistant(source)
    known = address.name in zoo.ZOO and address.owner in (None, "facebook")
    if not known and address.owner is None:
        raise _unknown(source)
    entry = zoo.find(address.name) if known else None
    revision = revision or address.revision
    packaged = entry is not None and entry.config is None
    if weights is not None or packaged:
        _refuse_revision(source, revision)
    if packaged:
        own = Location(kind="folder", source=source, path=_packaged(address.name))
        return own if weights is None else _given(Path(weights), source, name=address.name, like=own.path)
    name, config = (address.name, entry.config) if entry else (None, None)
    if weights is not None:
        return _given(Path(weights), source, name=name, config=config)
    owned = f"{address.owner}/{address.name}" if address.owner else None
    repository = owned or (entry.repository if entry else None) or source
    return Location(kind="hub", source=source, name=name, config=config, repository=repository, revision=revision)


def fetched(location: Location) -> Location:
    """Return where the files of a repository are on this machine, after they have been downloaded.

    Raises:
        PerceptError: they cannot be fetched, or are not a model.
    """
    assert location.repository is not None
    name = location.name or location.repository.rpartition("/")[2]
    folder = hub.fetch_weights(name, location.repository, location.revision)
    return replace(location, kind="folder", path=_weight_file(folder, name))


def _local(path: Path, source: str) -> Location:
    """Return what a file or folder on this machine is."""
    if not os.path.isdir(path):
        return Location(kind="file", source=source, path=path)
    if is_export(path):
        return Location(kind="export", source=source, path=path)
    config = read_object(path / CONFIG)
    if "kind" in config or config.get("model_type") == "perception_lm" or (path / "params.json").is_file():
        raise _is_assistant(source)
    if "method" in config:
        return Location(kind="method", source=source, path=path)
    return Location(kind="folder", source=source, path=_weight_file(path, path.name))


def _is_assistant(source: str) -> PerceptError:
    return PerceptError(
        f"{source} is a language model, which gives answers and no vectors. Open it with percept.assistant({source!r})."
    )


def _given(path: Path, source: str, **facts: Any) -> Location:
    """Return the location of weights that were given for a model."""
    if is_export(path):
        raise PerceptError(f"{path} is an export, whose weights are inside its graphs; use the model it was made from")
    file = _weight_file(path, facts["name"] or path.name) if os.path.isdir(path) else path
    return Location(kind="file", source=source, path=file, **facts)


def _weight_file(folder: Path, name: str) -> Path:
    """Return the weight file of a folder, or the index of weights that are split over several files.

    Raises:
        PerceptError: there is none, there are several, or a file that belongs to them is missing.
    """
    with reasons(folder):
        files = sorted(name for name in os.listdir(folder) if os.path.isfile(folder / name))
    claimant(folder, files, read_object(folder / CONFIG))
    file = folder / pick_files(files, name, place=str(folder))[0]
    if file.suffix == ".json":
        shard_files(file)
    return file


def _packaged(name: str) -> Path:
    folder = PACKAGED / name
    if not (folder / CONFIG).is_file():
        raise PerceptError(
            f"this installation of percept lacks the files of {name} (expected in {folder}); install percept again, "
            "or train it: percept train pe/nano"
        )
    return folder / WEIGHTS


def _refuse_revision(name: str, revision: str | None) -> None:
    if revision is not None:
        raise PerceptError(f"the revision {revision} was given, but nothing is fetched for {name}; leave it out")


def _unknown(name: str) -> PerceptError:
    """Return the error for what is neither here nor a name: a file, a repository without hf://, or a misspelt model."""
    repository = re.sub(r"^(hf[-_]hub:|https?://huggingface\.co/)", "", name)
    if re.fullmatch(REPOSITORY, repository) and not name.endswith(FILES):
        return PerceptError(f"there is no folder {name} on this machine; a repository on the hub is hf://{repository}")
    if os.sep in name or name.endswith(FILES):
        return PerceptError(f"there is no file or folder {name}; give one that exists, or the name of a model")
    return unknown_name("model", name, zoo.ZOO)


def without_suffixes(text: str) -> tuple[str, dict[str, str]]:
    """Split a name from the @TYPE and @DEVICE behind it.

    Raises:
        PerceptError: no name, an unknown type or device, or two of one kind.
    """
    name, suffixes = text, {}
    while name not in zoo.ZOO and not os.path.exists(name) and "@" in name:
        head, _, word = name.rpartition("@")
        kind = _suffix_kind(head, word)
        if kind is None:
            break
        if kind in suffixes:
            raise PerceptError(f"{text!r} names two {kind}s, {word} and {suffixes[kind]}; give one")
        name, suffixes[kind] = head, word
    if not name:
        raise PerceptError(f"{text!r} names no model; write MODEL or MODEL@TYPE, for example nano@bfloat16")
    return name, suffixes


def _suffix_kind(head: str, word: str) -> str | None:
    """Return whether a word behind an @ is a type or a device; None if it may be a revision on the hub."""
    if word in TYPES:
        return "type"
    if word.partition(":")[0] in DEVICES:
        return "device"
    local = not head or os.path.exists(head) or head.partition("@")[0] in zoo.PACKAGED
    if local or get_close_matches(word.lower(), (*TYPES, *DEVICES), cutoff=0.7):
        raise unknown_name("type or device", word, (*TYPES, *DEVICES))
    return None
