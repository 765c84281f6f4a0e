"""Segmentation and heat maps from texts: the vector of every patch, through the value path of the pooling head.

After Zhou et al. 2022, arXiv:2112.01071 (MaskCLIP): a patch gets the vector that the model would give the image if its pooling attended
to this patch only. It lies in the space of the texts; a token that bypasses the head does not, see `benchmarks/zeroshot_dense.py`.

Towers that pool by attention (nano, PE-Core, SigLIP) and by the mean of the tokens keep their last block as it is. Of towers that
return their class token, patches are not trained to be projected, so the last block runs as in MaskCLIP: every token attends to
itself only. Towers without pooling (PE-Lang, PE-Spatial) have no text space and are refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.data.images import read_image
from percept.data.transforms import pixels_of, resized
from percept.infer.labels import Labels, Templates, check_labels, class_vectors
from percept.nn.context import Context

if TYPE_CHECKING:
    from percept.infer.encoder import Encoder

BACKGROUND = "background"
"""Label for what is none of the other labels."""
ELSEWHERE = (
    "background", "an empty scene", "a plain wall", "grass", "sky", "a texture", "a room", "nothing",
)  # fmt: skip
"""Texts of what is usually around things; they compete with the labels."""
SURE = 0.8
"""Least probability of a label, among all labels and the texts above, for a pixel that is not background. Chosen on the validation
split of the labelled world."""
LEVELS = (1.0, 2.0)
"""Sizes at which an image is read, its shorter side as a multiple of the model's; chosen on the validation split."""
LONGEST = 16
"""Most sides of the model along an image, so that a narrow strip does not need thousands of windows; beyond it, it is squashed."""
PLAIN = ("a picture", "a photo", "a picture of something")
"""Texts that fit every image; a heat map shows how much better its text fits."""
WEAK, FULL = 9.5, 14.0
"""A match is called weak if the largest value of its heat map, times the model's scale, is below this. The lightest colour stands for at least this value. Chosen
with nano on 50 images of the validation split of the labelled world. Weak are: of things in the image, 0 % named with their colour and 16 % without it; of things
that are not in it, 100 % without a colour, and 72 % in the colour of a thing that is.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmentation:
    """The label of each pixel."""

    labels: tuple[str, ...]
    numbers: Int[np.ndarray, "y x"]
    """Position in `labels` of each pixel's label."""

    def share(self, label: str) -> float:
        """Return the share of the image that has a label."""
        return float(np.mean(self.numbers == self.labels.index(label)))


def patch_vectors(encoder: "Encoder", pixels: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b h w d"]:
    """Return the unit vector of every patch of preprocessed images, in the space of the texts.

    Raises:
        PerceptError: the model has no vectors, or is an export.
    """
    _check(encoder)
    tower, setting = encoder.model.vision, encoder.setting
    with torch.no_grad():
        parts = [
            pooled_patches(tower, part.to(setting.device, setting.dtype)).float().cpu()
            for part in pixels.split(setting.batch)
        ]
    return F.normalize(torch.cat(parts), dim=-1)


def _check(encoder: "Encoder") -> None:
    if encoder.setting.backend != "torch":
        raise PerceptError("an export gives whole vectors, not those of patches. Use the model that was exported.")
    if encoder.dim == 0:
        raise PerceptError(
            f"{encoder.name} has no vectors that texts can be compared with. Use nano or a PE-Core model."
        )


def pooled_patches(tower: Any, pixels: Tensor) -> Float[Tensor, "b h w d"]:
    """Return the pooled vector of every patch alone, not of unit length."""
    out = tower(pixels, layers=(-2,) if _is_cut(tower) else (), pool=False)
    tokens = _last_block_alone(tower, out.hidden[-2]) if _is_cut(tower) else out.tokens
    patches = tokens[:, out.prefix :]
    single = tower.pooled(patches.flatten(0, 1)[:, None], tower.config.prefix)
    return single.unflatten(0, (len(patches), *out.grid))


def _is_cut(tower: Any) -> bool:
    return tower.config.pool == "class" and tower.config.layers > 1


def _last_block_alone(tower: Any, tokens: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
    """Run the last block so that every token attends to itself only, then the final norm if there is one."""
    count = tokens.shape[1]
    bias = torch.full((count, count), float("-inf"), device=tokens.device, dtype=tokens.dtype).fill_diagonal_(0)
    tokens = tower.blocks[-1](tokens, Context(bias=bias))
    return tower.norm_post(tokens)


def windows(length: int, side: int) -> list[int]:
    """Return the starts of windows of `side` that cover a length, at most half a window apart.

    >>> windows(12, 12), windows(24, 12), windows(27, 12)
    ([0], [0, 6, 12], [0, 5, 10, 15])
    """
    count = 1 + -(-2 * (length - side) // side)
    return [round(place * (length - side) / max(1, count - 1)) for place in range(count)]


def text_maps(
    encoder: "Encoder", image: Any, texts: Float[Tensor, "c d"], levels: Sequence[float] = LEVELS
) -> Float[Tensor, "c h w"]:
    """Return the cosine of every patch with every text: the mean over levels, on the grid of the finest one.

    At each level the image is resized so that its shorter side is this multiple of the model's, and read in windows of the
    model's own size that overlap by half; the vectors of a patch are averaged over the windows.
    """
    opened = read_image(image) if not isinstance(image, Image.Image) else image.convert("RGB")
    maps = [torch.einsum("hwd,cd->chw", _level(encoder, opened, level), texts) for level in sorted(levels)]
    size = tuple(maps[-1].shape[1:])
    return torch.stack([_enlarged(each, size) for each in maps]).mean(dim=0)


def _enlarged(maps: Float[Tensor, "c h w"], size: tuple[int, ...]) -> Tensor:
    return F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]


def _largest(maps: Float[Tensor, "c h w"], size: tuple[int, int]) -> tuple[Float[Tensor, "y x"], Int[Tensor, "y x"]]:
    """Return the largest value of each pixel of enlarged maps, and which map has it; one map is enlarged at a time."""
    values, best = _enlarged(maps[:1], size)[0], torch.zeros(size, dtype=torch.int64)
    for number in range(1, len(maps)):
        large = _enlarged(maps[number : number + 1], size)[0]
        best[large > values] = number
        values = torch.maximum(values, large)
    return values, best


def _level(encoder: "Encoder", image: Image.Image, level: float) -> Float[Tensor, "h w d"]:
    """Return the unit vectors of the patches of an image at one size."""
    patch, (high, wide) = encoder.patch, (side // encoder.patch for side in encoder.preprocess.shape)
    scale = level * max(high * patch / image.height, wide * patch / image.width)
    rows = min(LONGEST * high, max(high, round(scale * image.height / patch)))
    columns = min(LONGEST * wide, max(wide, round(scale * image.width / patch)))
    pixels = encoder.preprocess.normalise(resized(pixels_of(image), (rows * patch, columns * patch)))
    places = [(y, x) for y in windows(rows, high) for x in windows(columns, wide)]
    crops = [pixels[:, y * patch : (y + high) * patch, x * patch : (x + wide) * patch] for y, x in places]
    total = None
    for (y, x), vectors in zip(places, patch_vectors(encoder, torch.stack(crops)), strict=True):
        total = torch.zeros(rows, columns, vectors.shape[-1]) if total is None else total
        total[y : y + high, x : x + wide] += vectors
    assert total is not None
    return F.normalize(total, dim=-1)


def label_maps(
    encoder: "Encoder", image: Any, labels: Labels, templates: Templates = None, levels: Sequence[float] = LEVELS
) -> tuple[Float[Tensor, "c h w"], list[str]]:
    """Return the probability of every label at every patch, and the labels without `background`.

    The softmax is over the labels, and over `ELSEWHERE` if `background` is one of them.
    """
    names = [name for name in check_labels(labels) if name != BACKGROUND]
    if not names:
        raise PerceptError("the only label is background. Give at least one thing to look for.")
    texts = class_vectors(encoder, names, templates)
    if len(names) < len(check_labels(labels)):
        texts = torch.cat([texts, F.normalize(encoder.text(list(ELSEWHERE)), dim=-1)])
    cosines = text_maps(encoder, image, texts, levels)
    return (encoder.scale * cosines).softmax(dim=0)[: len(names)], names


def segment(
    encoder: "Encoder",
    image: Any,
    labels: Labels,
    *,
    templates: Templates = None,
    sure: float = SURE,
    levels: Sequence[float] = LEVELS,
) -> Segmentation:
    """Label every pixel of an image, zero-shot.

    Args:
        encoder: a pair of towers.
        image: an image of any size.
        labels: what to look for; with `background` among them, pixels that no label fits get it.
        templates: texts with {} for a label; several are averaged.
        sure: least probability of a label for a pixel that is not background.
        levels: sizes at which the image is read, see `text_maps`.

    Raises:
        PerceptError: no labels, the model has no text tower, or it has no vectors.
    """
    opened = read_image(image) if not isinstance(image, Image.Image) else image.convert("RGB")
    _check(encoder)
    maps, names = label_maps(encoder, opened, labels, templates, levels)
    values, best = _largest(maps, (opened.height, opened.width))
    ordered = check_labels(labels)
    numbers = torch.tensor([ordered.index(name) for name in names])[best]
    if BACKGROUND in ordered:
        numbers = torch.where(values < sure, torch.full_like(numbers, ordered.index(BACKGROUND)), numbers)
    return Segmentation(labels=tuple(ordered), numbers=numbers.numpy())


def heat(encoder: "Encoder", image: Any, text: str, levels: Sequence[float] = LEVELS) -> Float[Tensor, "h w"]:
    """Return how well a text fits each place: the cosine with it minus that with texts that fit every image.

    Raises:
        PerceptError: as `segment`.
    """
    _check(encoder)
    if not text.strip():
        raise PerceptError("the text is empty. Describe what to look for, such as 'a red cup'.")
    plain = F.normalize(encoder.text(list(PLAIN)).mean(dim=0, keepdim=True), dim=-1)
    maps = text_maps(encoder, image, torch.cat([encoder.text([text]), plain]), levels)
    return maps[0] - maps[1]


def is_weak(encoder: "Encoder", highest: float) -> bool:
    """True if the largest value of a heat map is so small that the text may not be in the image."""
    return encoder.scale * highest < WEAK


def shown(encoder: "Encoder", maps: Sequence[Float[Tensor, "h w"]]) -> list[Float[Tensor, "h w"]]:
    """Scale heat maps to 0..1 for drawing: the median of each is 0; 1 is the same value for all, the largest one or more, see `FULL`."""
    top = max([FULL / encoder.scale, *(float(each.max()) for each in maps)])
    return [((each - each.median()) / (top - each.median()).clamp(min=1e-6)).clamp(0, 1) for each in maps]
