"""Write a model as ONNX graphs that run without torch. Every graph is compared with the model before it is kept."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from percept.core.config import to_dict
from percept.core.errors import PerceptError, missing_extra, unknown_name
from percept.core.io import write_json
from percept.core.report import notice, steps
from percept.export.probes import COUNT, generated
from percept.export.receipt import compare
from percept.export.record import Receipt, versions
from percept.export.trace import DTYPES, OPSET, quantised, trace_tower
from percept.infer.encoder import Encoder
from percept.infer.load import load
from percept.models.manifest import MANIFEST, Manifest
from percept.models.onnx import onnxruntime
from percept.weights.folder import CONFIG, PREPROCESS, TOKENIZER

TOWERS = ("image", "text", "both")
AGREEMENT = 64
"""Images on which the quantised graphs are compared to the plain ones."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Options of an export."""

    tower: str = "both"
    """image, text or both."""
    size: int | str | None = None
    """Side of the images in pixels; "dynamic" for any size; None for the size of the loaded model."""
    dtype: str = "float32"
    int8: bool = False
    """If True, also write graphs whose linear layers have 8-bit weights."""
    layers: bool = True
    """If True, the tokens after every block are outputs."""

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
    """Receipts by number type: plain graphs against the model, and int8 graphs against the plain graphs."""


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
        model: as for `percept.load`, like `weights`, `tokenizer` and `image_size`.
        folder: new or empty folder.
        plan: options; both towers in float32 if None.
        weights: local weight file for an official name.
        tokenizer: tokenizer.json for a model that comes without one.
        image_size: side in pixels; a number in `plan.size` takes precedence.

    Raises:
        PerceptError: the size is not a multiple of the patch size, the model lacks a tower, the folder is not empty, a
            library is missing, or a graph does not agree with the model.
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
    """Refuse a folder that cannot be used, before any work is done.

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
        raise PerceptError(f"{name} is already an export. Export the model from which it was made.")
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
            folder.rmdir()  # empty; some systems refuse to rename onto it
        work.rename(folder)


def _write(encoder: Encoder, folder: Path, plan: Plan, begin: Callable[[str], None]) -> Manifest:
    """Write the graphs, the files they need and the manifest; return the manifest."""
    config = to_dict(encoder.model.config)
    write_json(folder / CONFIG, {"name": encoder.identity.name, "model": config, "provenance": {}})
    encoder.preprocess.save(folder / PREPROCESS)
    if encoder.tokenizer is not None:
        encoder.tokenizer.save(folder / TOKENIZER)
    graphs = []
    for tower in plan.towers:
        begin(f"tracing the {tower} tower")
        graphs.append(
            trace_tower(encoder, folder, tower=tower, dtype=plan.dtype, dynamic=plan.dynamic, layers=plan.layers)
        )
    for graph in tuple(graphs) if plan.int8 else ():
        begin(f"writing {graph.file} in 8 bits")
        graphs.append(quantised(folder, graph))
    manifest = Manifest(
        name=encoder.identity.name, weights=dict(encoder.weight_hashes), scale=encoder.scale,
        size=None if plan.dynamic else encoder.preprocess.shape, layers=plan.layers, opset=OPSET, graphs=tuple(graphs),
        versions=_versions(),
    )  # fmt: skip
    write_json(folder / MANIFEST, to_dict(manifest))
    return manifest


def _versions() -> dict[str, str]:
    import onnx
    import onnxscript

    return {**versions(), "onnx": onnx.__version__, "onnxscript": onnxscript.__version__}


def _prove(encoder: Encoder, folder: Path, plan: Plan, begin: Callable[[str], None]) -> dict[str, Receipt]:
    """Compare every graph with the model, and int8 graphs with the plain ones.

    Raises:
        PerceptError: a graph does not agree.
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
    """Return the entry of a check in the manifest."""
    ends = ("image vector", "image embedding", "text vector", "text embedding")
    final = {difference.stage: difference for difference in receipt.differences if difference.stage in ends}
    return {
        "tolerance": receipt.tolerance,
        "largest": max((difference.relative for difference in receipt.differences), default=0.0),
        "cosine": {stage: [difference.cosine, difference.mean_cosine] for stage, difference in final.items()},
        "top1": receipt.top1,
        **receipt.inputs,
    }
