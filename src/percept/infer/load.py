"""`percept.load`: open a model by name, folder or weight file and return its encoder."""

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, overload

import torch

from percept.core.errors import PerceptError, unknown_name
from percept.core.machine import compiler, fast_dtype, pick_device
from percept.data.clip_vocabulary import read_vocabulary
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.infer.encoder import Encoder
from percept.infer.setting import Setting
from percept.models.clip import CLIP
from percept.weights.cast import DTYPES, trainable
from percept.weights.exported import open_export
from percept.weights.locate import PACKAGED, Location, locate
from percept.weights.open import Opened, build, open_packaged, read_model

__all__ = ["PACKAGED", "load", "open_packaged"]
PathLike = str | os.PathLike[str]
OPENERS = {"method": "percept.methods.saved:open_for_use"}
"""Kind of a location: "module:function" that opens it, called with the folder, device, dtype and further options."""
BATCH = 32
DEFAULTS = {"tokenizer": None, "dtype": None, "batch": BATCH, "resize": None, "tokens": None, "compile": False}
"""Options of encoders and methods with their defaults; options that differ from these are passed on."""


@overload
def load(
    name: PathLike,
    *,
    weights: PathLike | None = None,
    tokenizer: PathLike | None = None,
    image_size: int | None = None,
    device: str = "auto",
    dtype: str | torch.dtype | None = None,
    batch: int = BATCH,
    resize: str | None = None,
    tokens: int | None = None,
    compile: bool = False,
    train: Literal[False] = False,
) -> Encoder: ...
@overload
def load(
    name: PathLike,
    *,
    weights: PathLike | None = None,
    image_size: int | None = None,
    device: str = "auto",
    train: Literal[True],
) -> CLIP: ...
def load(
    name: PathLike,
    *,
    weights: PathLike | None = None,
    tokenizer: PathLike | None = None,
    image_size: int | None = None,
    device: str = "auto",
    dtype: str | torch.dtype | None = None,
    batch: int = BATCH,
    resize: str | None = None,
    tokens: int | None = None,
    compile: bool = False,
    train: bool = False,
) -> Any:
    """Open a model and return its encoder.

    Args:
        name: one of the following, optionally followed by "@TYPE" or "@DEVICE" ("nano@bfloat16", "DIR@int8"):
            "nano", which ships with percept; an official name such as "PE-Core-L14-336", fetched from the Hugging Face
            hub on first use; "hf://OWNER/NAME", with "@REVISION" to pin it; a folder or weight file in the layout of
            percept, of the published checkpoints, of timm or of open_clip, also split over several files with an index
            (write "./nano" for a folder with the name of a model); a folder that `percept export` wrote, which onnxruntime
            runs on the CPU; or a folder with a trained method.
        weights: a local weight file or folder in any of these layouts for "nano" or an official name, instead of
            fetching them.
        tokenizer: a tokenizer.json, or CLIP's list of merges, for a model that comes without one.
        image_size: side in pixels of the square to which images are resized; the learned positions are resized to its
            grid once. None for the size of the weights.
        device: "auto" (cuda, mps, cpu in this order), "cpu", "cuda", "cuda:1", "mps".
        dtype: "float32", "bfloat16", "float16", a torch dtype, or "auto" for the fastest safe type on the device. By
            default weights from a local file keep the type in which they are stored, and every other model uses the
            fastest safe type. An export has the types with which it was written, possibly "int8".
        batch: images that go through the model together.
        resize: how images are resized: "squash", "crop", "pad", "keep" or "native", see
            `percept.data.transforms.Preprocess`. None for the mode of the model; official models use "squash".
        tokens: largest number of patches of an image, for resize="native".
        compile: compile the transformer blocks with `torch.compile`, one block for all of a tower, at the first images or
            texts. It recompiles for a second batch size, a single image and a second number of patches; later
            sizes reuse the dynamic graph. It saves time on a GPU; on a CPU it replaces packed weights, so measure there.
            Images of different shapes that run as one packed row are not compiled. A compiled model cannot be pickled.
        train: return the model itself, a `CLIP` with trainable float32 weights in evaluation mode, instead of an encoder.
            Only `weights`, `image_size` and `device` go with it.

    Raises:
        PerceptError: unknown name (the nearest is suggested), weights that do not fit or cannot be fetched, or impossible
            settings.
    """
    if not isinstance(name, str | os.PathLike):
        raise PerceptError(
            f"name must be the name of a model, a folder or a weight file, got {type(name).__name__}: {name!r}"
        )
    location = locate(name, weights)
    dtype = agreed("dtype", location.dtype, dtype, None)
    device = agreed("device", location.device, device, "auto")
    values = {
        "tokenizer": tokenizer,
        "dtype": dtype,
        "batch": batch,
        "resize": resize,
        "tokens": tokens,
        "compile": compile,
    }
    options = {option: value for option, value in values.items() if value != DEFAULTS[option]}
    if train:
        return _trainable(location, options, image_size=image_size, device=device)
    if location.kind == "method":
        return _open_method(location, {**options, "image_size": image_size}, device=device)
    if location.kind == "export":
        opened, setting = _open_export(location, options, image_size=image_size, device=device)
    else:
        opened, setting = _open(location, options, image_size=image_size, device=device)
    replacement = None if tokenizer is None else _tokenizer(tokenizer, opened.model)
    return Encoder(
        opened.model,
        preprocess=_preprocess(opened, resize=resize, tokens=tokens),
        tokenizer=replacement or opened.tokenizer,
        name=opened.name,
        setting=setting,
        weight_hashes=lambda: opened.weight_hashes,
        tokens_hash=opened.tokenizer_hash,
    )


def agreed(option: str, suffix: str | None, value: Any, default: Any) -> Any:
    """Return the value given after an @ in the name, or as an argument.

    Raises:
        PerceptError: both are given and differ.
    """
    if suffix is None:
        return value
    if value != default and _short(value) != suffix:
        raise PerceptError(
            f"the name asks for @{suffix}, but {option}={_short(value)!r} was given too. Give one of them."
        )
    return suffix


def _open(
    location: Location, options: Mapping[str, Any], *, image_size: int | None, device: str
) -> tuple[Opened, Setting]:
    """Open a model in the requested number type."""
    place = _device(device, compile="compile" in options)
    weights, tokenizer = read_model(location, image_size=image_size)
    stored = weights.stored_type()
    number_type, reason = pick_dtype(options.get("dtype"), place, stored if location.kind == "file" else None)
    setting = Setting(
        device=place, dtype=number_type, reason=reason, batch=options.get("batch", BATCH), compile="compile" in options
    )
    return build(weights, tokenizer, dtype=number_type), setting


def _open_export(
    location: Location, options: Mapping[str, Any], *, image_size: int | None, device: str
) -> tuple[Opened, Setting]:
    """Open an export in the requested number type; options that its graphs fix are refused."""
    if "compile" in options:
        raise PerceptError(f"{location.source} is an export, which onnxruntime runs. Leave out compile=True.")
    if image_size is not None:
        raise PerceptError(f"{location.source} is an export, whose image size is fixed. Leave out image_size.")
    if device not in ("auto", "cpu"):
        raise PerceptError(f"an export runs on the CPU, not on {device!r}. Load the model itself for that device.")
    assert location.path is not None
    dtype = options.get("dtype", "auto")
    opened, chosen = open_export(location.path, None if dtype == "auto" else _short(dtype))
    return opened, Setting(
        device=torch.device("cpu"), dtype=torch.float32, reason=f"an export in {chosen}",
        batch=options.get("batch", BATCH), backend=f"onnxruntime {chosen}",
    )  # fmt: skip


def _trainable(location: Location, options: Mapping[str, Any], *, image_size: int | None, device: str) -> CLIP:
    """Return a model with a trainable float32 copy of the weights.

    Raises:
        PerceptError: an option is only for encoders, or the location holds graphs or a trained method.
    """
    if options:
        raise PerceptError(
            f"train=True returns a float32 model without an encoder. Leave out {', '.join(sorted(options))}."
        )
    place = _device(device, compile=False)
    return trainable(build(*read_model(location, image_size=image_size), dtype=None).model).to(place)


def _open_method(location: Location, options: dict[str, Any], *, device: str) -> Any:
    """Open a folder with a trained method."""
    module, _, function = OPENERS["method"].partition(":")
    options = {name: value for name, value in options.items() if value is not None}
    return getattr(import_module(module), function)(
        location.path, device=device, dtype=options.pop("dtype", None), **options
    )


def _device(name: str, *, compile: bool) -> torch.device:
    place = pick_device(name)
    if compile and compiler(place) is None:
        needed = "a C++ compiler ($CXX, or g++)" if place.type == "cpu" else "Triton and a C compiler"
        raise PerceptError(
            f"compile=True needs {needed} for {place}, which is missing. Install it, or leave out compile."
        )
    return place


def _preprocess(opened: Opened, *, resize: str | None, tokens: int | None) -> Preprocess:
    """Return the preprocessing of the model, with the requested resize mode."""
    if resize is None and tokens is None:
        return opened.preprocess
    patch = opened.model.config.vision.patch_size
    return opened.preprocess.resizing(resize or opened.preprocess.resize, patch=patch, tokens=tokens)


def _short(dtype: str | torch.dtype | None) -> str:
    return str(dtype).removeprefix("torch.")


def _tokenizer(path: PathLike, model: CLIP) -> Tokenizer:
    if model.config.text is None:
        raise PerceptError("a tokenizer was given, but the model has no text tower. Leave out tokenizer.")
    tokenizer = read_vocabulary(Path(path), context=model.config.text.context)
    if tokenizer.vocab_size > model.config.text.vocabulary:
        raise PerceptError(
            f"{path} has {tokenizer.vocab_size} ids, and the model has {model.config.text.vocabulary}. Give the tokenizer "
            "with which the model was trained."
        )
    return tokenizer


def pick_dtype(
    requested: str | torch.dtype | None, device: torch.device, stored: torch.dtype | None
) -> tuple[torch.dtype, str]:
    """Return the number type to compute in, and why.

    Args:
        stored: type of the weights, used where none is requested; None for the fastest safe type of the device.
    """
    if requested is None and stored is not None:
        return stored, "the type in which the weights are stored"
    if requested is None or requested == "auto":
        return fast_dtype(device)
    name = _short(requested)
    if name == "int8":
        raise PerceptError("int8 is only for exports. Make one with: percept export onnx MODEL --out DIR --int8")
    if name not in DTYPES:
        raise unknown_name("dtype", name, [*DTYPES, "auto"])
    return DTYPES[name], "as requested"
