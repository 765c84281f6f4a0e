"""Batches of the generated world: images, texts and complete annotations."""

from dataclasses import dataclass, field

from jaxtyping import Float, Int
from torch import Tensor

from percept.data.batch import SHARED, Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class WorldBatch(Batch):
    """One step's share of generated images. Fields that a stage does not provide are None."""

    image: Float[Tensor, "b 3 y x"]
    """Preprocessed images."""
    words: Int[Tensor, "b n"]
    """Token ids that label each image, padded with 0."""
    tokens: Int[Tensor, "b n"] | None = None
    """Token ids of the caption, padded with 0."""
    cover: Int[Tensor, "b p"] | None = None
    """Which of the sample's objects covers each patch, row by row; negative where none does."""
    things: Int[Tensor, "b k 2"] | None = None
    """Category and colour of each object; -1 where there is no object or where it cannot be seen."""
    names: Int[Tensor, "b k n"] | None = None
    """Token ids of each object's name, padded with 0; all 0 where the name is not to be learned."""
    claims: Int[Tensor, "b c"] | None = None
    """Ids of the claims that hold for each image, padded with 0."""
    contrary: Int[Tensor, "b m 2 n"] | None = None
    """Token ids of pairs of a right and a wrong text for the image, padded with 0."""
    said: Int[Tensor, "b m 2 s"] | None = None
    """Ids of the claims that each text of `contrary` makes, padded with 0."""
    keep: Int[Tensor, " q"] | None = field(default=None, metadata=SHARED)
    """Patches that the model sees, the same for all samples; all patches if None."""
