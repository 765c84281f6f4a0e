"""Labels as text: templates filled in, class vectors averaged, and the guesses that come of them."""

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
from percept.core.words import article
from percept.infer.contracts import Embeds

if TYPE_CHECKING:
    Labels: TypeAlias = Sequence[str]
    Templates: TypeAlias = str | Sequence[str] | None
    Texts: TypeAlias = str | Sequence[str] | Tensor
else:
    # Whatever a user passes reaches the checks below, whose words are made for users.
    Labels = Templates = Texts = Any

TEMPLATES: tuple[str, ...] = ("a picture of a {}", "a photo of a {}", "a {}")
"""What a label is put into when the user gives no template."""


@dataclass(frozen=True, kw_only=True)
class Guess:
    """One label with its probability among the labels asked for."""

    label: str
    probability: float
    score: float
    """Cosine of the picture and the label, before scaling."""

    def __str__(self) -> str:
        return f"{self.label} {self.probability:.0%}"


def check_labels(labels: Labels) -> list[str]:
    """Return the labels stripped of surrounding blanks.

    Raises:
        PerceptError: none, an empty one, one given twice, or a bare string.
    """
    if isinstance(labels, str):
        raise PerceptError(f"labels are a list of texts; given the text {labels!r}; write [{labels!r}]")
    names = [_text(label) for label in labels or ()]
    if not names:
        raise PerceptError("no labels were given; give at least one, for example ['cat', 'dog']")
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise PerceptError(f"given more than once among the labels: {', '.join(twice)}; give each label once")
    return names


def _text(label: Any) -> str:
    if not isinstance(label, str) or not label.strip():
        raise PerceptError(f"a label is a text with letters; given {label!r}")
    return label.strip()


def check_templates(templates: Templates) -> tuple[str, ...]:
    """Return the templates, the default ones for None.

    Raises:
        PerceptError: a template without its {} for the label.
    """
    if templates is None:
        return TEMPLATES
    forms = (templates,) if isinstance(templates, str) else tuple(templates)
    for template in forms:
        if template.count("{}") != 1:
            raise PerceptError(
                f"the template {template!r} needs {{}} once, where the label goes: 'a picture of a {{}}'"
            )
    if not forms:
        raise PerceptError("no templates were given; leave them out to use the usual ones")
    return forms


def fill(template: str, label: str) -> str:
    """Put a label into a template, with the article that its first letter requires; braces in the label stay.

    >>> fill("a picture of a {}", "orange cat"), fill("the digit {}", "eight"), fill("a {}", "set {}")
    ('a picture of an orange cat', 'the digit eight', 'a set {}')
    """
    before, _, after = template.partition("{}")
    ends_in_article = re.search(r"\ba $", before)
    words = f"{before[:-2]}{article(label)}" if ends_in_article else f"{before}{label}"
    return f"{words}{after}"


def class_vectors(encoder: Embeds, labels: Labels, templates: Templates = None) -> Float[Tensor, "c d"]:
    """Return one unit vector per label, from the label in every template."""
    names, forms = check_labels(labels), check_templates(templates)
    return averaged(encoder, [[fill(form, name) for form in forms] for name in names])


def averaged(encoder: Embeds, texts: Sequence[Sequence[str]]) -> Float[Tensor, "c d"]:
    """Return one unit vector per class from its texts: embed all, make unit, average, make unit.

    Raises:
        PerceptError: a class without texts, or no class.
    """
    counts = [len(forms) for forms in texts]
    if not counts or min(counts) == 0:
        raise PerceptError("every class needs at least one text, and there has to be a class")
    vectors = F.normalize(encoder.text([text for forms in texts for text in forms]).float(), dim=-1)
    return F.normalize(torch.stack([part.mean(dim=0) for part in vectors.split(counts)]), dim=-1)


def rank(labels: Sequence[str], scores: Float[Tensor, " c"], scale: float, *, top: int | None = None) -> list[Guess]:
    """Return guesses, best first, all or the `top` best; probabilities are the softmax of scale × cosine over all."""
    order = scores.argsort(descending=True, stable=True)[:top]
    probabilities = (scale * scores.double()).softmax(dim=-1)[order].tolist()
    return [
        Guess(label=labels[int(place)], probability=probability, score=score)
        for place, probability, score in zip(order.tolist(), probabilities, scores[order].tolist(), strict=True)
    ]
