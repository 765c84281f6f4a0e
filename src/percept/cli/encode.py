"""`percept encode`: write the vectors of images and videos to a parquet, npz, jsonl or safetensors file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import tyro

from percept.cli.options import MODEL, VIDEO, Model, Video
from percept.cli.show import bad_files, check_output, count_files, say, writing
from percept.core.errors import PerceptError, missing_extra
from percept.core.report import table

if TYPE_CHECKING:
    from torch import Tensor

    from percept.infer.clips import Sampling
    from percept.infer.encoder import Encoder, FileVectors

Writer: TypeAlias = Callable[[Path, list[str], "Tensor", dict[str, Any]], None]


def encode(
    paths: tyro.conf.Positional[tuple[Path, ...]],
    out: Path,
    model: Model = MODEL,
    video: Video = VIDEO,
) -> int:
    """Write one unit-length vector per image or video.

    Args:
        paths: Folders (searched with their subfolders), image and video files; only the first frame of a GIF is used.
        out: File to write; the ending chooses the format: .parquet, .npz, .jsonl or .safetensors.
    """
    from percept.data.files import as_text, find_media

    write = writer(out)
    files = find_media(paths)
    check_output(out)
    sampling = video.sampling()
    encoder = model.open()
    say(f"{encoder} reads {count_files(files)}")
    read = encoder.files(files, sampling=sampling)
    if not read.paths:
        bad_files(read.bad)
        raise PerceptError("none of the files could be read, so nothing was written")
    with writing(out):
        write(out, [as_text(path) for path in read.paths], read.vectors, _facts(encoder, read, sampling))
    bad_files(read.bad)
    rows = [
        ("file", f"{out}, {out.stat().st_size / 1e6:.2f} MB"),
        ("read", count_files(read.paths)),
        ("left out", f"{len(read.bad):,}"),
        ("vector length", str(encoder.dim)),
        ("model", str(encoder.identity)),
    ]
    table("Written", ("what", "value"), rows)
    return 0


def _facts(encoder: "Encoder", read: "FileVectors", sampling: "Sampling") -> dict[str, Any]:
    """Return what is stored with the vectors: the model, its preprocessing, and the bad files."""
    from percept.core.config import to_dict
    from percept.data.files import as_text

    return {
        "model": to_dict(encoder.identity),
        "preprocess": to_dict(encoder.preprocess),
        "sampling": to_dict(sampling),
        "bad": [{"path": as_text(bad.path), "reason": as_text(bad.reason)} for bad in read.bad],
    }


def writer(out: Path) -> Writer:
    """Return the function that writes the format of a file's ending.

    Raises:
        PerceptError: unknown ending, or pyarrow is missing.
    """
    suffix = out.suffix.lower()
    if suffix not in WRITERS:
        raise PerceptError(f"--out {out} ends in {out.suffix or 'nothing'}. Use one of {', '.join(WRITERS)}.")
    if suffix == ".parquet":
        _pyarrow()
    return WRITERS[suffix]


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise missing_extra("pyarrow", "data", "writing parquet files") from None
    return pyarrow


def write_parquet(out: Path, paths: list[str], vectors: "Tensor", facts: dict[str, Any]) -> None:
    """Write the columns path and vector; the facts are json in the schema's metadata under `percept`."""
    from percept.core.io import replacing

    arrow = _pyarrow()
    flat = arrow.array(vectors.flatten().numpy())
    column = arrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    rows = arrow.table({"path": paths, "vector": column})
    with replacing(out) as temporary:
        arrow.parquet.write_table(rows.replace_schema_metadata({"percept": json.dumps(facts)}), temporary)


def write_npz(out: Path, paths: list[str], vectors: "Tensor", facts: dict[str, Any]) -> None:
    """Write the arrays paths, vectors and facts (json); no pickle."""
    import numpy as np

    from percept.core.io import replacing

    with replacing(out) as temporary, temporary.open("wb") as file:
        np.savez(file, paths=np.array(paths), vectors=vectors.numpy(), facts=np.array(json.dumps(facts)))


def write_jsonl(out: Path, paths: list[str], vectors: "Tensor", facts: dict[str, Any]) -> None:
    """Write one json object per file; the facts go to OUT.meta.json in the same folder."""
    from percept.core.io import replacing, write_json

    with replacing(out) as temporary, temporary.open("w", encoding="utf-8") as file:
        for path, vector in zip(paths, vectors.tolist(), strict=True):
            file.write(json.dumps({"path": path, "vector": vector}, ensure_ascii=False) + "\n")
    write_json(out.with_name(f"{out.name}.meta.json"), facts)


def write_safetensors(out: Path, paths: list[str], vectors: "Tensor", facts: dict[str, Any]) -> None:
    """Write the tensor `vectors`; paths and facts are json in the metadata of the file."""
    from percept.core.io import save_tensors

    save_tensors(out, {"vectors": vectors}, {"paths": json.dumps(paths), "percept": json.dumps(facts)})


WRITERS: dict[str, Writer] = {
    ".parquet": write_parquet,
    ".npz": write_npz,
    ".jsonl": write_jsonl,
    ".safetensors": write_safetensors,
}

COMMAND = encode
