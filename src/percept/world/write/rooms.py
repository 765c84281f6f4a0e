"""Rooms: a folder each with views, depth, masks, cameras and a point cloud; or the json lines of Perception LM.

`cameras.json` holds intrinsics in pixels, and 4 x 4 matrices from the room (metres, z up) to the camera (x right, y down, z forward).
The questions of `truth.json` are about the view with the number `question_view`: left and right are those of its image.
"""

import json
from typing import Any

import numpy as np

from percept.world.rooms import LABELS, Camera, PointCloud, RoomViews, generate_room, point_cloud
from percept.world.write.encode import millimetre_png, palette_png, png
from percept.world.write.job import INDEX, Job, Lines, index_line, key_of
from percept.world.write.questions import line_of


def ply(cloud: PointCloud) -> bytes:
    """Encode a point cloud as binary PLY: x, y, z in metres, red, green, blue, label, instance, view."""
    columns = [(axis, "<f4", "float") for axis in "xyz"]
    columns += [(name, "u1", "uchar") for name in ("red", "green", "blue", "label", "instance", "view")]
    rows = np.empty(len(cloud.points), [(name, kind) for name, kind, _ in columns])
    for index, axis in enumerate("xyz"):
        rows[axis] = cloud.points[:, index]
    for index, colour in enumerate(("red", "green", "blue")):
        rows[colour] = cloud.colours[:, index]
    rows["label"], rows["instance"], rows["view"] = cloud.labels, cloud.ids, cloud.views
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    head += [f"property {kind} {name}" for name, _, kind in columns]
    return ("\n".join([*head, "end_header"]) + "\n").encode() + rows.tobytes()


def check(job: Job) -> None:
    """Draw the first room.

    Raises:
        PerceptError: an argument is out of range.
    """
    _room(job, 0)


def _room(job: Job, number: int) -> RoomViews:
    return generate_room(job.seed + number, split=job.split, size=job.side)


def write_folder(job: Job, numbers: range) -> Lines:
    """Write a folder per room; return the lines of the index, one per view."""
    lines = []
    for number in numbers:
        found, key = _room(job, number), key_of(number)
        cameras = []
        for place, view in enumerate(found.views):
            parts = {
                "image": png(view.image),
                "depth": millimetre_png(view.depth),
                "instances": palette_png(view.ids),
                "labels": palette_png(view.labels),
            }
            files = {name: f"{name}/{place}.png" for name in parts}
            put = {name: job.put(f"{key}/{file}", parts[name]) for name, file in files.items()}
            lines.append(index_line(put.pop("image"), caption=found.captions[place], room=key, view=place, **put))
            cameras.append({**files, **_calibration(view.camera)})
        job.put(f"{key}/cameras.json", json.dumps({"depth_units_per_metre": 1000, "views": cameras}, indent=1))
        job.put(f"{key}/cloud.ply", ply(point_cloud(found.views)))
        job.put(f"{key}/truth.json", json.dumps({"labels": LABELS, **found.record()}, indent=1))
    return {INDEX: lines}


def _calibration(camera: Camera) -> dict[str, Any]:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = camera.rotation, camera.translation
    return {
        "width": camera.width,
        "height": camera.height,
        "intrinsics": camera.intrinsics.tolist(),
        "world_to_camera": matrix.tolist(),
    }


def write_plm(job: Job, numbers: range) -> Lines:
    """Write the first views; return a line per room."""
    lines = []
    for number in numbers:
        found = _room(job, number)
        file = job.put(f"images/{key_of(number)}.png", png(found.views[0].image))
        lines.append(line_of(found.row(file), found.pairs))
    return {"rooms.jsonl": lines}
