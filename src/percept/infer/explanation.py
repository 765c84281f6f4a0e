"""What in an image speaks for which label: evidence of the patches, occlusion as a check, and how well the evidence is ordered.

The evidence of a patch for a label is the score of its own vector (`percept.infer.zeroshot_dense`) minus the mean score of the other labels,
so what speaks for all labels alike cancels; a single label is compared with texts that fit every image.
Occlusion covers parts of the image with its mean colour and measures how far the same difference falls; it runs the whole model, and so
does not depend on the vectors of patches. Deletion and insertion (RISE, Petsiuk et al. 2018, arXiv:1806.07421) remove or
add the cells of the image, those with most evidence first, and take the mean probability of the label on the way: the evidence is in
order where deletion is lower, and insertion higher, than in a random order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from percept.data.images import read_image
from percept.infer.drawing import Panel, draw_rows
from percept.infer.labeller import Labeller
from percept.infer.overlay import enlarged_for_view, with_heat, with_legend, with_masks
from percept.infer.zeroshot_dense import PLAIN, patch_vectors, text_maps

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder

CELLS = 7
"""Cells along each side that are covered, removed or added."""
STEPS = 7
"""Parts in which the cells are removed or added."""
ORDERS = 3
"""Random orders that the evidence is compared with."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Mean probability of a label while cells are removed or added."""

    deletion: float
    """The cells with most evidence are removed first; less is better."""
    deletion_at_random: float
    insertion: float
    """The cells with most evidence are added first; more is better."""
    insertion_at_random: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """What speaks for each label; all maps are of one image."""

    image: Image.Image
    names: tuple[str, ...]
    probabilities: Float[Tensor, " c"]
    evidence: Float[Tensor, "c h w"]
    """Of each patch, for a label and against the others."""
    occlusion: Float[Tensor, "c k k"]
    """How far the score of a label, against the others, falls where the image is covered."""
    checks: tuple[Check, ...] = ()
    """One per label, if they were asked for."""

    def place(self, label: int) -> tuple[int, int]:
        """Return x and y in pixels of the patch with most evidence for a label."""
        height, width = self.evidence.shape[1:]
        row, column = divmod(int(self.evidence[label].argmax()), width)
        return round((column + 0.5) * self.image.width / width), round((row + 0.5) * self.image.height / height)

    def agreement(self, label: int) -> float:
        """Return the correlation of evidence and occlusion over the cells."""
        pair = torch.stack([_cells(self.evidence[label]).flatten(), _cells(self.occlusion[label]).flatten()])
        return float(torch.corrcoef(pair)[0, 1])


def explain(encoder: "Encoder", image: Any, labels: Labeller, *, check: bool = True) -> Explanation:
    """Return what in an image speaks for which label.

    Args:
        encoder: a model whose patches have vectors, such as nano or a PE-Core model.
        image: an image of any size.
        labels: texts, or taught labels.
        check: also compute deletion and insertion; about 60 more passes for two labels.

    Raises:
        PerceptError: the image cannot be read, or patches of this model have no vectors.
    """
    opened = read_image(image) if not isinstance(image, Image.Image) else image.convert("RGB")
    plain = _plain(encoder) if len(labels.names) == 1 else None
    rows = labels.weight if plain is None else torch.cat([labels.weight, plain])
    patch_vectors(encoder, encoder.prepare(opened)[None])  # refuses a model without such vectors
    evidence = against_others(text_maps(encoder, opened, rows))[: len(labels.names)]
    probabilities = labels.probabilities(encoder.image([opened]))[0]
    occlusion = _occlusion(encoder, opened, rows, labels)
    checks = tuple(_checks(encoder, opened, labels, evidence)) if check else ()
    return Explanation(
        image=opened, names=labels.names, probabilities=probabilities, evidence=evidence, occlusion=occlusion, checks=checks
    )  # fmt: skip


def _plain(encoder: "Encoder") -> Float[Tensor, "1 d"]:
    return F.normalize(encoder.text(list(PLAIN)).mean(dim=0, keepdim=True), dim=-1)


def against_others(scores: Float[Tensor, "c ..."]) -> Float[Tensor, "c ..."]:
    """Return the score of each label minus the mean of the others.

    >>> against_others(torch.tensor([[3.0], [1.0], [0.0]])).flatten().tolist()
    [2.5, -0.5, -2.0]
    """
    count = len(scores)
    return (count * scores - scores.sum(dim=0, keepdim=True)) / max(1, count - 1)


def _edges(length: int) -> list[int]:
    return [round(place * length / CELLS) for place in range(CELLS + 1)]


def covered(image: Image.Image, cells: Sequence[tuple[int, int]], *, keep: bool = False) -> Image.Image:
    """Return the image with cells (row, column) in its mean colour; with `keep` all other cells."""
    pixels = np.array(image)
    mean = pixels.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    rows, columns = _edges(image.height), _edges(image.width)
    result = np.broadcast_to(mean, pixels.shape).copy() if keep else pixels.copy()
    for row, column in cells:
        place = slice(rows[row], rows[row + 1]), slice(columns[column], columns[column + 1])
        result[place] = pixels[place] if keep else mean
    return Image.fromarray(result)


def _occlusion(
    encoder: "Encoder", image: Image.Image, weights: Float[Tensor, "c d"], labels: Labeller
) -> Float[Tensor, "_ k k"]:
    """Return how far scores fall where two by two cells are covered, the mean of the covers of each cell."""
    corners = [(row, column) for row in range(CELLS - 1) for column in range(CELLS - 1)]
    squares = [[(row + down, column + across) for down in (0, 1) for across in (0, 1)] for row, column in corners]
    vectors = encoder.image([image, *(covered(image, square) for square in squares)])
    scores = against_others(weights @ vectors.float().T)[: len(labels.names)]
    falls = scores[:, :1] - scores[:, 1:]
    total, count = torch.zeros(len(falls), CELLS, CELLS), torch.zeros(CELLS, CELLS)
    for number, square in enumerate(squares):
        for row, column in square:
            total[:, row, column] += falls[:, number]
            count[row, column] += 1
    return total / count


def _cells(values: Float[Tensor, "_ _"]) -> Float[Tensor, "k k"]:
    return F.adaptive_avg_pool2d(values[None, None], (CELLS, CELLS))[0, 0]


def _checks(
    encoder: "Encoder", image: Image.Image, labels: Labeller, evidence: Float[Tensor, "c h w"]
) -> Iterator[Check]:
    """Yield the check of each label."""
    generator = torch.Generator().manual_seed(0)
    random = [torch.randperm(CELLS**2, generator=generator) for _ in range(ORDERS)]
    orders = [*(_cells(each).flatten().argsort(descending=True) for each in evidence), *random]
    curves = torch.stack([_curve(encoder, image, labels, order) for order in orders])  # [orders, 2, c]
    at_random = curves[len(evidence) :].mean(dim=0)
    for label in range(len(evidence)):
        deletion, insertion = curves[label, :, label].tolist()
        yield Check(
            deletion=deletion, insertion=insertion, deletion_at_random=float(at_random[0, label]),
            insertion_at_random=float(at_random[1, label]),
        )  # fmt: skip


def _curve(encoder: "Encoder", image: Image.Image, labels: Labeller, order: Int[Tensor, " k"]) -> Float[Tensor, "2 c"]:
    """Return the mean probabilities while cells are removed in this order, and while they are added."""
    places = [divmod(int(cell), CELLS) for cell in order]
    counts = [round(step * len(places) / STEPS) for step in range(STEPS + 1)]
    images = [covered(image, places[:count], keep=keep) for keep in (False, True) for count in counts]
    return labels.probabilities(encoder.image(images)).unflatten(0, (2, len(counts))).mean(dim=1)


def drawing(found: Explanation, *, title: str, top: int = 4) -> Image.Image:
    """Draw the image, the label with most evidence at each place, and evidence and occlusion of the `top` labels side by side.

    The heat maps of a row have one scale, so that labels can be compared; what speaks against a label is not shown.
    """
    chosen = found.probabilities.argsort(descending=True, stable=True)[:top].tolist()
    view = enlarged_for_view(found.image)
    first = [Panel(image=view, title=title, remark="top row: evidence; bottom row: what is lost where it is covered")]
    names = [(number + 1, found.names[label]) for number, label in enumerate(chosen)]
    best = found.evidence[chosen].argmax(dim=0) + 1
    where = with_legend(with_masks(view, best.numpy()), names) if len(chosen) > 1 else view
    second = [Panel(image=where, title="label with most evidence" if len(chosen) > 1 else "")]
    for label in chosen:
        share = f"{found.names[label]} {float(found.probabilities[label]):.0%}"
        first.append(Panel(image=with_heat(view, _shares(found.evidence, chosen, label)), title=share))
        second.append(
            Panel(
                image=with_heat(view, _shares(found.occlusion, chosen, label)),
                title=share,
                remark=f"correlation with the evidence {found.agreement(label):+.2f}",
            )
        )
    return draw_rows([first, second])


def _shares(maps: Float[Tensor, "c h w"], chosen: Sequence[int], label: int) -> Float[Tensor, "h w"]:
    """Return a map from 0 to 1, where 1 is the largest value of all chosen ones."""
    return (maps[label] / maps[list(chosen)].max().clamp(min=1e-9)).clamp(0, 1)
