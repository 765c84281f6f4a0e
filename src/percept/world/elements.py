"""Scenes as plain data: things, printed words and the scene that contains them.

Lengths are in units of the image's shorter side, x to the right and y down from the top left corner. A square image
spans [0, 1] × [0, 1] and a 3:2 image [0, 1.5] × [0, 1].
"""

from dataclasses import dataclass

from percept.core.config import from_dict, to_dict

MOST_THINGS = 6
"""Most things of a scene."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One drawn object."""

    category: str
    colour: str
    fill: str = "plain"
    size: str = ""
    """"small", "large" or empty, as a caption describes it."""
    x: float
    """Centre."""
    y: float
    """Bottom edge if `grounded`, else the centre."""
    scale: float
    """Longest side."""
    depth: float
    """0 nearest to 1 farthest."""
    grounded: bool = False
    angle: float = 0.0
    """Degrees."""
    flip: bool = False
    stretch: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    seed: int = 0
    """Seed of proportions and pose."""

    @property
    def middle(self) -> float:
        """y of the centre. Estimated for a grounded thing, whose drawn height is not known yet."""
        return self.y - 0.4 * self.scale if self.grounded else self.y


@dataclass(frozen=True, kw_only=True)
class Word:
    """A printed word, drawn in front of all things."""

    text: str
    """The word in lower case; `case` applies when it is printed."""
    x: float
    y: float
    size: float
    """Font size."""
    colour: str
    board: str = ""
    """Colour of the sign behind it; no sign if empty."""
    case: str = "lower"
    """"lower", "upper" or "title"."""

    @property
    def width(self) -> float:
        """Upper estimate of the printed width."""
        return self.size * (0.62 if self.case == "lower" else 0.72) * len(self.text) + 0.3 * self.size


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything needed to render an image and to describe it."""

    seed: int
    split: str = "train"
    style: str = "plain"
    variant: str = "plain"
    """Variant of the style."""
    aspect: float = 1.0
    """Width over height."""
    background: str
    background_seed: int = 0
    horizon: float = 0.0
    """y at which the ground begins; 0 on a flat background."""
    things: tuple[Thing, ...]
    words: tuple[Word, ...] = ()

    @property
    def width(self) -> float:
        """Width in shorter sides."""
        return max(1.0, self.aspect)

    @property
    def height(self) -> float:
        """Height in shorter sides."""
        return max(1.0, 1.0 / self.aspect)

    def to_dict(self) -> dict[str, object]:
        """Return the scene as plain data for json."""
        return to_dict(self)

    @staticmethod
    def from_dict(data: dict[str, object]) -> "Scene":
        """Build a scene from the result of `to_dict`; unknown keys are refused."""
        return from_dict(Scene, data)
