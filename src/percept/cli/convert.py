"""`percept convert`: write a model in the layout that another program reads, and read it back to compare every bit."""

from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from percept.cli.show import say
from percept.core.errors import PerceptError, unknown_name
from percept.core.report import table

if TYPE_CHECKING:
    from percept.weights.folder import Opened

TARGETS = ("official", "timm", "open_clip", "percept")


def convert(
    source: tyro.conf.Positional[str],
    target: tyro.conf.Positional[Path],
    to: str,
    model: str | None = None,
    image_size: int | None = None,
    revision: str | None = None,
) -> int:
    """Write a model in another layout. Every tensor keeps its number type and its bits.

    Args:
        source: Weight file, model folder, name of a model, or hf://OWNER/NAME.
        target: What to write: a folder, or a file ending in .safetensors or .pt (official and timm).
        to: official, timm (vision only), open_clip or percept.
        model: Name of the released model that a weight file is for, where its shapes do not tell.
        image_size: Side in pixels whose grid the learned positions are resized to; as stored if not given.
        revision: Branch, tag or commit of a repository on the hub.
    """
    if to not in TARGETS:
        raise unknown_name("layout", to, TARGETS)
    if target.exists() and (target.is_file() or any(target.iterdir())):
        raise PerceptError(f"{target} is there already; remove it, or give another place")
    from percept.weights.files import PICKLED
    from percept.weights.locate import Wish, open_model
    from percept.weights.open import facts_file

    if target.suffix in PICKLED and facts_file(target).exists():
        raise PerceptError(f"{facts_file(target)}, which belongs beside it, is there already; give another place")
    wish = Wish(image_size=image_size, revision=revision)
    opened = open_model(source, wish=wish) if model is None else open_model(model, weights=source, wish=wish)
    say(f"{opened.name}, {opened.layout} layout, to {to}")
    file = _write(opened, target, to)
    same, left = _read_back(opened, target, to)
    alone = file == target and opened.tokenizer is not None and to != "timm"
    rows = [
        ("model", opened.name),
        ("from", f"{source} ({opened.layout})"),
        ("to", f"{file} ({to}), {file.stat().st_size / 1e6:.1f} MB"),
        *([("beside it", f"{facts_file(file).name}, by which percept opens it")] if file.suffix in PICKLED else []),
        ("read back", f"{same} tensors, equal to the bit"),
        *([("left out", f"{left} tensors of the text tower, for which timm has no place")] if left else []),
        *([("left out", "the tokenizer, for which a folder has a place")] if alone else []),
    ]
    table("Converted", ("what", "value"), rows)
    return 0


def _write(opened: "Opened", target: Path, to: str) -> Path:
    from percept.weights.files import SUFFIXES
    from percept.weights.folder import WEIGHTS, save_folder
    from percept.weights.write import write_weights

    model, words = opened.model, opened.content and opened.content.words
    if to != "percept":
        return write_weights(
            target, model.state_dict(), layout=to, name=opened.name, config=model.config,
            preprocess=opened.preprocess, tokenizer=opened.tokenizer, words=words,
        )  # fmt: skip
    if target.suffix in SUFFIXES:
        raise PerceptError(f"a model of percept is a folder; give one instead of the file {target}")
    save_folder(
        target, model, name=opened.name, preprocess=opened.preprocess, tokenizer=opened.tokenizer,
        provenance=opened.provenance, metrics=opened.metrics or None, words=words,
    )  # fmt: skip
    return target / WEIGHTS


def _read_back(opened: "Opened", target: Path, to: str) -> tuple[int, int]:
    """Return how many tensors came back, and how many were not written.

    Raises:
        PerceptError: the result does not open, or not with the same bits.
    """
    from percept.core.io import same_tensors
    from percept.weights.locate import open_model

    before = opened.model.state_dict()
    written = {key: value for key, value in before.items() if to != "timm" or key.startswith("vision.")}
    again = open_model(str(target.absolute()))  # as a user will, who knows no more than the files say
    after = again.model.state_dict()
    if not same_tensors(written, after):
        raise PerceptError(f"{target} does not read back as it was written; the disk may be failing, do not use it")
    return len(after), len(before) - len(after)


COMMAND = convert
