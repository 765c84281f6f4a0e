"""`percept.assistant`: open a perception language model, ask it about images and videos, or run it on token ids and tiles."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, Unpack, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from percept import fast
from percept.core.errors import PerceptError
from percept.core.machine import pick_device
from percept.data.chat.processor import Processor
from percept.data.files import BadFile
from percept.data.transforms import Preprocess
from percept.infer.answers import Answerer, Options
from percept.infer.asking import BadPrompt, Regions, asked, media_of
from percept.infer.chat import Chat
from percept.infer.contracts import Prompt
from percept.infer.generation import check_choices
from percept.infer.load import PathLike, agreed, pick_dtype
from percept.infer.memory import Memory
from percept.infer.processor import open_processor
from percept.infer.scoring import Choice, ranked
from percept.infer.setting import Setting, packs
from percept.models.vlm import VLM
from percept.weights.assistant import build_assistant, check_vlm, locate_assistant, read_assistant

Answer: TypeAlias = str | list[str]
"""Of one prompt: a text, or with samples=n a list of n."""
BATCH = 16


class Assistant:
    """A frozen perception language model on a device.

    It remembers the visual tokens and the keys and values of recent images, so that another question about an image is fast. Both are
    forgotten when a parameter of the model changes; after any other change of the model call `forget`.
    """

    def __init__(
        self,
        model: VLM,
        *,
        name: str,
        setting: Setting,
        preprocess: Preprocess | None = None,
        folder: Path | None = None,
        processor: Processor | None = None,
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
        self._processor = processor
        self._memory = Memory(self.model)

    def __repr__(self) -> str:
        return f"Assistant({self.name!r}, {self.setting})"

    @property
    def processor(self) -> Processor:
        """Tokenizer, chat template and tiler, read from the folder when first used.

        Raises:
            PerceptError: the folder lacks a tokenizer or a chat template.
        """
        if self._processor is None:
            self._processor = open_processor(self.folder, self.config)
        if self._processor is None:
            raise PerceptError(
                f"{self.folder or self.name} has no tokenizer or no chat template. Put tokenizer.json, and chat.json or "
                "chat_template.jinja into the folder, or use generate_ids with token ids."
            )
        return self._processor

    @cached_property
    def answerer(self) -> Answerer:
        """What answers prompts, with everything that surrounds the model."""
        return Answerer(self.model, self.processor, self.preprocess, self.setting, self._memory)

    def forget(self) -> None:
        """Drop what is remembered of images and prompts."""
        self._memory.clear()

    def ask(
        self,
        images: Any,
        question: str | Sequence[str],
        *,
        regions: Regions = (),
        system: str | None = None,
        stream: bool = False,
        **options: Unpack[Options],
    ) -> Any:
        """Answer a question about images or a video, or several questions about the same.

        Args:
            images: an image as `Encoder.image` takes it, a video file, a list of images that belong together, an `ImageInput` or
                `VideoInput` of `percept.data.chat.conversation`, or None for a question about no image.
            question: text, or a list of texts, which are answered independently. `<image>` marks the place of each of several images; without
                such tags they come first.
            regions: boxes x0, y0, x1, y1 in pixels of the only image. `<|bbox0|>` in the question is replaced by the text of the first, and so on; if
                the question names none, they are drawn on the image.
            system: system sentence in place of that of the model.
            stream: return an iterator of pieces of text, which together are the answer.
            options: tiles, budget, mode and frames, see `percept.data.chat.processor.Processor.changed`; and those of
                `percept.infer.generation.Generation`: max_new_tokens, temperature, top_p, top_k, samples, seed, stop, choices, pattern.

        Returns:
            the answer; a list for a list of questions. An answer is a text, or a list of texts with samples=n.

        Raises:
            PerceptError: an image cannot be read, images do not fit the question, or the prompt does not fit the context.
        """
        if isinstance(question, str):
            return self.reply(asked(images, question, regions, system), stream=stream, **options)
        if stream:
            raise PerceptError(
                "a list of questions was given with stream=True. Stream the answer to one question at a time."
            )
        if not isinstance(question, Sequence):
            raise PerceptError(f"a question must be a string or a list of strings, got {type(question).__name__}.")
        if not question:
            raise PerceptError("the list of questions is empty. Give at least one.")
        media = media_of(images)  # an iterator of images can be read only once
        return self._all([asked(media or None, text, regions, system) for text in question], options)

    def reply(self, prompt: Prompt, *, stream: bool = False, **options: Unpack[Options]) -> Any:
        """Answer the last turn of a conversation; see `ask`."""
        return self.answerer.stream(prompt, options) if stream else self._all([prompt], options)[0]

    def batch(self, prompts: Iterable[Prompt], **options: Unpack[Options]) -> list[Answer | BadPrompt]:
        """Answer many conversations. A prompt that cannot be read or does not fit gives a `BadPrompt`, and the others are answered.

        In float32 the answers are those of single calls; in narrower types rounding may differ.

        Args:
            prompts: see `percept.data.chat.conversation.converse`.
            options: see `ask`.
        """
        return list(self.answerer.many(prompts, options))

    def files(
        self, paths: Iterable[Path], question: str | Sequence[str], **options: Unpack[Options]
    ) -> Iterator[tuple[Path, Answer | BadFile]]:
        """Yield each image or video file with the answer to one question, or to its own, in order, or why it cannot be read."""
        listed = list(paths)
        questions = [question] * len(listed) if isinstance(question, str) else question
        prompts = (asked(path, text) for path, text in zip(listed, questions, strict=True))
        for path, answer in zip(listed, self.answerer.many(prompts, options), strict=True):
            if isinstance(answer, BadPrompt):
                yield path, BadFile(path, answer.reason.removeprefix(f"{path} "))
            else:
                yield path, answer

    def chat(self, images: Any = None, *, system: str | None = None) -> Chat:
        """Return a conversation that begins with images or none; see `percept.infer.chat.Chat`."""
        return Chat(self, images, system=system)

    def choose(
        self,
        images: Any,
        question: str,
        choices: Sequence[str],
        *,
        regions: Regions = (),
        per_token: bool = False,
    ) -> list[Choice]:
        """Rank possible answers by their likelihood, the most likely first.

        Args:
            images, question, regions: see `ask`.
            choices: answers; the end of the answer counts as a token of each.
            per_token: rank by log-likelihood per token, which does not favour short answers.

        Raises:
            PerceptError: see `ask`, or choices that are empty or occur twice.
        """
        choices = check_choices(choices)
        rows = self.answerer.likelihoods(asked(images, question, regions), choices)
        return ranked(choices, rows, per_token=per_token)

    def answers(
        self, prompts: Sequence[Prompt], /, *, max_new_tokens: int = 256, stop: Sequence[str] = ()
    ) -> list[str]:
        """Return the most likely answer to each prompt; see `percept.infer.contracts.Generates`."""
        return cast(list[str], self._all(prompts, {"max_new_tokens": max_new_tokens, "stop": stop}))

    def scores(self, prompt: Prompt, choices: Sequence[str], /) -> list[float]:
        """Return the log-likelihood of each choice as the complete answer; see `percept.infer.contracts.Generates`."""
        return [sum(row) for row in self.answerer.likelihoods(prompt, check_choices(choices))]

    def _all(self, prompts: Sequence[Prompt], options: Options) -> list[Answer]:
        """Answer prompts, all of which have to be read."""
        results = []
        for result in self.answerer.many(prompts, options):
            if isinstance(result, BadPrompt):
                where = "" if len(prompts) == 1 else f"prompt {result.number}: "
                raise PerceptError(f"{where}{result.reason}")
            results.append(result)
        return results

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
        if tiles is None or not len(tiles):
            return self.model.embed(ids.to(self.setting.device))
        visual = self.model.numbered(self.model.encode(tiles.to(self.setting.device)), [len(tiles)])
        return self.model.embed(ids.to(self.setting.device), visual)


def check_inputs(ids: Any, tiles: Any) -> None:
    """Refuse token ids and tiles of a type or shape that the model does not take.

    Raises:
        PerceptError: they are not integers [1, n] and floats [k, 3, y, x].
    """
    if not isinstance(ids, Tensor) or not isinstance(tiles, Tensor | None):
        raise PerceptError(f"ids and tiles must be tensors, got {type(ids).__name__} and {type(tiles).__name__}.")
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
    batch: int = BATCH,
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
        batch: answers that are generated together.

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
    setting = Setting(device=where, dtype=number_type, reason=reason, batch=batch)
    return Assistant(model, name=title, setting=setting, preprocess=preprocess, folder=folder)
