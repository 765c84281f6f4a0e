"""Towers whose graphs onnxruntime runs: what an export says of itself, and modules that stand where eager towers would."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from percept.core.config import from_dict
from percept.core.errors import PerceptError, missing_extra
from percept.core.io import read_json
from percept.models.config import TextConfig, VisionConfig
from percept.models.text import TextOut
from percept.models.vision import VisionOut
from percept.nn.stack import resolve_layer

MANIFEST = "export.json"
"""Its presence makes a folder an export."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One exported tower in one number type."""

    tower: str
    """image or text."""
    dtype: str
    """float32, float16, or int8: weights of the linear layers in whole numbers, the rest in float32."""
    file: str
    """Beside the manifest."""
    megabytes: float
    """On disk, with the file of weights beside it where they do not fit into one."""
    inputs: dict[str, list[Any]]
    """Name: shape; a word in it stands for any size."""
    outputs: dict[str, list[Any]]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an export folder holds."""

    name: str
    """What the exported model was loaded by."""
    fingerprint: str
    """Hash of its weights, before any quantisation."""
    scale: float
    """What cosines are multiplied with before the softmax over labels."""
    size: tuple[int, int] | None
    """Height and width of the pictures in pixels; None where any will do."""
    layers: bool
    """The graphs also give the tokens after every block."""
    opset: int
    graphs: tuple[Graph, ...]
    checks: dict[str, Any] = field(default_factory=dict)
    """How every graph compared to the model when it was written."""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def dtypes(self) -> list[str]:
        """Number types that the folder holds, the plain one first."""
        return list(dict.fromkeys(graph.dtype for graph in self.graphs))

    def graph(self, tower: str, dtype: str) -> Graph | None:
        """Return the file of a tower; None if it was not exported."""
        return next((one for one in self.graphs if (one.tower, one.dtype) == (tower, dtype)), None)


def is_export(folder: str | os.PathLike[str]) -> bool:
    """Tell whether this is a folder that `percept export` wrote."""
    return os.path.isfile(os.path.join(folder, MANIFEST))


def read_manifest(folder: Path) -> Manifest:
    """Read what an export folder says of itself.

    Raises:
        PerceptError: it does not say it, or in another way than this version does.
    """
    return from_dict(Manifest, read_json(folder / MANIFEST))


def layer_name(layer: int) -> str:
    """Return what the output after a block is called, blocks counted from 0.

    >>> layer_name(3)
    'block_3'
    """
    return f"block_{layer}"


class Session:
    """A graph that onnxruntime has read. Copies share it; a pickle names its file, which is read again.

    Raises:
        PerceptError: the file is missing or damaged, or onnxruntime is not installed.
    """

    def __init__(self, folder: Path, manifest: Manifest, graph: Graph) -> None:
        self._source = folder.absolute(), manifest.fingerprint, graph
        self._graph = _read(folder, graph)
        self.input: str = self._graph.get_inputs()[0].name
        self.outputs: list[str] = [one.name for one in self._graph.get_outputs()]
        _check_input(folder, graph, {value.name: value.type for value in self._graph.get_inputs()})

    def __deepcopy__(self, _: Any) -> "Session":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, self._source

    def run(self, given: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Return outputs of a batch, which may be empty; onnxruntime fails on one, so it gets a row of zeros then."""
        rows = given if len(given) else given.new_zeros(1, *given.shape[1:])
        found = self._graph.run(names, {self.input: rows.detach().cpu().contiguous().numpy()})
        return [torch.from_numpy(one)[: len(given)] for one in found]


INPUTS = {"image": {"image": "tensor(float)"}, "text": {"ids": "tensor(int64)"}}
"""Tower: name and type of the input of its graph."""


def _check_input(folder: Path, graph: Graph, inputs: dict[str, str]) -> None:
    """Refuse a file whose input is not the one its tower takes, such as a graph of the other tower.

    Raises:
        PerceptError: the name or the type of the input differs.
    """
    if inputs != INPUTS[graph.tower]:
        raise PerceptError(
            f"{folder / graph.file} takes {inputs}, but the graph of the {graph.tower} tower takes {INPUTS[graph.tower]}. "
            "Export the model again."
        )


def _again(folder: Path, fingerprint: str, graph: Graph) -> Session:
    """Read a graph that was pickled.

    Raises:
        PerceptError: its folder is gone, or holds another export by now.
    """
    if not is_export(folder):
        raise PerceptError(f"the export {folder} is gone; a pickle only names it: put it back, or load another one")
    manifest = read_manifest(folder)
    if (manifest.fingerprint, manifest.graph(graph.tower, graph.dtype)) != (fingerprint, graph):
        raise PerceptError(f"{folder} holds another export than when it was pickled; load it with percept.load")
    return Session(folder, manifest, graph)


def _read(folder: Path, graph: Graph) -> Any:
    """Let onnxruntime read a file, with as many threads as torch has."""
    runtime = onnxruntime("running an exported model")
    file = folder / graph.file
    if not file.is_file():
        raise PerceptError(f"the export {folder} lacks its file {graph.file}; export the model again")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors; the others are for its makers
    try:
        return runtime.InferenceSession(os.fspath(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library has a dozen exceptions without a common one
        raise PerceptError(f"onnxruntime cannot read {file}: {error}; export the model again") from None


def onnxruntime(purpose: str) -> Any:
    """Return the library.

    Raises:
        PerceptError: it is not installed; the extra is named.
    """
    try:
        import onnxruntime
    except ImportError:
        raise missing_extra("onnxruntime", "export", purpose) from None
    return onnxruntime


class Absent(nn.Module):
    """Stands where a tower was not exported."""

    def __init__(self, tower: str) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, *_: Any, **__: Any) -> Any:
        """Refuse.

        Raises:
            PerceptError: always.
        """
        raise PerceptError(f"this export holds no {self.tower} tower; export the model again with --tower both")


class OnnxTower(nn.Module):
    """A graph that onnxruntime runs, with the layers a caller asks for."""

    def __init__(self, session: Session, layers: int) -> None:
        super().__init__()
        self.session = session
        self.num_layers = layers
        self.outputs = session.outputs

    def run(self, given: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """Return outputs by name, as float32 on the CPU."""
        names = [name for name in names if name in self.outputs]
        return dict(zip(names, self.session.run(given, names), strict=True))

    def names(self, layers: Collection[int]) -> dict[int, str]:
        """Return the outputs of blocks counted from either end.

        Raises:
            PerceptError: there is no such block, or the graph does not give it.
        """
        names = {layer: layer_name(resolve_layer(layer, self.num_layers)) for layer in layers}
        if not set(names.values()) <= set(self.outputs):
            raise PerceptError("this export gives no tokens between its blocks; export it without --no-layers")
        return names


class OnnxVision(OnnxTower):
    """A vision tower run by onnxruntime; stands where a `VisionTower` would."""

    def __init__(self, session: Session, manifest: Manifest, config: VisionConfig) -> None:
        super().__init__(session, config.layers)
        self.config = config
        self.size = manifest.size

    def forward(self, image: Float[Tensor, "b 3 y x"], *, layers: Collection[int] = (), pool: bool = True) -> VisionOut:
        """Run the tower on pictures; see `VisionTower.forward`.

        Raises:
            PerceptError: pictures of a size that the graph was not made for, or a block that it does not give.
        """
        size, shape = self.config.patch_size, (image.shape[-2], image.shape[-1])
        if self.size is not None and shape != tuple(self.size):
            raise PerceptError(
                f"a picture of {shape[0]}x{shape[1]} was given; this export takes {self.size[0]}x{self.size[1]} only: "
                "export it with --size dynamic for any"
            )
        if min(shape) < size:
            raise PerceptError(f"a picture of {shape[0]}x{shape[1]} is smaller than one {size}x{size} patch")
        wanted = self.names(layers)
        found = self.run(image.float(), {"tokens", *(["vector"] if pool else []), *wanted.values()})
        hidden = {layer: found[name] for layer, name in wanted.items()}
        grid = (shape[0] // size, shape[1] // size)
        return VisionOut(found["tokens"], int(self.config.class_token), grid, hidden, found.get("vector"))

    def packed(
        self, images: Sequence[Float[Tensor, "_ 3 _ _"]], *, layers: Collection[int] = (), pool: bool = True
    ) -> list[VisionOut]:
        """Run batches of different sizes one after the other, in place of `VisionTower.packed`.

        Raises:
            PerceptError: no batches.
        """
        if not images:
            raise PerceptError("there is nothing to pack: give at least one batch of pictures")
        return [self(batch, layers=layers, pool=pool) for batch in images]


class OnnxText(OnnxTower):
    """A text tower run by onnxruntime; stands where a `TextTower` would."""

    def __init__(self, session: Session, config: TextConfig) -> None:
        super().__init__(session, config.layers)
        self.config = config

    def forward(self, ids: Int[Tensor, "b n"], *, layers: Collection[int] = ()) -> TextOut:
        """Run the tower on token ids; see `TextTower.forward`.

        Raises:
            PerceptError: longer than the context or of no tokens, an id outside the vocabulary, or a block that the graph
                does not give.
        """
        if ids.shape[-1] == 0:
            raise PerceptError(f"token ids of shape {list(ids.shape)} hold texts of no tokens; a text has 1 or more")
        if ids.shape[-1] > self.config.context:
            raise PerceptError(f"a text of {ids.shape[-1]} tokens does not fit the context of {self.config.context}")
        if ids.numel() and (int(ids.max()) >= self.config.vocabulary or int(ids.min()) < 0):
            raise PerceptError(
                f"token ids must be 0 to {self.config.vocabulary - 1}; given {int(ids.min())} to {int(ids.max())}"
            )
        wanted = self.names(layers)
        found = self.run(ids.long(), {"tokens", "vector", *wanted.values()})
        hidden = {layer: found[name] for layer, name in wanted.items()}
        return TextOut(found["tokens"], found["vector"], hidden)
