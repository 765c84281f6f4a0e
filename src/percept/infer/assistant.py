"""`percept.assistant`: open a perception language model, and run it on token ids and tiles."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from percept import fast
from percept.core.errors import PerceptError
from percept.core.machine import pick_device
from percept.data.transforms import Preprocess
from percept.infer.load import PathLike, agreed, pick_dtype
from percept.infer.setting import Setting, packs
from percept.models.vlm import VLM
from percept.weights.assistant import build_assistant, check_vlm, locate_assistant, read_assistant


class Assistant:
    """A frozen perception language model on a device."""

    def __init__(
        self,
        model: VLM,
        *,
        name: str,
        setting: Setting,
        preprocess: Preprocess | None = None,
        folder: Path | None = None,
    ) -> None:
        self.name = name
        self.setting = setting
        self.folder = folder
        """Where its tokenizer and chat template are looked for."""
        self.config = model.config
        self.preprocess = preprocess or Preprocess(size=model.config.vision.image_size)
        """How tiles and frames are normalised."""
        self.model = model.eval().requires_grad_(False).to(setting.device, setting.dtype)
        fast.adopt(self.model, pack=packs(self.model, setting))

    def __repr__(self) -> str:
        return f"Assistant({self.name!r}, {self.setting})"

    @torch.no_grad()
    def logits(self, ids: Int[Tensor, "1 n"], tiles: Float[Tensor, "k 3 y x"] | None = None) -> Float[Tensor, "1 n v"]:
        """Return the logits of the next token at every position, in float32 on the CPU.

        Args:
            ids: token ids with one placeholder for each visual token.
            tiles: preprocessed tiles or frames, in the order of their placeholders; None for text alone.

        Raises:
            PerceptError: images and placeholders differ in number, or the prompt is longer than the context.
        """
        return self.model(embeddings=self.embed(ids, tiles)).float().cpu()

    @torch.no_grad()
    def generate_ids(
        self,
        ids: Int[Tensor, "1 n"],
        tiles: Float[Tensor, "k 3 y x"] | None = None,
        *,
        max_new_tokens: int = 256,
        stop_ids: Sequence[int] | None = None,
    ) -> Int[Tensor, "1 m"]:
        """Return the most likely continuation of a prompt, one token after the other, on the CPU.

        Args:
            ids, tiles: see `logits`.
            max_new_tokens: length at which it ends; it must fit the context together with the prompt.
            stop_ids: ids after which it ends, included in the result; those of the model if None.

        Raises:
            PerceptError: see `logits`, or max_new_tokens is below 1.
        """
        if max_new_tokens < 1:
            raise PerceptError(f"max_new_tokens={max_new_tokens} asks for nothing. Give at least 1.")
        stops: Collection[int] = set(self.config.stop_ids if stop_ids is None else stop_ids)
        embeddings = self.embed(ids, tiles)
        cache = self.model.decoder.new_cache(1, embeddings.shape[1] + max_new_tokens)
        last = torch.zeros(embeddings.shape[:2], dtype=torch.bool, device=embeddings.device)
        last[:, -1] = True
        logits, found = self.model(embeddings=embeddings, cache=cache, at=last), []
        while True:
            token = logits.argmax(dim=-1).view(1, 1)
            found.append(int(token))
            if found[-1] in stops or len(found) == max_new_tokens:
                return torch.tensor([found])
            logits = self.model(embeddings=self.model.decoder.embed(token), cache=cache)

    def embed(self, ids: Int[Tensor, "1 n"], tiles: Float[Tensor, "k 3 y x"] | None) -> Float[Tensor, "1 n d"]:
        """Return the embeddings of a prompt, visual tokens included, on the device.

        Raises:
            PerceptError: see `logits`, or ids or tiles do not have the shape or type that the model takes.
        """
        check_inputs(ids, tiles)
        visual = None if tiles is None or not len(tiles) else self.model.encode(tiles.to(self.setting.device))
        return self.model.embed(ids.to(self.setting.device), visual)


def check_inputs(ids: Tensor, tiles: Tensor | None) -> None:
    """Refuse token ids and tiles of a type or shape that the model does not take.

    Raises:
        PerceptError: they are not integers [1, n] and floats [k, 3, y, x].
    """
    if ids.dim() != 2 or len(ids) != 1 or not ids.shape[1] or ids.is_floating_point():
        raise PerceptError(f"ids must be integers [1, n] with n above 0, got {ids.dtype} {list(ids.shape)}.")
    if tiles is not None and (tiles.dim() != 4 or tiles.shape[1] != 3 or not tiles.is_floating_point()):
        raise PerceptError(f"tiles must be floats [k, 3, y, x], got {tiles.dtype} {list(tiles.shape)}.")


def assistant(
    name: PathLike,
    *,
    weights: PathLike | None = None,
    device: str = "auto",
    dtype: str | torch.dtype | None = None,
) -> Assistant:
    """Open a perception language model.

    Args:
        name: a name such as "Perception-LM-1B", fetched from the Hugging Face hub on first use, after its licence has been
            shown; "hf://OWNER/NAME", with "@REVISION" to pin it; or a folder in percept's layout, that of transformers, or the
            published one (params.json and consolidated.pth). "@TYPE" and "@DEVICE" may follow ("Perception-LM-1B@bfloat16").
        weights: a local folder with the files of the model `name`.
        device: "auto" (cuda, mps, cpu in this order), "cpu", "cuda", "cuda:1", "mps".
        dtype: "float32", "bfloat16", "float16", a torch dtype, or "auto" for the fastest safe type on the device. By default
            weights from a folder keep the type in which they are stored, and every other model uses the fastest safe type.

    Raises:
        PerceptError: unknown name (the nearest is suggested), an encoder, or weights that do not fit or cannot be fetched.
    """
    if not isinstance(name, str | os.PathLike):
        raise PerceptError(f"name must be the name of a model or a folder, got {type(name).__name__}: {name!r}")
    place = locate_assistant(name, weights)
    where = pick_device(agreed("device", place.device, device, "auto"))
    read = read_assistant(place)
    check_vlm(read)
    local = place.folder is not None and (place.name is None or weights is not None)
    number_type, reason = pick_dtype(
        agreed("dtype", place.dtype, dtype, None), where, read.stored_type() if local else None
    )
    folder, preprocess, title = read.folder, read.record.preprocess, read.name
    model = build_assistant(read, number_type)
    assert isinstance(model, VLM)
    setting = Setting(device=where, dtype=number_type, reason=reason)
    return Assistant(model, name=title, setting=setting, preprocess=preprocess, folder=folder)
