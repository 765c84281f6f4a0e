"""`percept encode`: write the vectors of pictures and videos to a parquet, npz, jsonl or safetensors file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import tyro

from percept.cli.show import bad_files, check_output, count_files, say
from percept.core.errors import PerceptError, missing_extra
from percept.core.report import table

if TYPE_CHECKING:
    from torch import Tensor

Writer: TypeAlias = Callable[[Path, list[str], "Tensor", dict[str, Any]], None]


def encode(
    paths: tyro.conf.Positional[tuple[Path, ...]],
    out: Path,
    model: str = "nano",
    weights: Path | None = None,
    device: str = "auto",
    frames: int = 8,
    frame_choice: str = "pe-evaluation",
    resize: str | None = None,
    tokens: int | None = None,
) -> int:
    """Write one unit-length vector per picture or video.

    Args:
        paths: Folders (searched with their subfolders), picture and video files; of a GIF the first frame counts.
        out: File to write; its ending says how: .parquet, .npz, .jsonl or .safetensors.
        model: nano, an official name, or a model folder.
        weights: Local weight file for an official name.
        device: auto, cpu, cuda or mps.
        frames: Frames that stand for a video.
        frame_choice: Which: pe-evaluation, pe-demo, plm or time.
        resize: How pictures are brought to size: squash, crop, pad, keep or native. Default: as the model says.
        tokens: Most patches of a picture, for --resize native.
    """
    from percept.core.config import to_dict
    from percept.data.files import as_text, find_media

    write = _writer(out)
    files = find_media(paths)
    check_output(out)
    # Only now, so that a mistyped folder is answered at once.
    from percept.infer.clips import Sampling
    from percept.infer.load import load

    sampling = Sampling(frames=frames, choice=frame_choice).check()
    encoder = load(model, weights=weights, device=device, resize=resize, tokens=tokens)
    say(f"{encoder} reads {count_files(files)}")
    found = encoder.files(files, sampling=sampling)
    if not found.paths:
        bad_files(found.bad)
        raise PerceptError("none of the files could be read, so nothing was written")
    bad = [{"path": as_text(one.path), "reason": as_text(one.reason)} for one in found.bad]
    facts = {
        "model": to_dict(encoder.identity),
        "preprocess": to_dict(encoder.preprocess),
        "sampling": to_dict(sampling),
        "bad": bad,
    }
    write(out, [as_text(path) for path in found.paths], found.vectors, facts)
    bad_files(found.bad)
    size = f"{out.stat().st_size / 1e6:.2f} MB"
    rows = [
        ("file", f"{out}, {size}"),
        ("read", count_files(found.paths)),
        ("left out", f"{len(found.bad):,}"),
        ("numbers each", str(encoder.dim)),
        ("model", str(encoder.identity)),
    ]
    table("Written", ("what", "value"), rows)
    return 0


def _writer(out: Path) -> Writer:
    suffix = out.suffix.lower()
    if suffix not in WRITERS:
        raise PerceptError(f"--out {out} ends in {out.suffix or 'nothing'}; write one of {', '.join(WRITERS)}")
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
    """Write the columns path and vector; the model and the bad files stand in the schema's metadata under `percept`."""
    from percept.core.io import replacing

    arrow = _pyarrow()
    flat = arrow.array(vectors.flatten().numpy())
    column = arrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    rows = arrow.table({"path": paths, "vector": column})
    with replacing(out) as temporary:
        arrow.parquet.write_table(rows.replace_schema_metadata({"percept": json.dumps(facts)}), temporary)


def write_npz(out: Path, paths: list[str], vectors: "Tensor", facts: dict[str, Any]) -> None:
    """Write the arrays paths, vectors and facts (json with the model and the bad files); no pickle in it."""
    import numpy as np

    from percept.core.io import replacing

    with replacing(out) as temporary, temporary.open("wb") as file:
        np.savez(file, paths=np.array(paths), vectors=vectors.numpy(), facts=np.array(json.dumps(facts)))


def write_jsonl(out: Path, paths: list[str], vectors: "Tensor", facts: dict[str, Any]) -> None:
    """Write one json object per file; the model and the bad files go to OUT.meta.json beside it."""
    from percept.core.io import replacing, write_json

    with replacing(out) as temporary, temporary.open("w", encoding="utf-8") as file:
        for path, vector in zip(paths, vectors.tolist(), strict=True):
            file.write(json.dumps({"path": path, "vector": vector}, ensure_ascii=False) + "\n")
    write_json(out.with_name(f"{out.name}.meta.json"), facts)


def write_safetensors(out: Path, paths: list[str], vectors: "Tensor", facts: dict[str, Any]) -> None:
    """Write the tensor `vectors`; paths, model and bad files are json in the file's metadata."""
    from percept.core.io import save_tensors

    save_tensors(out, {"vectors": vectors}, {"paths": json.dumps(paths), "percept": json.dumps(facts)})


WRITERS: dict[str, Writer] = {
    ".parquet": write_parquet,
    ".npz": write_npz,
    ".jsonl": write_jsonl,
    ".safetensors": write_safetensors,
}

COMMAND = encode
