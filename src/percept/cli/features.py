"""`percept features`: maps of any layer, as a table, as a picture of their colours and as a file; where the pooling head looks."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from percept.cli.show import bad_files, check_output, common_folder, count, say, within
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from percept.data.files import BadFile
    from percept.infer.dense import Hidden, PoolAttention
    from percept.infer.encoder import Encoder

FRAME = 240
"""Pixels of the longer side of a drawn picture."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Pictures that could be read, and what the model made of them."""

    paths: list[Path]
    hidden: "list[Hidden]"
    attention: "list[PoolAttention]"
    """Empty unless asked for."""
    bad: "list[BadFile]"


def features(
    paths: tyro.conf.Positional[tuple[Path, ...]],
    layers: str = "-1",
    norm: bool = False,
    pca: Path | None = None,
    attention: Path | None = None,
    out: Path | None = None,
    show: int = 16,
    model: str = "nano",
    weights: Path | None = None,
    device: str = "auto",
    resize: str | None = None,
    tokens: int | None = None,
) -> int:
    """Show what a model sees in pictures, patch by patch.

    Args:
        paths: Picture files, and folders of them (searched with their subfolders).
        layers: Blocks whose output to take, 2,4,-1: counted from 0, or from the end with negative numbers.
        norm: Pass them through the final norm of the model; otherwise they are the raw residual stream.
        pca: PNG to draw: each picture, and its patches coloured by their first three principal components, a column per layer.
        attention: PNG to draw: where each head of the pooling query looks.
        out: File to write the maps to: .safetensors or .npz.
        show: Pictures in the table and in the drawings; all of them go into --out.
        model: nano, an official name, or a model folder.
        weights: Local weight file for an official name.
        device: auto, cpu, cuda or mps.
        resize: How pictures are brought to size: squash, crop, pad, keep or native. Default: as the model says.
        tokens: Most patches of a picture, for --resize native.
    """
    from percept.data.files import find_images

    wanted = split_layers(layers)
    if show < 1:
        raise PerceptError(f"--show {show}: at least 1 picture is shown")
    files = find_images(paths)
    check_output(pca, ".png")
    check_output(attention, ".png")
    check_output(out, ".safetensors", ".npz")
    # Only now, so that a mistyped folder is answered at once.
    from percept.infer.drawing import attention_row, draw_rows, pca_rows, save_png
    from percept.infer.load import load
    from percept.nn.stack import resolve_layer

    encoder = load(model, weights=weights, device=device, resize=resize, tokens=tokens)
    blocks = encoder.model.config.vision.layers
    wanted = list(dict.fromkeys(resolve_layer(layer, blocks) for layer in wanted))
    if out is None and len(files) > show:
        say(f"the first {show} of {count(len(files), 'picture')}; --show N takes more, --out FILE takes all")
        files = files[:show]
    say(f"{encoder} reads {count(len(files), 'picture')}")
    seen = look(encoder, files, wanted, norm=norm, attention=attention is not None)
    bad_files(seen.bad)
    if not seen.paths:
        raise PerceptError("none of the files could be read, so there is nothing to show")
    names = [within(path, common_folder(seen.paths)) for path in seen.paths[:show]]
    _table(names, seen.hidden[:show], norm=norm)
    if pca is not None:
        maps = [{layer: one.map(layer) for layer in wanted} for one in seen.hidden[:show]]
        save_png(pca, draw_rows(pca_rows(_frames(encoder, seen.paths[:show]), maps, names)))
        say(f"wrote {pca}")
    if attention is not None:
        rows = zip(_frames(encoder, seen.paths[:show]), seen.attention[:show], names, strict=True)
        save_png(attention, draw_rows([attention_row(*row) for row in rows]))
        say(f"wrote {attention}")
    if out is not None:
        _write(out, encoder, seen, norm=norm)
        say(f"wrote {out}, {out.stat().st_size / 1e6:.2f} MB")
    return 0


def split_layers(text: str) -> list[int]:
    """Return the layers of `2,4,-1`.

    Raises:
        PerceptError: something is no whole number, or there is nothing.
    """
    try:
        layers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        layers = []
    if not layers:
        raise PerceptError(f"--layers {text!r}: give whole numbers with commas between them, such as 2,4,-1")
    return layers


def look(encoder: "Encoder", files: Sequence[Path], layers: list[int], *, norm: bool, attention: bool) -> Seen:
    """Read pictures and run them through the model; a file that cannot be read is listed with its reason."""
    from percept.data.files import BadFile, in_order, reason_without_path
    from percept.infer.pictures import to_tensor

    def read(path: Path) -> "Tensor | BadFile":
        try:
            return to_tensor(path, encoder.preprocess)
        except PerceptError as error:
            return BadFile(path, reason_without_path(error, path))

    found = list(zip(files, in_order(read, files), strict=True))
    pixels = [one for _, one in found if not isinstance(one, BadFile)]
    hidden = encoder.hidden(pixels, layers, norm=norm)
    gazes = encoder.attention(pixels) if attention else []
    return Seen(
        paths=[path for path, one in found if not isinstance(one, BadFile)],
        hidden=hidden,
        attention=gazes,
        bad=[one for _, one in found if isinstance(one, BadFile)],
    )


def _frames(encoder: "Encoder", paths: Sequence[Path]) -> "list[Image.Image]":
    from percept.data.images import read_image
    from percept.infer.drawing import as_seen

    return [as_seen(read_image(path, at_least=FRAME), encoder.preprocess, FRAME) for path in paths]


def _table(names: Sequence[str], rows: "Sequence[Hidden]", *, norm: bool) -> None:
    columns = ("picture", "layer", "grid", "width", "mean norm", "largest norm")
    lines = []
    for name, one in zip(names, rows, strict=True):
        for layer in one.tokens:
            norms, (down, across) = one.patches(layer).norm(dim=-1), one.grid
            width = one.tokens[layer].shape[-1]
            lines.append((name, layer, f"{down} x {across}", width, float(norms.mean()), float(norms.max())))
    table(f"Patches {'after the final norm' if norm else 'in the residual stream'}", columns, lines)


def _write(file: Path, encoder: "Encoder", seen: Seen, *, norm: bool) -> None:
    """Write `picture.I.layer.K` [y, x, w] and, where asked for, `picture.I.attention` [h, y, x] with its class token's shares."""
    from percept.core.config import to_dict
    from percept.core.io import save_tensors
    from percept.data.files import as_text

    tensors: dict[str, Tensor] = {}
    for place, one in enumerate(seen.hidden):
        tensors |= {f"picture.{place}.layer.{layer}": one.map(layer).contiguous() for layer in one.tokens}
        tensors |= {
            f"picture.{place}.class_token.{layer}": one.class_token(layer) for layer in one.tokens if one.prefix
        }
    for place, gaze in enumerate(seen.attention):
        tensors[f"picture.{place}.attention"] = gaze.maps
        tensors[f"picture.{place}.attention_class_token"] = gaze.class_token
    facts = {
        "model": to_dict(encoder.identity),
        "preprocess": to_dict(encoder.preprocess),
        "norm": norm,
        "pictures": [as_text(path) for path in seen.paths],
        "bad": [{"path": as_text(one.path), "reason": as_text(one.reason)} for one in seen.bad],
    }
    if file.suffix.lower() == ".npz":
        _write_npz(file, tensors, facts)
    else:
        save_tensors(file, tensors, {"percept": json.dumps(facts)})


def _write_npz(file: Path, tensors: "dict[str, Tensor]", facts: dict[str, object]) -> None:
    import numpy as np

    from percept.core.io import replacing

    with replacing(file) as temporary, temporary.open("wb") as stream:
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        np.savez(stream, facts=np.array(json.dumps(facts)), **arrays)  # type: ignore[arg-type]


COMMAND = features
