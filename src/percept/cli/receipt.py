"""`percept receipt`: prove that two models, types, devices or exports compute the same, or name where they part."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from percept.cli.show import bad_files, check_output, count, say, split_labels
from percept.core.errors import PerceptError
from percept.core.report import printable, table

if TYPE_CHECKING:
    from percept.export.probes import Probes
    from percept.export.receipt import Receipt
    from percept.infer.encoder import Encoder

AGREES, DEPARTS = 0, 1


def receipt(
    a: tyro.conf.Positional[str],
    b: tyro.conf.Positional[str],
    inputs: tuple[Path, ...] = (),
    texts: str | None = None,
    pictures: int = 16,
    seed: int = 0,
    tolerance: float | None = None,
    out: Path | None = None,
) -> int:
    """Compare preprocessing, tokens after every block, embeddings and nearest texts. Exits 0 if all agree, 1 if not.

    Args:
        a: Model name, folder, weight file or export folder; with @TYPE or @DEVICE behind it: nano@bfloat16, DIR@int8.
        b: The other side. Models compute in float32 on the CPU unless their side says otherwise.
        inputs: Folders or files of pictures; drawn pictures of the labelled world if not given.
        texts: Texts to compare: "a red cup,a dog" or @FILE with one per line; captions of drawn pictures if not given.
        pictures: How many are drawn.
        seed: Of the drawn pictures.
        tolerance: Largest length of a difference over that of its vector; by the types if not given.
        out: File for the whole receipt, ending in .json.
    """
    check_output(out, ".json")
    own = None if texts is None else split_labels(texts)
    if tolerance is not None and not tolerance >= 0:
        raise PerceptError(f"--tolerance {tolerance} lets nothing agree; give 0 or more")
    from percept.export.receipt import compare
    from percept.weights.locate import locate

    for side in (a, b):
        locate(side)  # a mistake in a name is reported before any work is done
    probes = _probes(inputs, own, pictures=pictures, seed=seed)
    one, other = _open(a), _open(b)
    say(f"{one} and {other} on {probes.source}")
    options = {"--inputs": inputs, "--texts": texts, "--pictures": pictures, "--seed": seed, "--tolerance": tolerance}
    found = replace(compare(one, other, probes, tolerance=tolerance), command=_typed(a, b, options))
    _show(found, a, b)
    bad_files(probes.bad)
    if out is not None:
        found.save(out)
        say(f"wrote {out}")
    return AGREES if found.agrees else DEPARTS


def _open(side: str) -> "Encoder":
    """Load a side in float32 on the CPU unless it says otherwise; an export in its plain type."""
    from percept.infer.load import load
    from percept.weights.locate import locate

    location = locate(side)
    dtype = location.dtype or (None if location.kind == "export" else "float32")
    return load(side, dtype=dtype, device=location.device or "cpu", batch=4)


def _typed(a: str, b: str, options: Mapping[str, object]) -> str:
    """Return the command line that makes the receipt again."""
    words = ["percept", "receipt", a, b]
    for name, value in options.items():
        values = value if isinstance(value, tuple) else [value]
        if value is not None and values:
            words += [name, *map(str, values)]
    return printable(shlex.join(words))


def _probes(inputs: tuple[Path, ...], texts: list[str] | None, *, pictures: int, seed: int) -> "Probes":
    from percept.export.probes import generated, given

    if inputs:
        return given(inputs, texts)
    drawn = generated(pictures, seed=seed)
    return drawn if texts is None else replace(drawn, texts=texts)


def _show(found: "Receipt", a: str, b: str) -> None:
    rows = [
        (one.stage, f"{one.max:.2g}", f"{one.mean:.2g}", f"{one.relative:.2g}", f"{one.cosine:.6f}",
         "" if one.within(found.tolerance) else "departs")
        for one in found.differences
    ]  # fmt: skip
    columns = ("stage", "largest", "mean", "of its length", "least cosine", "")
    table(f"{a} against {b}, {found.tolerance:g} of a vector's length tolerated", columns, rows)
    top1 = found.top1
    same = "not compared" if top1 is None else f"the same for {top1['same']} of {count(top1['of'], 'picture')}"
    verdict = [
        ("verdict", found.verdict),
        *(("finding", finding) for finding in found.findings),
        *(("not compared", note) for note in found.notes),
        ("nearest text", same),
        ("first to depart", found.first_departure or "none"),
    ]
    table("Receipt", ("what", "value"), verdict)


COMMAND = receipt
