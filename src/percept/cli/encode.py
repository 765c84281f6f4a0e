"""`percept encode`: write the vectors of images and videos to a file; a run that was stopped continues."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import tyro

from percept.cli.options import MODEL, VIDEO, Model, Video
from percept.cli.output import check_rows_output, is_stdout, write_rows
from percept.cli.show import bad_files, check_output, count_files, say, writing
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    from torch import Tensor

    from percept.data.files import BadFile
    from percept.infer.clips import Sampling
    from percept.infer.encoder import Encoder
    from percept.infer.encoding import Encoded

Writer: TypeAlias = Callable[[Path, list[str], "Tensor", dict[str, Any]], None]
FIELDS = {"path": str, "vector": list[float]}
"""Of a row of --out."""


def encode(
    paths: tyro.conf.Positional[tuple[Path, ...]],
    out: Path,
    model: Model = MODEL,
    video: Video = VIDEO,
) -> int:
    """Write one unit-length vector per image or video. The same command continues a run that was stopped.

    Args:
        paths: Folders (searched with their subfolders), image and video files; only the first frame of a GIF is used.
        out: File to write; the ending chooses the format: .parquet, .npz, .jsonl, .safetensors, .csv or .json; - writes json lines to
            standard output, as they are computed. Until a file is complete, OUT.part holds what is done.
    """
    from percept.data.files import find_media

    check_vectors_output(out)
    files = find_media(paths)
    check_output(None if is_stdout(out) else out)
    sampling = video.sampling()
    encoder = model.open()
    say(f"{encoder} reads {count_files(files)}")
    if is_stdout(out):
        return _stream(encoder, files, sampling)
    with writing(out):
        return _to_file(out, encoder, files, sampling)


def check_vectors_output(out: Path) -> None:
    """Check the ending of the file.

    Raises:
        PerceptError: it is none of `WRITERS`, or pyarrow is missing.
    """
    suffix = out.suffix.lower()
    if not is_stdout(out) and suffix not in WRITERS:
        raise PerceptError(f"--out {out} ends in {out.suffix or 'nothing'}. Use one of {', '.join(WRITERS)}.")
    if suffix not in ARRAYS:
        check_rows_output(out)


def _stream(encoder: "Encoder", files: Sequence[Path], sampling: "Sampling") -> int:
    from percept.data.files import BadFile

    bad: list[BadFile] = []

    def rows() -> Iterator[dict[str, Any]]:
        for result in encoder.each_file(files, sampling=sampling, total=len(files)):
            if isinstance(result, BadFile):
                bad.append(result)
            else:
                yield {"path": result.path, "vector": result.vector.tolist()}

    written = write_rows(Path("-"), rows(), FIELDS)
    bad_files(bad, on_stderr=True)
    if not written:
        raise PerceptError("none of the files could be read, so nothing was written")
    return 0


def _to_file(out: Path, encoder: "Encoder", files: Sequence[Path], sampling: "Sampling") -> int:
    from percept.infer.encoding import encode_files, opened

    folder, facts = out.with_name(f"{out.name}.part"), _facts(encoder, sampling)
    with opened(folder, facts, encoder.dim) as partial:
        if partial.count:
            say(f"continues: {partial.count:,} files are done, in {folder}")
        try:
            read = encode_files(encoder, files, partial, sampling=sampling)
        except KeyboardInterrupt:
            say(f"stopped; {partial.count:,} files are in {folder}, the same command continues from there")
            raise
        if read.paths:
            write_vectors(out, read.paths, read.vectors(), {**facts, "bad": _bad(read.bad)})
    shutil.rmtree(folder, ignore_errors=True)
    bad_files(read.bad)
    if not read.paths:
        raise PerceptError("none of the files could be read, so nothing was written")
    _show(out, encoder, read)
    return 0


def write_vectors(out: Path, places: "Sequence[Path | str]", vectors: Any, facts: dict[str, Any]) -> None:
    """Write a vector per place as the ending of `out` says, with the facts; those of .jsonl and .csv go to OUT.meta.json.

    Args:
        vectors: array of float32, [n, d].
    """
    from percept.core.io import write_json

    suffix = out.suffix.lower()
    if suffix in ARRAYS:
        import torch

        from percept.data.files import as_text

        ARRAYS[suffix](out, [as_text(place) for place in places], torch.from_numpy(vectors), facts)
        return
    rows = ({"path": place, "vector": vector} for place, vector in zip(places, vectors, strict=True))
    write_rows(out, rows, FIELDS, facts=facts)
    if suffix in (".jsonl", ".csv"):
        write_json(out.with_name(f"{out.name}.meta.json"), facts)


def _show(out: Path, encoder: "Encoder", read: "Encoded") -> None:
    rows = [
        ("file", f"{out}, {out.stat().st_size / 1e6:.2f} MB"),
        ("read", count_files(read.paths)),
        ("left out", f"{len(read.bad):,}"),
        *([("of them read by an earlier run", f"{read.continued:,}")] if read.continued else []),
        ("vector length", str(encoder.dim)),
        ("model", str(encoder.identity)),
    ]
    table("Written", ("what", "value"), rows)


def _bad(bad: "Sequence[BadFile]") -> list[dict[str, str]]:
    from percept.data.files import as_text

    return [{"path": as_text(file.path), "reason": as_text(file.reason)} for file in bad]


def _facts(encoder: "Encoder", sampling: "Sampling") -> dict[str, Any]:
    """Return what decides the vectors and is stored with them: the model, its preprocessing, the sampling."""
    from percept.core.config import to_dict

    return {
        "model": to_dict(encoder.identity),
        "preprocess": to_dict(encoder.preprocess),
        "sampling": to_dict(sampling),
    }


def write_npz(out: Path, paths: list[str], vectors: "Tensor", facts: dict[str, Any]) -> None:
    """Write the arrays paths, vectors and facts (json); no pickle."""
    import numpy as np

    from percept.core.io import replacing

    with replacing(out) as temporary, temporary.open("wb") as file:
        np.savez(file, paths=np.array(paths), vectors=vectors.numpy(), facts=np.array(json.dumps(facts)))


def write_safetensors(out: Path, paths: list[str], vectors: "Tensor", facts: dict[str, Any]) -> None:
    """Write the tensor `vectors`; paths and facts are json in the metadata of the file."""
    from percept.core.io import save_tensors

    save_tensors(out, {"vectors": vectors}, {"paths": json.dumps(paths), "percept": json.dumps(facts)})


ARRAYS: dict[str, Writer] = {".npz": write_npz, ".safetensors": write_safetensors}
WRITERS = (".parquet", ".npz", ".jsonl", ".safetensors", ".csv", ".json")
"""Endings of --out."""

COMMAND = encode
