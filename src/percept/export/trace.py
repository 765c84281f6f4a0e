"""Trace one tower as an ONNX graph, read its inputs and outputs back, and quantise it to 8 bits."""

import copy
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from percept.core.errors import PerceptError
from percept.export.graph import ImageGraph, TextGraph
from percept.infer.encoder import Encoder
from percept.models.manifest import Graph
from percept.models.onnx import INPUTS, onnxruntime

DTYPES = {"float32": torch.float32, "float16": torch.float16}
"""Number types that onnxruntime computes on every machine; it has no bfloat16 on the CPU."""
OPSET = 20
"""First opset that includes GELU."""
ONE_FILE = 1_500_000_000
"""Largest size in bytes of weights inside a graph file, whose format is limited to 2 GiB."""


def trace_tower(encoder: Encoder, folder: Path, *, tower: str, dtype: str, dynamic: bool, layers: bool) -> Graph:
    """Trace one tower and write FOLDER/TOWER.onnx.

    Args:
        encoder: the model, in float32 on the CPU.
        folder: folder of the file.
        tower: image or text.
        dtype: float32 or float16.
        dynamic: accept images of any height and width.
        layers: give the tokens after every block as outputs.

    Raises:
        PerceptError: tracing fixed the size of an axis that should be free.
    """
    model, dim = encoder.model, torch.export.Dim
    if tower == "image":
        patch = model.config.vision.patch_size
        graph = ImageGraph(model.vision, dynamic=dynamic, layers=layers)
        shape = (3 * patch, 4 * patch) if dynamic else encoder.preprocess.shape
        sample, axes = torch.zeros(2, 3, *shape), {0: dim("batch")}
        if dynamic:
            axes |= {2: dim("height", min=patch, max=2**16), 3: dim("width", min=patch, max=2**16)}
        return _traced(graph, sample, axes, folder / "image.onnx", dtype)
    assert model.text is not None
    context = model.text.config.context
    sample = torch.zeros(2, min(8, context - 1), dtype=torch.int64)
    axes = {0: dim("batch"), 1: dim("length", max=context)}
    return _traced(TextGraph(model.text, layers=layers), sample, axes, folder / "text.onnx", dtype)


def _traced(graph: ImageGraph | TextGraph, sample: Tensor, axes: dict[int, Any], file: Path, dtype: str) -> Graph:
    if dtype != "float32":  # a copy, because the graph is compared with the model
        graph = copy.deepcopy(graph).to(DTYPES[dtype])
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph.eval(), (sample,), dynamo=True, dynamic_shapes=(axes,), input_names=list(INPUTS[file.stem]),
            output_names=graph.outputs, opset_version=OPSET, verbose=False,
        )  # fmt: skip
        assert program is not None
        size = sum(parameter.numel() * parameter.element_size() for parameter in graph.parameters())
        program.save(os.fspath(file), external_data=size > ONE_FILE)
    return _described(file, tower=file.stem, dtype=dtype, named={axis: dim.__name__ for axis, dim in axes.items()})


def _described(file: Path, *, tower: str, dtype: str, named: dict[int, str]) -> Graph:
    """Read the inputs and outputs of a graph file.

    Raises:
        PerceptError: tracing fixed the size of an axis that should be free.
    """
    session = onnxruntime("exporting a model").InferenceSession(os.fspath(file), providers=["CPUExecutionProvider"])
    inputs = {value.name: list(value.shape) for value in session.get_inputs()}
    shape = next(iter(inputs.values()))
    pinned = [f"its {name} to {shape[axis]}" for axis, name in named.items() if shape[axis] != name]
    if pinned:
        raise PerceptError(
            f"tracing fixed {' and '.join(pinned)} in {file.name}, which should be free, so nothing was kept. Please report "
            "it, with the versions of torch and onnxscript."
        )
    return Graph(
        tower=tower, dtype=dtype, file=file.name, inputs=inputs, megabytes=_megabytes(file),
        outputs={value.name: list(value.shape) for value in session.get_outputs()},
    )  # fmt: skip


def _megabytes(file: Path) -> float:
    """Return the size of a graph in megabytes, including its separate weight file if there is one."""
    weight_file = file.with_name(f"{file.name}.data")
    return round((file.stat().st_size + (weight_file.stat().st_size if weight_file.is_file() else 0)) / 1e6, 3)


def quantised(folder: Path, graph: Graph) -> Graph:
    """Write a graph again with 8-bit weights in its linear layers, one scale per channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source, file = folder / graph.file, folder / f"{graph.tower}.int8.onnx"
    has_weight_file = source.with_name(f"{source.name}.data").is_file()
    with _quiet():
        quantize_dynamic(
            source, file, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8,
            use_external_data_format=has_weight_file,
        )  # fmt: skip
    named = {axis: size for axis, size in enumerate(next(iter(graph.inputs.values()))) if isinstance(size, str)}
    return _described(file, tower=graph.tower, dtype="int8", named=named)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence those messages of the libraries that are meant for their developers."""
    registration, root = logging.getLogger("torch.onnx._internal.exporter._registration"), logging.getLogger()
    registration.addFilter(_is_for_users)
    root.addFilter(_is_for_users)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
        try:
            yield
        finally:
            registration.removeFilter(_is_for_users)
            root.removeFilter(_is_for_users)


def _is_for_users(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(("torchvision is not installed", "Please consider to run pre-processing"))
