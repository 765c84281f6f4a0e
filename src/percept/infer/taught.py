"""Labels that `percept teach` learned from folders of classes: a linear layer on the unit vectors of one encoder, saved as a folder."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.io import load_tensors, read_object, save_tensors, write_json

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder

FACTS, TENSORS = "labels.json", "labels.safetensors"
KNOWN = ("classes", "temperature", "least", "model", "image")


@dataclass(frozen=True, kw_only=True)
class Known:
    """How probable it is that an image shows one of the labels: sigmoid(slope · energy + offset), energy = log Σ exp logit."""

    slope: float
    offset: float

    def probability(self, energy: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return the probability for each energy."""
        return (self.slope * energy.double() + self.offset).sigmoid()


@dataclass(frozen=True, kw_only=True, eq=False)
class Taught:
    """Labels with the weights that rank them; `open_labels` opens a saved folder."""

    classes: tuple[str, ...]
    weight: Float[Tensor, "c d"] = field(repr=False)
    bias: Float[Tensor, " c"] = field(repr=False)
    temperature: float
    """Divides the logits before the softmax, so that the probabilities of held-out images were as often right as they say."""
    least: float
    """Probability of the best label that 95 % of the held-out images reached; images below are none of the classes."""
    model: str
    """Name of the encoder as `percept.load` takes it; a path is absolute."""
    image: str
    """Identity of the encoder's image vectors."""
    known: Known | None = None
    """Decides between the labels and none of them; None where it could not be learned, as with two classes: then `least` does."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further options of `percept.load` that the encoder was opened with, such as image_size."""
    facts: dict[str, Any] = field(default_factory=dict)
    """How it was learned: folder, images, scores."""

    def check(self, encoder: "Encoder") -> "Taught":
        """Return the labels if they fit the encoder.

        Raises:
            PerceptError: they were learned on different vectors.
        """
        return self.check_vectors(encoder.identity.image, encoder.identity)

    def check_vectors(self, image: str, model: object) -> "Taught":
        """Return the labels if they fit image vectors of this identity, of a model so called in the message.

        Raises:
            PerceptError: they were learned on different vectors.
        """
        if image != self.image:
            raise PerceptError(
                f"these labels were taught on {self.model} ({self.image[:8]}), but the model is {model}. Leave the model "
                "out, or teach them again on this one."
            )
        return self


def save_labels(folder: Path | str, labels: Taught) -> None:
    """Write labels as `labels.json` and `labels.safetensors`; other files of the folder stay.

    Raises:
        PerceptError: a file cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / TENSORS, {"weight": labels.weight.cpu(), "bias": labels.bias.cpu()})
    names = ("temperature", "least", "model", "image", "options", "facts")
    values = {name: getattr(labels, name) for name in names}
    known = None if labels.known is None else [labels.known.slope, labels.known.offset]
    write_json(folder / FACTS, {"classes": list(labels.classes), "known": known, **values})


def is_labels(folder: Path | str) -> bool:
    """True for a folder that `save_labels` wrote."""
    return (Path(folder) / FACTS).is_file()


def open_labels(folder: Path | str) -> Taught:
    """Open what `save_labels` wrote.

    Raises:
        PerceptError: there are no labels, or they are damaged.
    """
    folder = Path(folder)
    if not is_labels(folder):
        raise PerceptError(f"{folder} holds no labels ({FACTS}). Teach some with: percept teach DIR --out {folder}")
    facts, tensors = read_object(folder / FACTS), load_tensors(folder / TENSORS)
    missing = [*(name for name in KNOWN if name not in facts), *({"weight", "bias"} - tensors.keys())]
    if missing:
        raise PerceptError(f"{folder} is damaged: it lacks {', '.join(missing)}. Teach the labels again.")
    weight, bias, count = tensors["weight"], tensors["bias"], len(facts["classes"])
    if weight.ndim != 2 or weight.shape[0] != count or tuple(bias.shape) != (count,):
        raise PerceptError(f"{folder / TENSORS} does not fit the {count} classes of {FACTS}. Teach the labels again.")
    return Taught(
        classes=tuple(facts["classes"]), weight=weight.float(), bias=bias.float(), temperature=float(facts["temperature"]),
        least=float(facts["least"]), known=_known(folder, facts.get("known")), model=facts["model"], image=facts["image"], options=dict(facts.get("options", {})),
        facts=dict(facts.get("facts", {})),
    )  # fmt: skip


def _known(folder: Path, values: Any) -> Known | None:
    if values is None:
        return None  # also in labels of an older version
    if not isinstance(values, list) or len(values) != 2 or not all(isinstance(each, int | float) for each in values):
        raise PerceptError(f"{folder / FACTS} is damaged: known is {values!r}. Teach the labels again.")
    return Known(slope=float(values[0]), offset=float(values[1]))
