"""How videos are cut into pieces."""

from dataclasses import dataclass

from percept.core.errors import PerceptError


@dataclass(frozen=True, kw_only=True)
class Cutting:
    """How videos are cut into the pieces that a search finds. Videos that are in the index already stay as they are."""

    window: float = 10.0
    """Longest piece of a video in seconds."""
    rate: float = 2.0
    """Frames per second that are looked at."""
    frames: int = 8
    """Most frames of a piece that go through the model; their vectors are averaged."""
    scene_change: float = 0.08
    """Difference of grey values, from 0 to 1, that ends a piece if it is also 3 times the usual one; 1 never does."""

    def __post_init__(self) -> None:
        if not self.window > 0 or not self.rate > 0 or self.frames < 1:
            raise PerceptError(
                f"window, rate and frames must be positive, got {self.window}, {self.rate} and {self.frames}. "
                "10 seconds, 2 frames per second and 8 frames are usual."
            )

    @property
    def shortest(self) -> float:
        """Shortest piece in seconds, except for a shorter video: two frames."""
        return 2 / self.rate
