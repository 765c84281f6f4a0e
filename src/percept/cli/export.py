"""`percept export onnx`: write a model as graphs that onnxruntime runs without torch, proven against the model."""

from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from percept.cli.show import say
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    from percept.export.write import Exported


def onnx(
    model: tyro.conf.Positional[str],
    folder: tyro.conf.Positional[Path],
    tower: str = "both",
    size: str | None = None,
    dtype: str = "float32",
    int8: bool = False,
    layers: bool = True,
    weights: Path | None = None,
    tokenizer: Path | None = None,
) -> int:
    """Write image.onnx and text.onnx with all that is needed to use them, and run each against the model.

    Args:
        model: nano, an official name, hf://OWNER/NAME, a model folder or a weight file.
        folder: Where to; new or empty. percept.load(FOLDER) and --model FOLDER open it.
        tower: image, text or both.
        size: Side of the pictures in pixels, or dynamic for any height and width; as trained if not given.
        dtype: float32 or float16.
        int8: Also write graphs with the weights of the linear layers in 8 bits: FOLDER@int8.
        layers: Give the tokens after every block as outputs, so that a receipt can compare them.
        weights: Local weight file for an official name.
        tokenizer: tokenizer.json for a model that comes without one.
    """
    pixels = _size(size)
    from percept.export.write import Plan, export_onnx

    plan = Plan(tower=tower, size=pixels, dtype=dtype, int8=int8, layers=layers)
    exported = export_onnx(model, folder, plan, weights=weights, tokenizer=tokenizer)
    _show(exported)
    return 0


def _size(text: str | None) -> int | str | None:
    if text is None or text == "dynamic":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise PerceptError(f"--size {text}: give a number of pixels, such as 224, or dynamic for any size")
    return int(text)


def _show(exported: "Exported") -> None:
    manifest = exported.manifest
    plain = {graph.tower: graph.megabytes for graph in manifest.graphs if graph.dtype == manifest.dtypes[0]}
    rows = [
        (graph.file, graph.dtype, _shape(graph.inputs), f"{graph.megabytes:.1f}", _share(graph.megabytes, plain[graph.tower]))
        for graph in manifest.graphs
    ]  # fmt: skip
    table(f"{manifest.name} in {exported.folder}", ("file", "type", "takes", "MB", "of the plain"), rows)
    rows = [(f"{dtype} {one.stage}", f"{one.max:.2g}", f"{one.mean:.2g}", f"{one.relative:.2g}", f"{one.cosine:.6f}")
            for dtype, receipt in exported.receipts.items()
            for one in receipt.differences if one.stage.endswith(("vector", "embedding"))]  # fmt: skip
    table("Checked by running it", ("stage", "largest", "mean", "of its length", "least cosine"), rows)
    table("Verdict", ("type", "against", "agrees within", "same nearest text"), _verdicts(exported))
    say(f"use it: {_use(exported)}")


def _use(exported: "Exported") -> str:
    """Return a line that works with the towers there are."""
    from percept.weights.folder import TOKENIZER

    towers, folder = {graph.tower for graph in exported.manifest.graphs}, exported.folder
    if towers == {"text"}:
        return f'percept.load("{folder}").text(["a red cup"])'
    labels = " --labels cat,dog" if "text" in towers and (folder / TOKENIZER).is_file() else ""
    return f"percept {'classify' if labels else 'encode'} PICTURES{labels or ' --out vectors.parquet'} --model {folder}"


def _verdicts(exported: "Exported") -> list[tuple[str, str, str, str]]:
    plain = exported.manifest.dtypes[0]
    rows = []
    for dtype, receipt in exported.receipts.items():
        same = "" if receipt.top1 is None else f"{receipt.top1['same']} of {receipt.top1['of']} pictures"
        other = exported.manifest.name if dtype == plain else plain
        rows.append((dtype, other, f"{receipt.tolerance:g} of a vector's length", same))
    return rows


def _shape(inputs: dict[str, list[object]]) -> str:
    return ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in inputs.items())


def _share(megabytes: float, plain: float) -> str:
    return f"{megabytes / plain:.0%}"


COMMANDS = {"onnx": onnx}
