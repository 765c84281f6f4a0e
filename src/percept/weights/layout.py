"""The contract of a weight layout: its keys, the names of its files, and what its configuration files record."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from percept.data.transforms import Preprocess
from percept.models.config import ClipConfig

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is recorded about a model besides its weights; a field is None or empty where nothing is recorded."""

    name: str | None = None
    config: ClipConfig | None = None
    preprocess: Preprocess | None = None
    preprocess_changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Preprocess` that a configuration of another library sets."""
    tokenizer_hash: str | None = None
    """`fingerprint.tokenizer_hash` of the tokenizer that the model was trained with."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """How the model was trained: command, seed, samples seen, seconds."""
    metrics: Mapping[str, Any] = field(default_factory=dict)


class Layout:
    """A way to store the weights of a model.

    A new layout is a file with a subclass and an instance of it, and a line in the table `layouts.LAYOUTS`.
    """

    name: str = ""
    marks: tuple[str, ...] = ()
    """Prefixes of keys that only files in this layout have."""
    weight_files: tuple[str, ...] = ()
    """Names of the weight file in a folder or repository, preferred first; {name} stands for the name of the model."""
    config_files: tuple[str, ...] = ()
    """Configuration files of a folder or repository; the first one identifies the layout."""
    written_file: str = ""
    """Name under which a folder's weight file is written; {name} stands for the name of the model."""
    takes_file: bool = True
    """A single file can hold a model; otherwise a folder is needed."""
    holds_text: bool = True
    """There are keys for a text tower."""
    records_itself: bool = False
    """The configuration files record everything, so that the weight file needs no record of its own."""
    refusal: str = ""
    """Why files in this layout are recognised but not read; empty for a layout that is read."""

    def claims(self, files: Collection[str], config: Mapping[str, Any]) -> bool:
        """True if a folder with these files and with this config.json (empty if it has none) is in this layout."""
        return bool(self.config_files) and self.config_files[0] in files

    def check_folder(self, folder: Path) -> None:
        """Raise PerceptError if a folder that this layout claims lacks a file that it needs."""

    def to_ours(self, state: State) -> State:
        """Rename the keys of a file to ours, and reshape what is shaped differently.

        A key that the layout does not have gets the prefix `percept.weights.rename.STRANGE`, so that it is listed as unexpected.
        """
        raise NotImplementedError

    def to_theirs(self, state: State) -> State:
        """Return the keys and tensors that a file in this layout has for our state; see `to_ours`."""
        raise NotImplementedError

    def spelled(self, state: State, stored: Collection[str]) -> State:
        """Return some of our tensors with the names and shapes of a file whose keys are `stored`, for messages."""
        return self.to_theirs(state)

    def read_header(self, file: Path) -> Header:
        """Return what the configuration files next to a weight file record."""
        return Header()

    def write_header(self, header: Header) -> dict[str, Any]:
        """Return the configuration files of a folder: {file name: json}.

        Raises:
            PerceptError: this layout cannot express the model or its preprocessing.
        """
        return {}
