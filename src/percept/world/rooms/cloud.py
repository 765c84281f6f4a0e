"""Coloured, labelled point clouds from the views of a room, and correspondences of two views."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from percept.world.rooms.draw import View


@dataclass(frozen=True, kw_only=True, eq=False)
class PointCloud:
    """Points with the colour, class and solid that their pixels show."""

    points: Float[np.ndarray, "n 3"]
    """In metres, in the frame of the room."""
    colours: UInt8[np.ndarray, "n 3"]
    labels: UInt8[np.ndarray, " n"]
    """Index into `LABELS`."""
    ids: UInt8[np.ndarray, " n"]
    """Number of the solid, from 1; 0 for floor, walls and ceiling."""
    views: Int[np.ndarray, " n"]
    """View that each point was seen in."""


def point_cloud(views: Sequence[View], *, voxel: float = 0.0) -> PointCloud:
    """Fuse the pixels of all views into one point cloud.

    Args:
        views: views of one room.
        voxel: side in metres of the cubes of which each contains one point at most; 0 for all points.
    """
    points = np.concatenate([view.camera.unproject(view.depth) for view in views])
    cloud = PointCloud(
        points=points,
        colours=np.concatenate([view.image.reshape(-1, 3) for view in views]),
        labels=np.concatenate([view.labels.ravel() for view in views]),
        ids=np.concatenate([view.ids.ravel() for view in views]),
        views=np.repeat(np.arange(len(views)), [view.ids.size for view in views]),
    )
    if voxel <= 0:
        return cloud
    _, first = np.unique(np.floor(points / voxel).astype(np.int64), axis=0, return_index=True)
    first.sort()
    return PointCloud(
        points=points[first], colours=cloud.colours[first], labels=cloud.labels[first], ids=cloud.ids[first],
        views=cloud.views[first],
    )  # fmt: skip


def correspondences(
    first: View, second: View, *, tolerance: float = 0.02
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2"]]:
    """Return the (column, row) positions in two views of all points that both of them show.

    The first positions are centres of pixels, the second ones are between pixels.

    Args:
        first: view whose pixels are projected.
        second: view into which they are projected.
        tolerance: largest difference of depths, as a share of the depth.
    """
    camera = second.camera
    places, depth = camera.project(first.camera.unproject(first.depth))
    columns, rows = np.floor(places).astype(int).T
    inside = (depth > 0) & (columns >= 0) & (columns < camera.width) & (rows >= 0) & (rows < camera.height)
    columns, rows = np.where(inside, columns, 0), np.where(inside, rows, 0)
    same = np.abs(second.depth[rows, columns] - depth) < tolerance * np.abs(depth)
    shown = inside & same & (second.ids[rows, columns] == first.ids.ravel())
    across, down = np.meshgrid(np.arange(first.camera.width) + 0.5, np.arange(first.camera.height) + 0.5)
    return np.stack([across.ravel(), down.ravel()], axis=1)[shown], places[shown]
