"""Zero-shot labels: fill templates, average class vectors, and rank labels by probability."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from percept.core.errors import PerceptError
from percept.core.report import notice
from percept.core.words import article
from percept.infer.contracts import Embeds

if TYPE_CHECKING:
    Labels: TypeAlias = Sequence[str]
    Templates: TypeAlias = str | Sequence[str] | None
    Texts: TypeAlias = str | Sequence[str] | Tensor
else:
    # At run time any value reaches the checks below, which give better messages than a type checker.
    Labels = Templates = Texts = Any

TEMPLATES: tuple[str, ...] = ("a picture of a {}", "a photo of a {}", "a {}")
"""Default templates for labels."""


MOST_NAMED = 8
"""Unknown words named in a notice; the others are counted."""
WIDE_MODEL = "PE-Core-B16-224"
"""Model recommended for words that a small model does not know."""


@dataclass(frozen=True, kw_only=True)
class Guess:
    """A label with its probability among all candidate labels."""

    label: str
    probability: float
    score: float
    """Cosine of the image and the label, before scaling; the logit of a label that was taught."""

    def __str__(self) -> str:
        return f"{self.label} {self.probability:.0%}"


def check_labels(labels: Labels) -> list[str]:
    """Return the labels without surrounding whitespace.

    Raises:
        PerceptError: no labels, an empty or duplicate label, or a string instead of a list.
    """
    if isinstance(labels, str):
        raise PerceptError(f"labels must be a list of strings, got {labels!r}. Use [{labels!r}] for a single label.")
    names = [_text(label) for label in labels or ()]
    if not names:
        raise PerceptError("no labels were given. Give at least one, for example ['cat', 'dog'].")
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise PerceptError(f"labels must be distinct, got more than once: {', '.join(repeated)}.")
    return names


def _text(label: Any) -> str:
    if not isinstance(label, str) or not label.strip():
        raise PerceptError(f"a label must be a non-empty string, got {label!r}.")
    return label.strip()


def check_templates(templates: Templates) -> tuple[str, ...]:
    """Return the templates as a tuple; the default templates for None.

    Raises:
        PerceptError: a template does not contain {} exactly once, or there are no templates.
    """
    if templates is None:
        return TEMPLATES
    forms = (templates,) if isinstance(templates, str) else tuple(templates)
    for template in forms:
        if template.count("{}") != 1:
            raise PerceptError(
                f"the template {template!r} must contain {{}} once, in place of the label, as in 'a photo of a {{}}'."
            )
    if not forms:
        raise PerceptError("no templates were given. Pass None for the default templates.")
    return forms


def fill(template: str, label: str) -> str:
    """Insert a label into a template, with the article that the label requires. Braces in the label are kept.

    >>> fill("a picture of a {}", "orange cat"), fill("the digit {}", "eight"), fill("a {}", "set {}")
    ('a picture of an orange cat', 'the digit eight', 'a set {}')
    """
    before, _, after = template.partition("{}")
    ends_in_article = re.search(r"\ba $", before)
    words = f"{before[:-2]}{article(label)}" if ends_in_article else f"{before}{label}"
    return f"{words}{after}"


def class_vectors(encoder: Embeds, labels: Labels, templates: Templates = None) -> Float[Tensor, "c d"]:
    """Return one unit vector per label, averaged over all templates."""
    names, forms = check_labels(labels), check_templates(templates)
    name_unknown_words(encoder, names)
    return averaged(encoder, [[fill(form, name) for form in forms] for name in names])


def name_unknown_words(encoder: Any, texts: Sequence[str]) -> None:
    """Print a notice with the words of texts that a model never saw in training, if that is recorded; each word once."""
    tokenizer = getattr(encoder, "tokenizer", None)
    if tokenizer is None:
        return
    words = [word for word in tokenizer.unknown(texts) if word not in tokenizer.named]
    if not words:
        return
    tokenizer.named.update(words)
    more = len(words) - MOST_NAMED
    shown = ", ".join(words[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    notice(
        f"{encoder.name} was never trained on {shown}: results for {'it' if len(words) == 1 else 'them'} are guesses. "
        f"An official model such as {WIDE_MODEL} knows far more words."
    )


def averaged(encoder: Embeds, texts: Sequence[Sequence[str]]) -> Float[Tensor, "c d"]:
    """Return one unit vector per class: the normalised mean of the normalised vectors of its texts.

    Raises:
        PerceptError: there are no classes, or a class has no texts.
    """
    counts = [len(forms) for forms in texts]
    if not counts or min(counts) == 0:
        raise PerceptError("at least one class is needed, and every class needs at least one text.")
    vectors = F.normalize(encoder.text([text for forms in texts for text in forms]).float(), dim=-1)
    return F.normalize(torch.stack([part.mean(dim=0) for part in vectors.split(counts)]), dim=-1)


def rank(labels: Sequence[str], scores: Float[Tensor, " c"], scale: float, *, top: int | None = None) -> list[Guess]:
    """Return all or the `top` best labels, best first. Probabilities are the softmax of scale × cosine over all labels."""
    order = scores.argsort(descending=True, stable=True)[:top]
    probabilities = (scale * scores.double()).softmax(dim=-1)[order].tolist()
    return [
        Guess(label=labels[int(place)], probability=probability, score=score)
        for place, probability, score in zip(order.tolist(), probabilities, scores[order].tolist(), strict=True)
    ]
