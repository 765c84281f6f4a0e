"""How far learned tokens move the features of each tower, block by block: the feature shift.

Yang et al. 2024, arXiv:2403.06136 (RESTORE), section 3.2; reference: Yaphabates/RESTORE_, trainers/maple_fsa.py. Two measures:

    embedding: S_i = mean |h_i - h⁰_i| / mean |h⁰_i|, h_i the tokens after block i with learned tokens, h⁰_i without; learned ones left out
    gram:      G_i = |P_i P_iᵀ|, P_i the learned tokens in front of block i; what the code of the reference uses in place of S_i

The paper defines the shift by embeddings without giving the norm; the form above is ours. The text without learned tokens keeps the first
values of the tokens, which are words of the template.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from percept.methods.adaptation.deep import DeepPrompted, DeepPrompts, without_inserted
from percept.models.clip import CLIP
from percept.models.text import PREFIX


@dataclass(frozen=True, kw_only=True, eq=False)
class Shift:
    """The shift of both towers after each block with learned tokens."""

    text: Float[Tensor, " p"]
    image: Float[Tensor, " p"]

    def gap(self) -> Float[Tensor, ""]:
        """Return the mean difference of both towers over the deep blocks, all but the first."""
        return (self.text - self.image)[1:].abs().mean()


def gram(tokens: Sequence[Float[Tensor, "m w"]]) -> Float[Tensor, " p"]:
    """Return the Frobenius norm of P Pᵀ for each block, which equals that of Pᵀ P."""
    return torch.stack([torch.linalg.norm(each @ each.T) for each in tokens])


def relative(
    after: Float[Tensor, "b n w"], before: Float[Tensor, "b n w"], kept: Tensor | None = None
) -> Float[Tensor, ""]:
    """Return the mean length of the change over the mean length before it, of the kept tokens."""
    change, length = (after - before).norm(dim=-1), before.norm(dim=-1)
    if kept is not None:
        change, length = change[kept], length[kept]
    return change.mean() / length.mean()


def text_shift(prompts: DeepPrompts, clip: CLIP, frozen: CLIP) -> Float[Tensor, " p"]:
    """Return the shift of the text tower; zeros if it has no learned tokens."""
    blocks, count = prompts.text_blocks, prompts.count
    if prompts.prompt is None:
        return torch.zeros(len(blocks))
    assert clip.text is not None
    assert frozen.text is not None
    after = prompts.run_text(clip.text, layers=blocks).hidden
    with torch.no_grad():
        before = prompts.run_text(frozen.text, [prompts.start], layers=blocks).hidden
    length = after[blocks[0]].shape[1] - count
    kept = torch.arange(length, device=prompts.prompt.ends.device) <= (prompts.prompt.ends - count)[:, None]
    return torch.stack(
        [relative(without_inserted(after[at], count, PREFIX), without_inserted(before[at], count, PREFIX), kept) for at in blocks]
    )  # fmt: skip


def image_shift(prompts: DeepPrompts, clip: CLIP, frozen: CLIP, image: Float[Tensor, "b 3 y x"]) -> Float[Tensor, " p"]:
    """Return the shift of the image tower; zeros if it has no learned tokens."""
    blocks, count = prompts.image_blocks, prompts.count
    if prompts.config.towers == "text":
        return torch.zeros(len(blocks))
    out = prompts.run_image(clip.vision, image, layers=blocks)
    with torch.no_grad():
        before = frozen.vision(image, layers=blocks, pool=False).hidden
    return torch.stack([relative(without_inserted(out.hidden[at], count, out.prefix), before[at]) for at in blocks])


def embedding_shift(method: DeepPrompted, image: Float[Tensor, "b 3 y x"]) -> Shift:
    """Return the shift of both towers of a method on some images and on the names in use."""
    frozen = method.base.clip
    return Shift(
        text=text_shift(method.prompts, method.towers, frozen),
        image=image_shift(method.prompts, method.towers, frozen, image),
    )
