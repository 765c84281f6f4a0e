"""TL;DR's captioner: a codebook between the tokens of an image and a text decoder; the codes represent images for the reduction.

Wang et al. 2023, arXiv:2305.20087; showlab/datacentric.vlp, vq_compress_model. Image tokens z_1 … z_T are replaced by the nearest entries of a
codebook e_1 … e_K, with the gradient passed straight through:

    c_t = argmin_k |z_t - e_k|²,   q_t = z_t + sg(e_{c_t} - z_t)
    L = CE(next token | q, earlier tokens) + mean |sg(z) - e_c|² + β mean |z - sg(e_c)|²         # K = 1,024, β = 0.25

Differences: the decoder reads the codes as tokens in front of the text, where the release uses cross-attention in BERT; β weighs
the commitment of z as in van den Oord et al. 2017, where a switch of the release makes it weigh the codebook; entries that no token
of a batch is nearest to for long do not learn in either. `percept.data.curate.tldr` makes the reduction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.data.batch import ImageText
from percept.models.config import TextConfig, VisionConfig
from percept.models.text import TextTower
from percept.models.towers import ImageTower, build_tower


@dataclass(frozen=True)
class Quantised:
    """The result of a codebook."""

    tokens: Float[Tensor, "b t w"]
    """Entries, with the gradient of the tokens that they replace."""
    codes: Int[Tensor, "b t"]
    """Numbers of the entries."""
    loss: Float[Tensor, ""]


class Codebook(nn.Module):
    """Replace tokens by their nearest entries."""

    no_decay = ("entries",)

    def __init__(self, codes: int, width: int, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.entries = nn.Parameter(torch.empty(codes, width).uniform_(-1 / codes, 1 / codes))

    def forward(self, tokens: Float[Tensor, "b t w"]) -> Quantised:
        """Return the entries, their numbers and the loss."""
        squared = (
            self.entries.square().sum(dim=1) - 2 * tokens @ self.entries.T
        )  # without |z|², which all entries share
        codes = squared.argmin(dim=-1)
        chosen = self.entries[codes]
        loss = F.mse_loss(chosen, tokens.detach()) + self.beta * F.mse_loss(tokens, chosen.detach())
        return Quantised(tokens + (chosen - tokens).detach(), codes, loss)


class Captioner(nn.Module):
    """An image tower, a codebook and a text decoder."""

    shown = ("caption_loss", "codes_used")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """The codebook (defaults of the release)."""

        codes: int = 1024
        """Entries of the codebook (K)."""
        beta: float = 0.25
        """Weight of the distance of tokens to their entries (β)."""

        def __post_init__(self) -> None:
            if self.codes < 2:
                raise PerceptError(f"codes must be at least 2, got {self.codes}.")

    def __init__(self, config: Config, tower: ImageTower, tokens: int, decoder: TextConfig) -> None:
        """Make a captioner.

        Args:
            config: the codebook.
            tower: gives the tokens of an image; freeze it to train only the codebook and the decoder.
            tokens: number of the tokens of an image.
            decoder: the text decoder.
        """
        super().__init__()
        self.config = config
        self.tower = tower
        self.project = nn.Linear(tower.config.width, decoder.width)
        self.codebook = Codebook(config.codes, decoder.width, config.beta)
        self.places = nn.Parameter(0.01 * torch.randn(tokens, decoder.width))
        self.decoder = TextTower(decoder)
        self.decoder.projection.requires_grad_(False)  # of its pooled vector, which is not used

    def forward(self, batch: ImageText) -> dict[str, Tensor]:
        """Return the loss, that of the captions alone, and the share of the codebook that the batch uses."""
        found = self.quantise(batch.image)
        logits = self.logits(found.tokens, batch.tokens[:, :-1])
        caption = F.cross_entropy(logits.flatten(0, 1), batch.tokens[:, 1:].flatten(), ignore_index=0)
        used = found.codes.unique().numel() / self.config.codes
        return {
            "loss": caption + found.loss,
            "caption_loss": caption.detach(),
            "codes_used": torch.tensor(used, device=caption.device),
        }

    def quantise(self, image: Float[Tensor, "b 3 y x"]) -> Quantised:
        """Return the entries for the tokens of images."""
        return self.codebook(self.project(self.tower(image, pool=False).tokens))

    def codes(self, image: Float[Tensor, "b 3 y x"]) -> Int[Tensor, "b t"]:
        """Return the codes of images."""
        with torch.no_grad():
            return self.quantise(image).codes

    def logits(self, entries: Float[Tensor, "b t w"], ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n v"]:
        """Return the logits of the token that follows each token; the first is predicted from the last code."""
        extra = {0: entries + self.places[: entries.shape[1]]}
        tokens = self.decoder(ids, extra=extra).tokens[:, entries.shape[1] :]
        return tokens @ self.decoder.embedding.weight.T

    @torch.no_grad()
    def generate(self, image: Float[Tensor, "b 3 y x"], *, start: int, end: int, most: int) -> list[list[int]]:
        """Return the most probable tokens of a caption, chosen one after the other, without start and end token.

        Args:
            image: preprocessed images.
            start: id of the start token.
            end: id of the end token.
            most: largest number of tokens.
        """
        entries = self.quantise(image).tokens
        ids = torch.full((len(image), 1), start, dtype=torch.int64, device=image.device)
        for _ in range(min(most, self.decoder.config.context - 1)):
            following = self.logits(entries, ids)[:, -1].argmax(dim=-1, keepdim=True)
            ids = torch.cat([ids, following], dim=1)
            if bool((ids == end).any(dim=1).all()):
                break
        return [until(row, end) for row in ids[:, 1:].tolist()]

    @classmethod
    def tiny(cls) -> tuple["Captioner", ImageText]:
        """Return a task of a few thousand parameters and a batch for it."""
        vision = VisionConfig(image_size=16, patch_size=8, width=16, layers=1, heads=1, pool="none")
        text = TextConfig(context=6, vocabulary=20, width=16, layers=1, heads=1, output_dim=4)
        task = cls(cls.Config(codes=8), build_tower(vision), 5, text)
        tokens = torch.randint(1, 18, (4, 6))
        tokens[:, 0], tokens[:, -1] = 18, 19
        return task, ImageText(image=torch.randn(4, 3, 16, 16), tokens=tokens)


def until(ids: Sequence[int], end: int) -> list[int]:
    """Return the ids before the end token.

    >>> until([5, 3, 9, 1], end=9)
    [5, 3]
    """
    return list(ids[: ids.index(end)] if end in ids else ids)
