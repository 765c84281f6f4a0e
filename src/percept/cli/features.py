"""`percept features`: patch tokens of any layer, as a table, as coloured maps, or as a file."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from percept.cli.options import MODEL, Model, Outputs
from percept.cli.output import is_stdout, save_rows, split_outputs
from percept.cli.show import bad_files, check_apart, check_output, common_folder, count, say, within, writing
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from percept.data.files import BadFile
    from percept.infer.dense import Hidden, PoolAttention
    from percept.infer.encoder import Encoder

FIELDS = {
    "path": str, "layer": int, "rows": int, "columns": int, "width": int, "mean_norm": float, "largest_norm": float,
}  # fmt: skip
"""Of a row of --out: the patches of an image at a layer."""
FRAME = 240
"""Longer side of a drawn image, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Images that could be read, and their features."""

    paths: list[Path]
    hidden: "list[Hidden]"
    attention: "list[PoolAttention]"
    """Empty if not requested."""
    bad: "list[BadFile]"


def features(
    paths: tyro.conf.Positional[tuple[Path, ...]],
    layers: str = "-1",
    norm: bool = False,
    pca: Path | None = None,
    attention: Path | None = None,
    out: Outputs = (),
    show: int = 16,
    model: Model = MODEL,
) -> int:
    """Show the features of images, patch by patch.

    Args:
        paths: Image files, and folders of them (searched with their subfolders).
        layers: Blocks whose output is taken, such as 2,4,-1: counted from 0, or from the end with negative numbers.
        norm: Apply the final norm of the model. Default: the tokens as they leave the block.
        pca: PNG to draw: each image, and its patches coloured by their first three principal components, a column per
            layer.
        attention: PNG to draw: the attention of each head of the pooling query.
        out: .safetensors or .npz for the maps; .csv, .json, .jsonl or .parquet for the norms of the table, or - for these as json lines
            on standard output; or both.
        show: Number of images in the table and in the drawings; --out holds all of them.
    """
    from percept.data.files import find_images

    numbers = split_layers(layers)
    if show < 1:
        raise PerceptError(f"--show must be at least 1, got {show}.")
    files = find_images(paths)
    check_output(pca, ".png")
    check_output(attention, ".png")
    check_apart((pca, attention), files)
    maps, rows = split_outputs(out, ".safetensors", ".npz")
    # Imported here, so that a mistyped folder is reported at once.
    from percept.nn.stack import resolve_layer

    encoder = model.open()
    blocks = encoder.model.config.vision.layers
    numbers = list(dict.fromkeys(resolve_layer(layer, blocks) for layer in numbers))
    if not out and len(files) > show:
        say(f"the first {show} of {count(len(files), 'image')}; --show N shows more, --out FILE writes all")
        files = files[:show]
    say(f"{encoder} reads {count(len(files), 'image')}")
    seen = look(encoder, files, numbers, norm=norm, attention=attention is not None)
    bad_files(seen.bad, on_stderr=is_stdout(rows))
    if not seen.paths:
        raise PerceptError("none of the files could be read, so there is nothing to show")
    names = [within(path, common_folder(seen.paths)) for path in seen.paths[:show]]
    if not is_stdout(rows):
        _table(names, seen.hidden[:show], norm=norm)
    _draw(encoder, seen, names, numbers, pca=pca, attention=attention)
    for file in maps:
        with writing(file):
            _write(file, encoder, seen, norm=norm)
        say(f"wrote {file}, {file.stat().st_size / 1e6:.2f} MB")
    values = (row for path, hidden in zip(seen.paths, seen.hidden, strict=True) for row in _values(path, hidden))
    save_rows(rows, values, FIELDS, facts={"model": str(encoder.identity), "norm": norm})
    return 0


def split_layers(text: str) -> list[int]:
    """Return the layers of `2,4,-1`.

    Raises:
        PerceptError: a part is not an integer, or there are none.
    """
    try:
        layers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        layers = []
    if not layers:
        raise PerceptError(f"--layers must be integers separated by commas, got {text!r}. Give a list such as 2,4,-1.")
    return layers


def look(encoder: "Encoder", files: Sequence[Path], layers: list[int], *, norm: bool, attention: bool) -> Seen:
    """Read images and run them through the model; a file that cannot be read is listed with its reason."""
    from percept.data.files import BadFile, read_each
    from percept.infer.images import to_tensor

    tensors = list(zip(files, read_each(files, lambda path: to_tensor(path, encoder.preprocess)), strict=True))
    pixels = [tensor for _, tensor in tensors if not isinstance(tensor, BadFile)]
    return Seen(
        paths=[path for path, tensor in tensors if not isinstance(tensor, BadFile)],
        hidden=list(encoder.hidden(pixels, layers, norm=norm)),
        attention=encoder.attention(pixels) if attention else [],
        bad=[bad for _, bad in tensors if isinstance(bad, BadFile)],
    )


def _draw(
    encoder: "Encoder",
    seen: Seen,
    names: Sequence[str],
    layers: Sequence[int],
    *,
    pca: Path | None,
    attention: Path | None,
) -> None:
    """Write the drawings of the images that are named."""
    from percept.infer.drawing import attention_row, draw_rows, pca_rows, save_png

    frames = _frames(encoder, seen.paths[: len(names)]) if pca or attention else []
    if pca is not None:
        maps = [{layer: hidden.map(layer) for layer in layers} for hidden in seen.hidden[: len(names)]]
        with writing(pca):
            save_png(pca, draw_rows(pca_rows(frames, maps, names)))
        say(f"wrote {pca}")
    if attention is not None:
        rows = zip(frames, seen.attention[: len(names)], names, strict=True)
        with writing(attention):
            save_png(attention, draw_rows([attention_row(*row) for row in rows]))
        say(f"wrote {attention}")


def _frames(encoder: "Encoder", paths: Sequence[Path]) -> "list[Image.Image]":
    from percept.data.images import read_image
    from percept.infer.drawing import as_seen

    return [as_seen(read_image(path, at_least=FRAME), encoder.preprocess, FRAME) for path in paths]


def _values(path: "Path | str", hidden: "Hidden") -> Iterator[dict[str, Any]]:
    """Yield what the table holds of an image, layer by layer."""
    for layer in hidden.tokens:
        norms, (down, across) = hidden.patches(layer).norm(dim=-1), hidden.grid
        yield {
            "path": path, "layer": layer, "rows": down, "columns": across, "width": hidden.tokens[layer].shape[-1],
            "mean_norm": float(norms.mean()), "largest_norm": float(norms.max()),
        }  # fmt: skip


def _table(names: Sequence[str], rows: "Sequence[Hidden]", *, norm: bool) -> None:
    columns = ("image", "layer", "grid", "width", "mean norm", "largest norm")
    lines = [
        (name, row["layer"], f"{row['rows']} x {row['columns']}", row["width"], row["mean_norm"], row["largest_norm"])
        for name, hidden in zip(names, rows, strict=True)
        for row in _values(name, hidden)
    ]
    table(f"Patches {'after the final norm' if norm else 'in the residual stream'}", columns, lines)


def _write(file: Path, encoder: "Encoder", seen: Seen, *, norm: bool) -> None:
    """Write the tensors of every image, and the facts as json.

    `image.I.layer.K` [y, x, w], `image.I.class_token.K` [w]; with --attention `image.I.attention` [h, y, x] and
    `image.I.attention_class_token` [h].
    """
    from percept.core.config import to_dict
    from percept.core.io import save_tensors
    from percept.data.files import as_text

    tensors: dict[str, Tensor] = {}
    for place, hidden in enumerate(seen.hidden):
        for layer in hidden.tokens:
            tensors[f"image.{place}.layer.{layer}"] = hidden.map(layer).contiguous()
            if hidden.prefix:
                tensors[f"image.{place}.class_token.{layer}"] = hidden.class_token(layer)
    for place, gaze in enumerate(seen.attention):
        tensors[f"image.{place}.attention"] = gaze.maps
        tensors[f"image.{place}.attention_class_token"] = gaze.class_token
    facts = {
        "model": to_dict(encoder.identity),
        "preprocess": to_dict(encoder.preprocess),
        "norm": norm,
        "images": [as_text(path) for path in seen.paths],
        "bad": [{"path": as_text(bad.path), "reason": as_text(bad.reason)} for bad in seen.bad],
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
