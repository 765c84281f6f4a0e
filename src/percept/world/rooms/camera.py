"""A calibrated pinhole camera.

Camera coordinates are x right, y down and z forward, as in OpenCV; a world point is mapped by `rotation @ point + translation`.
Pixel coordinates are continuous: the centre of the pixel in row 0 and column 0 is (0.5, 0.5).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, kw_only=True, eq=False)
class Camera:
    """Intrinsics K, rotation R and translation t of one view."""

    intrinsics: Float[np.ndarray, "3 3"]
    """Focal lengths and principal point in pixels."""
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, " 3"]
    """In metres."""
    width: int
    height: int

    @property
    def centre(self) -> Float[np.ndarray, " 3"]:
        """Position of the camera in the world, in metres."""
        return -self.rotation.T @ self.translation

    def to_camera(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Return world points in camera coordinates."""
        return points @ self.rotation.T + self.translation

    def project(self, points: Float[np.ndarray, "n 3"]) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, " n"]]:
        """Return (column, row) in pixels and the depth in metres of world points; not meaningful for depths below 0."""
        local = self.to_camera(points)
        depth = local[:, 2]
        homogeneous = local @ self.intrinsics.T
        return homogeneous[:, :2] / np.where(np.abs(depth) < 1e-9, 1e-9, depth)[:, None], depth

    def rays(self, scale: int = 1) -> Float[np.ndarray, "n 3"]:
        """Return the directions of all pixels in the world, row by row, with a z of 1 in camera coordinates.

        With `scale` 2 every pixel is divided into 2 x 2 parts.
        """
        columns = (np.arange(self.width * scale) + 0.5) / scale
        rows = (np.arange(self.height * scale) + 0.5) / scale
        across, down = np.meshgrid(columns, rows)
        focal, centre = self.intrinsics[[0, 1], [0, 1]], self.intrinsics[:2, 2]
        x, y = (across - centre[0]) / focal[0], (down - centre[1]) / focal[1]
        return np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3) @ self.rotation

    def unproject(self, depth: Float[np.ndarray, "y x"]) -> Float[np.ndarray, "n 3"]:
        """Return the world points of all pixels of a depth map, row by row."""
        return self.centre + depth.reshape(-1, 1) * self.rays()


def look_at(
    position: Float[np.ndarray, " 3"], target: Float[np.ndarray, " 3"], *, size: int, field_of_view: float
) -> Camera:
    """Return a square camera at a position that looks at a target; z points up in the world.

    Args:
        position: in metres.
        target: in metres.
        size: side of the image in pixels.
        field_of_view: horizontal angle in degrees.
    """
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, np.array([0.0, 0.0, 1.0]))
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    focal = size / 2 / np.tan(np.radians(field_of_view) / 2)
    intrinsics = np.array([[focal, 0.0, size / 2], [0.0, focal, size / 2], [0.0, 0.0, 1.0]])
    return Camera(intrinsics=intrinsics, rotation=rotation, translation=-rotation @ position, width=size, height=size)
