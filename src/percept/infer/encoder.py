"""The user's face of an encoder: pictures, texts and clips in, float32 vectors on the CPU out."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.io import content_hash
from percept.core.machine import total_memory
from percept.core.report import progress_bar
from percept.data.files import BadFile, is_video, reason_without_path
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.data.video import open_video
from percept.fast import adopt, packed_bytes
from percept.infer.clips import (
    FRAMES,
    Clip,
    Count,
    Sampling,
    Windows,
    averaged,
    check_average,
    check_frames,
    check_windows,
    is_file,
    pick,
    tensors,
    whole_file,
)
from percept.infer.dense import Hidden, PoolAttention, attention_of, hidden_of
from percept.infer.identity import Identity
from percept.infer.labels import Guess, Labels, Templates, Texts, check_labels, class_vectors, rank
from percept.infer.pictures import Pictures, as_list, is_single, packs, prepared, to_tensor, whole_patches
from percept.models.clip import CLIP
from percept.models.onnx import Absent
from percept.nn.stack import resolve_layer
from percept.weights.fingerprint import CLIP_VOCABULARY

PACKED_SHARE = 1 / 8
"""On a CPU the weights of the image tower are stored a second time, in the layout its products use, if they take at most
this share of the memory."""
SHOW_PROGRESS = 64
"""From this many pictures on a progress bar is shown."""
ROW = 3000
"""Patches of different shapes that run as one row on a CPU: longer ones leave its caches and take longer than their parts."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where and how a model computes."""

    device: torch.device
    dtype: torch.dtype
    reason: str = ""
    """Why this number type."""
    batch: int = 32
    """Pictures or texts that go through the model together."""
    backend: str = "torch"
    """What computes."""
    compile: bool = False
    """The blocks go through `torch.compile`, one for all; see `percept.load`."""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise PerceptError(f"batch={self.batch}; at least one picture goes through the model at a time")

    def __str__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.") if self.backend == "torch" else self.backend
        return f"{self.device}, {kind}{', compiled' if self.compile else ''}"


@dataclass(frozen=True, kw_only=True)
class FileVectors:
    """Vectors of many picture and video files."""

    paths: list[Path]
    """The files that could be read, in the order given."""
    vectors: Float[Tensor, "n d"]
    bad: list[BadFile]
    """The others, with reasons."""


class Encoder:
    """A model with everything around it that a user needs; made by `percept.load`.

    The model is frozen (`requires_grad_(False)`), cast, and its layers run their faster inference forms. To train it, use
    `percept.load(..., train=True)`, which returns the model itself.
    """

    def __init__(
        self,
        model: CLIP,
        *,
        preprocess: Preprocess,
        identity: Identity,
        tokenizer: Tokenizer | None = None,
        setting: Setting | None = None,
    ) -> None:
        self.setting = setting or Setting(device=torch.device("cpu"), dtype=torch.float32)
        # Read before the cast: bfloat16 would round the logarithm and change the scale by percents.
        self.scale = 1.0 if model.log_scale is None else float(model.scale().detach())
        """What cosines are multiplied with before the softmax over labels."""
        self.scale_dtype = torch.float32 if model.log_scale is None else model.log_scale.dtype
        """Number type that its logarithm came in; a narrow one has rounded it."""
        self.patch = model.config.vision.patch_size
        """Side of a patch in pixels."""
        if preprocess.patch not in (None, self.patch):
            raise PerceptError(
                f"preprocessing for patches of {preprocess.patch} pixels does not go with a model of {self.patch}; "
                "use encoder.resizing, or resize= of percept.load, which take the model's"
            )
        self.model = model.eval().requires_grad_(False).to(self.setting.device, self.setting.dtype)
        self.preprocess = preprocess
        self.identity = identity
        self.tokenizer = tokenizer
        self._speed_up()

    def __repr__(self) -> str:
        return f"Encoder({self.identity}, {self.setting})"

    def _speed_up(self) -> None:
        """Adopt the faster forms of the layers, and compile the blocks or pack the weights of the image tower."""
        adopt(self.model, pack=False)
        vision = self.model.get_submodule("vision")
        if self.setting.compile:
            vision.compile()
            if self.model.text is not None:
                self.model.text.compile()
        elif self.setting.device.type == "cpu" and packed_bytes(vision) <= PACKED_SHARE * total_memory():
            adopt(vision, pack=True)

    @property
    def dim(self) -> int:
        """Length of the vectors; 0 for a model that gives tokens only."""
        return self.identity.dim

    def image(self, images: Pictures) -> Float[Tensor, "n d"]:
        """Return unit-length vectors of one picture or several.

        Paths, bytes, PIL images, uint8 arrays [y, x, 3] and uint8 tensors [3, y, x] are preprocessed; a float tensor
        [n, 3, y, x] is taken as already preprocessed.

        Raises:
            PerceptError: a picture that cannot be read, something that is no picture, or a model without vectors.
        """
        return F.normalize(self.pooled(images), dim=-1)

    def pooled(self, images: Pictures) -> Float[Tensor, "n d"]:
        """Return the vectors of `image` as the model gives them, not of unit length.

        Raises:
            PerceptError: as `image`.
        """
        vectors = self._run(images, self._raw)
        return torch.stack(vectors) if vectors else torch.zeros(0, self.dim)

    def files(self, paths: Sequence[Path], *, sampling: Sampling | None = None) -> FileVectors:
        """Return unit-length vectors of many picture and video files.

        A file that cannot be read is listed with its reason, never fatal. Videos are averaged as for zero-shot.
        """
        sampling = (sampling or Sampling()).check()
        bad: dict[Path, BadFile] = {}
        rows: dict[int, list[int]] = {}

        def prepare(path: Path) -> tuple[Tensor, list[int]] | None:
            try:
                if is_video(path):
                    return whole_file(path, sampling, self.preprocess)
                return to_tensor(path, self.preprocess)[None], [0]
            except PerceptError as error:
                bad[path] = BadFile(path, reason_without_path(error, path))
                return None

        def frames() -> Iterator[tuple[tuple[int, int], Tensor]]:
            for position, found in prepared(paths, prepare):
                if found is not None:
                    rows[position] = found[1]
                    yield from (((position, row), frame) for row, frame in enumerate(found[0]))

        total = sum(sampling.frames if is_video(path) else 1 for path in paths)
        results = self._batched(frames(), self._raw, total)
        vectors = [
            averaged(torch.stack([results[position, row] for row in chosen]), "zero-shot")
            for position, chosen in sorted(rows.items())
        ]
        return FileVectors(
            paths=[paths[position] for position in sorted(rows)],
            vectors=torch.stack(vectors) if vectors else torch.zeros(0, self.dim),
            bad=[bad[path] for path in paths if path in bad],
        )

    def text(self, texts: Texts) -> Float[Tensor, "n d"]:
        """Return unit-length vectors of one text or several, or of token ids [n, context].

        Raises:
            PerceptError: a model without a text tower, strings without a tokenizer, something that is neither.
        """
        if self.model.text is None:
            raise PerceptError(
                f"{self.identity.name} has no text tower here, it was opened with a vision tower only; 'nano' has both, and so "
                "have the PE-Core models in files of the layouts official, open_clip and percept (never in timm's)"
            )
        if isinstance(self.model.text, Absent):
            raise self.model.text.error()
        if isinstance(texts, Tensor):
            return self._text_of_ids(texts)
        if not isinstance(texts, Iterable):
            raise PerceptError(f"give a text, several, or token ids [n, context]; given {type(texts).__name__}")
        texts = [texts] if isinstance(texts, str) else list(texts)
        for text in texts:
            if not isinstance(text, str):
                raise PerceptError(f"a text is a str; given {type(text).__name__}: {text!r}")
        if not texts:
            return torch.zeros(0, self.dim)
        return self._text_of_strings(texts)

    def video(
        self,
        clip: Clip,
        *,
        frames: Count | None = None,
        choice: str = "pe-evaluation",
        windows: Windows | None = None,
        average: str = "retrieval",
        normalize: bool = False,
    ) -> Float[Tensor, " d"] | Float[Tensor, "n d"]:
        """Return one vector of a clip, or one for each of several windows of a video file.

        Args:
            clip: a video file (GIF included), or its frames: a list of pictures or a tensor [t, 3, y, x].
            frames: how many stand for the clip, or for each window. By default 8 of a file, all of a list.
            choice: which: "pe-evaluation", "pe-demo", "plm" or "time", see `percept.data.video.choice`.
            windows: several [start, end] in seconds; the result is [n, d] then.
            average: "retrieval", the mean of the frames' unit vectors, as published not of unit length again; or
                "zero-shot", the mean of their vectors as they are, then made unit.
            normalize: makes the result of unit length, for cosines between clips.

        Raises:
            PerceptError: a file that is no video or is damaged, frames of unequal size, no frames, a number of them that
                is not whole, a window that is not in the video, an unknown choice or average, or a model without vectors.
        """
        check_average(average)
        sampling = Sampling(frames=FRAMES if frames is None else frames, choice=choice).check()
        if is_file(clip):
            parts = None if windows is None else check_windows(windows)
            rows = self._video_file(clip, sampling, parts)
        elif windows is not None:
            raise PerceptError("windows are cut out of a video file by its clock; frames in a list have no times")
        else:
            pictures = check_frames(clip)
            rows = [torch.stack(self._run(pictures if frames is None else pick(pictures, sampling), self._raw))]
        vectors = torch.stack([averaged(row, average) for row in rows]) if rows else torch.zeros(0, self.dim)
        vectors = F.normalize(vectors, dim=-1) if normalize else vectors
        return vectors[0] if windows is None else vectors

    def _video_file(self, source: Any, sampling: Sampling, windows: list[tuple[float, float]] | None) -> list[Tensor]:
        """Return the vectors [t, d] of the frames of each window, or of the whole file; every frame is embedded once."""
        with open_video(source) as video:
            parts = [None] if windows is None else windows
            chosen = [sampling.of(video, window) for window in parts]
            numbers = sorted({number for row in chosen for number in row})
            found = self._batched(tensors(video, numbers, self.preprocess), self._raw, len(numbers))
        return [torch.stack([found[number] for number in row]) for row in chosen]

    def classify(
        self, images: Pictures, labels: Labels, templates: Templates = None
    ) -> list[Guess] | list[list[Guess]]:
        """Rank labels for one picture (a list of guesses), or for several (a list of such lists).

        Args:
            labels: what the picture may show; the probabilities are among these labels only.
            templates: one or several texts with {} where the label goes; several are averaged.
        """
        labels = check_labels(labels)
        scores = self.image(images) @ class_vectors(self, labels, templates).T
        ranked = [rank(labels, row, self.scale) for row in scores]
        return ranked[0] if is_single(images) else ranked

    def features(
        self, images: Pictures, layers: Sequence[int] | int = (-1,), *, norm: bool = False
    ) -> dict[int, Float[Tensor, "*n y x w"]]:
        """Return maps of patch tokens after blocks: {layer: [y, x, w]} of one picture, {layer: [n, y, x, w]} of several.

        Blocks count from 0, or from the end with negative numbers; all of them are computed in one pass. Raw residual
        stream, or through the model's final norm with `norm`.

        Raises:
            PerceptError: there is no such layer, no final norm, or the pictures have different shapes (`hidden` takes those).
        """
        rows = self.hidden(images, layers, norm=norm)
        if is_single(images):
            return {layer: rows[0].map(layer) for layer in rows[0].tokens}
        return {layer: _stack([row.map(layer) for row in rows], "maps") for layer in self._check_layers(layers)}

    def tokens(
        self, images: Pictures, layer: int = -1, *, norm: bool = False, class_token: bool = True
    ) -> Float[Tensor, "n t w"]:
        """Return all tokens after a block, class token first where the model has one.

        Args:
            layer: the block, counted from 0, or from the end with negative numbers.
            norm: through the model's final norm; otherwise the raw residual stream.
            class_token: False leaves the class token out.

        Raises:
            PerceptError: as `features`.
        """
        rows = self.hidden(images, layer, norm=norm)
        return _stack([row.tokens[layer] if class_token else row.patches(layer) for row in rows], "tokens")

    def hidden(self, images: Pictures, layers: Sequence[int] | int = (-1,), *, norm: bool = False) -> list[Hidden]:
        """Return what each picture is after several blocks, in one pass; the pictures may have any shapes.

        Of a `Hidden`, `tokens[layer]`, `patches(layer)`, `map(layer)` and `class_token(layer)` are tensors.

        Raises:
            PerceptError: there is no such layer, or no final norm.
        """
        asked = self._check_layers(layers)
        return self._run(images, lambda pack: hidden_of(self.model.vision, pack, asked, norm))

    def attention(self, images: Pictures) -> list[PoolAttention]:
        """Return where the pooling head looks in each picture: maps [heads, y, x], and the share of the class token.

        Raises:
            PerceptError: a model that pools without attention, or not at all.
        """
        return self._run(images, lambda pack: attention_of(self.model.vision, pack))

    def cut(self, after: int) -> "Encoder":
        """Return an encoder of the blocks up to and including `after`: tokens and maps only, at that share of the time.

        The weights are shared, not copied.

        Raises:
            PerceptError: there is no such block, or an export runs, whose graph is one piece.
        """
        if not isinstance(after, int):
            raise PerceptError(f"cut takes the number of one block, counted from either end; given: {after!r}")
        (after,) = self._check_layers(after)
        last = resolve_layer(after, self.model.config.vision.layers)
        identity = Identity(
            name=f"{self.identity.name} up to block {last}",
            fingerprint=content_hash(f"{self.identity.fingerprint} up to block {last}".encode()),
            dim=0,
        )
        return Encoder(self.model.cut(last), preprocess=self.preprocess, identity=identity, setting=self.setting)

    def resizing(self, resize: str, *, tokens: int | None = None) -> "Encoder":
        """Return the same model, weights shared, with another way to bring pictures to size.

        Args:
            resize: "squash", "crop", "pad", "keep" or "native", see `percept.data.transforms.Preprocess`.
            tokens: most patches of a picture, for "native"; as many as at the model's own size if not given.

        Raises:
            PerceptError: there is no such way, or `tokens` goes with another one than native.
        """
        other = copy.copy(self)
        other.preprocess = self.preprocess.resizing(resize, patch=self.patch, tokens=tokens)
        return other

    def own_type(self) -> torch.autocast:
        """Return a context in which a caller's autocast is off: an encoder computes in the type of its setting."""
        return torch.autocast(self.setting.device.type, enabled=False)

    def _check_layers(self, layers: Iterable[int] | int) -> list[int]:
        asked = [layers] if isinstance(layers, int) else list(layers)
        if not asked:
            raise PerceptError("no layers were given; -1 is the last one")
        for layer in asked:
            if not isinstance(layer, int):
                raise PerceptError(f"a layer is a whole number, counted from either end; given: {layer!r}")
            resolve_layer(layer, self.model.config.vision.layers)
        return asked

    def _raw(self, pack: list[Tensor]) -> Tensor:
        if len(pack) == 1:
            return self._finite(self.model.encode_image(pack[0]))
        return self._finite(self.model.encode_packed(pack))

    def _unit(self, vectors: Tensor) -> Tensor:
        return F.normalize(self._finite(vectors), dim=-1)

    def _finite(self, vectors: Tensor) -> Tensor:
        """Return vectors in float32; refuse what is no direction at all, rather than rank by it."""
        vectors = vectors.float()
        if not vectors.isfinite().all():
            raise PerceptError(
                f"{self.identity.name} computed vectors that are no numbers in {self.setting.dtype}; its weights are "
                "damaged, or this type is too narrow for them: try dtype='float32'"
            )
        return vectors

    def _run(self, images: Any, step: Callable[[list[Tensor]], Iterable[Any]]) -> list[Any]:
        """Apply `step` to packs of preprocessed pictures; return one result per picture, in order, on the CPU."""
        pictures = as_list(images)
        ready = prepared(
            pictures, lambda one: whole_patches(to_tensor(one, self.preprocess), self.preprocess, self.patch)
        )
        results = self._batched(ready, step, len(pictures))
        return [results[position] for position in range(len(pictures))]

    @torch.no_grad()
    def _batched(
        self, keyed: Iterable[tuple[Any, Tensor]], step: Callable[[list[Tensor]], Iterable[Any]], total: int
    ) -> dict[Any, Any]:
        """Apply `step` to packs of (key, preprocessed picture); return one result per key, on the CPU."""
        results: dict[Any, Any] = {}
        most = ROW * self.patch**2 if self.setting.device.type == "cpu" else None
        with progress_bar() as progress, self.own_type():
            bar = progress.add_task("pictures", total=total, visible=total >= SHOW_PROGRESS)
            for pack in packs(keyed, self.setting.batch, most):
                keys = [key for group, _ in pack for key in group]
                rows = step([self._ready(batch) for _, batch in pack])
                results.update(zip(keys, map(_to_cpu, rows), strict=True))
                progress.advance(bar, len(keys))
        return results

    def _ready(self, batch: Tensor) -> Tensor:
        """Move to the device; pixels are normalised there, a float batch already is."""
        batch = batch.to(self.setting.device)
        if not batch.is_floating_point():
            batch = self.preprocess.normalise(batch)
        return batch.to(self.setting.dtype)

    @torch.no_grad()
    def _text_of_ids(self, ids: Tensor) -> Tensor:
        if ids.is_floating_point() or ids.dtype == torch.bool or ids.ndim not in (1, 2) or ids.shape[-1] == 0:
            raise PerceptError(f"token ids are integers [n, context]; given {ids.dtype} {list(ids.shape)}")
        ids = ids[None] if ids.ndim == 1 else ids
        with self.own_type():
            parts = [
                self._unit(self.model.encode_text(part.long().to(self.setting.device))).cpu()
                for part in ids.split(8 * self.setting.batch)
                if len(part)
            ]
        return torch.cat(parts) if parts else torch.zeros(0, self.dim)

    def _text_of_strings(self, texts: list[str]) -> Tensor:
        if self.tokenizer is None:
            clip = self.model.config.text is not None and self.model.config.text.vocabulary == CLIP_VOCABULARY
            how = (
                "install a package that brings CLIP's vocabulary (pip install open_clip_torch), or give its merges.txt"
                if clip
                else "give the tokenizer.json it was trained with, or for weights of nano its name with --weights FILE"
            )
            raise PerceptError(
                f"{self.identity.name} was loaded without a tokenizer, so texts cannot be read; {how}: --tokenizer FILE, "
                "tokenizer= in Python, where token ids [n, context] are taken too"
            )
        return self._text_of_ids(self.tokenizer(texts))


def _to_cpu(result: Any) -> Any:
    return result.cpu() if isinstance(result, Tensor) else result


def _stack(rows: list[Tensor], what: str) -> Tensor:
    if not rows:
        raise PerceptError(f"no pictures were given, so there are no {what}")
    if any(row.shape != rows[0].shape for row in rows):
        raise PerceptError(
            f"pictures of different sizes give {what} of different shapes; give one size at a time, or use encoder.hidden"
        )
    return torch.stack(rows)
