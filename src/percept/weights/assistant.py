"""The opener of perception language models, and of language decoders: from a name or folder to a model with its record.

As for encoders, tensors stay in their files until the names and shapes have been compared, and nothing is loaded if they differ.
"""

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from percept.core.errors import PerceptError, unknown_name
from percept.core.io import read_object, reasons
from percept.core.report import notice
from percept.models import zoo
from percept.models.language import DecoderConfig, VLMConfig
from percept.models.lm import Decoder
from percept.models.vlm import VLM
from percept.weights import hub
from percept.weights.cast import cast, stored_type
from percept.weights.files import INDEX, shard_files
from percept.weights.fit import check_fit
from percept.weights.layout import State
from percept.weights.layouts.percept import CONFIG
from percept.weights.layouts.plm import PlmLayout, Record, build_empty, decoder_of, without_tied_head
from percept.weights.layouts.plm_hf import LAYOUT as TRANSFORMERS
from percept.weights.layouts.plm_original import LAYOUT as ORIGINAL
from percept.weights.layouts.plm_percept import LAYOUT as OWN
from percept.weights.locate import PACKAGED, without_suffixes

LAYOUTS: dict[str, PlmLayout] = {layout.name: layout for layout in (OWN, TRANSFORMERS, ORIGINAL)}
"""Layouts of perception language models and decoders; the first that claims a folder is taken."""
INNER = "original"
"""Folder inside a repository that holds the original layout."""
SIGNS = (CONFIG, f"{INNER}/params.json", "params.json")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a perception language model or a decoder is."""

    source: str
    """The name or path as given, without @TYPE and @DEVICE."""
    folder: Path | None = None
    """None for a repository whose files have not been looked for."""
    name: str | None = None
    """Of a model in `percept.models.zoo.ASSISTANTS`."""
    repository: str | None = None
    revision: str | None = None
    dtype: str | None = None
    """Number type given as @TYPE."""
    device: str | None = None
    """Device given as @DEVICE."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """Weights under our names, still in their files, and what is recorded about their model."""

    name: str
    record: Record
    state: State
    layout: PlmLayout
    folder: Path

    def stored_type(self) -> torch.dtype:
        """Return the number type of the weights; for several the one that holds all of them, with a notice."""
        return stored_type(self.state, source=str(self.folder))


def locate_assistant(
    name: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None, *, revision: str | None = None
) -> Place:
    """Return what the name, address or path of a perception language model or decoder means; nothing is fetched.

    >>> locate_assistant("Perception-LM-1B@bfloat16").repository
    'facebook/Perception-LM-1B'

    Args:
        name: name of a model, hf://OWNER/NAME[@REVISION], or a folder, possibly followed by @TYPE and @DEVICE.
        weights: folder with the files of the model `name`.
        revision: as @REVISION.

    Raises:
        PerceptError: unknown name (the nearest is suggested), an encoder, or not a folder.
    """
    source, suffixes = without_suffixes(os.fspath(name))
    facts = {"source": source, "dtype": suffixes.get("type"), "device": suffixes.get("device")}
    if source not in zoo.ASSISTANTS and os.path.exists(source):
        return Place(folder=_local(Path(source)), **facts)
    address = hub.parse_address(source)
    known = address.name in zoo.ASSISTANTS and address.owner in (None, "facebook")
    if address.name in zoo.ZOO and address.owner in (None, "facebook"):
        raise _is_encoder(source)
    if not known and address.owner is None:
        raise unknown_name("perception language model", source, zoo.ASSISTANTS)
    if weights is not None:
        return Place(name=address.name, folder=_local(Path(weights)), **facts)
    entry = zoo.ASSISTANTS[address.name] if known else None
    if entry is not None and entry.config is None:
        return Place(name=address.name, folder=_packaged(address.name), **facts)
    repository = entry.repository if entry is not None else f"{address.owner}/{address.name}"
    return Place(
        name=address.name if known else None, repository=repository, revision=revision or address.revision, **facts
    )


def is_assistant(name: str | os.PathLike[str]) -> bool:
    """Return True for the name of a known perception language model, or a folder with one or with a language decoder."""
    try:
        place = locate_assistant(name)
    except PerceptError:
        return False
    if place.folder is None:
        return place.name is not None
    config = read_object(place.folder / CONFIG)
    return any(layout.claims(_names(place.folder), config) for layout in LAYOUTS.values())


def _is_encoder(source: str) -> PerceptError:
    return PerceptError(f"{source} is an encoder, which cannot answer in words. Open it with percept.load({source!r}).")


def _packaged(name: str) -> Path:
    """Return the folder of a model that ships with percept.

    Raises:
        PerceptError: this installation lacks it.
    """
    folder = PACKAGED / name
    if not folder.is_dir():
        raise PerceptError(
            f"this version of percept comes without the weights of {name}. Train it with percept train plm/nano and give the "
            f"folder of the result, or use a model of the hub: {', '.join(key for key, entry in zoo.ASSISTANTS.items() if entry.config)}."
        )
    return folder


def _local(folder: Path) -> Path:
    """Return a folder, or the folder in it that holds the original layout.

    Raises:
        PerceptError: it is not a folder.
    """
    if not folder.is_dir():
        raise PerceptError(f"{folder} is not a folder. Give the folder with the weights and their configuration.")
    inner = folder / INNER
    return inner if not (folder / CONFIG).is_file() and (inner / "params.json").is_file() else folder


def _names(folder: Path) -> list[str]:
    with reasons(folder):
        return sorted(name for name in os.listdir(folder) if os.path.isfile(folder / name))


def _layout_of(folder: Path) -> PlmLayout:
    """Return the layout of a folder.

    Raises:
        PerceptError: it holds an encoder, or nothing that is known.
    """
    names, config = _names(folder), read_object(folder / CONFIG)
    layout = next((layout for layout in LAYOUTS.values() if layout.claims(names, config)), None)
    if layout is not None:
        return layout
    if "model" in config or "architecture" in config or "open_clip_config.json" in names:
        raise _is_encoder(str(folder))
    if "model_type" in config:
        raise PerceptError(f"{folder} holds a model of type {config['model_type']!r}, which is not read here. {_READ}")
    if inside := _inside(folder):
        raise PerceptError(
            f"{folder} holds no model itself, but in its folders. Give one of them: {', '.join(inside)}."
        )
    raise PerceptError(f"{folder} has neither a config.json nor a params.json of a model that is read here. {_READ}")


def _inside(folder: Path) -> list[str]:
    """Return the folders in a folder that hold a model, such as those of the stages of a training run."""
    with reasons(folder):
        return [str(path) for path in sorted(folder.iterdir()) if path.is_dir() and _is_model(path)]


def _is_model(folder: Path) -> bool:
    try:
        names, config = _names(folder), read_object(folder / CONFIG)
    except PerceptError:  # a folder that has nothing to do with models
        return False
    return any(layout.claims(names, config) for layout in LAYOUTS.values())


_READ = "Perception-LM, Llama 3 and Qwen2.5 are, as transformers or their authors store them."


def fetched(place: Place) -> Place:
    """Return where the files of a model are on this machine, downloaded after the licence has been shown.

    Raises:
        PerceptError: they cannot be fetched, or are not a model.
    """
    if place.folder is not None:
        return place
    assert place.repository is not None
    entry = zoo.ASSISTANTS.get(place.name or "")
    repository, revision = place.repository, place.revision

    def before(names: Collection[str]) -> None:
        show_licence(None if entry is None else entry.licence, repository, names, revision)

    name = place.name or repository.rpartition("/")[2]
    folder = hub.fetch_folder(name, repository, revision, signs=SIGNS, pick=pick_files, before=before)
    return replace(place, folder=folder)


def show_licence(text: str | None, repository: str, names: Collection[str], revision: str | None) -> None:
    """Print the licence of a model: what is known of it, and the file of its repository."""
    if text is not None:
        notice(text)
    if "LICENSE" in names:
        notice(hub.fetch_file(repository, "LICENSE", revision).read_text(encoding="utf-8", errors="replace"))


def pick_files(names: Collection[str], place: str) -> list[str]:
    """Return the files of a model among those of a folder or repository, weights or their index first.

    Raises:
        PerceptError: there are no weights.
    """
    if CONFIG in names:
        layout = OWN if "preprocess.json" in names else TRANSFORMERS
        return layout.files(names, place)
    inner = {name.removeprefix(f"{INNER}/") for name in names if name.startswith(f"{INNER}/")}
    if "params.json" in inner:
        return [f"{INNER}/{file}" for file in ORIGINAL.files(inner, place)]
    return ORIGINAL.files(names, place)


def read_assistant(place: Place) -> Read:
    """Return the weights of a perception language model or decoder, still in their files.

    Raises:
        PerceptError: the files are incomplete, damaged, or of a model that is not read here.
    """
    folder = fetched(place).folder
    assert folder is not None
    layout = _layout_of(folder)
    files = layout.files(_names(folder), str(folder))
    if files[0].endswith(INDEX):
        shard_files(folder / files[0])
    record = layout.read_record(folder)
    stored = layout.read(folder, files)
    _check_layers(record, stored, folder)
    with reasons(folder):
        state = layout.to_ours(stored, record.config)
    state = without_tied_head(state, record.config, str(folder))
    name = place.name or record.name or folder.resolve().name
    return Read(name=name, record=record, state=state, layout=layout, folder=folder)


def _check_layers(record: Record, state: State, folder: Path) -> None:
    """Refuse a configuration with more blocks than there are tensors, whose building would take minutes.

    Raises:
        PerceptError: there are more blocks than tensors.
    """
    config = record.config
    layers = decoder_of(config).layers + (config.vision.layers if isinstance(config, VLMConfig) else 0)
    if layers > len(state):
        raise PerceptError(
            f"{folder} does not fit its configuration: {layers} blocks, but {len(state)} tensors. Fetch it again."
        )


def build_assistant(weights: Read, dtype: torch.dtype | None = None) -> VLM | Decoder:
    """Make the model, its weights in a number type, or each as stored if None; the weights are used up.

    Raises:
        PerceptError: listing what is missing, unexpected or of a different shape.
    """
    config, source = weights.record.config, str(weights.folder)
    model = build_empty(config, source)
    check_fit(model, weights.state, source=source, spelled=lambda some: weights.layout.spelled(some, config))
    model.load_state_dict(cast(weights.state, dtype), assign=True)
    return model.eval()


def open_decoder(name: str | os.PathLike[str], *, dtype: torch.dtype | None = None) -> Decoder:
    """Open a language decoder, or that of a perception language model, from a folder or repository.

    Args:
        name: as for `locate_assistant`: Llama 3 or Qwen2.5 in the layout of transformers, Llama 3 as published, or percept's.
        dtype: number type of the weights; each as stored if None.

    Raises:
        PerceptError: see `read_assistant`.
    """
    model = build_assistant(read_assistant(locate_assistant(name)), dtype)
    return model.decoder if isinstance(model, VLM) else model


def open_vlm(name: str | os.PathLike[str], *, dtype: torch.dtype | None = None) -> VLM:
    """Open a perception language model from a name, folder or repository; see `open_decoder`.

    Raises:
        PerceptError: see `read_assistant`, or the model is a decoder alone.
    """
    read = read_assistant(locate_assistant(name))
    check_vlm(read)
    model = build_assistant(read, dtype)
    assert isinstance(model, VLM)
    return model


def check_vlm(read: Read) -> None:
    """Refuse a decoder alone.

    Raises:
        PerceptError: the weights are of a decoder without an image tower.
    """
    if isinstance(read.record.config, DecoderConfig):
        raise PerceptError(
            f"{read.folder} holds a language model without an image tower, which takes no images. Put a tower in front of it with "
            "percept.models.vlm.assembled and train it."
        )
