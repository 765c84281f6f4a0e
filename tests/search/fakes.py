"""An encoder that sees nothing but colour: enough to know what a search must find."""

from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from percept.data.transforms import Preprocess
from percept.infer.identity import Identity
from percept.infer.images import to_tensor

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255), "black": (0, 0, 0)}


class ColourEncoder:
    """Embeds the mean colour; counts what it was given."""

    def __init__(
        self, fingerprint: str = "c0105eec0de", name: str = "colours", size: int = 8, fails_after: int = 10**9
    ) -> None:
        self.identity = Identity(name=name, image=f"{fingerprint}, {size} pixels", text="7e87", dim=4)
        self.preprocess = Preprocess(size=size)
        self.scale = 100.0
        self.encoded = 0
        self.fails_after = fails_after

    def image(self, images: list) -> Tensor:
        self.encoded += len(images)
        if self.encoded > self.fails_after:
            raise KeyboardInterrupt
        pixels = self.preprocess.normalise(torch.stack([to_tensor(image, self.preprocess) for image in images]))
        return _unit(pixels.mean((2, 3)))

    def text(self, texts: list[str]) -> Tensor:
        rows = [[COLOURS[word] for word in text.split() if word in COLOURS] or [(128, 128, 128)] for text in texts]
        return _unit(torch.tensor([list(map(sum, zip(*row, strict=True))) for row in rows]) / 255 / 0.5 - 1)


def _unit(colour: Tensor) -> Tensor:
    return F.normalize(torch.cat([colour, torch.full((len(colour), 1), 0.1)], dim=1), dim=1)


def picture(path: Path, colour: str | tuple[int, int, int], size: tuple[int, int] = (20, 10)) -> Path:
    """Write a picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, COLOURS[colour] if isinstance(colour, str) else colour).save(path)
    return path
