"""What contrastive methods share: encoding a batch in parts, and image-text contrast over the batch of all processes."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from percept.core import dist
from percept.core.errors import PerceptError, unknown_name
from percept.losses.contrastive import RowsLoss, info_nce_rows, row_keys
from percept.losses.sigmoid import sigmoid_rows
from percept.losses.tiled import info_nce_rows_tiled
from percept.models.clip import CLIP, MAX_LOG_SCALE, unit

FORMS = ("auto", "dense", "tiled", "sigmoid")
DENSE_LOGITS = 4_096 * 4_096
"""Most logits of a process that "auto" computes at once (64 MB in float32). Tiles are as fast above it, see benchmarks/loss_memory.py."""


def check_micro_tokens(micro_tokens: int | None) -> None:
    """Raise a PerceptError unless `micro_tokens` is None or positive."""
    if micro_tokens is not None and micro_tokens < 1:
        raise PerceptError(f"micro_tokens={micro_tokens}; it must be at least 1, or None for the whole batch at once")


def check_form(form: str) -> None:
    """Raise a PerceptError unless `form` is a form of the contrastive loss."""
    if form not in FORMS:
        raise unknown_name("form of the contrastive loss", form, FORMS)


def part_size(tokens_each: int, micro_tokens: int | None) -> int | None:
    """Return how many samples of `tokens_each` tokens a tower processes at once; None for all of them."""
    return None if micro_tokens is None else max(1, micro_tokens // max(1, tokens_each))


def encode_parts(
    encode: Callable[[Tensor], Tensor], samples: Tensor, size: int | None, *, recompute: bool = False
) -> Float[Tensor, "b d"]:
    """Return the vectors of a batch, encoded in parts of `size` samples; all at once if `size` is None.

    With `recompute` a part keeps its vectors only, and the backward pass encodes it again with the same random numbers. The
    gradients are the same, and activations of only one part are stored at a time, so that the batch of a contrastive loss can be
    larger than the memory for activations. The result is that of GradCache (Gao et al. 2021, arXiv:2101.06983); the
    backward pass costs one more forward pass.

    Args:
        encode: function from some samples to their vectors; within it, no batch statistics and no state that changes.
        samples: one row per sample.
        size: samples that are encoded at once.
    """
    parts = [samples] if size is None else list(samples.split(size))
    if recompute and torch.is_grad_enabled():
        vectors = [checkpoint(encode, part, use_reentrant=False) for part in parts]
    else:
        vectors = [encode(part) for part in parts]
    return vectors[0] if len(vectors) == 1 else torch.cat(vectors)


def encode_images(
    clip: CLIP, image: Float[Tensor, "b 3 y x"], micro_tokens: int | None = None, recompute: bool = False
) -> Float[Tensor, "b d"]:
    """Encode images in parts of at most `micro_tokens` patches, see `encode_parts`; the vectors are not normalised."""
    size = part_size(image.shape[-1] * image.shape[-2] // clip.config.vision.patch_size**2, micro_tokens)
    return encode_parts(clip.encode_image, image, size, recompute=recompute)


def encode_texts(
    clip: CLIP, ids: Int[Tensor, "b n"], micro_tokens: int | None = None, recompute: bool = False
) -> Float[Tensor, "b d"]:
    """Encode texts in parts of similar length, so that little padding is computed; the vectors are not normalised."""
    size = part_size(ids.shape[1], micro_tokens)
    if size is None:
        return encode_parts(clip.encode_text, ids, size, recompute=recompute)
    order = ids.argmax(dim=-1).argsort(stable=True)
    return encode_parts(clip.encode_text, ids[order], size, recompute=recompute)[order.argsort()]


def clamp_scale(clip: CLIP) -> None:
    """Bring the learned scale back to its maximum: the gradient is 0 beyond it, so a scale that got there would stay."""
    if clip.log_scale is not None and torch.is_grad_enabled():
        with torch.no_grad():
            clip.log_scale.clamp_(max=MAX_LOG_SCALE)


def contrast(
    clip: CLIP,
    image: Float[Tensor, "b d"],
    text: Float[Tensor, "b d"],
    tokens: Int[Tensor, "b n"],
    *,
    form: str = "auto",
    bias: Float[Tensor, ""] | None = None,
) -> dict[str, Tensor]:
    """Return this process's share of the contrastive loss over the global batch, the scale, and the batch accuracy.

    Args:
        clip: has the learned scale.
        image: vectors of images; row i matches row i of `text`.
        text: vectors of texts.
        tokens: ids of the texts: an image whose nearest text has the same ids as its own counts as right.
        form: "dense" and "tiled" are InfoNCE with all logits at once or in tiles, with equal results; "auto" is dense up to
            `DENSE_LOGITS` logits in a process and tiled above; "sigmoid" is the loss of SigLIP.
        bias: learned bias of the sigmoid loss.

    Raises:
        PerceptError: unknown form, or the sigmoid loss without a bias.
    """
    check_form(form)
    clamp_scale(clip)
    image, text, keys = unit(image), unit(text), row_keys(tokens)
    all_keys, scale = dist.gather(keys), clip.scale()
    rows = loss_rows(image, text, scale, form=form, bias=bias)
    right = (all_keys[rows.nearest] == keys).float().mean()
    alike = {"image_cosine": mean_cosine(image), "text_cosine": mean_cosine(text)}
    return {"loss": rows.loss, "scale": scale.detach(), "batch_accuracy": right, **alike}


@torch.no_grad()
def mean_cosine(vectors: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Return the mean cosine of all pairs of different rows of unit vectors: 1 if they have collapsed to one point."""
    count = len(vectors)
    return (vectors.float().sum(dim=0).square().sum() - count) / max(1, count * (count - 1))


def loss_rows(
    image: Float[Tensor, "b d"],
    text: Float[Tensor, "b d"],
    scale: Float[Tensor, ""],
    *,
    form: str = "auto",
    bias: Float[Tensor, ""] | None = None,
) -> RowsLoss:
    """Return the loss of this process's unit vectors among those of all processes; see `contrast`."""
    texts, first = dist.gather(text), dist.rank() * len(image)
    if form == "sigmoid":
        if bias is None:
            raise PerceptError("the sigmoid loss has a learned bias, and none was given. Pass it as `bias`.")
        return sigmoid_rows(image, texts, scale, bias.float(), first=first)
    dense = form == "dense" or (form == "auto" and len(image) * len(texts) <= DENSE_LOGITS)
    loss = info_nce_rows if dense else info_nce_rows_tiled
    return loss(image, text, scale, images=dist.gather(image), texts=texts, first=first)
