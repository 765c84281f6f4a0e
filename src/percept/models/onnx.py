"""Towers whose graphs onnxruntime runs: modules that take the place of eager towers."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from percept.core.errors import PerceptError, missing_extra
from percept.models.config import TextConfig, TowerConfig
from percept.models.manifest import Graph, Manifest, is_export, read_manifest
from percept.models.text import TextOut, check_ids
from percept.models.towers import ImageTower, VisionOut
from percept.nn.stack import resolve_layer


def layer_name(layer: int) -> str:
    """Return the name of the output after a block, blocks counted from 0.

    >>> layer_name(3)
    'block_3'
    """
    return f"block_{layer}"


class Session:
    """A graph that onnxruntime has loaded. Copies share it; a pickle names its file, which is loaded again.

    Raises:
        PerceptError: the file is missing or damaged, or onnxruntime is not installed.
    """

    def __init__(self, folder: Path, manifest: Manifest, graph: Graph) -> None:
        self._source = folder.absolute(), manifest.weights, graph
        self._graph = _read(folder, graph)
        self.input: str = self._graph.get_inputs()[0].name
        self.outputs: list[str] = [output.name for output in self._graph.get_outputs()]
        _check_input(folder, graph, {value.name: value.type for value in self._graph.get_inputs()})

    def __deepcopy__(self, _: Any) -> "Session":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, self._source

    def run(self, batch: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Return outputs of a batch, which may be empty; onnxruntime fails on an empty one, so it gets a row of zeros."""
        rows = batch if len(batch) else batch.new_zeros(1, *batch.shape[1:])
        outputs = self._graph.run(names, {self.input: rows.detach().cpu().contiguous().numpy()})
        return [torch.from_numpy(output)[: len(batch)] for output in outputs]


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


def _unpickled(folder: Path, weights: dict[str, str], graph: Graph) -> Session:
    """Load a graph that was pickled.

    Raises:
        PerceptError: its folder does not exist any more, or holds a different export.
    """
    if not is_export(folder):
        raise PerceptError(f"the export {folder} is gone, and a pickle only names it; put the folder back")
    manifest = read_manifest(folder)
    if (manifest.weights, manifest.graph(graph.tower, graph.dtype)) != (weights, graph):
        raise PerceptError(f"{folder} holds a different export than when it was pickled; load it with percept.load")
    return Session(folder, manifest, graph)


def _read(folder: Path, graph: Graph) -> Any:
    """Load a file with onnxruntime, with as many threads as torch uses."""
    runtime = onnxruntime("running an exported model")
    file = folder / graph.file
    if not file.is_file():
        raise PerceptError(f"the export {folder} lacks its file {graph.file}; export the model again")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    try:
        return runtime.InferenceSession(os.fspath(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library has a dozen exceptions without a common base
        raise PerceptError(f"onnxruntime cannot read {file}: {error}; export the model again") from None


def onnxruntime(purpose: str) -> Any:
    """Import and return onnxruntime.

    Raises:
        PerceptError: it is not installed; the message names the extra.
    """
    try:
        import onnxruntime
    except ImportError:
        raise missing_extra("onnxruntime", "export", purpose) from None
    return onnxruntime


class Absent(nn.Module):
    """Takes the place of a tower that was not exported."""

    def __init__(self, tower: str) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, *_: Any, **__: Any) -> Any:
        """Raise an error.

        Raises:
            PerceptError: always.
        """
        raise self.error()

    def error(self) -> PerceptError:
        """Return the error that names the missing tower."""
        return PerceptError(f"this export has no {self.tower} tower; export the model again with --tower both")

    packed = normed = pool_weights = cut = forward


class OnnxTower(nn.Module):
    """A graph that onnxruntime runs, with the requested layers."""

    def __init__(self, session: Session, layers: int) -> None:
        super().__init__()
        self.session = session
        self.num_layers = layers
        self.outputs = session.outputs

    def run(self, batch: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """Return outputs by name, as float32 on the CPU."""
        names = [name for name in names if name in self.outputs]
        return dict(zip(names, self.session.run(batch, names), strict=True))

    @property
    def has_layers(self) -> bool:
        """True if the graph returns the tokens after its blocks."""
        return layer_name(0) in self.outputs

    def compile(self, *_: Any, **__: Any) -> None:
        """Raise an error: onnxruntime runs the graph.

        Raises:
            PerceptError: always.
        """
        raise PerceptError("onnxruntime runs an export, so it cannot be compiled; load the model it was made from")

    def names(self, layers: Collection[int]) -> dict[int, str]:
        """Return the output names of blocks counted from either end.

        Raises:
            PerceptError: the block does not exist, or the graph does not return it.
        """
        names = {layer: layer_name(resolve_layer(layer, self.num_layers)) for layer in layers}
        if not set(names.values()) <= set(self.outputs):
            raise PerceptError("this export does not return tokens between its blocks; export it without --no-layers")
        return names


class OnnxVision(OnnxTower):
    """An image tower run by onnxruntime: an `ImageTower` that takes images only."""

    def __init__(self, session: Session, manifest: Manifest, config: TowerConfig) -> None:
        super().__init__(session, config.layers)
        self.config = config
        self.size = manifest.size

    def forward(
        self,
        image: Float[Tensor, "b 3 y x"] | None = None,
        *,
        embeddings: Float[Tensor, "b n w"] | None = None,
        grid: tuple[int, int] | None = None,
        layers: Collection[int] = (),
        extra: Mapping[int, Tensor] | None = None,
        bias: Tensor | None = None,
        keep: Int[Tensor, " k"] | None = None,
        pool: bool = True,
    ) -> VisionOut:
        """Run the graph on images; see `VisionTower.forward`.

        Raises:
            PerceptError: an input other than images, images of a size that the graph was not made for, or a block that it
                does not return.
        """
        if image is None or any(option is not None for option in (embeddings, grid, extra, bias, keep)):
            raise PerceptError("an exported graph takes images only; load the model it was made from for other inputs")
        size, shape = self.config.patch_size, (image.shape[-2], image.shape[-1])
        if self.size is not None and shape != tuple(self.size):
            raise PerceptError(
                f"an image of {shape[0]}x{shape[1]} was given; this export takes {self.size[0]}x{self.size[1]} only: "
                "export it with --size dynamic for any"
            )
        if min(shape) < size:
            raise PerceptError(f"an image of {shape[0]}x{shape[1]} is smaller than one {size}x{size} patch")
        wanted = self.names(layers)
        outputs = self.run(image.float(), {"tokens", *(["vector"] if pool else []), *wanted.values()})
        hidden = {layer: outputs[name] for layer, name in wanted.items()}
        patches = (shape[0] // size, shape[1] // size)
        return VisionOut(outputs["tokens"], self.config.prefix, patches, hidden, outputs.get("vector"))

    def packed(
        self, images: Sequence[Float[Tensor, "_ 3 _ _"]], *, layers: Collection[int] = (), pool: bool = True
    ) -> list[VisionOut]:
        """Run batches of different sizes one after the other.

        Raises:
            PerceptError: no batches.
        """
        if not images:
            raise PerceptError("nothing to pack was given; give at least one batch of images")
        return [self(batch, layers=layers, pool=pool) for batch in images]

    def normed(self, tokens: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        """Raise an error: the graph contains its final norm.

        Raises:
            PerceptError: always.
        """
        raise PerceptError("an exported graph returns tokens without the final norm; load the model it was made from")

    def pool_weights(self, tokens: Float[Tensor, "b n w"]) -> Float[Tensor, "b h n"]:
        """Raise an error: the graph does not return its pooling attention.

        Raises:
            PerceptError: always.
        """
        raise PerceptError("an exported graph does not return its pooling attention; load the model it was made from")

    def cut(self, after: int) -> ImageTower:
        """Raise an error: the graph runs as one piece.

        Raises:
            PerceptError: always.
        """
        raise PerceptError("an exported graph runs as one piece and cannot be cut; cut the model it was made from")


class OnnxText(OnnxTower):
    """A text tower run by onnxruntime, in place of a `TextTower`."""

    def __init__(self, session: Session, config: TextConfig) -> None:
        super().__init__(session, config.layers)
        self.config = config

    def forward(self, ids: Int[Tensor, "b n"], *, layers: Collection[int] = ()) -> TextOut:
        """Run the tower on token ids; see `TextTower.forward`.

        Raises:
            PerceptError: longer than the context or without tokens, an id outside the vocabulary, or a block that the graph
                does not return.
        """
        if ids.shape[-1] == 0:
            raise PerceptError(f"token ids of shape {list(ids.shape)} hold texts without tokens; give 1 or more")
        if ids.shape[-1] > self.config.context:
            raise PerceptError(f"a text of {ids.shape[-1]} tokens does not fit the context of {self.config.context}")
        check_ids(ids, self.config.vocabulary)
        wanted = self.names(layers)
        outputs = self.run(ids.long(), {"tokens", "vector", *wanted.values()})
        hidden = {layer: outputs[name] for layer, name in wanted.items()}
        return TextOut(outputs["tokens"], outputs["vector"], hidden)
