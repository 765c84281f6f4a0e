"""`percept export onnx`: write a model as graphs that onnxruntime runs without torch, checked against the model."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from percept.cli.options import FILES, Files
from percept.cli.show import say, writing
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    from percept.export.write import Exported


def onnx(
    model: tyro.conf.Positional[str],
    out: Path,
    tower: str = "both",
    size: str | None = None,
    dtype: str = "float32",
    int8: bool = False,
    layers: bool = True,
    files: Files = FILES,
) -> int:
    """Write image.onnx and text.onnx with everything needed to use them, and run each against the model.

    Args:
        model: nano, an official name, hf://OWNER/NAME, a model folder or a weight file.
        out: Folder to write; new or empty. percept.load(FOLDER) and --model FOLDER open it.
        tower: image, text or both.
        size: Side of the images in pixels, as --image-size, or dynamic for any height and width.
        dtype: float32 or float16.
        int8: Also write graphs whose linear layers have 8-bit weights; they open as FOLDER@int8.
        layers: Give the tokens after every block as outputs, so that a receipt can compare them.
    """
    pixels = _size(size, files.image_size)
    from percept.export.write import Plan, export_onnx

    plan = Plan(tower=tower, size=pixels, dtype=dtype, int8=int8, layers=layers)
    with writing(out):
        exported = export_onnx(
            model, out, plan, weights=files.weights, tokenizer=files.tokenizer, image_size=files.image_size
        )
    _show(exported)
    return 0


def _size(text: str | None, image_size: int | None) -> int | str | None:
    """Return the size of the graph: pixels, dynamic, or None for the size of the model."""
    if text is None:
        return image_size
    if text == "dynamic":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise PerceptError(f"--size must be a positive number of pixels or dynamic, got {text}. Give 224, for example.")
    if image_size not in (None, int(text)):
        raise PerceptError(f"--size {text} contradicts --image-size {image_size}. Give one of them.")
    return int(text)


def _show(exported: "Exported") -> None:
    manifest = exported.manifest
    plain = {graph.tower: graph.megabytes for graph in manifest.graphs if graph.dtype == manifest.dtypes[0]}
    rows = [
        (graph.file, graph.dtype, _shape(graph.inputs), f"{graph.megabytes:.1f}", _share(graph.megabytes, plain[graph.tower]))
        for graph in manifest.graphs
    ]  # fmt: skip
    table(f"{manifest.name} in {exported.folder}", ("file", "type", "takes", "MB", "of the plain"), rows)
    rows = [(f"{dtype} {stage.stage}", f"{stage.max:.2g}", f"{stage.mean:.2g}", f"{stage.relative:.2g}", f"{stage.cosine:.6f}")
            for dtype, receipt in exported.receipts.items()
            for stage in receipt.differences if stage.stage.endswith(("vector", "embedding"))]  # fmt: skip
    table("Checked by running it", ("stage", "largest", "mean", "of its length", "least cosine"), rows)
    table("Verdict", ("type", "against", "agrees within", "same nearest text"), _verdicts(exported))
    say(f"use it: {_use(exported)}")


def _use(exported: "Exported") -> str:
    """Return a line that uses the export, ready to be pasted."""
    from percept.weights.folder import TOKENIZER

    towers, folder = {graph.tower for graph in exported.manifest.graphs}, exported.folder
    if towers == {"text"}:
        return f'percept.load({str(folder)!r}).text(["a red cup"])'
    labels = " --labels cat,dog" if "text" in towers and (folder / TOKENIZER).is_file() else ""
    verb, output = ("classify", labels) if labels else ("encode", " --out vectors.parquet")
    return f"percept {verb} IMAGES{output} --model {shlex.quote(str(folder))}"


def _verdicts(exported: "Exported") -> list[tuple[str, str, str, str]]:
    plain = exported.manifest.dtypes[0]
    rows = []
    for dtype, receipt in exported.receipts.items():
        same = "" if receipt.top1 is None else f"{receipt.top1['same']} of {receipt.top1['of']} images"
        against = exported.manifest.name if dtype == plain else plain
        rows.append((dtype, against, f"{receipt.tolerance:g} of a vector's length", same))
    return rows


def _shape(inputs: dict[str, list[object]]) -> str:
    return ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in inputs.items())


def _share(megabytes: float, plain: float) -> str:
    return f"{megabytes / plain:.0%}"


COMMANDS = {"onnx": onnx}
