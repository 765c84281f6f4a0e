"""`percept.load`: from a name, a folder or a weight file to an encoder that is ready to use."""

import os
from pathlib import Path

import torch

from percept.core.errors import PerceptError, unknown_name
from percept.core.io import content_hash
from percept.core.machine import fast_dtype, pick_device
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.infer.encoder import Encoder, Setting
from percept.infer.hub import fetch_weights
from percept.infer.identity import Identity
from percept.models import zoo
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from percept.models.folder import CONFIG, Opened, open_folder
from percept.models.weights import read_official
from percept.models.weights.strict import load_strict

PACKAGED = Path(__file__).parents[1] / "models" / "packaged"
"""Where the models that ship with percept lie, one folder each."""
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    name: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    device: str = "auto",
    dtype: str | torch.dtype | None = None,
    batch: int = 32,
) -> Encoder:
    """Open a model and return its encoder.

    Args:
        name: "nano", which ships with percept; an official name such as "PE-Core-L14-336", fetched from the Hugging
            Face hub on first use; or a model folder that `percept train` wrote ("./nano" if it has a name of these).
        weights: a local weight file for an official name; nothing is fetched then.
        tokenizer: a tokenizer.json, for a model that comes without one.
        device: "auto" (cuda, mps, cpu in this order), "cpu", "cuda", "cuda:1", "mps".
        dtype: "float32", "bfloat16", "float16", a torch dtype, or "auto" for what is fast here. By default a local
            weight file keeps the type it is stored in, every other model computes in what is fast here.
        batch: pictures that go through the model together.

    Raises:
        PerceptError: unknown name (the nearest is suggested), weights that do not fit or cannot be fetched.
    """
    place = pick_device(device)
    opened = _open(os.fspath(name), weights)
    stored = opened.model.vision.patch.weight.dtype  # scalars such as the scale may be stored wider
    number_type, reason = _dtype(dtype, place, stored if weights is not None else None)
    return Encoder(
        opened.model,
        preprocess=opened.preprocess,
        tokenizer=opened.tokenizer if tokenizer is None else _tokenizer(tokenizer, opened.model),
        identity=_identity(opened),
        setting=Setting(device=place, dtype=number_type, reason=reason, batch=batch),
    )


def _open(name: str, weights: str | os.PathLike[str] | None) -> Opened:
    name = name.removeprefix("hf://facebook/")
    if name not in zoo.ZOO and Path(name, CONFIG).is_file():
        if weights is not None:
            raise PerceptError(f"{name} is a model folder and has its own weights; leave out weights=")
        return open_folder(name)
    if name not in zoo.ZOO:
        raise _no_such_model(name)
    entry = zoo.find(name)
    if entry.config is None:
        if weights is not None:
            raise PerceptError(f"{name} ships with percept and takes no weights=; give the folder of a model instead")
        return open_packaged(name)
    file = Path(weights) if weights is not None else fetch_weights(name, entry.repository or f"facebook/{name}")
    return _open_file(name, entry.config, file)


def open_packaged(name: str) -> Opened:
    """Open a model that ships inside the package.

    Raises:
        PerceptError: this installation lacks its files.
    """
    folder = PACKAGED / name
    if not (folder / CONFIG).is_file():
        raise PerceptError(
            f"this installation of percept lacks the files of {name} (expected in {folder}); install percept again, "
            "or train it: percept train pe/nano"
        )
    return open_folder(folder)


def _no_such_model(name: str) -> PerceptError:
    if name and (os.sep in name or Path(name).exists()):
        open_folder(name)  # says what the folder lacks
    return unknown_name("model", name, zoo.ZOO)


def _open_file(name: str, config: ClipConfig, file: Path) -> Opened:
    with torch.device("meta"):
        model = CLIP(config)
    load_strict(model, read_official(file, has_text=config.text is not None), source=str(file))
    return Opened(
        name=name,
        model=model,
        preprocess=Preprocess(size=config.vision.image_size),
        tokenizer=None,
        fingerprint=_fingerprint(model),
    )


def _fingerprint(model: CLIP) -> str:
    """Hash names, shapes, a spread of 64 values and the sum of all bits, taken as integers, of every tensor.

    Quick for gigabytes; changing any one value changes it.
    """
    parts = []
    for name, tensor in model.state_dict().items():
        flat = tensor.detach().flatten()
        sample = flat[:: max(1, len(flat) // 64)][:64].float()
        total = int(flat.view(_INTEGERS[flat.element_size()]).sum(dtype=torch.int64))
        parts.append(f"{name}{list(tensor.shape)}{total}".encode() + sample.numpy().tobytes())
    return content_hash(b"".join(parts))


def _identity(opened: Opened) -> Identity:
    config = opened.model.config.vision
    dim = 0 if config.pool == "none" else config.output_dim or config.width
    return Identity(name=opened.name, fingerprint=opened.fingerprint, dim=dim)


def _tokenizer(path: str | os.PathLike[str], model: CLIP) -> Tokenizer:
    if model.config.text is None:
        raise PerceptError("tokenizer= was given, but this model has no text tower")
    tokenizer = Tokenizer.load(Path(path), context=model.config.text.context)
    if tokenizer.vocab_size > model.config.text.vocabulary:
        raise PerceptError(
            f"{path} has {tokenizer.vocab_size} tokens, this model knows {model.config.text.vocabulary}; "
            "take the tokenizer that the model was trained with"
        )
    return tokenizer


def _dtype(
    wanted: str | torch.dtype | None, device: torch.device, stored: torch.dtype | None
) -> tuple[torch.dtype, str]:
    if wanted is None and stored is not None:
        return stored, "the type the weight file is stored in"
    if wanted is None or wanted == "auto":
        return fast_dtype(device)
    if isinstance(wanted, torch.dtype):
        wanted = str(wanted).removeprefix("torch.")
    if wanted not in DTYPES:
        raise unknown_name("dtype", str(wanted), [*DTYPES, "auto"])
    return DTYPES[wanted], "as asked for"
