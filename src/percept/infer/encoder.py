"""The encoder that users call: images, texts and clips in, float32 vectors on the CPU out."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.data.files import BadFile, is_video, read_each
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.infer import clips
from percept.infer.classifying import Results, classify
from percept.infer.clips import Clip, Count, FileVector, FileVectors, Sampling, Windows
from percept.infer.dense import Hidden, Layer, Layers, PoolAttention, attention_of, check_layers, hidden_of, stacked
from percept.infer.identity import Identity, WeightHashes
from percept.infer.images import ImageInputs, as_iterable, is_single, prepared, to_tensor
from percept.infer.labeller import AnyLabels, NoneBelow, labeller
from percept.infer.labels import Guess, Templates, Texts
from percept.infer.runner import Runner, check_finite
from percept.infer.setting import Setting, prepare_towers
from percept.infer.texts import as_ids
from percept.models.clip import CLIP
from percept.models.onnx import Absent
from percept.nn.stack import resolve_layer
from percept.weights.fingerprint import hash_tensors, image_identity, text_identity, tokenizer_hash

ROW_PATCHES = 3000
"""Patches of different shapes that run as one packed row on a CPU; longer rows leave its caches and are slower."""


class Encoder:
    """A model with everything around it that a user needs; `percept.load` makes one.

    The weights are frozen: `percept.load(..., train=True)` gives a model to train.
    """

    def __init__(
        self,
        model: CLIP,
        *,
        preprocess: Preprocess,
        name: str = "model",
        tokenizer: Tokenizer | None = None,
        setting: Setting | None = None,
        weight_hashes: Callable[[], Mapping[str, str]] | None = None,
        tokens_hash: str | None = None,
    ) -> None:
        """Wrap and freeze a model.

        Args:
            model: a pair of towers, or an image tower alone.
            preprocess: how images are brought to the model's size.
            name: what the model was loaded as.
            tokenizer: of the text tower; None if texts are given as token ids.
            setting: device, number type and batch; float32 on the CPU when None.
            weight_hashes: computes {name: hash} of the weights as they are stored; of the model's own tensors when None.
            tokens_hash: hash of the tokenizer that the model was trained with, where the tokenizer itself is missing.
        """
        self.setting = setting or Setting(device=torch.device("cpu"), dtype=torch.float32)
        # Read before the cast: bfloat16 would round the logarithm and change the scale by percents.
        self.scale = 1.0 if model.log_scale is None else float(model.scale().detach())
        """Multiplies cosines before the softmax over labels."""
        self.progress: bool | None = None  # see `Runner.progress`
        self.scale_dtype = torch.float32 if model.log_scale is None else model.log_scale.dtype
        """Number type in which its logarithm is stored."""
        self.patch = model.config.vision.patch_size
        """Side of a patch, pixels."""
        if preprocess.patch not in (None, self.patch):
            raise PerceptError(
                f"preprocessing for patches of {preprocess.patch} pixels does not fit a model with patches of {self.patch}. Use "
                "encoder.resizing, or resize= of percept.load, which take the model's"
            )
        own_hashes = hash_tensors(model.state_dict()) if weight_hashes is None else {}  # before the cast below
        self.model = model.eval().requires_grad_(False).to(self.setting.device, self.setting.dtype)
        self.preprocess, self.name, self.tokenizer, self._tokens_hash = preprocess, name, tokenizer, tokens_hash
        prepare_towers(self.model, self.setting)
        self._hashes = WeightHashes(self.model, weight_hashes or (lambda: own_hashes))

    def __repr__(self) -> str:
        return f"Encoder({self.name}, {self.dim} numbers, {self.setting})"

    @property
    def weight_hashes(self) -> Mapping[str, str]:
        """{name: hash} of the weights as they are stored, or as they are now if they were changed; see `WeightHashes`."""
        return self._hashes()

    @property
    def identity(self) -> Identity:
        """Identity of image and text vectors, with the current preprocessing and tokenizer."""
        config = self.model.config
        tokens = tokenizer_hash(self.tokenizer, config.text, self._tokens_hash)
        return Identity(
            name=self.name,
            image=image_identity(self.weight_hashes, config, self.preprocess),
            text=None if config.text is None else text_identity(self.weight_hashes, config, tokens),
            dim=self.dim,
        )

    @property
    def dim(self) -> int:
        """Length of the vectors; 0 for a model that gives tokens only."""
        config = self.model.config.vision
        return 0 if config.pool == "none" else config.output_dim or config.width

    @property
    def runner(self) -> Runner:
        """The loop that feeds the model."""
        on_cpu = self.setting.device.type == "cpu"
        return Runner(
            device=self.setting.device, dtype=self.setting.dtype, batch=self.setting.batch,
            normalise=self.preprocess.normalise, row_pixels=ROW_PATCHES * self.patch**2 if on_cpu else None, progress=self.progress,
        )  # fmt: skip

    def prepare(self, image: Any) -> Float[Tensor, "3 y x"]:
        """Return one image resized and normalised; every method takes the result as it is.

        Raises:
            PerceptError: not an image, or one that cannot be read.
        """
        tensor = to_tensor(image, self.preprocess)
        return tensor if tensor.is_floating_point() else self.preprocess.normalise(tensor)

    def image(self, images: ImageInputs) -> Float[Tensor, "n d"]:
        """Return unit-length vectors of one image or several.

        Paths, bytes, PIL images, uint8 arrays [y, x, 3] and uint8 tensors [3, y, x] are preprocessed. A float tensor [n, 3, y, x]
        is taken as preprocessed already.

        Raises:
            PerceptError: not an image, an image that cannot be read, or a model without vectors.
        """
        return F.normalize(self.pooled(images), dim=-1)

    def pooled(self, images: ImageInputs) -> Float[Tensor, "n d"]:
        """Return the vectors of `image` before they are scaled to unit length; raises as `image` does."""
        vectors = list(self._stream(images, self._vectors))
        return torch.stack(vectors) if vectors else torch.zeros(0, self.dim)

    def each_file(
        self, paths: Iterable[Path], *, sampling: Sampling | None = None, total: int = 0
    ) -> Iterator[FileVector | BadFile]:
        """Yield the unit-length vector of each image or video file, in order; a file that cannot be read yields its reason.

        Args:
            paths: image and video files.
            sampling: which frames stand for a video; their vectors are averaged as for zero-shot classification.
            total: number of files, for the progress bar.
        """
        sampling = (sampling or Sampling()).check()

        def read(path: Path) -> tuple[Path, Tensor, list[int]]:
            if is_video(path):
                return path, *clips.whole_file(path, sampling, self.preprocess)
            return path, to_tensor(path, self.preprocess)[None], [0]

        yield from clips.by_file(read_each(paths, read), self.runner, self._vectors, total)

    def files(self, paths: Sequence[Path], *, sampling: Sampling | None = None) -> FileVectors:
        """Return unit-length vectors of many image and video files; see `each_file`."""
        return clips.collected(self.each_file(paths, sampling=sampling, total=len(paths)), self.dim)

    def text(self, texts: Texts) -> Float[Tensor, "n d"]:
        """Return unit-length vectors of one text or several, or of token ids [n, context].

        Raises:
            PerceptError: a model without a text tower, strings without a tokenizer, or neither strings nor ids.
        """
        self._check_text_tower()
        ids = as_ids(texts, self.tokenizer, self.model.config.text, self.name)
        parts = [part for part in ids.split(8 * self.setting.batch) if len(part)]
        device = self.setting.device
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            vectors = [self._checked(self.model.encode_text(part.long().to(device))).cpu() for part in parts]
        return F.normalize(torch.cat(vectors), dim=-1) if vectors else torch.zeros(0, self.dim)

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
        """Return one vector of a clip, or one per window of a video file.

        Args:
            clip: a video file (GIF included), or its frames: a list of images or a tensor [t, 3, y, x].
            frames: how many frames stand for the clip, or for each window. Default: 8 of a file, all of a list.
            choice: which frames: "pe-evaluation", "pe-demo", "plm" or "time", see `percept.data.video.choice`.
            windows: several [start, end] in seconds; the result is [n, d].
            average: "retrieval", the mean of the frames' unit vectors, which as published is not scaled to unit length again; or
                "zero-shot", the mean of the raw vectors, scaled to unit length.
            normalize: scale the result to unit length, for cosines between clips.

        Raises:
            PerceptError: a file that is not a video or is damaged, frames of unequal size, no frames, a count that is not a positive
                integer, a window outside the video, an unknown choice or average, or a model without vectors.
        """
        clips.check_average(average)
        sampling = Sampling(frames=clips.FRAMES if frames is None else frames, choice=choice).check()
        if clips.is_file(clip):
            spans = None if windows is None else clips.check_windows(windows)
            rows = clips.of_video(clip, sampling, spans, self.preprocess, self.runner, self._vectors)
        elif windows is not None:
            raise PerceptError("windows are seconds of a video file; a list of frames has no times")
        else:
            images = clips.check_frames(clip)
            images = images if frames is None else clips.pick(images, sampling)
            rows = [torch.stack(list(self._stream(images, self._vectors)))]
        vectors = torch.stack([clips.averaged(row, average) for row in rows]) if rows else torch.zeros(0, self.dim)
        vectors = F.normalize(vectors, dim=-1) if normalize else vectors
        return vectors[0] if windows is None else vectors

    def classify(
        self, images: ImageInputs, labels: AnyLabels, templates: Templates = None, *, none_below: NoneBelow = None,
        top: int | None = None, sampling: Sampling | None = None, progress: bool | None = None,
    ) -> list[Guess] | Results:  # fmt: skip
        """Rank labels for one image or video file (a list of guesses), or for a folder, files or several images (`Results`).

        Of a folder or a list of paths, those that cannot be read are in `.bad` of the results, and those that were read in `.paths`.

        Args:
            images: what `image` takes, a video file, a folder, or paths of images, videos and folders.
            labels: what the image may show; the probabilities are among these only. Or the `Path` of a folder by `percept teach`.
            templates: one or several texts with {} for the label; several are averaged.
            none_below: see `percept.infer.labeller.labeller`.
            top: number of guesses for each image; all if None.
            sampling: which frames stand for a video.
            progress: show a progress bar; by default on a terminal, for many images.
        """
        ranks = labeller(self, labels, templates, none_below)
        shown = copy.copy(self)
        shown.progress = progress
        return classify(shown, images, ranks, top=top, sampling=sampling)

    def features(
        self, images: ImageInputs, layers: Layers = (-1,), *, norm: bool = False
    ) -> dict[int, Float[Tensor, "*n y x w"]]:
        """Return maps of patch tokens after blocks: {layer: [y, x, w]} of one image, {layer: [n, y, x, w]} of several.

        Blocks count from 0, or from the end with negative numbers; all are computed in one pass. The maps are the residual
        stream, or with `norm` the residual stream through the model's final norm.

        Raises:
            PerceptError: there is no such layer, no final norm, or the images have different shapes (`hidden` takes those).
        """
        rows = list(self.hidden(images, layers, norm=norm))
        if is_single(images):
            return {layer: rows[0].map(layer) for layer in rows[0].tokens}
        return {
            layer: stacked([row.map(layer) for row in rows], "maps")
            for layer in check_layers(layers, self.model.config.vision.layers)
        }

    def tokens(
        self, images: ImageInputs, layer: Layer = -1, *, norm: bool = False, class_token: bool = True
    ) -> Float[Tensor, "n t w"]:
        """Return all tokens after a block, class token first where the model has one.

        Args:
            layer: the block, counted from 0, or from the end with negative numbers.
            norm: apply the model's final norm; otherwise the raw residual stream.
            class_token: False leaves the class token out.

        Raises:
            PerceptError: as `features`.
        """
        rows = self.hidden(images, layer, norm=norm)
        return stacked([row.tokens[int(layer)] if class_token else row.patches(int(layer)) for row in rows], "tokens")

    def hidden(self, images: ImageInputs, layers: Layers = (-1,), *, norm: bool = False) -> Iterator[Hidden]:
        """Yield what each image is after several blocks, in one pass; the images may have any shapes.

        A stream that holds a few batches: `images` may be a generator of any length.

        Raises:
            PerceptError: there is no such layer (before the first image is read), or no final norm.
        """
        numbers = check_layers(layers, self.model.config.vision.layers)
        finish = self.model.vision.normed if norm else None
        return self._stream(images, lambda group: hidden_of(self.model.vision, group, numbers, finish))

    def attention(self, images: ImageInputs) -> list[PoolAttention]:
        """Return where the pooling head looks in each image: maps [heads, y, x], and the share of the class token.

        Raises:
            PerceptError: a model that pools without attention, or not at all.
        """
        return list(self._stream(images, lambda group: attention_of(self.model.vision, group)))

    def cut(self, after: Layer) -> "Encoder":
        """Return an encoder of the blocks up to and including `after`, which gives tokens and maps only; weights are shared.

        Raises:
            PerceptError: there is no such block, or an export, whose graph cannot be cut.
        """
        if not isinstance(after, int | np.integer):
            raise PerceptError(f"cut takes the number of one block, counted from either end; got {after!r}")
        last = resolve_layer(int(after), self.model.config.vision.layers)
        model = self.model.cut(last)
        return Encoder(
            model, preprocess=self.preprocess, name=f"{self.name} up to block {last}", setting=self.setting,
            weight_hashes=lambda: {key: self.weight_hashes[key] for key in model.state_dict()},
        )  # fmt: skip

    def resizing(self, resize: str, *, tokens: int | None = None) -> "Encoder":
        """Return the same model, weights shared, with a different way to bring images to size.

        Args:
            resize: "squash", "crop", "pad", "keep" or "native", see `percept.data.transforms.Preprocess`.
            tokens: most patches of an image, for "native". Default: as many as at the model's own size.

        Raises:
            PerceptError: unknown `resize`, or `tokens` with a value other than "native".
        """
        other = copy.copy(self)
        other.preprocess = self.preprocess.resizing(resize, patch=self.patch, tokens=tokens)
        return other

    def _check_text_tower(self) -> None:
        if isinstance(self.model.text, Absent):
            raise self.model.text.error()
        if self.model.text is None:
            raise PerceptError(
                f"{self.name} has no text tower here; it was opened as an image tower alone. 'nano' and the PE-Core models have "
                "one, in files of the layouts official, open_clip and percept (never timm's)"
            )

    def _stream(self, images: Any, step: Callable[[list[Tensor]], Iterable[Any]]) -> Iterator[Any]:
        images = as_iterable(images)
        total = len(images) if isinstance(images, Sized) else 0
        rows = self.runner.run(prepared(images, self.preprocess, self.patch), step, total=total)
        return (row for _, row in rows)

    def _vectors(self, group: list[Tensor]) -> Tensor:
        """Return raw vectors [n, d] of batches that run together."""
        packed = len(group) > 1
        return self._checked(self.model.encode_packed(group) if packed else self.model.encode_image(group[0]))

    def _checked(self, vectors: Tensor) -> Float[Tensor, "n d"]:
        return check_finite(vectors, self.name, self.setting.dtype)
