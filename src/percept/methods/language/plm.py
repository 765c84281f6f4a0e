"""PLM: an image tower, a projector and a language decoder learn to answer.

Cho et al. 2025, arXiv:2504.13180; reference: facebookresearch/perception_models, apps/plm. The loss is the mean negative log-likelihood
of the tokens of the answers, their headers and end tokens included (`percept.data.chat.template`).
Differs from it: the conversations of a batch are packed into one row, in which they do not see each other, instead of padded, and those about the
same images share their beginning; the mean
is over the answers of all processes, instead of a mean of their means; both are switches. A third one, off by default, gives every answer the
same weight, however long it is: with a mean over tokens, long captions outweigh answers of one word (InternVL 2.5, arXiv:2412.05271, takes the
square root between the two).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core import dist
from percept.core.errors import PerceptError
from percept.data.chat.batch import ChatBatch
from percept.models.config import VisionConfig
from percept.models.language import DecoderConfig, VLMConfig
from percept.models.vlm import VLM
from percept.nn.packing import Branches, Segments


@dataclass(frozen=True, kw_only=True)
class Config:
    """How a step is computed."""

    packed: bool = True
    """Put the conversations of a batch into one row without padding; False to pad them as in the reference. The results are the same."""
    mean_of_means: bool = False
    """True for the mean over the answers of a process, averaged over processes, as in the reference."""
    by_answer: bool = False
    """True for the mean over answers of the means over their tokens; False for the mean over all tokens."""
    micro_tokens: int | None = None
    """Tokens that the decoder processes at once; all of a batch if None."""
    checkpointing: bool = False
    """Recompute activations in the backward pass instead of storing them."""

    def __post_init__(self) -> None:
        if self.micro_tokens is not None and self.micro_tokens < 1:
            raise PerceptError(
                f"micro_tokens={self.micro_tokens} is too small. Use a positive number, or leave it out."
            )


class PLM(nn.Module):
    """A vision-language model as a training task."""

    Config = Config
    shown = ("accuracy",)

    def __init__(self, config: Config, vlm: VLM) -> None:
        super().__init__()
        self.config, self.vlm = config, vlm
        for part in (vlm.vision, vlm.decoder):
            setattr(part, "checkpointing", config.checkpointing)  # noqa: B010 - a tower need not have it

    def forward(self, batch: ChatBatch) -> dict[str, Tensor]:
        """Return the loss, the share of answer tokens that are predicted, and their number.

        A batch without answer tokens gives a loss of 0.
        """
        batch = batch.sorted_by_length()
        parts = [self._part(part) for part in self._parts(batch)]
        losses, hits, counts, answers = (torch.stack(values).sum() for values in zip(*parts, strict=True))
        total = answers if self.config.by_answer else counts
        total = total if self.config.mean_of_means else dist.mean(total)
        every = dist.mean(torch.stack([hits, counts]))
        return {
            "loss": losses / total.clamp(min=1),
            "accuracy": every[0] / every[1].clamp(min=1),
            "answer_tokens": every[1],
        }

    def _parts(self, batch: ChatBatch) -> Iterator[ChatBatch]:
        """Yield the batch in parts of at most `micro_tokens` tokens, at least one conversation each."""
        limit = self.config.micro_tokens
        if limit is None:
            yield batch
            return
        first = 0
        ends = batch.lengths.cumsum(0).tolist()
        for place in range(len(batch)):
            used = ends[place] - (ends[first - 1] if first else 0)
            if used > limit and place > first:
                yield batch.rows(slice(first, place))
                first = place
        yield batch.rows(slice(first, len(batch)))

    def _part(self, batch: ChatBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the summed loss, the tokens predicted, the tokens to predict, and the answers."""
        if self.config.packed:
            rows = packed(batch, self.vlm.placeholders(batch.ids))
        else:
            rows = padded(batch, self.vlm.config.stop_ids[0])
        visual, unused = self._see(batch, rows)
        logits = self.vlm(
            rows.ids, visual=visual, segments=rows.segments, branches=rows.branches, at=before(rows.learned)
        )  # fmt: skip
        targets = rows.ids[rows.learned]
        lengths = answer_lengths(rows.learned)
        losses = F.cross_entropy(logits.float(), targets, reduction="none")
        if self.config.by_answer:
            losses = losses / lengths.repeat_interleave(lengths)
        hits = (logits.detach().argmax(-1) == targets).sum()
        return losses.sum() + unused, hits.float(), losses.new_tensor(len(targets)), losses.new_tensor(len(lengths))

    def _see(self, batch: ChatBatch, rows: "Rows") -> tuple[Tensor | None, Tensor]:
        """Return the visual tokens of a batch. Without images, a blank one keeps the processes of a run in step and adds 0."""
        tiles = batch.tiles
        blank = not len(tiles)
        if blank:
            side = self.vlm.config.vision.image_size
            tiles = torch.zeros(1, 3, side, side, dtype=torch.uint8, device=batch.ids.device)
        visual = self.vlm.encode(normalised(tiles, next(self.vlm.projector.parameters()).dtype))
        if blank:
            return None, 0.0 * self.vlm.numbered(visual, [1]).float().sum()
        if rows.places is not None:
            visual = visual[rows.places]
        return self.vlm.numbered(visual, rows.counts), visual.new_zeros(()).float()

    @classmethod
    def tiny(cls) -> tuple["PLM", ChatBatch]:
        """Return a task of a few thousand parameters and a batch for it."""
        vision = VisionConfig(
            image_size=16, patch_size=4, width=16, layers=1, heads=2, pool="none", output_dim=None, norm_post=False
        )
        decoder = DecoderConfig(
            vocabulary=40, width=16, layers=2, heads=2, kv_heads=1, hidden=24, context=64, tied=True
        )
        task = cls(Config(), VLM(VLMConfig(vision=vision, decoder=decoder, image_token=3, stop_ids=(1,))))
        ids = torch.randint(4, 40, (3, 12))
        ids[:2, 1:5] = 3
        lengths = torch.tensor([12, 9, 7])
        places = torch.arange(12)
        return task, ChatBatch(
            ids=ids,
            learned=(places >= 6) & (places < lengths[:, None]),
            lengths=lengths,
            tile_counts=torch.tensor([1, 1, 0]),
            tiles=torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8),
        )


def normalised(tiles: Tensor, dtype: torch.dtype) -> Float[Tensor, "k 3 y x"]:
    """Turn values 0 to 255 into -1 to 1, as all Perception Encoders take them."""
    return ((tiles.float() / 255 - 0.5) / 0.5).to(dtype)


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """The rows of a batch as the decoder takes them: packed into one, or padded."""

    ids: Int[Tensor, "b n"]
    learned: Bool[Tensor, "b n"]
    segments: Segments | None
    counts: list[int]
    """Number of tiles and frames of each row, or of each group of rows that share their beginning."""
    branches: Branches | None = None
    places: Int[Tensor, " t"] | None = None
    """Places in `tiles` of the tiles and frames, in the order of the row; None if they stand in that order, each once."""


def packed(batch: ChatBatch, visual: Bool[Tensor, "b n"]) -> Rows:
    """Return the rows of a batch, sorted by length, as one; what rows about the same images begin with is in it once.

    Args:
        visual: which ids stand for a visual token.
    """
    lengths, common = batch.lengths.tolist(), common_beginnings(batch, visual)
    columns = torch.arange(batch.ids.shape[1], device=batch.ids.device)
    starts = torch.tensor(common, device=batch.ids.device)
    kept = (columns >= starts[:, None]) & (columns < batch.lengths[:, None])
    # tokens of each row without branches, or of its beginning and branches
    rows: list[tuple[int, tuple[int, ...] | None]] = []
    for length, shared in zip(lengths, common, strict=True):
        if not shared:
            rows.append((length, None))
            continue
        first, parts = rows[-1]
        rows[-1] = first, (*(parts or (shared, first - shared)), length - shared)
    segments, branches = [], []
    for (length, parts), alike in groupby(rows):
        count = len(list(alike))
        segments += [(count, length)] if parts is None else [(1, sum(parts))] * count
        branches += [None] if parts is None else [parts] * count
    places, own = batch.tile_places, torch.tensor([not shared for shared in common], device=batch.ids.device)
    if places is not None:
        places = places[own.repeat_interleave(batch.tile_counts)]
    return Rows(
        ids=batch.ids[kept][None], learned=learnable(batch)[kept][None], segments=segments,
        counts=batch.tile_counts[own].tolist(), branches=branches if any(branches) else None, places=places,
    )  # fmt: skip


def common_beginnings(batch: ChatBatch, visual: Bool[Tensor, "b n"]) -> list[int]:
    """Return for each row the tokens that it has in common with the row before, from the start; 0 where it does not share them.

    Neighbouring rows about the same images share the tokens with which all of them begin, if these contain all their images. The
    token that predicts the first one to learn is not shared.
    """
    if batch.tile_places is None or len(batch) < 2:
        return [0] * len(batch)
    columns = torch.arange(batch.ids.shape[1], device=batch.ids.device)
    last = torch.where(learnable(batch), columns, batch.lengths[:, None]).amin(1) - 1
    alike = (batch.ids[1:] == batch.ids[:-1]).cumprod(1).sum(1)
    seen = torch.where(visual & (columns < batch.lengths[:, None]), columns + 1, 0).amax(1)
    last, alike, seen = last.tolist(), [0, *alike.tolist()], seen.tolist()
    parts = [tuple(part.tolist()) for part in batch.places.split(batch.tile_counts.tolist())]
    found: list[int] = []
    for media, group in groupby(range(len(batch)), key=parts.__getitem__):
        rows = list(group)
        shared = min([*(alike[row] for row in rows[1:]), *(last[row] for row in rows)])
        fits = media and len(rows) > 1 and shared >= max(seen[row] for row in rows)
        found += [0, *([shared if fits else 0] * (len(rows) - 1))]
    return found


def padded(batch: ChatBatch, padding: int) -> Rows:
    """Return the rows of a batch, padded on the right with an id."""
    real = torch.arange(batch.ids.shape[1], device=batch.ids.device) < batch.lengths[:, None]
    ids = batch.ids.masked_fill(~real, padding)
    return Rows(
        ids=ids, learned=learnable(batch), segments=None, counts=batch.tile_counts.tolist(), places=batch.tile_places
    )  # fmt: skip


def learnable(batch: ChatBatch) -> Bool[Tensor, "b n"]:
    """Return the tokens to learn, without the first of a row, which nothing predicts."""
    return batch.learned & (torch.arange(batch.ids.shape[1], device=batch.ids.device) > 0)


def answer_lengths(learned: Bool[Tensor, "b n"]) -> Int[Tensor, " a"]:
    """Return the number of tokens of each answer, an unbroken run of tokens to learn.

    >>> answer_lengths(torch.tensor([[False, True, True, False, True], [False, True, False, False, False]])).tolist()
    [2, 1, 1]
    """
    starts = learned & ~F.pad(learned[:, :-1], (1, 0))
    return torch.bincount(starts.flatten().cumsum(0)[learned.flatten()])[1:]


def before(learned: Bool[Tensor, "b n"]) -> Bool[Tensor, "b n"]:
    """Return the position in front of each token to learn, whose output predicts it."""
    return F.pad(learned[:, 1:], (0, 1))
