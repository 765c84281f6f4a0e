"""InfoNCE whose memory grows linearly with the batch: logits exist in tiles only, and the backward pass computes them again.

The loss is that of `percept.losses.contrastive.info_nce` (Radford et al. 2021, arXiv:2103.00020). The logsumexp of a row is joined over tiles
as in online softmax (Milakov and Gimelshein 2018, arXiv:1805.02867); with r and c the logsumexp of rows and columns, the gradient of
a logit S is 1/2 [exp(S - r) + exp(S - c)] / b, less 1/b on the diagonal.
"""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from percept.losses.contrastive import RowsLoss

TILE = 2_048
"""Side of a tile of logits: 16 MB in float32."""


def info_nce_tiled(
    image: Float[Tensor, "b d"], text: Float[Tensor, "b d"], scale: Float[Tensor, ""], *, tile: int | None = None
) -> Float[Tensor, ""]:
    """Return the symmetric InfoNCE loss; see `percept.losses.contrastive.info_nce`.

    Args:
        image: unit vectors.
        text: unit vectors; row i matches row i of `image`.
        scale: multiplies the cosines; above 0.
        tile: rows and columns of the logits that exist at once. Default: `TILE`.
    """
    return info_nce_rows_tiled(image, text, scale, images=image, texts=text, tile=tile).loss


def info_nce_rows_tiled(
    image: Float[Tensor, "b d"],
    text: Float[Tensor, "b d"],
    scale: Float[Tensor, ""],
    *,
    images: Float[Tensor, "k d"],
    texts: Float[Tensor, "k d"],
    first: int = 0,
    tile: int | None = None,
) -> RowsLoss:
    """Return the mean InfoNCE loss of b rows among the k of a global batch; see `percept.losses.contrastive.info_nce_rows`."""
    tile = tile or TILE
    with torch.autocast(image.device.type, enabled=False):
        if images is image and texts is text:
            loss, nearest = _Both.apply(image.float(), text.float(), scale.float(), tile)  # type: ignore[misc]
            return RowsLoss(loss, nearest)
        to_text, nearest = _Rows.apply(image.float(), texts.float(), scale.float(), first, tile)  # type: ignore[misc]
        to_image, _ = _Rows.apply(text.float(), images.float(), scale.float(), first, tile)  # type: ignore[misc]
        return RowsLoss((to_text + to_image) / 2, nearest)


def _spans(count: int, tile: int) -> Iterator[slice]:
    for start in range(0, count, tile):
        yield slice(start, min(start + tile, count))


def _without_autocast(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Let a backward pass that is called under autocast compute in float32."""

    @wraps(backward)
    def exact(ctx: Any, *outer: Tensor) -> Any:
        with torch.autocast(ctx.saved_tensors[0].device.type, enabled=False):
            return backward(ctx, *outer)

    return exact


class _Rows(torch.autograd.Function):
    """Mean cross entropy of queries among keys, where query i matches key `first` + i."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, scale: Tensor, first: int, tile: int) -> tuple[Tensor, Tensor]:
        matching = scale * torch.linalg.vecdot(queries, keys[first : first + len(queries)])
        lse, nearest = (
            queries.new_empty(len(queries)),
            torch.empty(len(queries), dtype=torch.long, device=queries.device),
        )
        for rows in _spans(len(queries), tile):
            best, place, total = None, None, None
            for columns in _spans(len(keys), tile):
                logits = scale * queries[rows] @ keys[columns].T
                largest, index = logits.max(dim=1)
                part = logits.logsumexp(dim=1)
                if best is None or place is None or total is None:
                    best, place, total = largest, index, part
                    continue
                place = torch.where(largest > best, index + columns.start, place)
                best, total = torch.maximum(best, largest), torch.logaddexp(total, part)
            if total is not None and place is not None:
                lse[rows], nearest[rows] = total, place
        ctx.save_for_backward(queries, keys, scale, lse)
        ctx.first, ctx.tile = first, tile
        ctx.mark_non_differentiable(nearest)
        return (lse - matching).mean(), nearest

    @staticmethod
    @once_differentiable
    @_without_autocast
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        queries, keys, scale, lse = ctx.saved_tensors
        of_queries, of_keys, of_scale = torch.zeros_like(queries), torch.zeros_like(keys), torch.zeros_like(scale)
        share = outer[0] / len(queries)
        for rows in _spans(len(queries), ctx.tile):
            for columns in _spans(len(keys), ctx.tile):
                logits = scale * queries[rows] @ keys[columns].T
                weights = (logits - lse[rows, None]).exp_()
                weights.diagonal(rows.start + ctx.first - columns.start).sub_(1)
                _accumulate(
                    weights.mul_(share), logits, queries, keys, scale, rows, columns, of_queries, of_keys, of_scale
                )
        return of_queries, of_keys, of_scale, None, None


class _Both(torch.autograd.Function):
    """Both directions of all pairs at once: each tile of logits serves rows and columns."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, text: Tensor, scale: Tensor, tile: int) -> tuple[Tensor, Tensor]:
        matching = scale * torch.linalg.vecdot(image, text)
        low = torch.finfo(image.dtype).min
        row_lse, column_lse = (image.new_full((len(image),), float("-inf")) for _ in range(2))
        best, nearest = (
            image.new_full((len(image),), low),
            torch.zeros(len(image), dtype=torch.long, device=image.device),
        )
        for rows in _spans(len(image), tile):
            for columns in _spans(len(text), tile):
                logits = scale * image[rows] @ text[columns].T
                largest, index = logits.max(dim=1)
                nearest[rows] = torch.where(largest > best[rows], index + columns.start, nearest[rows])
                best[rows] = torch.maximum(best[rows], largest)
                row_lse[rows] = torch.logaddexp(row_lse[rows], logits.logsumexp(dim=1))
                column_lse[columns] = torch.logaddexp(column_lse[columns], logits.logsumexp(dim=0))
        ctx.save_for_backward(image, text, scale, row_lse, column_lse)
        ctx.tile = tile
        ctx.mark_non_differentiable(nearest)
        return ((row_lse + column_lse) / 2 - matching).mean(), nearest

    @staticmethod
    @once_differentiable
    @_without_autocast
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        image, text, scale, row_lse, column_lse = ctx.saved_tensors
        of_image, of_text, of_scale = torch.zeros_like(image), torch.zeros_like(text), torch.zeros_like(scale)
        share = outer[0] / (2 * len(image))
        for rows in _spans(len(image), ctx.tile):
            for columns in _spans(len(text), ctx.tile):
                logits = scale * image[rows] @ text[columns].T
                weights = (logits - row_lse[rows, None]).exp_()
                weights += (logits - column_lse[columns]).exp_()
                weights.diagonal(rows.start - columns.start).sub_(2)
                _accumulate(weights.mul_(share), logits, image, text, scale, rows, columns, of_image, of_text, of_scale)
        return of_image, of_text, of_scale, None


def _accumulate(
    weights: Tensor,
    logits: Tensor,
    queries: Tensor,
    keys: Tensor,
    scale: Tensor,
    rows: slice,
    columns: slice,
    of_queries: Tensor,
    of_keys: Tensor,
    of_scale: Tensor,
) -> None:
    """Add the gradients that flow through a tile, whose logits have the gradients `weights`."""
    of_scale += torch.dot(weights.flatten(), logits.flatten()) / scale
    weights *= scale
    of_queries[rows].addmm_(weights, keys[columns])
    of_keys[columns].addmm_(weights.T, queries[rows])
