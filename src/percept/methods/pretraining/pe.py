"""Image pretraining of the Perception Encoder: contrast of images and texts, and mask regularisation.

Bolya et al. 2025, arXiv:2504.13181, section 2 and its appendix. Of a part of the batch the patches are hidden in a second pass, and their
tokens are aligned with those of the first pass:

    L_mask = -(1 / |M|) sum of cos(f(hidden x)_i, stopgrad f(x)_i) over the hidden patches i in M

The first pass alone enters the contrastive loss, and the second one alone has gradients of L_mask. No code of the training was published.
The paper does not say what stands for a hidden patch, which weight the loss has, and which tokens are the output; here it is a learned
vector, weight 1, and the tokens after the final norm, before pooling.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.data.augment import Masking
from percept.data.sources.batches import ViewsText
from percept.methods.contrast import check_form, check_micro_tokens, contrast, encode_images, encode_texts, part_size
from percept.models.clip import CLIP
from percept.models.config import ClipConfig, TextConfig, VisionConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """Mask regularisation, and how a step is computed."""

    mask_share: float = 1 / 16
    """Share of the batch whose patches are hidden in a second pass; 0 for no mask regularisation."""
    mask_ratio: float = 0.4
    """Share of the patches that are hidden."""
    mask_block: int = 1
    """Side, in patches, of the squares that are hidden together. The paper does not say; 2 in its spatial alignment."""
    mask_weight: float = 1.0
    """Weight of the loss of the hidden patches. The paper does not say."""
    mask_token: Literal["learned", "zero"] = "learned"
    """What stands for the embedding of a hidden patch. The paper does not say; the released weights have no such vector."""
    micro_tokens: int | None = None
    """Tokens that a tower processes at once. The losses compare the whole batch. None: as the recipe chooses for the device."""

    recompute: bool = False
    """Encode each part of `micro_tokens` again in the backward pass: activations of one part are stored at a time, so that the batch
    can be many times larger in the same memory, with the same gradients."""
    form: Literal["auto", "dense", "tiled"] = "auto"
    """Form of the contrastive loss."""

    def __post_init__(self) -> None:
        check_micro_tokens(self.micro_tokens)
        check_form(self.form)
        if self.form == "sigmoid":
            raise PerceptError("this method has no bias for the sigmoid loss. Use auto, dense or tiled.")
        if not 0 <= self.mask_share <= 1:
            raise PerceptError(f"mask_share must be from 0 to 1, got {self.mask_share}.")
        if not 0 <= self.mask_weight < math.inf:
            raise PerceptError(f"mask_weight must be finite and at least 0, got {self.mask_weight}.")
        self.masking(1)

    def masking(self, patch: int) -> Masking:
        """Return which patches are hidden, for a model with patches of `patch` pixels."""
        return Masking(patch=patch, ratio=self.mask_ratio, block=self.mask_block)


def masked_alignment(
    tokens: Float[Tensor, "b n w"], target: Float[Tensor, "b n w"], hidden: Bool[Tensor, "b n"]
) -> Float[Tensor, ""]:
    """Return minus the mean cosine of the tokens of hidden patches with those of the same patches when they are seen.

    Args:
        tokens: of images with hidden patches.
        target: of the same images with all patches seen; no gradient flows into them.
        hidden: True for the patches that count.
    """
    cosine = F.cosine_similarity(tokens.float(), target.detach().float(), dim=-1)
    return -(cosine * hidden).sum() / hidden.sum()


class Pretraining(nn.Module):
    """Both towers, the scale, and the vector that stands for a hidden patch."""

    Config = Config
    shown = ("batch_accuracy", "scale", "mask")

    def __init__(self, config: Config, clip: CLIP) -> None:
        super().__init__()
        self.config, self.clip = config, clip
        learned = config.mask_share > 0 and config.mask_token == "learned"
        self.mask_token = nn.Parameter(0.02 * torch.randn(clip.config.vision.width)) if learned else None

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """Return the loss, the scale, the batch accuracy and, with mask regularisation, its loss without its weight.

        Args:
            batch: has `image` [b, 3, y, x] and `tokens` [b, n], such as `ImageText`. Where it has no `hidden`, as `ViewsText` of one
                view has, the hidden patches are drawn.
        """
        image, mask = self.see(batch.image, getattr(batch, "hidden", None))
        text = encode_texts(self.clip, batch.tokens, self.config.micro_tokens, self.config.recompute)
        values = contrast(self.clip, image, text, batch.tokens, form=self.config.form)
        if mask is None:
            return values
        loss = values.pop("loss") + self.config.mask_weight * mask
        return {"loss": loss, "mask": mask.detach(), **values}

    def see(
        self, image: Float[Tensor, "b 3 y x"], hidden: Bool[Tensor, "b n"] | None = None
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, ""] | None]:
        """Encode images; the first ones also with hidden patches. Return the vectors and the loss of the hidden patches."""
        count, micro = math.ceil(self.config.mask_share * len(image)), self.config.micro_tokens
        again = self.config.recompute
        if count == 0:
            return encode_images(self.clip, image, micro, again), None
        hidden = self._drawn(image[:count]) if hidden is None else hidden[:count]
        size = part_size(hidden.shape[1], micro) or count
        pairs = zip(image[:count].split(size), hidden.split(size), strict=True)
        vectors, losses = zip(*(self._seen_and_hidden(*pair) for pair in pairs), strict=True)
        shares = [len(part) / count for part in vectors]
        mask = torch.stack([share * loss for share, loss in zip(shares, losses, strict=True)]).sum()
        if count < len(image):
            vectors += (encode_images(self.clip, image[count:], micro, again),)
        return torch.cat(vectors), mask

    def _seen_and_hidden(
        self, image: Float[Tensor, "b 3 y x"], hidden: Bool[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, ""]]:
        """Encode images as they are, and with hidden patches; return the vectors and the loss."""
        vision = self.clip.vision
        seen = vision(image)
        embeddings, grid = vision.embed_patches(image)
        token = embeddings.new_zeros(()) if self.mask_token is None else self.mask_token.to(embeddings.dtype)
        again = vision(embeddings=torch.where(hidden[..., None], token, embeddings), grid=grid, pool=False)
        assert seen.pooled is not None
        return seen.pooled, masked_alignment(again.tokens[:, again.prefix :], seen.tokens[:, seen.prefix :], hidden)

    def _drawn(self, image: Float[Tensor, "b 3 y x"]) -> Bool[Tensor, "b n"]:
        """Draw the hidden patches of each image from the random numbers of the step."""
        masking = self.config.masking(self.clip.config.vision.patch_size)
        seeds = torch.randint(2**31, (len(image),)).tolist()
        rows = np.stack([masking.draw((image.shape[-2], image.shape[-1]), seed) for seed in seeds])
        return torch.from_numpy(rows).to(image.device)

    @classmethod
    def tiny(cls) -> tuple["Pretraining", ViewsText]:
        """Return a task of a few thousand parameters and a batch for it."""
        vision = VisionConfig(image_size=32, patch_size=8, width=16, layers=1, heads=1, pool_heads=1, output_dim=12)
        text = TextConfig(context=6, vocabulary=20, width=16, layers=1, heads=1, output_dim=12)
        task = cls(Config(mask_share=0.5), CLIP(ClipConfig(vision=vision, text=text)))
        tokens = torch.randint(1, 18, (4, 6))
        tokens[:, 0], tokens[:, -1] = 18, 19
        image = torch.randn(4, 3, 32, 32)
        return task, ViewsText(image=image, tokens=tokens, hidden=task._drawn(image))
