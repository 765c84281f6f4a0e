"""Write a model to a file or folder in any layout."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.core.io import write_json
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.models.config import ClipConfig
from percept.weights.facts import write_with_facts
from percept.weights.files import SUFFIXES, write_tensors
from percept.weights.fingerprint import tokenizer_hash as hash_of
from percept.weights.layout import Header, Layout, State
from percept.weights.layouts import find_layout
from percept.weights.naming import checked_name


def write_weights(
    target: Path | str,
    state: State,
    *,
    layout: str,
    name: str,
    config: ClipConfig,
    preprocess: Preprocess,
    tokenizer: Tokenizer | None = None,
    tokenizer_hash: str | None = None,
    provenance: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> Path:
    """Write weights under the names of a layout and return the weight file.

    A target that ends as a weight file does becomes that file; any other becomes a folder, with the configuration files
    that the layout's own library reads. Which model it is, so that `percept.load` opens any of them, is recorded in the
    header of a safetensors file and in NAME.pt.json next to a pickled one.

    Args:
        state: weights under our names.
        tokenizer: written into a folder whose layout holds a text tower.
        tokenizer_hash: hash of the tokenizer that the model was trained with, recorded where the tokenizer itself is not
            written; that of `tokenizer` if None.

    Raises:
        PerceptError: a name that cannot be that of a file, a model that the layout cannot hold, a single file for a layout
            that needs a folder, or the files cannot be written.
    """
    target, kind = Path(target), find_layout(layout)
    single = target.suffix in SUFFIXES
    if single and not kind.takes_file:
        raise PerceptError(f"a model in the {layout} layout is a folder; give a folder instead of the file {target}")
    if config.vision.kind != "pe" and not kind.records_itself:
        raise PerceptError(
            f"the {layout} layout holds the vision towers of Perception Encoders only; write it --to percept"
        )
    words = tokenizer_hash or hash_of(tokenizer, config.text)
    header = Header(
        name=checked_name(name, "this"),
        config=config if kind.holds_text else ClipConfig(vision=config.vision),
        preprocess=preprocess,
        tokenizer_hash=words if kind.holds_text and not (kind.records_itself and tokenizer is not None) else None,
        provenance=provenance or {},
        metrics=metrics or {},
    )
    files, theirs = kind.write_header(header), kind.to_theirs(state)
    with whole(target):
        if single:
            return _write(target, theirs, header, kind)
        target.mkdir(parents=True, exist_ok=True)
        weights = _write(target / kind.written_file.format(name=name), theirs, header, kind)
        for file, content in files.items():
            write_json(target / file, content)
        if tokenizer is not None and config.text is not None and kind.holds_text:
            tokenizer.save(target / "tokenizer.json")
    return weights


def _write(file: Path, state: State, header: Header, layout: Layout) -> Path:
    if layout.records_itself:
        write_tensors(file, state)
    else:
        write_with_facts(file, state, header)
    return file


@contextmanager
def whole(target: Path) -> Iterator[None]:
    """Remove a target that did not exist before if the block fails.

    Raises:
        PerceptError: the operating system refused to write.
    """
    new = not target.exists()
    try:
        yield
    except BaseException as error:
        if new:
            shutil.rmtree(target, ignore_errors=True) if target.is_dir() else target.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise PerceptError(
                f"{target} cannot be written: {error.strerror or error}; make room, or give a different place"
            ) from None
        raise
