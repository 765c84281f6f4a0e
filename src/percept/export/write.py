"""Write a model as ONNX graphs that run without torch, and check each file against the model before it is kept."""

import copy
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from percept.core.config import to_dict
from percept.core.errors import PerceptError, missing_extra, unknown_name
from percept.core.io import write_json
from percept.core.report import notice, steps
from percept.export.graph import ImageGraph, TextGraph
from percept.export.probes import COUNT, generated
from percept.export.receipt import compare
from percept.export.record import Receipt, versions
from percept.infer.encoder import Encoder
from percept.infer.load import load
from percept.models.onnx import MANIFEST, Graph, Manifest, onnxruntime
from percept.weights.folder import CONFIG, PREPROCESS, TOKENIZER

TOWERS = ("image", "text", "both")
DTYPES = {"float32": torch.float32, "float16": torch.float16}
"""Number types that onnxruntime computes on every machine; it has no bfloat16 on the CPU."""
OPSET = 20
"""The first version of the operators that includes GELU."""
ONE_FILE = 1_500_000_000
"""Largest size in bytes of weights inside a graph file, whose format is limited to 2 GiB."""
AGREEMENT = 64
"""Images on which the quantised graphs are compared to the plain ones."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to export, and how."""

    tower: str = "both"
    """image, text or both."""
    size: int | str | None = None
    """Side of the images in pixels; "dynamic" for any; as the model was loaded when None."""
    dtype: str = "float32"
    int8: bool = False
    """Also write graphs whose linear layers have 8-bit weights."""
    layers: bool = True
    """Give the tokens after every block as outputs."""

    def __post_init__(self) -> None:
        if self.tower not in TOWERS:
            raise unknown_name("tower", self.tower, TOWERS)
        if self.dtype == "bfloat16":
            raise PerceptError("onnxruntime does not compute bfloat16 on the CPU. Export float32 or float16.")
        if self.dtype not in DTYPES:
            raise unknown_name("type of an export", self.dtype, DTYPES)
        if self.int8 and self.dtype != "float32":
            raise PerceptError(f"int8 graphs are made from float32 ones. Leave out --dtype {self.dtype}.")
        if isinstance(self.size, str) and self.size != "dynamic":
            raise unknown_name("size", self.size, ["dynamic", "a number of pixels"])

    @property
    def dynamic(self) -> bool:
        """True if images of any size are accepted."""
        return self.size == "dynamic"

    @property
    def towers(self) -> tuple[str, ...]:
        """Names of the towers."""
        return ("image", "text") if self.tower == "both" else (self.tower,)


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An export that was written and checked."""

    folder: Path
    manifest: Manifest
    receipts: dict[str, Receipt] = field(default_factory=dict)
    """Receipt by number type: of the plain graphs against the model, of int8 against the plain graphs."""


def export_onnx(
    model: str | os.PathLike[str],
    folder: Path | str,
    plan: Plan | None = None,
    *,
    weights: str | os.PathLike[str] | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
) -> Exported:
    """Write the towers of a model as ONNX graphs with everything needed to use them; `percept.load(folder)` opens it.

    The folder appears only after every graph in it has been run and agrees with the model.

    Args:
        model: as for `percept.load`, and so are `weights`, `tokenizer` and `image_size`.
        folder: new or empty.
        plan: what to export; both towers in float32 when None.
        weights: local weight file for an official name.
        tokenizer: tokenizer.json for a model that comes without one.
        image_size: side in pixels; the size of the plan, if it is a number, goes first.

    Raises:
        PerceptError: a size that the patches do not divide, a tower that the model lacks, a folder that is not free, a
            missing library, or a graph that does not agree with the model.
    """
    plan, folder = plan or Plan(), Path(folder)
    _check_folder(folder)
    _libraries()
    size = plan.size if isinstance(plan.size, int) else image_size
    encoder = load(model, weights=weights, tokenizer=tokenizer, image_size=size, device="cpu", dtype="float32", batch=4)
    _check_model(encoder, plan)
    notice(f"exporting {encoder.identity.name}; tracing takes a minute or more for large models")
    with _new_folder(folder) as work, steps((len(plan.towers) + 1) * (1 + plan.int8)) as begin:
        manifest = _write(encoder, work, plan, begin)
        receipts = _prove(encoder, work, plan, begin)
        manifest = Manifest(
            **{**vars(manifest), "checks": {name: _summary(receipt) for name, receipt in receipts.items()}}
        )
        write_json(work / MANIFEST, to_dict(manifest))
    return Exported(folder=folder, manifest=manifest, receipts=receipts)


def _check_folder(folder: Path) -> None:
    """Refuse a folder that is not free, before any work is done.

    Raises:
        PerceptError: it is a file, a folder that is not empty, or cannot be written.
    """
    try:
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise PerceptError(f"{folder} exists already. Remove it, or give a different place.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent):
            pass
    except OSError as error:
        raise PerceptError(f"{folder} cannot be written: {error.strerror or error}. Give a different place.") from None


def _libraries() -> None:
    onnxruntime("checking an export")
    try:
        import onnx
        import onnxscript
    except ImportError as error:
        raise missing_extra(str(error.name), "export", "exporting a model") from None
    assert onnx, onnxscript


def _check_model(encoder: Encoder, plan: Plan) -> None:
    config, name = encoder.model.config, encoder.identity.name
    if encoder.setting.backend != "torch":
        raise PerceptError(f"{name} is an export already. Export the model that it was made from.")
    if "text" in plan.towers and config.text is None:
        raise PerceptError(f"{name} has no text tower to export. Give --tower image.")
    patch = config.vision.patch_size
    if any(side % patch for side in encoder.preprocess.shape) and not plan.dynamic:
        height, width = encoder.preprocess.shape
        least = width // patch * patch
        raise PerceptError(
            f"images of {height}x{width} pixels do not divide into patches of {patch}. Give --size {least or patch} "
            f"or {least + patch}, or --size dynamic."
        )


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder; it is renamed to `folder` only if the block succeeds."""
    with tempfile.TemporaryDirectory(
        dir=folder.parent, prefix=f".{folder.name}.", ignore_cleanup_errors=True
    ) as temporary:
        work = Path(temporary, folder.name)
        work.mkdir()
        yield work
        if folder.is_dir():
            folder.rmdir()  # empty, as was checked; a rename onto it is refused on some systems
        work.rename(folder)


def _write(encoder: Encoder, folder: Path, plan: Plan, begin: Callable[[str], None]) -> Manifest:
    """Write the graphs and the files they need; return the manifest, which is written too."""
    config = to_dict(encoder.model.config)
    write_json(folder / CONFIG, {"name": encoder.identity.name, "model": config, "provenance": {}})
    encoder.preprocess.save(folder / PREPROCESS)
    if encoder.tokenizer is not None:
        encoder.tokenizer.save(folder / TOKENIZER)
    graphs = []
    for tower in plan.towers:
        begin(f"tracing the {tower} tower")
        graphs.append(_tower(encoder, folder, plan, tower))
    for graph in tuple(graphs) if plan.int8 else ():
        begin(f"writing {graph.file} in 8 bits")
        graphs.append(_quantised(folder, graph))
    manifest = Manifest(
        name=encoder.identity.name, fingerprint=encoder.identity.fingerprint, scale=encoder.scale,
        size=None if plan.dynamic else encoder.preprocess.shape, layers=plan.layers, opset=OPSET, graphs=tuple(graphs),
        versions=_versions(),
    )  # fmt: skip
    write_json(folder / MANIFEST, to_dict(manifest))
    return manifest


def _versions() -> dict[str, str]:
    import onnx
    import onnxscript

    return {**versions(), "onnx": onnx.__version__, "onnxscript": onnxscript.__version__}


def _tower(encoder: Encoder, folder: Path, plan: Plan, tower: str) -> Graph:
    """Trace one tower and write it."""
    model, dim = encoder.model, torch.export.Dim
    if tower == "image":
        patch = model.config.vision.patch_size
        graph = ImageGraph(model.vision, dynamic=plan.dynamic, layers=plan.layers)
        shape = (3 * patch, 4 * patch) if plan.dynamic else encoder.preprocess.shape
        sample, axes = torch.zeros(2, 3, *shape), {0: dim("batch")}
        if plan.dynamic:
            axes |= {2: dim("height", min=patch, max=2**16), 3: dim("width", min=patch, max=2**16)}
        return _traced(graph, sample, axes, folder, plan, tower)
    assert model.text is not None
    context = model.text.config.context
    sample = torch.zeros(2, min(8, context - 1), dtype=torch.int64)
    axes = {0: dim("batch"), 1: dim("length", max=context)}
    return _traced(TextGraph(model.text, layers=plan.layers), sample, axes, folder, plan, tower)


def _traced(
    graph: ImageGraph | TextGraph, sample: Tensor, axes: dict[int, Any], folder: Path, plan: Plan, tower: str
) -> Graph:
    name = {"image": "image", "text": "ids"}[tower]
    if plan.dtype != "float32":  # a copy: the graph will be compared to the model itself
        graph = copy.deepcopy(graph).to(DTYPES[plan.dtype])
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph.eval(), (sample,), dynamo=True, dynamic_shapes=(axes,), input_names=[name],
            output_names=graph.outputs, opset_version=OPSET, verbose=False,
        )  # fmt: skip
        assert program is not None
        file = folder / f"{tower}.onnx"
        size = sum(parameter.numel() * parameter.element_size() for parameter in graph.parameters())
        program.save(os.fspath(file), external_data=size > ONE_FILE)
    return _described(file, tower=tower, dtype=plan.dtype, named={axis: dim.__name__ for axis, dim in axes.items()})


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
    """Return the size of a graph, with its separate file of weights if there is one."""
    beside = file.with_name(f"{file.name}.data")
    return round((file.stat().st_size + (beside.stat().st_size if beside.is_file() else 0)) / 1e6, 3)


def _quantised(folder: Path, graph: Graph) -> Graph:
    """Write a graph again with 8-bit weights in its linear layers, one scale per channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source, file = folder / graph.file, folder / f"{graph.tower}.int8.onnx"
    beside = source.with_name(f"{source.name}.data").is_file()
    with _quiet():
        quantize_dynamic(
            source, file, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True, weight_type=QuantType.QInt8,
            use_external_data_format=beside,
        )  # fmt: skip
    named = {axis: size for axis, size in enumerate(next(iter(graph.inputs.values()))) if isinstance(size, str)}
    return _described(file, tower=graph.tower, dtype="int8", named=named)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the messages of the libraries that are meant for their developers, and no others."""
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


def _prove(encoder: Encoder, folder: Path, plan: Plan, begin: Callable[[str], None]) -> dict[str, Receipt]:
    """Compare every graph with the model, and int8 graphs with the plain ones.

    Raises:
        PerceptError: a graph does not agree; nothing is kept then.
    """
    plain = load(folder, batch=encoder.setting.batch)
    patch = encoder.model.config.vision.patch_size
    grid = encoder.model.config.vision.grid
    shapes = [(2 * grid, grid), (max(1, grid // 2), grid + 3)] if plan.dynamic and "image" in plan.towers else []
    sizes = [(rows * patch, columns * patch) for rows, columns in shapes]
    begin("running the graphs against the model")
    receipts = {plan.dtype: compare(encoder, plain, generated(), sizes=sizes)}
    if plan.int8:
        begin("running the graphs in 8 bits against them")
        probes = generated(AGREEMENT, seed=COUNT)
        receipts["int8"] = compare(plain, load(folder, dtype="int8", batch=encoder.setting.batch), probes)
    for name, receipt in receipts.items():
        if not receipt.agrees:
            raise PerceptError(
                f"the {name} export of {encoder.identity.name} does not agree with it and was not kept: "
                f"{'; '.join(receipt.findings)}"
            )
    return receipts


def _summary(receipt: Receipt) -> dict[str, Any]:
    """Return what a manifest records of a check."""
    ends = ("image vector", "image embedding", "text vector", "text embedding")
    final = {difference.stage: difference for difference in receipt.differences if difference.stage in ends}
    return {
        "tolerance": receipt.tolerance,
        "largest": max((difference.relative for difference in receipt.differences), default=0.0),
        "cosine": {stage: [difference.cosine, difference.mean_cosine] for stage, difference in final.items()},
        "top1": receipt.top1,
        **receipt.inputs,
    }
