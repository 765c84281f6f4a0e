"""From a name, a hub address, a folder or a weight file to a model with its preprocessing and tokenizer."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from percept.core.errors import PerceptError, unknown_name
from percept.core.io import content_hash, read_json
from percept.data.clip_vocabulary import find_vocabulary, read_vocabulary
from percept.data.tokenizers import Tokenizer
from percept.infer import hub
from percept.infer.exported import is_export
from percept.models import zoo
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from percept.models.folder import CONFIG, Opened, open_folder
from percept.models.weights.files import SUFFIXES
from percept.models.weights.memory import cast, stored_type
from percept.models.weights.opening import OPEN_CLIP, OWN, open_weights
from percept.models.weights.strict import check_fit

PACKAGED = Path(__file__).parents[1] / "models" / "packaged"
"""Where the models that ship with percept lie, one folder each."""
CLIP_VOCABULARY = 49_408
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


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
        if os.sep in name:
            raise PerceptError(f"{name} is not a model folder on this machine; a repository on the hub is hf://{name}")
        raise unknown_name("model", name, zoo.ZOO)
    entry = zoo.find(address.name) if known else None
    revision = wish.revision or address.revision
    if weights is not None or (entry and entry.config is None):
        _refuse_revision(name, revision)
    if entry is not None and entry.config is None:
        if weights is not None:
            raise PerceptError(f"{name} ships with percept and takes no weights=; give the folder of a model instead")
        return open_packaged(name, wish)
    config = None if entry is None else entry.config
    if weights is not None:
        return _open_weights(Path(weights), wish, config=config, name=address.name if known else None, online=False)
    repository = f"{address.owner}/{address.name}" if entry is None or address.owner else entry.repository or name
    found = hub.fetch_weights(address.name, repository, revision)
    if (found / OWN).is_file():
        return open_folder(found, image_size=wish.image_size, dtype=wish.dtype)
    return _open_weights(found, wish, config=config, name=address.name if known else None, online=True)


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
        return _open_weights(path, wish, config=None, name=None, online=False)
    if is_export(path):
        raise PerceptError(f"{path} is an export, whose weights are inside its graphs; use the model it was made of")
    names = {file.name for file in path.iterdir()}
    foreign = OPEN_CLIP in names or (CONFIG in names and "architecture" in read_json(path / CONFIG))
    if CONFIG in names and not foreign:
        return open_folder(path, image_size=wish.image_size, dtype=wish.dtype)
    if foreign or any(name.endswith(SUFFIXES) for name in names):
        return _open_weights(path, wish, config=None, name=None, online=False)
    return open_folder(path)  # says what the folder lacks


def _open_weights(path: Path, wish: Wish, *, config: ClipConfig | None, name: str | None, online: bool) -> Opened:
    found = open_weights(path, config=config, name=name, image_size=wish.image_size)
    prints: dict[str, bytes] = {}
    stored = torch.float32 if wish.dtype is None else stored_type(found.state, source=str(found.file))
    with torch.device("meta"):
        model = CLIP(found.config)
    check_fit(model, found.state, source=str(found.file))

    def note(key: str, tensor: Tensor) -> None:
        prints[key] = _sample(key, tensor)

    model.load_state_dict(cast(found.state, wish.dtype and wish.dtype(stored), before=note), assign=True)
    return Opened(
        name=found.name,
        model=model.eval(),
        preprocess=found.preprocess,
        tokenizer=_vocabulary(found.file, found.config, online=online),
        fingerprint=content_hash(b"".join(prints[key] for key in model.state_dict())),
        layout=found.layout,
    )


def _sample(name: str, tensor: Tensor) -> bytes:
    """Return name, shape, a spread of 64 values and the sum of all bits as integers: changing any one value changes it."""
    flat = tensor.detach().reshape(-1)
    sample = flat[:: max(1, len(flat) // 64)][:64].float()
    total = int(flat.view(_INTEGERS[flat.element_size()]).sum(dtype=torch.int64))
    return f"{name}{list(tensor.shape)}{total}".encode() + sample.numpy().tobytes()


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
