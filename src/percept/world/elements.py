"""What a scene is made of, as plain data: things, printed words and the scene that holds them.

Lengths are in units of the picture's shorter side, x to the right and y down from the top left corner, so that a square
picture spans [0, 1] × [0, 1] and a 3:2 one [0, 1.5] × [0, 1].
"""

from dataclasses import dataclass

from percept.core.config import from_dict, to_dict


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One drawn object."""

    category: str
    colour: str
    fill: str = "plain"
    size: str = ""
    """What a person would call it: "small", "large" or nothing."""
    x: float
    """Its middle."""
    y: float
    """Where it stands if `grounded`, else its middle."""
    scale: float
    """Its longest side."""
    depth: float
    """0 nearest to 1 farthest."""
    grounded: bool = False
    angle: float = 0.0
    """Degrees."""
    flip: bool = False
    stretch: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    seed: int = 0
    """Proportions and pose."""

    @property
    def middle(self) -> float:
        """The height of its middle; estimated for a thing that stands, whose drawn height is not known yet."""
        return self.y - 0.4 * self.scale if self.grounded else self.y


@dataclass(frozen=True, kw_only=True)
class Word:
    """One printed word, always in front of everything."""

    text: str
    """In lower case, whatever is drawn."""
    x: float
    y: float
    size: float
    """Height of the type."""
    colour: str
    board: str = ""
    """Colour of the sign it is printed on; none if empty."""
    case: str = "lower"
    """"lower", "upper" or "title"."""

    @property
    def width(self) -> float:
        """An upper estimate of its printed width."""
        return self.size * (0.62 if self.case == "lower" else 0.72) * len(self.text) + 0.3 * self.size


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything needed to draw a picture and to talk about it."""

    seed: int
    split: str = "train"
    style: str = "plain"
    variant: str = "plain"
    """Which of the style's variants."""
    aspect: float = 1.0
    """Width over height."""
    background: str
    background_seed: int = 0
    horizon: float = 0.0
    """Height where the ground begins; 0 on a flat background."""
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
        """Turn it into plain data for json."""
        return to_dict(self)

    @staticmethod
    def from_dict(data: dict[str, object]) -> "Scene":
        """Build it from what `to_dict` gave, strictly."""
        return from_dict(Scene, data)
