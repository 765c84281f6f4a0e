"""What the layouts of perception language models share: their contract, the names of the decoder, and the order of channels.

A layout here stores a whole model, or a language decoder alone. Our state has the prefixes `vision.`, `projector.` and `decoder.`;
that of a decoder alone has none.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.core.io import bits
from percept.data.transforms import Preprocess
from percept.models.language import DecoderConfig, VLMConfig
from percept.models.lm import Decoder
from percept.models.vlm import VLM
from percept.weights.layout import State
from percept.weights.rename import Names, renamed

Config: TypeAlias = VLMConfig | DecoderConfig
EMBEDDING, HEAD = "embedding.weight", "head.weight"
DECODER = "decoder."


@dataclass(frozen=True, kw_only=True)
class Record:
    """What the configuration files of a folder record."""

    config: Config
    name: str | None = None
    preprocess: Preprocess | None = None
    """How tiles and frames are normalised."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)


class PlmLayout:
    """A way to store a perception language model, or a decoder alone, in a folder."""

    name: str = ""
    weights: str = ""
    """Name under which the weight file is written."""

    def claims(self, files: Collection[str], config: Mapping[str, Any]) -> bool:
        """True if a folder with these files and with this config.json (empty if it has none) is in this layout."""
        raise NotImplementedError

    def files(self, names: Collection[str], place: str) -> list[str]:
        """Return the files of a folder or repository that hold weights, or their index, then all others that belong to the model.

        Raises:
            PerceptError: there are no weights, or a part is missing.
        """
        raise NotImplementedError

    def read_record(self, folder: Path) -> Record:
        """Return what the configuration files of a folder record.

        Raises:
            PerceptError: one is missing or damaged, or describes a model that is not read here.
        """
        raise NotImplementedError

    def read(self, folder: Path, weights: Sequence[str]) -> State:
        """Return the tensors of the weight files under their stored names."""
        raise NotImplementedError

    def to_ours(self, state: State, config: Config) -> State:
        """Rename the keys to ours, and reshape what is stored differently; the state is emptied on the way."""
        raise NotImplementedError

    def to_theirs(self, state: State, config: Config) -> State:
        """Return the keys and tensors that this layout has for our state."""
        raise NotImplementedError

    def spelled(self, state: State, config: Config) -> State:
        """Return some of our tensors with the names and shapes of a file, for messages."""
        return self.to_theirs(state, config)

    def write_record(self, record: Record) -> dict[str, Any]:
        """Return the configuration files of a folder: {file name: json}.

        Raises:
            PerceptError: this layout cannot express the model.
        """
        raise NotImplementedError


def decoder_of(config: Config) -> DecoderConfig:
    """Return the configuration of the decoder of either kind of model."""
    return config.decoder if isinstance(config, VLMConfig) else config


def build_empty(config: Config, source: str) -> VLM | Decoder:
    """Return a model without values.

    Raises:
        PerceptError: there is no such model, because a size is beyond what a tensor can have.
    """
    try:
        with torch.device("meta"):
            return VLM(config) if isinstance(config, VLMConfig) else Decoder(config)
    except PerceptError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PerceptError(f"a model of the configuration for {source} cannot be built: {reason}") from None


def prefixed(names: Names, prefix: str, ours: str) -> tuple[Callable[[str], str], Callable[[str], str]]:
    """Return the functions that rename keys behind a prefix to our names behind ours, and back."""

    def inward(key: str) -> str:
        return ours + names.ours(key.removeprefix(prefix))

    def outward(key: str) -> str:
        return prefix + names.theirs(key.removeprefix(ours))

    return inward, outward


def split_prefix(state: State, prefix: str) -> tuple[State, State]:
    """Return the tensors behind a prefix, without it, and all others."""
    inside = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return inside, {key: value for key, value in state.items() if not key.startswith(prefix)}


def without_tied_head(state: State, config: Config, source: str) -> State:
    """Leave out the copy of the token embedding that files of tied models may hold as their output layer.

    Raises:
        PerceptError: the model is tied, but the two differ.
    """
    prefix = DECODER if isinstance(config, VLMConfig) else ""
    head, embedding = state.get(prefix + HEAD), state.get(prefix + EMBEDDING)
    if not decoder_of(config).tied or head is None or embedding is None:
        return state
    if not same_bits(head, embedding):
        raise PerceptError(
            f"{source} says that the output layer is the token embedding, but stores different ones. Correct the configuration, "
            "or fetch the weights again."
        )
    return {key: value for key, value in state.items() if key != prefix + HEAD}


def same_bits(left: Tensor, right: Tensor) -> bool:
    """True if two tensors have the same type, shape and bits; views of the same memory are not read."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    return left.data_ptr() == right.data_ptr() or torch.equal(bits(left), bits(right))


def halved(weight: Tensor, heads: int) -> Tensor:
    """Reorder the output channels of queries or keys from neighbouring rotary pairs to pairs half a head apart.

    >>> halved(torch.arange(8)[:, None], 2).flatten().tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def interleaved(weight: Tensor, heads: int) -> Tensor:
    """Undo `halved`."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def rename_all(state: State, name: Callable[[str], str]) -> State:
    """Rename all keys; see `percept.weights.rename.renamed`."""
    return renamed(state, name)


def parameters(model: nn.Module) -> dict[str, Tensor]:
    """Return the state of a model without copies."""
    return {name: value.detach() for name, value in model.state_dict().items()}
