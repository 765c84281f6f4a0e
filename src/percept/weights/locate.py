"""From a name, a hub address, a folder or a weight file to a model with its preprocessing and tokenizer."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from percept.core.errors import PerceptError, unknown_name
from percept.core.io import read_json
from percept.data.clip_vocabulary import find_vocabulary, read_vocabulary
from percept.data.tokenizers import Tokenizer
from percept.models import zoo
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from percept.models.onnx import is_export
from percept.weights import hub
from percept.weights.cast import cast, stored_type
from percept.weights.files import SUFFIXES
from percept.weights.fingerprint import CLIP_VOCABULARY, Content, model_hash, tensor_hash, words_hash
from percept.weights.fit import check_fit
from percept.weights.folder import CONFIG, Opened, open_folder
from percept.weights.layouts import not_read
from percept.weights.open import OPEN_CLIP, OWN, open_weights
from percept.weights.released import fitting_name

PACKAGED = Path(__file__).parents[1] / "models" / "packaged"
"""Where the models that ship with percept lie, one folder each."""
REPOSITORY = r"[\w-][\w.-]*/[\w.-]+(@[\w./-]+)?"
"""OWNER/NAME on the hub; a path begins with a dot or a slash, or has more parts."""
FILES = (*SUFFIXES, ".ckpt")
"""Endings by which a name that is not here is taken for a file."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """How a model is to be opened."""

    image_size: int | None = None
    """Side in pixels whose grid the positions are resized to; as stored when None."""
    dtype: Callable[[torch.dtype], torch.dtype] | None = None
    """From the stored number type to the wanted one; every tensor as stored when None."""
    revision: str | None = None
    """Branch, tag or commit of a hub repository."""


def open_model(name: str, weights: str | os.PathLike[str] | None = None, wish: Wish | None = None) -> Opened:
    """Open a model wherever it is; `percept.load` says what `name` and `weights` may be.

    Raises:
        PerceptError: unknown name (the nearest is suggested), weights that do not fit or cannot be fetched.
    """
    wish = wish or Wish()
    if name not in zoo.ZOO and os.path.exists(name):
        if weights is not None:
            raise PerceptError(
                f"{name} is a file or folder with its own weights; leave out weights=, or give a model's name"
            )
        _refuse_revision(name, wish.revision)
        return _open_path(Path(name), wish)
    address = hub.parse_address(name)
    known = address.name in zoo.ZOO and address.owner in (None, "facebook")
    if not known and address.owner is None:
        raise _unknown(name)
    entry = zoo.find(address.name) if known else None
    revision = wish.revision or address.revision
    if weights is not None or (entry and entry.config is None):
        _refuse_revision(name, revision)
    if entry is not None and entry.config is None:
        if weights is not None:
            return _open_weights(Path(weights), wish, like=open_packaged(name))
        return open_packaged(name, wish)
    config = None if entry is None else entry.config
    if weights is not None:
        return _open_weights(Path(weights), wish, config=config, name=address.name if known else None)
    repository = f"{address.owner}/{address.name}" if entry is None or address.owner else entry.repository or name
    found = hub.fetch_weights(address.name, repository, revision)
    if (found / OWN).is_file():
        return open_folder(found, image_size=wish.image_size, dtype=wish.dtype)
    return _open_weights(found, wish, config=config, name=address.name if known else None, online=True)


def _unknown(name: str) -> PerceptError:
    """Build the error for what is neither here nor a name: a file, a repository without hf://, or a misspelt model."""
    repository = re.sub(r"^(hf[-_]hub:|https?://huggingface\.co/)", "", name)
    if re.fullmatch(REPOSITORY, repository) and not name.endswith(FILES):
        return PerceptError(f"there is no folder {name} on this machine; a repository on the hub is hf://{repository}")
    if os.sep in name or name.endswith(FILES):
        return PerceptError(f"there is no file or folder {name}; give one that is there, or the name of a model")
    return unknown_name("model", name, zoo.ZOO)


def _refuse_revision(name: str, revision: str | None) -> None:
    if revision is not None:
        raise PerceptError(f"the revision {revision} was given, but nothing is fetched for {name}; leave it out")


def open_packaged(name: str, wish: Wish | None = None) -> Opened:
    """Open a model that ships inside the package.

    Raises:
        PerceptError: this installation lacks its files.
    """
    wish = wish or Wish()
    folder = PACKAGED / name
    if not (folder / CONFIG).is_file():
        raise PerceptError(
            f"this installation of percept lacks the files of {name} (expected in {folder}); install percept again, "
            "or train it: percept train pe/nano"
        )
    return open_folder(folder, image_size=wish.image_size, dtype=wish.dtype)


def _open_path(path: Path, wish: Wish) -> Opened:
    """Open a local folder or weight file."""
    if not path.is_dir():
        return _open_weights(path, wish)
    if is_export(path):
        raise PerceptError(f"{path} is an export, whose weights are inside its graphs; use the model it was made of")
    names = {file.name for file in path.iterdir()}
    header = read_json(path / CONFIG) if CONFIG in names else {}
    foreign = OPEN_CLIP in names or "architecture" in header
    if not foreign and ("model_type" in header or "transformers_version" in header):
        raise not_read(str(path))
    if CONFIG in names and not foreign:
        return open_folder(path, image_size=wish.image_size, dtype=wish.dtype)
    if foreign or any(name.endswith(SUFFIXES) for name in names):
        return _open_weights(path, wish)
    return open_folder(path)  # says what the folder lacks


def _open_weights(
    path: Path,
    wish: Wish,
    *,
    config: ClipConfig | None = None,
    name: str | None = None,
    like: Opened | None = None,
    online: bool = False,
) -> Opened:
    """Open a weight file or the folder of another library.

    Args:
        config: of the model `name` that they are for; they say it themselves when None.
        like: the model that they are for, with what belongs to it unless it lies beside them.
        online: what is missing may be fetched.
    """
    if like is not None:
        config, name = like.model.config, like.name
    found = open_weights(
        path, config=config, name=name, image_size=wish.image_size, preprocess=like and like.preprocess
    )
    prints: dict[str, str] = {}
    stored = torch.float32 if wish.dtype is None else stored_type(found.state, source=str(found.file))
    with torch.device("meta"):
        model = CLIP(found.config)
    other = fitting_name(found.state)
    hint = "" if other is None else f"It has the shapes of {other}: give that name, or the file alone."
    check_fit(model, found.state, source=str(found.file), spelled=found.spelled, hint=hint)

    def note(key: str, tensor: Tensor) -> None:
        prints[key] = tensor_hash(tensor)

    tokenizer = _vocabulary(found.file, found.config, online=online)
    if tokenizer is None and like is not None and found.config.text is not None:
        tokenizer = like.tokenizer
    model.load_state_dict(cast(found.state, wish.dtype and wish.dtype(stored), before=note), assign=True)
    words = words_hash(tokenizer, found.config.text, found.words)
    content = Content(model=model_hash(prints, found.config, found.preprocess), words=words)
    return Opened(
        name=found.name,
        model=model.eval(),
        preprocess=found.preprocess,
        tokenizer=tokenizer,
        fingerprint=content.fingerprint,
        content=content,
        layout=found.layout,
    )


def _vocabulary(file: Path, config: ClipConfig, *, online: bool) -> Tokenizer | None:
    """Find CLIP's vocabulary: beside the weights, in an installed package, on the hub; None for a model of another one."""
    if config.text is None:
        return None
    if (beside := file.with_name("tokenizer.json")).is_file():
        return read_vocabulary(beside, context=config.text.context)
    if config.text.vocabulary != CLIP_VOCABULARY:
        return None
    found = find_vocabulary(file.parent) or hub.fetch_vocabulary(online=online)
    return None if found is None else read_vocabulary(found, context=config.text.context)
