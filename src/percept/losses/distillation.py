"""Distillation of an image-text space (Bolya et al. 2025, arXiv:2504.13181, section 5): both similarity distributions of a teacher."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

TEACHER_SCALE = 200.0
"""Fixed scale of the teacher: twice the largest scale of a student."""
ROWS = 2_048
"""Rows of logits that exist at once."""


def distillation_loss(
    image: Float[Tensor, "b d"],
    text: Float[Tensor, "b d"],
    scale: Float[Tensor, ""],
    teacher_image: Float[Tensor, "b e"],
    teacher_text: Float[Tensor, "b e"],
    *,
    teacher_scale: float | int = TEACHER_SCALE,
    rows: int = ROWS,
) -> Float[Tensor, ""]:
    """Return 1/2 [KL(P' || P) + KL(Q' || Q)], the mean over images and over texts.

    P = softmax(s I T') over texts, Q = softmax(s T I') over images; P' and Q' are those of the teacher with its fixed scale. That both
    halves weigh 1/2 and are means is our choice, because the paper does not say.

    Args:
        image: unit vectors of the student.
        text: unit vectors of the student; row i matches row i of `image`.
        scale: of the student; multiplies its cosines.
        teacher_image: unit vectors of the teacher for the same images; no gradient flows into them.
        teacher_text: unit vectors of the teacher for the same texts.
        rows: rows whose logits exist at once; the backward pass computes them again.
    """
    theirs = teacher_image.detach(), teacher_text.detach()
    loss = image.new_zeros((), dtype=torch.float32)
    for ours, others, queries, keys in ((image, text, *theirs), (text, image, *reversed(theirs))):
        for start in range(0, len(ours), rows):
            part = slice(start, start + rows)
            values = ours[part], others, scale, queries[part], keys, float(teacher_scale)
            with torch.autocast(image.device.type, enabled=False):
                loss = loss + checkpoint(_divergence, *values, use_reentrant=False)
    return loss / (2 * len(image))


def _divergence(
    queries: Tensor, keys: Tensor, scale: Tensor, teacher_queries: Tensor, teacher_keys: Tensor, teacher_scale: float
) -> Tensor:
    """Return the summed divergence of the distributions of some rows."""
    student = F.log_softmax(scale * queries.float() @ keys.float().T, dim=1)
    teacher = F.log_softmax(teacher_scale * teacher_queries.float() @ teacher_keys.float().T, dim=1)
    return F.kl_div(student, teacher, reduction="sum", log_target=True)
