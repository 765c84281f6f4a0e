"""Options that the verbs share: where a model comes from, how it computes, how videos are sampled.

Each class is one group of options; a verb takes the largest group of which it can use every option.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import tyro

from percept.core.errors import PerceptError

if TYPE_CHECKING:
    from percept.infer.answers import Options
    from percept.infer.assistant import Assistant
    from percept.infer.clips import Sampling
    from percept.infer.encoder import Encoder

DEFAULT_MODEL, DEFAULT_ASSISTANT = "nano", "plm-nano"


def check_size(batch: int) -> None:
    """Raise a PerceptError unless a batch size is positive."""
    if batch < 1:
        raise PerceptError(f"--batch must be at least 1, got {batch}")


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """Files and size of a model."""

    weights: Path | None = None
    """Local weight file or folder, for nano or an official name."""
    tokenizer: Path | None = None
    """tokenizer.json, or CLIP's merges.txt, for a model that comes without one."""
    image_size: int | None = None
    """Side in pixels that images are resized to. Default: the size the weights were trained at."""


@dataclass(frozen=True, kw_only=True)
class LoadOptions(FileOptions):
    """Files and size of a model, and how it computes."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    dtype: str | None = None
    """float32, bfloat16, float16 or auto; int8 for an export. Default: as a local file stores it, else the fastest."""
    batch: int = 32
    """Images that go through the model together."""
    resize: str | None = None
    """How images are resized: squash, crop, pad, keep or native. Default: as the model was trained."""
    tokens: int | None = None
    """Largest number of patches of an image; only with --resize native."""
    compile: bool = False
    """Compile the transformer blocks with torch.compile; worthwhile on a GPU."""

    def __post_init__(self) -> None:
        check_size(self.batch)

    def load(self, model: str, **overrides: Any) -> "Encoder":
        """Open an encoder with these options; `overrides` replace single ones.

        Raises:
            PerceptError: as `percept.load`, or the folder holds a trained method.
        """
        from torch import nn

        from percept.infer.classifier import Classifier

        opened = self.load_any(model, **overrides)
        if isinstance(opened, Classifier | nn.Module):
            raise PerceptError(
                f"{model} is a trained method, not an encoder. Use it with percept.load in Python, or, if it classifies, "
                "with percept eval."
            )
        return opened

    def load_any(self, model: str, **overrides: Any) -> Any:
        """Open an encoder or a trained method with these options; `overrides` replace single ones.

        Raises:
            PerceptError: as `percept.load`.
        """
        from percept.infer.load import load

        chosen = {field.name: getattr(self, field.name) for field in fields(LoadOptions)}
        return load(model, **{**chosen, **overrides})

    def check(self, names: Iterable[str]) -> None:
        """Check that models exist, and fetch those of the hub, so that a wrong name is reported before any work is done.

        Raises:
            PerceptError: an unknown name, or weights that cannot be fetched.
        """
        from percept.weights.locate import fetched, locate

        for name in names:
            location = locate(name)
            if location.kind == "hub" and self.weights is None:
                fetched(location)


@dataclass(frozen=True, kw_only=True)
class ModelOptions(LoadOptions):
    """The model, and how it computes."""

    model: str | None = None
    """Name, folder, weight file or hf://OWNER/NAME; also nano@bfloat16, DIR@int8. Default: nano; of an index, its own."""

    def open(self, **overrides: Any) -> "Encoder":
        """Open the model, an encoder; `overrides` replace single options of `percept.load`.

        Raises:
            PerceptError: as `percept.load`.
        """
        return self.load(self.model or DEFAULT_MODEL, **overrides)

    def open_any(self, **overrides: Any) -> Any:
        """Open the model, an encoder or a trained method; `overrides` replace single options of `percept.load`.

        Raises:
            PerceptError: as `percept.load`.
        """
        return self.load_any(self.model or DEFAULT_MODEL, **overrides)


@dataclass(frozen=True, kw_only=True)
class VideoOptions:
    """How videos are sampled."""

    frames: int = 8
    """Number of frames taken from a video."""
    frame_choice: str = "pe-evaluation"
    """Which frames: pe-evaluation or pe-demo (as in PE's evaluation and demo), plm (as in PLM), or time (evenly in time)."""

    def sampling(self) -> "Sampling":
        """Return the sampling.

        Raises:
            PerceptError: the number of frames is not positive, or the choice is unknown.
        """
        from percept.infer.clips import Sampling

        return Sampling(frames=self.frames, choice=self.frame_choice).check()


@dataclass(frozen=True, kw_only=True)
class AssistantLoadOptions:
    """Files of a perception language model, and how it computes."""

    weights: Path | None = None
    """Local folder with the files of a model that is given by its name."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    dtype: str | None = None
    """float32, bfloat16, float16 or auto. Default: as a local folder stores it, else the fastest."""
    batch: int = 16
    """Answers that are generated together."""

    def __post_init__(self) -> None:
        check_size(self.batch)

    def load(self, model: str) -> "Assistant":
        """Open a model with these options.

        Raises:
            PerceptError: as `percept.assistant`.
        """
        from percept.infer.assistant import assistant

        return assistant(model, weights=self.weights, device=self.device, dtype=self.dtype, batch=self.batch)


@dataclass(frozen=True, kw_only=True)
class AssistantOptions(AssistantLoadOptions):
    """The perception language model, and how it computes."""

    model: str = DEFAULT_ASSISTANT
    """Name such as plm-nano or Perception-LM-1B, a folder, or hf://OWNER/NAME; also NAME@bfloat16."""

    def open(self) -> "Assistant":
        """Open the model.

        Raises:
            PerceptError: as `percept.assistant`.
        """
        return self.load(self.model)


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """How images are seen, and how answers are generated."""

    tiles: int | None = None
    """Most tiles that an image is cut into, besides the thumbnail. Default: as the model was trained."""
    budget: int | None = None
    """Most visual tokens of an image."""
    mode: str | None = None
    """How images are cut into tiles: published, aspect or single."""
    frames: int | None = None
    """Most frames of a video."""
    max_new_tokens: int = 256
    """Most tokens of an answer."""
    temperature: float = 0.0
    """0 takes the most likely token every time; 1 samples as the model predicts."""
    top_p: float = 1.0
    """Sample from the most likely tokens that together have this probability."""
    top_k: int | None = None
    """Sample from this many most likely tokens."""
    samples: int | None = None
    """Give this many answers to each question; needs a temperature above 0."""
    seed: int | None = None
    """Seed of the samples."""
    stop: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Text before which an answer ends."""
    choices: str | None = None
    """Answer with one of these: yes,no or @FILE with one choice per line."""
    pattern: str | None = None
    """Answer with a text that matches this regular expression completely."""

    def chosen(self) -> "Options":
        """Return the options that differ from their defaults, as `Assistant.ask` takes them.

        Raises:
            PerceptError: the list of choices cannot be read.
        """
        from percept.cli.show import split_labels

        values: dict[str, Any] = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }
        if self.choices is not None:
            if not self.choices.strip(" ,"):
                raise PerceptError("--choices names no answer. Give yes,no or @FILE with one choice per line.")
            values["choices"] = split_labels(self.choices)
        return cast("Options", values)


def typed(*groups: Any) -> list[str]:
    """Return options as typed on the command line, without those that have their default.

    >>> typed(ModelOptions(model="my model", compile=True), VideoOptions(frames=4))
    ['--compile', '--model', 'my model', '--frames', '4']
    """
    words: list[str] = []
    for field, value in ((field, getattr(group, field.name)) for group in groups for field in fields(group)):
        if value != field.default:
            words += [f"--{field.name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return words


Outputs: TypeAlias = tyro.conf.UseAppendAction[tuple[Path, ...]]
"""--out FILE takes one file each time it is given, so it never takes the arguments after it."""
Files: TypeAlias = Annotated[FileOptions, tyro.conf.arg(name="")]
Load: TypeAlias = Annotated[LoadOptions, tyro.conf.arg(name="")]
Model: TypeAlias = Annotated[ModelOptions, tyro.conf.arg(name="")]
AssistingNamed: TypeAlias = Annotated[AssistantLoadOptions, tyro.conf.arg(name="")]
Assisting: TypeAlias = Annotated[AssistantOptions, tyro.conf.arg(name="")]
Answering: TypeAlias = Annotated[AnswerOptions, tyro.conf.arg(name="")]
Video: TypeAlias = Annotated[VideoOptions, tyro.conf.arg(name="")]

FILES, LOAD, MODEL, VIDEO = FileOptions(), LoadOptions(), ModelOptions(), VideoOptions()
ASSISTANT_LOAD, ASSISTANT, ANSWER = AssistantLoadOptions(), AssistantOptions(), AnswerOptions()
"""Nothing chosen: the defaults of the verbs' parameters."""
