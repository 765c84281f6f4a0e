"""Fusioner: segment what a text names, by a transformer over the patches of a frozen image tower and the vector of the text.

Ma et al. 2022, arXiv:2210.15138. Reference: chaofanma/Fusioner, model/{fusion,decoder,head}.py. With unit vectors of patches V and of the
class name c, both from frozen towers:

    [P; q] = Transformer([W_v V; W_c c + e])                    # e is learned
    logit of a pixel = cos(Decoder(P A), q B) / 0.07            # A, B are learned
    loss = binary cross-entropy with the mask, pixels of value 255 left out

Differs from it: a patch of a tower that pools by attention goes through the value path of its pooling head, where the reference projects
the tokens of a tower that returns its class token; convolutions before an InstanceNorm have no bias, which it would remove.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.data.batch import Batch
from percept.infer.zeroshot_dense import pooled_patches
from percept.losses.segmentation import mask_bce
from percept.models.clip import CLIP
from percept.models.config import ClipConfig, TextConfig, VisionConfig
from percept.nn.attention import Attention
from percept.nn.block import Block
from percept.nn.mlp import MLP


@dataclass(frozen=True, kw_only=True, eq=False)
class Named(Batch):
    """Images, each with one class name and the mask of what it names."""

    image: Float[Tensor, "b 3 y x"]
    """Preprocessed images."""
    text: Float[Tensor, "b d"]
    """Unit vectors of the names, averaged over templates."""
    mask: Int[Tensor, "b h w"]
    """1 on what is named, 0 elsewhere, 255 where the loss ignores a pixel; of any size."""


class Decoder(nn.Module):
    """Convolutions that enlarge the map of patches step by step."""

    def __init__(self, width: int, scales: tuple[int, ...]) -> None:
        super().__init__()
        self.scales = (1, *scales)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(len(self.scales))
        )
        self.last = nn.Conv2d(width, width, 1)

    def forward(self, x: Float[Tensor, "b w y x"]) -> Float[Tensor, "b w h v"]:
        """Return a map that is as many times as large as the last scale says."""
        down, across = x.shape[2:]
        for scale, convolution in zip(self.scales, self.convolutions, strict=True):
            if scale > 1:
                x = F.interpolate(x, (scale * down, scale * across), mode="bilinear", align_corners=False)
            x = F.relu(F.instance_norm(convolution(x)))
        return self.last(x)


class Fusioner(nn.Module):
    """The fusion of two frozen towers."""

    base_parts = ("clip",)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Defaults of the reference (configs/__init__.py)."""

        width: int = 512
        """Channels of the transformer and the decoder."""
        layers: int = 12
        """Blocks of the transformer."""
        heads: int = 8
        """Attention heads."""
        scales: tuple[int, ...] = (2, 4, 8)
        """Sizes of the maps in the decoder, as multiples of the grid of patches."""
        temperature: float = 0.07
        """Divides the cosine."""

        def __post_init__(self) -> None:
            object.__setattr__(self, "scales", tuple(self.scales))
            if self.width % self.heads or self.layers < 0 or self.temperature <= 0:
                raise PerceptError(
                    f"width must be a multiple of heads, layers at least 0 and temperature above 0, got width={self.width} "
                    f"heads={self.heads} layers={self.layers} temperature={self.temperature}."
                )

    def __init__(self, config: Config, clip: CLIP) -> None:
        """Freeze `clip` and add what is trained."""
        super().__init__()
        self.config, self.clip, width = config, clip.requires_grad_(False), config.width
        inputs = clip.config.vision.output_dim or clip.config.vision.width
        self.visual = nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, width), nn.LayerNorm(width))
        self.textual = nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, width))
        self.kind = nn.Parameter(torch.randn(width) * width**-0.5)
        self.blocks = nn.ModuleList(
            Block(width, attention=Attention(width, config.heads), mlp=MLP(width, 4 * width))
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.of_patches = nn.Parameter(torch.randn(width, width) * width**-0.5)
        self.of_text = nn.Parameter(torch.randn(width, width) * width**-0.5)
        self.decoder = Decoder(width, config.scales)

    def train(self, mode: bool = True) -> "Fusioner":
        """Set the mode of the trained part; the frozen towers stay in evaluation mode."""
        super().train(mode)
        self.clip.eval()
        return self

    @torch.no_grad()
    def patches(self, image: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b h w d"]:
        """Return the unit vectors of patches that the frozen image tower gives."""
        return F.normalize(pooled_patches(self.clip.vision, image).float(), dim=-1)

    def logits(self, patches: Float[Tensor, "b h w d"], text: Float[Tensor, "b d"]) -> Float[Tensor, "b v u"]:
        """Return the logit of every pixel of the decoder's map."""
        grid = patches.shape[1:3]
        dtype = self.kind.dtype
        tokens = torch.cat(
            [self.visual(patches.to(dtype).flatten(1, 2)), (self.textual(text.to(dtype)) + self.kind)[:, None]], dim=1
        )
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        pixels = self.decoder((tokens[:, :-1] @ self.of_patches).transpose(1, 2).unflatten(2, grid))
        named = F.normalize(tokens[:, -1] @ self.of_text, dim=-1)
        return torch.einsum("bwyx,bw->byx", F.normalize(pixels, dim=1), named) / self.config.temperature

    def loss(
        self, patches: Float[Tensor, "b h w d"], text: Float[Tensor, "b d"], mask: Int[Tensor, "b y x"]
    ) -> Float[Tensor, ""]:
        """Return the loss of patches that were computed before; the logits are enlarged to the mask."""
        logits = F.interpolate(
            self.logits(patches, text)[:, None], mask.shape[1:], mode="bilinear", align_corners=False
        )
        return mask_bce(logits[:, 0], mask)

    def forward(self, batch: Named) -> dict[str, Tensor]:
        """Return the loss."""
        return {"loss": self.loss(self.patches(batch.image), batch.text, batch.mask)}

    @torch.no_grad()
    def probability(self, image: Float[Tensor, "b 3 y x"], text: Float[Tensor, "b d"]) -> Float[Tensor, "b y x"]:
        """Return how likely every pixel of the image is named by the text; above 0.5 it is foreground."""
        logits = self.logits(self.patches(image), text).float()
        return F.interpolate(logits[:, None], image.shape[2:], mode="bilinear", align_corners=False)[:, 0].sigmoid()

    @classmethod
    def from_base(cls, config: Config, model: CLIP) -> "Fusioner":
        """Build the method on an opened base model."""
        return cls(config, model)

    @classmethod
    def tiny(cls) -> tuple["Fusioner", Named]:
        """Return a task of a few thousand parameters and a batch for it."""
        vision = VisionConfig(image_size=16, patch_size=4, width=16, layers=1, heads=1, pool_heads=1, output_dim=12)
        text = TextConfig(context=6, vocabulary=20, width=16, layers=1, heads=1, output_dim=12)
        task = cls(cls.Config(width=16, layers=1, heads=2, scales=(2,)), CLIP(ClipConfig(vision=vision, text=text)))
        mask = torch.randint(0, 2, (3, 16, 16))
        mask[:, 0] = 255
        words = F.normalize(torch.randn(3, 12), dim=-1)
        return task, Named(image=torch.randn(3, 3, 16, 16), text=words, mask=mask)
