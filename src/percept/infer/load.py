"""`percept.load`: from a name, a folder or a weight file to an encoder that is ready to use."""

import os
from dataclasses import replace
from pathlib import Path

import torch

from percept.core.errors import PerceptError, unknown_name
from percept.core.io import content_hash
from percept.core.machine import compiler, fast_dtype, pick_device
from percept.data.clip_vocabulary import read_vocabulary
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.infer.encoder import Encoder, Setting
from percept.infer.identity import Identity
from percept.models import zoo
from percept.models.clip import CLIP
from percept.models.onnx import is_export
from percept.weights.exported import open_export
from percept.weights.fingerprint import words_hash
from percept.weights.folder import Opened
from percept.weights.locate import PACKAGED, Wish, open_model, open_packaged

__all__ = ["PACKAGED", "load", "open_packaged"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    name: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    device: str = "auto",
    dtype: str | torch.dtype | None = None,
    batch: int = 32,
    resize: str | None = None,
    tokens: int | None = None,
    compile: bool = False,
) -> Encoder:
    """Open a model and return its encoder.

    Args:
        name: "nano", which ships with percept; an official name such as "PE-Core-L14-336", fetched from the Hugging
            Face hub on first use; "hf://OWNER/NAME", with "@REVISION" to pin it; or a folder or weight file in the
            layout of percept, of the published checkpoints, of timm or of open_clip ("./nano" for a folder that has the
            name of a model); or a folder that `percept export` wrote, which onnxruntime runs on the CPU.
        weights: a local weight file or folder in any of these layouts for "nano" or an official name; nothing is fetched
            then.
        tokenizer: a tokenizer.json, or CLIP's list of merges, for a model that comes without one.
        image_size: side in pixels of the square that pictures are brought to; the learned positions are resized to its
            grid once. As the weights were trained when None.
        device: "auto" (cuda, mps, cpu in this order), "cpu", "cuda", "cuda:1", "mps".
        dtype: "float32", "bfloat16", "float16", a torch dtype, or "auto" for what is fast here. By default a local
            weight file keeps the type it is stored in, every other model computes in what is fast here. An export has
            the types it was written with, "int8" perhaps among them.
        batch: pictures that go through the model together.
        resize: how pictures are brought to size: "squash", "crop", "pad", "keep" or "native", see
            `percept.data.transforms.Preprocess`. As the model says when None, for the official ones "squash".
        tokens: most patches of a picture, for resize="native".
        compile: the transformer blocks go through `torch.compile`. One block is compiled for all of a tower, when the
            first pictures or texts come: seconds, however deep the model. Once more for another batch, for a single
            picture and for another number of patches; sizes beyond those cost nothing. On a GPU norms, rotations and
            activations then take a fraction of their time. On a CPU oneDNN's packed products are given up for it, so
            measure there. Pictures of different shapes that run as one packed row are not compiled. The model cannot be pickled then.

    Raises:
        PerceptError: unknown name (the nearest is suggested), weights that do not fit or cannot be fetched, settings that
            are impossible.
    """
    if not isinstance(name, str | os.PathLike):
        raise PerceptError(
            f"give the name of a model, a folder or a weight file; given {type(name).__name__}: {name!r}"
        )
    name = os.fspath(name)
    if name not in zoo.ZOO and is_export(name):
        if compile:
            raise PerceptError(f"{name} is an export, which onnxruntime runs; leave out compile=True")
        if weights is not None or image_size is not None:
            raise PerceptError(f"{name} is an export and has its weights and sizes; leave out weights= and image_size=")
        export = _load_export(name, tokenizer, device=device, dtype=dtype, batch=batch)
        if resize is None and tokens is None:
            return export
        return export.resizing(resize or export.preprocess.resize, tokens=tokens)
    place = _device(device, compile=compile)
    keep = weights is not None or Path(name).is_file()
    chosen: list[tuple[torch.dtype, str]] = []

    def choose(stored: torch.dtype) -> torch.dtype:
        chosen.append(_dtype(dtype, place, stored if keep else None))
        return chosen[0][0]

    opened = open_model(name, weights, Wish(image_size=image_size, dtype=choose))
    number_type, reason = chosen[0]
    given = None if tokenizer is None else _tokenizer(tokenizer, opened.model)
    return Encoder(
        opened.model,
        preprocess=_preprocess(opened, resize=resize, tokens=tokens),
        tokenizer=given or opened.tokenizer,
        identity=_identity(opened, given),
        setting=Setting(device=place, dtype=number_type, reason=reason, batch=batch, compile=compile),
    )


def _device(name: str, *, compile: bool) -> torch.device:
    place = pick_device(name)
    if compile and compiler(place) is None:
        needed = "a C++ compiler ($CXX, or g++)" if place.type == "cpu" else "Triton and a C compiler"
        raise PerceptError(f"compile=True needs {needed} for {place}, and there is none; leave it out or install that")
    return place


def _preprocess(opened: Opened, *, resize: str | None, tokens: int | None) -> Preprocess:
    """Return how pictures are brought to size: as the model says, or as asked."""
    if resize is None and tokens is None:
        return opened.preprocess
    patch = opened.model.config.vision.patch_size
    return opened.preprocess.resizing(resize or opened.preprocess.resize, patch=patch, tokens=tokens)


def _load_export(
    folder: str, tokenizer: str | os.PathLike[str] | None, *, device: str, dtype: str | torch.dtype | None, batch: int
) -> Encoder:
    if device not in ("auto", "cpu"):
        raise PerceptError(f"an export is run on the CPU here, not on {device!r}; for that, load the model itself")
    opened, chosen = open_export(folder, None if dtype in (None, "auto") else _short(dtype))
    given = None if tokenizer is None else _tokenizer(tokenizer, opened.model)
    return Encoder(
        opened.model,
        preprocess=opened.preprocess,
        tokenizer=given or opened.tokenizer,
        identity=_identity(opened, given),
        setting=Setting(
            device=torch.device("cpu"), dtype=torch.float32, reason=f"an export in {chosen}", batch=batch,
            backend=f"onnxruntime {chosen}",
        ),
    )  # fmt: skip


def _short(dtype: str | torch.dtype | None) -> str:
    return str(dtype).removeprefix("torch.")


def _identity(opened: Opened, given: Tokenizer | None) -> Identity:
    """Say who makes the vectors; a tokenizer that was given in place of the model's own makes another model of it."""
    config = opened.model.config.vision
    dim = 0 if config.pool == "none" else config.output_dim or config.width
    return Identity(name=opened.name, fingerprint=_fingerprint(opened, given), dim=dim)


def _fingerprint(opened: Opened, given: Tokenizer | None) -> str:
    if given is None:
        return opened.fingerprint
    text = opened.model.config.text
    words = words_hash(given, text)
    if opened.content is not None:
        return replace(opened.content, words=words).fingerprint
    same = words == words_hash(opened.tokenizer, text)
    return opened.fingerprint if same else content_hash(f"{opened.fingerprint} {words}".encode())


def _tokenizer(path: str | os.PathLike[str], model: CLIP) -> Tokenizer:
    if model.config.text is None:
        raise PerceptError("tokenizer= was given, but this model has no text tower")
    tokenizer = read_vocabulary(Path(path), context=model.config.text.context)
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
    name = _short(wanted)
    if name == "int8":
        raise PerceptError("int8 is made when a model is exported: percept export onnx MODEL DIR --int8")
    if name not in DTYPES:
        raise unknown_name("dtype", name, [*DTYPES, "auto"])
    return DTYPES[name], "as asked for"
