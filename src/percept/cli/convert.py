"""`percept convert`: write a model in the layout that another program reads, and read it back to compare every bit."""

from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from percept.cli.show import say
from percept.core.errors import PerceptError
from percept.core.report import table

if TYPE_CHECKING:
    from percept.models.language import DecoderConfig, VLMConfig
    from percept.weights.layout import Layout
    from percept.weights.open import Opened


def convert(
    source: tyro.conf.Positional[str],
    out: Path,
    to: str,
    weights: Path | None = None,
    image_size: int | None = None,
    revision: str | None = None,
) -> int:
    """Write a model in another layout. Every tensor keeps its number type and its bits.

    Perception language models and language decoders are written as folders, with tokenizer.json and chat.json if they have them.

    Args:
        source: Name of a model, weight file, model folder, or hf://OWNER/NAME.
        out: What to write: a folder, or for encoders a file ending in .safetensors or .pt (official and timm).
        to: official, timm (vision only), open_clip or percept; for language models transformers, original or percept.
        weights: Local weight file or folder for the model that SOURCE names, where its shapes do not identify the model.
        image_size: Side in pixels to whose grid the learned positions are resized; as stored if not given.
        revision: Branch, tag or commit of a repository on the hub.
    """
    from percept.weights.assistant import is_assistant
    from percept.weights.facts import facts_file
    from percept.weights.files import PICKLED
    from percept.weights.layouts import find_layout

    if is_assistant(source):
        return _convert_assistant(source, out, to, weights, image_size=image_size, revision=revision)
    layout = find_layout(to)
    _check_target(out)
    if out.suffix in PICKLED and facts_file(out).exists():
        raise PerceptError(f"{facts_file(out)}, which belongs to it, exists already; give a different target")
    opened = _open(source, weights, image_size=image_size, revision=revision)
    say(f"{opened.name}, {opened.layout} layout, to {to}")
    file = _write(opened, out, to)
    same, left = _read_back(opened, out, layout)
    alone = file == out and opened.tokenizer is not None and layout.holds_text
    rows = [
        ("model", opened.name),
        ("from", f"{weights or source} ({opened.layout})"),
        ("to", f"{file} ({to}), {file.stat().st_size / 1e6:.1f} MB"),
        *([("with it", f"{facts_file(file).name}, by which percept opens it")] if file.suffix in PICKLED else []),
        ("read back", f"{same} tensors, equal to the bit"),
        *([("left out", f"{left} tensors of the text tower, for which {to} has no place")] if left else []),
        *([("left out", "the tokenizer, for which a folder has a place")] if alone else []),
    ]
    table("Converted", ("what", "value"), rows)
    return 0


def _check_target(target: Path) -> None:
    try:
        occupied = target.exists() and (target.is_file() or any(target.iterdir()))
    except OSError as error:
        raise PerceptError(f"{target} cannot be written: {error.strerror or error}; give a different target") from None
    if occupied:
        raise PerceptError(f"{target} exists already; remove it, or give a different target")


def _open(source: str, weights: Path | None, *, image_size: int | None, revision: str | None) -> "Opened":
    from percept.weights.locate import locate
    from percept.weights.open import open_model

    if locate(source, weights, revision=revision).dtype is not None:
        raise PerceptError(f"convert keeps number types; leave out the @TYPE of {source}")
    return open_model(source, weights=weights, revision=revision, image_size=image_size)


def _write(opened: "Opened", target: Path, to: str) -> Path:
    from percept.weights.write import write_weights

    return write_weights(
        target, opened.model.state_dict(), layout=to, name=opened.name, config=opened.model.config,
        preprocess=opened.preprocess, tokenizer=opened.tokenizer, tokenizer_hash=opened.tokenizer_hash,
        provenance=opened.provenance, metrics=opened.metrics,
    )  # fmt: skip


def _read_back(opened: "Opened", target: Path, layout: "Layout") -> tuple[int, int]:
    """Return how many tensors were read back, and how many were not written.

    Raises:
        PerceptError: the result does not open, or does not have the same bits.
    """
    from percept.core.io import same_tensors
    from percept.weights.open import open_model

    before = opened.model.state_dict()
    written = {key: value for key, value in before.items() if layout.holds_text or key.startswith("vision.")}
    again = open_model(target.absolute())  # as a user will, who gives nothing but the path
    after = again.model.state_dict()
    if not same_tensors(written, after):
        raise PerceptError(f"{target} does not read back as it was written; the disk may be failing, do not use it")
    return len(after), len(before) - len(after)


def _convert_assistant(
    source: str, target: Path, to: str, weights: Path | None, *, image_size: int | None, revision: str | None
) -> int:
    from percept.core.io import same_tensors
    from percept.weights.assistant import build_assistant, locate_assistant, read_assistant
    from percept.weights.assistant_files import write_assistant

    place = locate_assistant(source, weights, revision=revision)
    if image_size is not None or place.dtype is not None:
        raise PerceptError("a language model is converted as it is. Leave out --image-size and the @TYPE of its name.")
    _check_target(target)
    read = read_assistant(place)
    record = read.record
    model = build_assistant(read)
    say(f"{read.name}, {read.layout.name} layout, to {to}")
    folder = write_assistant(
        target, model.state_dict(), record.config, name=read.name, layout=to, preprocess=record.preprocess,
        provenance=record.provenance, metrics=record.metrics,
    )  # fmt: skip
    again = build_assistant(read_assistant(locate_assistant(folder.absolute()))).state_dict()
    if not same_tensors(model.state_dict(), again):
        raise PerceptError(f"{target} does not read back as it was written; the disk may be failing, do not use it")
    words = _copy_words(read.folder, folder, record.config)
    rows = [
        ("model", read.name),
        ("from", f"{weights or source} ({read.layout.name})"),
        ("to", f"{folder} ({to}), {sum(file.stat().st_size for file in folder.iterdir()) / 1e6:.1f} MB"),
        ("read back", f"{len(again)} tensors, equal to the bit"),
        ("tokenizer", "with its chat template" if words else "none found"),
    ]
    table("Converted", ("what", "value"), rows)
    return 0


def _copy_words(source: Path, target: Path, config: "VLMConfig | DecoderConfig") -> bool:
    """Write tokenizer and chat template, if the model has them and takes images."""
    from percept.infer.processor import open_processor, save_processor
    from percept.models.language import VLMConfig

    processor = open_processor(source, config) if isinstance(config, VLMConfig) else None
    if processor is not None:
        save_processor(target, processor)
    return processor is not None


COMMAND = convert
