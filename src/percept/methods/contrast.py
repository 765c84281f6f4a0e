"""What contrastive methods share: encoding a batch in parts, and image-text contrast over the batch of all processes."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from percept.core import dist
from percept.core.errors import PerceptError
from percept.losses.contrastive import info_nce_rows, row_keys
from percept.models.clip import CLIP, MAX_LOG_SCALE, unit


def check_micro_tokens(micro_tokens: int | None) -> None:
    """Raise a PerceptError unless `micro_tokens` is None or positive."""
    if micro_tokens is not None and micro_tokens < 1:
        raise PerceptError(f"micro_tokens={micro_tokens}; it must be at least 1, or None for the whole batch at once")


def part_size(tokens_each: int, micro_tokens: int | None) -> int | None:
    """Return how many samples of `tokens_each` tokens a tower processes at once; None for all of them."""
    return None if micro_tokens is None else max(1, micro_tokens // max(1, tokens_each))


def encode_images(clip: CLIP, image: Float[Tensor, "b 3 y x"], micro_tokens: int | None = None) -> Float[Tensor, "b d"]:
    """Encode images in parts of at most `micro_tokens` patches; the vectors are not normalised."""
    size = part_size(image.shape[-1] * image.shape[-2] // clip.config.vision.patch_size**2, micro_tokens)
    if size is None:
        return clip.encode_image(image)
    return torch.cat([clip.encode_image(part) for part in image.split(size)])


def encode_texts(clip: CLIP, ids: Int[Tensor, "b n"], micro_tokens: int | None = None) -> Float[Tensor, "b d"]:
    """Encode texts in parts of similar length, so that little padding is computed; the vectors are not normalised."""
    size = part_size(ids.shape[1], micro_tokens)
    if size is None:
        return clip.encode_text(ids)
    order = ids.argmax(dim=-1).argsort(stable=True)
    vectors = torch.cat([clip.encode_text(part) for part in ids[order].split(size)])
    return vectors[order.argsort()]


def clamp_scale(clip: CLIP) -> None:
    """Bring the learned scale back to its maximum: the gradient is 0 beyond it, so a scale that got there would stay."""
    if clip.log_scale is not None and torch.is_grad_enabled():
        with torch.no_grad():
            clip.log_scale.clamp_(max=MAX_LOG_SCALE)


def contrast(
    clip: CLIP, image: Float[Tensor, "b d"], text: Float[Tensor, "b d"], tokens: Int[Tensor, "b n"]
) -> dict[str, Tensor]:
    """Return this process's share of the contrastive loss over the global batch, the scale, and the batch accuracy.

    Args:
        clip: has the learned scale.
        image: vectors of images; row i matches row i of `text`.
        text: vectors of texts.
        tokens: ids of the texts: an image whose nearest text has the same ids as its own counts as right.
    """
    clamp_scale(clip)
    image, text, keys = unit(image), unit(text), row_keys(tokens)
    images, texts, all_keys = dist.gather(image), dist.gather(text), dist.gather(keys)
    scale = clip.scale()
    rows = info_nce_rows(image, text, scale, images=images, texts=texts, first=dist.rank() * len(image))
    right = (all_keys[rows.nearest] == keys).float().mean()
    alike = {"image_cosine": mean_cosine(images), "text_cosine": mean_cosine(texts)}
    return {"loss": rows.loss, "scale": scale.detach(), "batch_accuracy": right, **alike}


@torch.no_grad()
def mean_cosine(vectors: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Return the mean cosine of all pairs of different rows of unit vectors: 1 if they have collapsed to one point."""
    count = len(vectors)
    return (vectors.float().sum(dim=0).square().sum() - count) / max(1, count * (count - 1))
