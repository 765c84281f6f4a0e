"""Registers our models with lmms-eval (0.7): `python -m lmms_eval --model percept --model_args pretrained=plm-nano --tasks ...`.

The entry point `lmms_eval.models` of this package finds `manifest`. lmms-eval is imported when that or `Percept` is first asked for, so this
module imports without it. `Percept` answers chat messages, with several images or videos at their places, and in several rounds;
`PerceptSimple`, chosen by `--force_simple`, takes tasks that rank answers by likelihood too.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Any

from percept.core.errors import PerceptError
from percept.data.chat.conversation import Conversation, ImageInput, Media, Turn, VideoInput, converse
from percept.data.files import is_video
from percept.infer.contracts import Generates

MOST_TOKENS = 1024
"""Tokens of an answer for a task that names no limit."""
HANDED = 64
"""Prompts that are handed to the model together."""
DEFAULT = "plm-nano"


def prompt_of(messages: Iterable[Any]) -> Conversation:
    """Return the conversation of chat messages with text, image and video parts.

    Raises:
        PerceptError: a part is audio or unknown.
    """
    turns, media = [], []
    for message in messages:
        parts: list[str | int] = []
        for part in _get(message, "content"):
            if _get(part, "type") == "text":
                parts.append(_get(part, "text"))
            else:
                parts.append(len(media))
                media.append(_medium_of(part))
        turns.append(Turn(role=_get(message, "role"), parts=tuple(parts)))
    return Conversation(turns=tuple(turns), media=tuple(media))


def _get(value: Any, name: str) -> Any:
    return value[name] if isinstance(value, Mapping) else getattr(value, name)


def _medium_of(part: Any) -> Media:
    kind = _get(part, "type")
    if kind == "image":
        return ImageInput(source=_get(part, "url"))
    if kind == "video":
        times = [
            part.get(f"{edge}_time") if isinstance(part, Mapping) else getattr(part, f"{edge}_time", None)
            for edge in ("start", "end")
        ]
        return VideoInput(source=_get(part, "url"), start=times[0], end=times[1])
    raise PerceptError(
        f"the task has a part of type {kind!r}. Perception language models take text, images and videos."
    )


def medium_of(visual: Any) -> Media:
    """Return a visual of a simple task: an image, the path of an image or video, or a list of frames."""
    if isinstance(visual, list | tuple):
        return VideoInput(source=list(visual))
    if isinstance(visual, str) and is_video(visual):
        return VideoInput(source=visual)
    return ImageInput(source=visual)


def most_of(options: Mapping[str, Any]) -> tuple[int, tuple[str, ...]]:
    """Return the most tokens and the stop texts of a task.

    Raises:
        PerceptError: the task asks for samples.
    """
    if options.get("do_sample") and (options.get("temperature") or 0) > 0:
        raise PerceptError("the task asks for sampled answers. Answers are the most likely ones; give temperature 0.")
    stop = options.get("until") or ()
    return int(options.get("max_new_tokens") or MOST_TOKENS), (stop,) if isinstance(stop, str) else tuple(stop)


def answered(
    model: Generates,
    rows: Sequence[tuple[Callable[[], Conversation], Mapping[str, Any]]],
    progress: Callable[[int], object],
) -> list[str]:
    """Return the answers to prompts with options, asked in batches of equal options; a final full stop is removed, as for PLM.

    Args:
        rows: what makes each prompt when it is due, so that few images are in memory, and the options of its task.
        progress: is told how many were answered.
    """
    limits = [most_of(options) for _, options in rows]
    texts = [""] * len(rows)
    order = sorted(range(len(rows)), key=lambda number: limits[number])
    for limit, numbers in groupby(order, key=lambda number: limits[number]):
        for group in _parts(list(numbers)):
            prompts = [rows[number][0]() for number in group]
            said = model.answers(prompts, max_new_tokens=limit[0], stop=limit[1])
            for number, text in zip(group, said, strict=True):
                texts[number] = text.strip().removesuffix(".")
            progress(len(group))
    return texts


def _parts(numbers: Sequence[int]) -> Iterable[Sequence[int]]:
    return [numbers[start : start + HANDED] for start in range(0, len(numbers), HANDED)]


def open_model(pretrained: str, device: str, dtype: str | None, batch: int) -> Generates:
    """Open a model."""
    from percept.infer.assistant import assistant

    opened: Any = assistant
    return opened(pretrained, device=device, dtype=dtype, batch=batch)


@cache
def _base() -> type:
    from lmms_eval.api.model import lmms  # pyright: ignore[reportMissingImports]

    class Base(lmms):
        """What both adapters share."""

        def __init__(
            self,
            pretrained: str = DEFAULT,
            device: str = "auto",
            dtype: str | None = None,
            batch_size: int | str = 16,
            max_batch_size: int | None = None,
            model: Generates | None = None,
        ) -> None:
            super().__init__()
            size = int(batch_size) if str(batch_size).isdigit() else 16
            self.model = model or open_model(pretrained, device or "auto", dtype, size)

        def _doc(self, task: str, split: str, number: Any) -> Any:
            return self.task_dict[task][split][number]

        def _answered(self, rows: Any) -> list[str]:
            from tqdm import tqdm

            with tqdm(total=len(rows), desc="percept", disable=self.rank != 0) as bar:
                return answered(self.model, rows, bar.update)

    return Base


@cache
def _chat() -> type:
    class Percept(_base()):
        """Chat messages."""

        is_simple = False

        def generate_until(self, requests: list[Any]) -> list[str]:
            """Answer each request."""

            def row(request: Any) -> tuple[Callable[[], Conversation], Any]:
                _, to_messages, options, number, task, split = request.args
                return (lambda: prompt_of(to_messages(self._doc(task, split, number)))), options

            return self._answered([row(request) for request in requests])

        def generate_until_multi_round(self, requests: list[Any]) -> list[list[str]]:
            """Answer the rounds of each request one after the other."""
            return [self._rounds(*request.args) for request in requests]

        def _rounds(self, _: str, to_messages: Any, options: Any, number: Any, task: str, split: str) -> list[str]:
            doc, said, information = self._doc(task, split, number), [], None
            messages = to_messages(doc)
            while True:
                prompt = prompt_of(messages)
                said += answered(self.model, [(lambda prompt=prompt: prompt, options)], int)
                following = to_messages(
                    doc, round_idx=len(said), previous_output=list(said), previous_round_info=information
                )
                if not (isinstance(following, tuple) and len(following) == 4) or following[1]:
                    return said
                messages, _, _, information = following

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            """Refuse: chat tasks of lmms-eval do not ask for likelihoods."""
            raise PerceptError("the task ranks answers by likelihood. Run lmms-eval with its option force_simple.")

    return Percept


@cache
def _simple() -> type:
    class PerceptSimple(_base()):
        """Text with visuals before it."""

        is_simple = True

        def generate_until(self, requests: list[Any]) -> list[str]:
            """Answer each request."""

            def row(request: Any) -> tuple[Callable[[], Conversation], Any]:
                text, options, to_visual, number, task, split = request.args
                return (lambda: self._prompt(text, to_visual, number, task, split)), options

            return self._answered([row(request) for request in requests])

        def _prompt(self, text: str, to_visual: Any, number: Any, task: str, split: str) -> Conversation:
            visuals = to_visual(self._doc(task, split, number)) if to_visual else []
            return converse([("user", text)], [medium_of(visual) for visual in visuals or []])

        def loglikelihood(self, requests: list[Any]) -> list[Any]:
            """Return minus the log-likelihood of each continuation, of which lmms-eval takes the least, and whether it is the answer.

            The pairs are wrapped, because lmms-eval 0.7.3 turns a bare pair into text and then fails.
            """
            from lmms_eval.api.instance import GenerationResult  # pyright: ignore[reportMissingImports]

            results: list[Any] = []
            for key, group in groupby(requests, key=lambda request: (request.args[0], *request.args[3:])):
                asked = list(group)
                prompt = self._prompt(key[0], asked[0].args[2], *key[1:])
                texts = [self._continuation(request) for request in asked]
                scores = self.model.scores(prompt, texts)
                said = self.model.answers([prompt], max_new_tokens=64)[0].strip()
                pairs = [(-score, said == text) for score, text in zip(scores, texts, strict=True)]
                results += [GenerationResult(text=pair) for pair in pairs]
            return results

        def _continuation(self, request: Any) -> str:
            target = request.args[1]
            if callable(target):
                target = target(self._doc(*request.args[4:6], request.args[3]))
            return str(target).strip()

        def generate_until_multi_round(self, requests: list[Any]) -> list[list[str]]:
            """Refuse: rounds are chat messages."""
            raise PerceptError("the task has several rounds. Run lmms-eval without its option force_simple.")

    return PerceptSimple


def __getattr__(name: str) -> Any:
    if name == "Percept":
        return _chat()
    if name == "PerceptSimple":
        return _simple()
    if name == "manifest":
        from lmms_eval.models.registry_v2 import ModelManifest  # pyright: ignore[reportMissingImports]

        module = "percept.eval.vlm.lmms"
        return ModelManifest(
            model_id="percept", chat_class_path=f"{module}.Percept", simple_class_path=f"{module}.PerceptSimple"
        )
    raise AttributeError(name)
