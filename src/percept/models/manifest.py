"""The manifest of an export: which graphs a folder holds, and how they were checked."""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from percept.core.config import from_dict
from percept.core.errors import PerceptError
from percept.core.io import read_json

MANIFEST = "export.json"
"""A folder with this file is an export."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One exported tower in one number type."""

    tower: str
    """image or text."""
    dtype: str
    """float32, float16, or int8: 8-bit integer weights of the linear layers, the rest in float32."""
    file: str
    """Beside the manifest."""
    megabytes: float
    """Size on disk, including a separate file of weights."""
    inputs: dict[str, list[Any]]
    """Name: shape; a word in a shape stands for any size."""
    outputs: dict[str, list[Any]]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of an export folder."""

    name: str
    """Name the exported model was loaded by."""
    weights: dict[str, str]
    """Hash of every tensor of the exported model as it was stored, by our name."""
    scale: float
    """What cosines are multiplied by before the softmax over labels."""
    size: tuple[int, int] | None
    """Height and width of the images in pixels; None if the graph takes any."""
    layers: bool
    """The graphs also return the tokens after every block."""
    opset: int
    graphs: tuple[Graph, ...]
    checks: dict[str, Any] = field(default_factory=dict)
    """Comparison of every graph with the model when it was exported."""
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise PerceptError(
                f"the manifest of an export has scale={self.scale}, which must be positive; export it again"
            )
        if self.size is not None and min(self.size) < 1:
            raise PerceptError(f"the manifest of an export has size={list(self.size)}, below 1 pixel; export it again")
        towers = [(graph.tower, graph.dtype) for graph in self.graphs]
        if not towers or len(set(towers)) < len(towers) or {tower for tower, _ in towers} - {"image", "text"}:
            raise PerceptError(
                f"the manifest of an export lists the graphs {towers}; it needs one or more, each tower (image, text) once "
                "in a number type: export it again"
            )
        for graph in self.graphs:
            if os.path.basename(graph.file) != graph.file or not graph.file or len(graph.inputs) != 1:
                raise PerceptError(
                    f"the manifest of an export lists the graph {graph.file!r} with {len(graph.inputs)} inputs; it needs a "
                    "file beside the manifest with 1 input: export it again"
                )

    @property
    def dtypes(self) -> list[str]:
        """Number types of the graphs, the plain one first."""
        return list(dict.fromkeys(graph.dtype for graph in self.graphs))

    def graph(self, tower: str, dtype: str) -> Graph | None:
        """Return the graph of a tower, or None if it was not exported."""
        return next((graph for graph in self.graphs if (graph.tower, graph.dtype) == (tower, dtype)), None)


def is_export(folder: str | os.PathLike[str]) -> bool:
    """Return True if this is a folder that `percept export` wrote."""
    return os.path.isfile(os.path.join(folder, MANIFEST))


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an export folder.

    Raises:
        PerceptError: the manifest is missing, damaged, or of a different version.
    """
    return from_dict(Manifest, read_json(folder / MANIFEST))
