"""ExCL: read a query and all frames of a clip, and point at the first and the last frame of what the query describes.

Ghosh et al. 2019, arXiv:1904.02755, section 3. With frame features v_t and word features w_l, both frozen:

    h^T = last states of BiLSTM(w),    h^V_t = BiLSTM(v)_t,    J_t = [h^V_t; h^T]
    mlp            S_s(t) = MLP_s(J_t),                    S_e(t) = MLP_e(J_t)
    tied           P = BiLSTM(J),                          S(t) = MLP([P_t; J_t]), one MLP for each end
    conditioned    P^0 = LSTM(J), P^1 = LSTM(P^0),         S_s(t) = a·[P^0_t; J_t], S_e(t) = b·[P^1_t; J_t]
    P_s = softmax of S_s over the frames of the clip, P_e likewise; frames of the padding have the score -inf

    classification    L = -log P_s(s*) - log P_e(e*),      span = argmax over i <= j of P_s(i) P_e(j)
    regression        L = |E_s - s*| + |E_e - e*|, smooth, with the expected frame E = sum over t of t P(t)

No code of the paper is published. Differs from it: features are those of an image-text encoder, where the paper has I3D and GloVe; they are
scaled by their mean and deviation over the training clips, and mapped to the width of the LSTMs; with `similarity`, the cosine of each
frame and the query, which such an encoder gives, is one more feature of the frame.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError, unknown_name
from percept.data.batch import Batch
from percept.models.clip import CLIP
from percept.models.config import ClipConfig, TextConfig, VisionConfig

PREDICTORS = ("mlp", "tied", "conditioned")
LOSSES = ("classification", "regression")


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked(Batch):
    """Clips, each with one query, as frozen features; shorter clips and queries are padded."""

    frames: Float[Tensor, "b t d"]
    """See `frame_features`."""
    frame_count: Int[Tensor, " b"]
    """Frames of each clip."""
    words: Float[Tensor, "b n w"]
    """See `word_features`."""
    word_count: Int[Tensor, " b"]
    """Words of each query."""
    text: Float[Tensor, "b e"]
    """Unit vector of each query in the space of the pooled frames."""
    start: Int[Tensor, " b"]
    """First frame of what the query describes."""
    end: Int[Tensor, " b"]
    """Its last frame."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Spans:
    """Predicted spans; the frame `end` belongs to a span. Regression gives parts of frames."""

    start: Float[Tensor, " b"]
    end: Float[Tensor, " b"]
    score: Float[Tensor, " b"]
    """log P_s(start) + log P_e(end) of the nearest frames."""


def frame_features(clip: CLIP, pixels: Float[Tensor, "t 3 y x"], grid: int) -> Float[Tensor, "t d"]:
    """Return the pooled vector of every frame, then the mean tokens of grid x grid parts of it, each of norm sqrt(width)."""
    out = clip.vision(pixels)
    assert out.pooled is not None
    tokens = out.tokens[:, out.prefix :].float().transpose(1, 2).unflatten(2, out.grid)
    parts = F.adaptive_avg_pool2d(tokens, grid).flatten(2).transpose(1, 2)
    scaled = [F.normalize(each, dim=-1) * each.shape[-1] ** 0.5 for each in (out.pooled.float(), parts)]
    return torch.cat([scaled[0], scaled[1].flatten(1)], dim=1)


def feature_width(clip: CLIP, grid: int) -> int:
    """Return the length of the features of a frame."""
    config = clip.config.vision
    return (config.output_dim or config.width) + grid * grid * config.width


def word_features(
    clip: CLIP, tokens: Int[Tensor, "b n"]
) -> tuple[Float[Tensor, "b m w"], Int[Tensor, " b"], Float[Tensor, "b e"]]:
    """Return the last states of a text tower, start and end token included, how many belong to each text, and its unit vector."""
    assert clip.text is not None
    count = (tokens != 0).sum(1)
    out = clip.text(tokens[:, : int(count.max())])
    return out.tokens.float(), count, F.normalize(out.pooled.float(), dim=-1)


def similarity(batch: Asked) -> Float[Tensor, "b t"]:
    """Return the cosine of every frame and the query, minus its mean over the clip and divided by its deviation."""
    cosines = torch.einsum("bte,be->bt", F.normalize(batch.frames[..., : batch.text.shape[1]], dim=-1), batch.text)
    places = torch.arange(cosines.shape[1], device=cosines.device)
    inside = (places < batch.frame_count[:, None]).to(cosines.dtype)
    count = batch.frame_count[:, None]
    centred = (cosines - (cosines * inside).sum(1, keepdim=True) / count) * inside
    return centred / (centred.square().sum(1, keepdim=True) / count + 1e-8).sqrt()


def masked(scores: Float[Tensor, "b t"], count: Int[Tensor, " b"]) -> Float[Tensor, "b t"]:
    """Set the scores of the padding to -inf.

    >>> masked(torch.zeros(1, 3), torch.tensor([2])).tolist()
    [[0.0, 0.0, -inf]]
    """
    places = torch.arange(scores.shape[1], device=scores.device)
    return scores.masked_fill(places >= count[:, None], float("-inf"))


def best_span(
    start: Float[Tensor, "b t"], end: Float[Tensor, "b t"]
) -> tuple[Int[Tensor, " b"], Int[Tensor, " b"], Float[Tensor, " b"]]:
    """Return first and last frame with the largest start score plus end score, and that sum, in time linear in t.

    A span never ends before it starts. For each end, the best start is a running maximum.

    >>> start, end = torch.tensor([[0.0, 5.0, 1.0]]), torch.tensor([[4.0, 0.0, 2.0]])
    >>> [int(value) for value in best_span(start, end)]
    [1, 2, 7]
    """
    highest, places = start.cummax(dim=1)
    score, last = (highest + end).max(dim=1)
    return places.gather(1, last[:, None])[:, 0], last, score


def expected_frame(log_shares: Float[Tensor, "b t"]) -> Float[Tensor, " b"]:
    """Return the sum over t of t P(t) for log P.

    >>> expected_frame(torch.tensor([[0.25, 0.25, 0.5]]).log()).tolist()
    [1.25]
    """
    return log_shares.exp() @ torch.arange(log_shares.shape[1], device=log_shares.device, dtype=log_shares.dtype)


def boundary_loss(
    start: Float[Tensor, "b t"], end: Float[Tensor, "b t"], batch: Asked, kind: str = "classification"
) -> Float[Tensor, ""]:
    """Return the mean loss of start and end scores; padding has the score -inf."""
    ends = ((start, batch.start), (end, batch.end))
    if kind == "classification":
        return sum((F.cross_entropy(scores, truth) for scores, truth in ends), start.new_zeros(()))
    expected = [(expected_frame(scores.log_softmax(1)), truth.to(scores.dtype)) for scores, truth in ends]
    return sum((F.smooth_l1_loss(value, truth) for value, truth in expected), start.new_zeros(()))


def reversed_within(x: Float[Tensor, "b t d"], count: Int[Tensor, " b"]) -> Float[Tensor, "b t d"]:
    """Reverse the first `count` entries of every sequence; the padding stays behind them.

    >>> reversed_within(torch.tensor([[[1.0], [2.0], [0.0]]]), torch.tensor([2])).flatten().tolist()
    [2.0, 1.0, 0.0]
    """
    places = torch.arange(x.shape[1], device=x.device).expand(x.shape[:2])
    order = torch.where(places < count[:, None], count[:, None] - 1 - places, places)
    return x.gather(1, order[..., None].expand_as(x))


class Recurrent(nn.Module):
    """An LSTM, or one in each direction, over sequences of different lengths.

    Sequences are padded and not packed: the padding is read last in both directions, and that takes half the time on a CPU.
    """

    def __init__(self, inputs: int, hidden: int, *, both: bool = True) -> None:
        super().__init__()
        self.onward = nn.LSTM(inputs, hidden, batch_first=True)
        self.back = nn.LSTM(inputs, hidden, batch_first=True) if both else None

    def forward(self, x: Float[Tensor, "b t d"], count: Int[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """Return the states [b, t, h], of no meaning in the padding, and the last states [b, h] of all directions."""
        states = [self.onward(x)[0]]
        if self.back is not None:
            states.append(self.back(reversed_within(x, count))[0])
        last = torch.cat([each[torch.arange(len(x), device=x.device), count - 1] for each in states], dim=1)
        aligned = [states[0], *(reversed_within(each, count) for each in states[1:])]
        return torch.cat(aligned, dim=2), last


class Pointers(nn.Module):
    """The predictors: scores of the start and the end at every frame."""

    def __init__(self, kind: str, hidden: int) -> None:
        super().__init__()
        self.kind, joined = kind, 4 * hidden
        if kind == "tied":
            self.recurrent = Recurrent(joined, hidden)
        if kind == "conditioned":
            self.first, self.second = Recurrent(joined, hidden, both=False), Recurrent(hidden, hidden, both=False)
        width = {"mlp": joined, "tied": joined + 2 * hidden, "conditioned": joined + hidden}[kind]
        self.start, self.end = (self._head(width, hidden) for _ in range(2))

    def _head(self, width: int, hidden: int) -> nn.Module:
        if self.kind == "conditioned":
            return nn.Linear(width, 1)
        return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, joined: Float[Tensor, "b t j"], count: Int[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """Return two tensors of scores [b, t]."""
        starts = ends = joined
        if self.kind == "tied":
            starts = ends = torch.cat([self.recurrent(joined, count)[0], joined], dim=2)
        if self.kind == "conditioned":
            first = self.first(joined, count)[0]
            starts, ends = (torch.cat([each, joined], dim=2) for each in (first, self.second(first, count)[0]))
        return self.start(starts)[..., 0], self.end(ends)[..., 0]


class ExCL(nn.Module):
    """The extractive localiser on the frozen features of an encoder."""

    base_parts = ("clip",)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Sizes are ours, since the paper's are not published with it."""

        predictor: str = "tied"
        """mlp, tied or conditioned."""
        loss: str = "classification"
        """classification or regression."""
        hidden: int = 64
        """Channels of one direction of an LSTM."""
        similarity: bool = True
        """Give each frame its cosine with the query; not in the paper."""
        dropout: float = 0.2
        """Share of the mapped features and of the joint states that are dropped in training."""
        grid: int = 2
        """Parts along each side of a frame whose mean tokens are used."""
        image_size: int = 64
        """Side of the frames in pixels."""
        rate: float = 6.0
        """Frames per second."""

        def __post_init__(self) -> None:
            for value, names in ((self.predictor, PREDICTORS), (self.loss, LOSSES)):
                if value not in names:
                    raise unknown_name("setting of excl", value, names)
            if min(self.hidden, self.grid, self.image_size) < 1 or self.rate <= 0 or not 0 <= self.dropout < 1:
                raise PerceptError(
                    f"hidden={self.hidden} grid={self.grid} image_size={self.image_size} rate={self.rate} "
                    f"dropout={self.dropout} cannot be used. Sizes and rate must be above 0, and dropout at least 0 and below 1."
                )

    def __init__(self, config: Config, clip: CLIP) -> None:
        """Freeze `clip` and add what is trained.

        Raises:
            PerceptError: `clip` has no text tower.
        """
        super().__init__()
        if clip.config.text is None:
            raise PerceptError("excl needs a model with a text tower. Use nano or a PE-Core model.")
        self.config, self.clip, hidden = config, clip.requires_grad_(False), config.hidden
        width = feature_width(clip, config.grid)
        self.centre: Tensor
        self.deviation: Tensor
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))
        self.of_frames = nn.Linear(width, hidden)
        self.of_similarity = nn.Linear(1, hidden) if config.similarity else None
        self.of_words = nn.Sequential(nn.LayerNorm(clip.config.text.width), nn.Linear(clip.config.text.width, hidden))
        self.dropout = nn.Dropout(config.dropout)
        self.video, self.text = Recurrent(hidden, hidden), Recurrent(hidden, hidden)
        self.pointers = Pointers(config.predictor, hidden)

    @torch.no_grad()
    def scale_to(self, frames: Float[Tensor, "t d"]) -> None:
        """Take mean and deviation of the features from frames of the training clips."""
        self.centre.copy_(frames.float().mean(0))
        self.deviation.copy_(frames.float().std(0).clamp(min=1e-3))

    def train(self, mode: bool = True) -> "ExCL":
        """Set the mode of the trained part; the frozen towers stay in evaluation mode."""
        super().train(mode)
        self.clip.eval()
        return self

    def scores(self, batch: Asked) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
        """Return the scores of the start and the end of every frame; -inf in the padding."""
        dtype = self.of_frames.weight.dtype
        scaled = ((batch.frames.float() - self.centre.float()) / self.deviation.float()).to(dtype)
        mapped = self.dropout(self.of_frames(scaled))
        if self.of_similarity is not None:
            mapped = mapped + self.of_similarity(similarity(batch)[..., None].to(dtype))
        states, _ = self.video(mapped, batch.frame_count)
        _, query = self.text(self.dropout(self.of_words(batch.words.to(dtype))), batch.word_count)
        joined = torch.cat([states, query[:, None].expand(-1, states.shape[1], -1)], dim=2)
        start, end = self.pointers(self.dropout(joined), batch.frame_count)
        return masked(start.float(), batch.frame_count), masked(end.float(), batch.frame_count)

    def forward(self, batch: Asked) -> dict[str, Tensor]:
        """Return the loss."""
        start, end = self.scores(batch)
        return {"loss": boundary_loss(start, end, batch, self.config.loss)}

    @torch.no_grad()
    def locate(self, batch: Asked) -> Spans:
        """Return the span of every query; the truth in the batch is not read."""
        start, end = self.scores(batch)
        start, end = start.log_softmax(1), end.log_softmax(1)
        if self.config.loss == "classification":
            first, last, score = best_span(start, end)
            return Spans(start=first.float(), end=last.float(), score=score)
        first, last = expected_frame(start), expected_frame(end)
        last = torch.maximum(first, last)
        score = sum(each.gather(1, at.round().long()[:, None])[:, 0] for each, at in ((start, first), (end, last)))
        return Spans(start=first, end=last, score=torch.as_tensor(score))

    @torch.no_grad()
    def find(self, pixels: Float[Tensor, "t 3 y x"], tokens: Int[Tensor, "1 n"]) -> Spans:
        """Return the span of one text, given as token ids, in the preprocessed frames of one clip."""
        frames = frame_features(self.clip, pixels, self.config.grid)[None]
        words, word_count, text = word_features(self.clip, tokens)
        count = torch.full_like(word_count, len(pixels))
        unknown = torch.zeros_like(count)
        return self.locate(
            Asked(
                frames=frames, frame_count=count, words=words, word_count=word_count, text=text, start=unknown,
                end=unknown,
            )
        )  # fmt: skip

    @classmethod
    def from_base(cls, config: Config, model: CLIP) -> "ExCL":
        """Build the method on an opened base model."""
        return cls(config, model)

    @classmethod
    def tiny(cls) -> tuple["ExCL", Asked]:
        """Return a task of a few thousand parameters and a batch for it."""
        vision = VisionConfig(image_size=16, patch_size=4, width=16, layers=1, heads=1, pool_heads=1, output_dim=12)
        text = TextConfig(context=6, vocabulary=20, width=16, layers=1, heads=1, output_dim=12)
        task = cls(cls.Config(hidden=8, dropout=0.0), CLIP(ClipConfig(vision=vision, text=text)))
        return task, Asked(
            frames=torch.randn(3, 7, 76), frame_count=torch.tensor([7, 5, 6]), words=torch.randn(3, 4, 16),
            word_count=torch.tensor([4, 4, 3]), text=F.normalize(torch.randn(3, 12), dim=-1), start=torch.tensor([0, 2, 3]), end=torch.tensor([3, 4, 3]),
        )  # fmt: skip
