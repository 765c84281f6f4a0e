"""`percept receipt`: prove that two models, types, devices or exports compute the same, or name the first difference."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from percept.cli.options import LOAD, Load, LoadOptions, typed
from percept.cli.output import check_own_output, is_stdout, save_rows
from percept.cli.show import bad_files, count, say, split_labels, writing
from percept.core.errors import PerceptError
from percept.core.report import printable, table

if TYPE_CHECKING:
    from percept.export.probes import Probes
    from percept.export.record import Receipt
    from percept.infer.encoder import Encoder

AGREES, DEPARTS = 0, 1
FIELDS = {
    "stage": str, "max": float, "mean": float, "bias": float, "relative": float, "cosine": float, "mean_cosine": float,
    "vectors": int, "agrees": bool,
}  # fmt: skip
"""Of a row of --out: the difference at a stage; relative and cosine are the worst of its vectors."""


def receipt(
    a: tyro.conf.Positional[str],
    b: tyro.conf.Positional[str],
    inputs: tuple[Path, ...] = (),
    texts: str | None = None,
    images: int = 16,
    seed: int = 0,
    tolerance: float | None = None,
    out: Path | None = None,
    load: Load = LOAD,
) -> int:
    """Compare preprocessing, tokens after every block, embeddings and nearest texts. Exits 0 if all agree, 1 if not.

    Args:
        a: Model name, folder, weight file or export folder; @TYPE or @DEVICE may follow: nano@bfloat16, DIR@int8.
        b: The other side. Options of the model apply to both sides; both compute in float32 on the CPU, unless the side,
            --dtype or --device chooses otherwise.
        inputs: Folders or files of images. Default: generated images of the labelled world.
        texts: Texts to compare: "a red cup,a dog" or @FILE with one per line. Default: captions of generated images.
        images: Number of generated images.
        seed: Seed of the generated images.
        tolerance: Largest length of a difference, relative to the length of its vector. Default: by the number types.
        out: File for the whole receipt, ending in .json; or for a row per stage, ending in .csv, .jsonl or .parquet; - for json lines on
            standard output.
    """
    whole = check_own_output(out, ".json")
    own_texts = None if texts is None else split_labels(texts)
    if tolerance is not None and not tolerance >= 0:
        raise PerceptError(f"--tolerance must be at least 0, got {tolerance}.")
    from percept.export.receipt import compare
    from percept.weights.locate import locate

    for side in (a, b):
        locate(side)  # a mistake in a name is reported before any work is done
    probes = _probes(inputs, own_texts, images=images, seed=seed)
    left, right = (_open(side, load) for side in (a, b))
    say(f"{left} and {right} on {probes.source}")
    options = {"--inputs": inputs, "--texts": texts, "--images": images, "--seed": seed, "--tolerance": tolerance}
    command = _command(a, b, options, typed(load))
    compared = replace(compare(left, right, probes, tolerance=tolerance), command=command)
    if not is_stdout(out):
        _show(compared, a, b)
    bad_files(probes.bad, on_stderr=is_stdout(out))
    if out is not None and whole:
        with writing(out):
            compared.save(out)
        say(f"wrote {out}")
    else:
        tolerated = compared.tolerance
        rows = ({**vars(each), "agrees": each.within(tolerated)} for each in compared.differences)
        save_rows(out, rows, FIELDS, facts={"command": command, "verdict": compared.verdict, "tolerance": tolerated})
    return AGREES if compared.agrees else DEPARTS


def _open(side: str, options: LoadOptions) -> "Encoder":
    """Open one side: what follows an @ takes precedence over the options, and they over float32 on the CPU."""
    from percept.weights.locate import locate

    location = locate(side)
    return options.load(
        side,
        dtype=location.dtype or options.dtype or (None if location.kind == "export" else "float32"),
        device=location.device or ("cpu" if options.device == "auto" else options.device),
    )


def _command(a: str, b: str, options: Mapping[str, object], load: list[str]) -> str:
    """Return the command line that makes the receipt again."""
    words = ["percept", "receipt", a, b]
    for name, value in options.items():
        values = value if isinstance(value, tuple) else [value]
        if value is not None and values:
            words += [name, *map(str, values)]
    return printable(shlex.join([*words, *load]))


def _probes(inputs: tuple[Path, ...], texts: list[str] | None, *, images: int, seed: int) -> "Probes":
    from percept.export.probes import generated, given

    if inputs:
        return given(inputs, texts)
    drawn = generated(images, seed=seed)
    return drawn if texts is None else replace(drawn, texts=texts)


def _show(compared: "Receipt", a: str, b: str) -> None:
    rows = [
        (stage.stage, f"{stage.max:.2g}", f"{stage.mean:.2g}", f"{stage.relative:.2g}", f"{stage.cosine:.6f}",
         "" if stage.within(compared.tolerance) else "departs")
        for stage in compared.differences
    ]  # fmt: skip
    columns = ("stage", "largest", "mean", "of its length", "least cosine", "")
    table(f"{a} against {b}, {compared.tolerance:g} of a vector's length tolerated", columns, rows)
    top1 = compared.top1
    same = "not compared" if top1 is None else f"the same for {top1['same']} of {count(top1['of'], 'image')}"
    verdict = [
        ("verdict", compared.verdict),
        *(("finding", finding) for finding in compared.findings),
        *(("not compared", note) for note in compared.notes),
        ("nearest text", same),
        ("first to depart", compared.first_departure or "none"),
    ]
    table("Receipt", ("what", "value"), verdict)


COMMAND = receipt
