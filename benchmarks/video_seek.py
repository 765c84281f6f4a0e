"""Compare three ways to read frames of a long clip: jumping between keyframes, decoding all frames, and one seek per frame.

    python benchmarks/video_seek.py          # encodes two clips, prints a table and writes video_seek.json next to this file

The clips are generated: 10 minutes of 160 x 120 pixels at 25 frames per second, H.264 with a keyframe every 250 or every 25
frames. Every way opens the file, converts only the requested frames to images, and must give the same pixels. Processor
seconds count all threads, so that other work on the machine changes them little.
"""

import hashlib
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import tyro
from av.video.stream import VideoStream

from percept.core.io import write_json
from percept.core.report import out, table, track
from percept.data.video import choose, open_video

RESULTS = Path(__file__).with_suffix(".json")
RATE, WIDTH, HEIGHT = 25, 160, 120
SEEKS = 100
"""Largest number of frames for which one seek per frame is measured; with more it takes too long."""
Pixels = Iterator[tuple[int, np.ndarray]]


def make(path: Path, frames: int, gop: int) -> None:
    """Encode moving patterns, with a keyframe exactly every `gop` frames."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pattern = np.stack([x * 3 + y, x + y * 2, (x // 9 + y // 7) * 40], axis=-1).astype(np.uint8)
    options = {"preset": "superfast", "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:log-level=none"}
    with av.open(str(path), "w") as container:
        stream = cast(VideoStream, container.add_stream("libx264", rate=RATE, options=options))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            image = np.roll(pattern, (number, 2 * number), axis=(0, 1)) + np.uint8(number // 7 % 256)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def by_jumps(path: Path, numbers: list[int]) -> Pixels:
    """Read the frames with percept."""
    with open_video(path) as video:
        for number, image in video.frames(numbers):
            yield number, np.asarray(image)


def everything(path: Path, numbers: list[int]) -> Pixels:
    """Decode all frames."""
    requested = set(numbers)
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for number, frame in enumerate(container.decode(video=0)):
            if number in requested:
                yield number, frame.to_ndarray(format="rgb24")


def seek_each(path: Path, numbers: list[int]) -> Pixels:
    """Seek to the keyframe before each frame, which requires a known, constant frame rate."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        step = int(1 / (RATE * cast(Fraction, stream.time_base)))
        for number in numbers:
            container.seek(number * step, stream=stream)
            frame = next(frame for frame in container.decode(stream) if cast(int, frame.pts) >= number * step)
            yield number, frame.to_ndarray(format="rgb24")


WAYS: dict[str, Callable[[Path, list[int]], Pixels]] = {
    "percept": by_jumps,
    "decode everything": everything,
    "seek each": seek_each,
}


def measure(way: str, path: Path, numbers: list[int]) -> tuple[float, float, str]:
    """Return processor seconds, wall-clock seconds, and a digest of the frames with their numbers."""
    digest = hashlib.blake2b(digest_size=16)
    processor, clock = time.process_time(), time.perf_counter()
    for number, pixels in WAYS[way](path, numbers):
        digest.update(number.to_bytes(4, "little") + pixels.tobytes())
    return time.process_time() - processor, time.perf_counter() - clock, digest.hexdigest()


def case(path: Path, gop: int, length: int, count: int, repeats: int) -> list[dict[str, Any]]:
    """Measure all ways on the same frames, in turns; refuse to report if their frames differ."""
    numbers = choose(np.arange(length) / RATE, length / RATE, count)
    ways = [way for way in WAYS if way != "seek each" or count <= SEEKS]
    runs = [(way, measure(way, path, numbers)) for _ in range(repeats) for way in ways]
    if len({digest for _, (_, _, digest) in runs}) > 1:
        raise SystemExit(f"the ways give different frames: {count} of {length}, a keyframe every {gop}")
    rows = []
    for way in ways:
        processor = [taken[0] for name, taken in runs if name == way]
        clock = [taken[1] for name, taken in runs if name == way]
        rows.append(
            {
                "keyframe every": gop,
                "frames": count,
                "way": way,
                "processor s": round(statistics.median(processor), 4),
                "clock s": round(statistics.median(clock), 4),
            }
        )
    full = next(row for row in rows if row["way"] == "decode everything")["processor s"]
    return [row | {"times everything": round(row["processor s"] / full, 3)} for row in rows]


def main(
    minutes: float = 10,
    counts: tuple[int, ...] = (8, 32, 600, 3000),
    gops: tuple[int, ...] = (250, 25),
    repeats: int = 3,
    json_file: Path = RESULTS,
) -> None:
    """Measure all ways on all clips.

    Args:
        minutes: Length of the clips.
        counts: Numbers of frames to read, evenly spaced.
        gops: Keyframe intervals in frames, one clip for each.
        repeats: Number of turns; medians are shown.
        json_file: Result file.
    """
    start, length, results = time.perf_counter(), round(minutes * 60 * RATE), []
    with tempfile.TemporaryDirectory() as folder:
        clips = {gop: Path(folder, f"{gop}.mp4") for gop in gops}
        for gop, path in track(clips.items(), "encoding", len(clips)):
            make(path, length, gop)
        cases = [(gop, count) for gop in gops for count in counts]
        for gop, count in track(cases, "reading", len(cases)):
            results += case(clips[gop], gop, length, count, repeats)
    columns = ("keyframe every", "frames", "way", "processor s", "clock s", "times everything")
    table(
        f"Frames of {length / RATE / 60:g} minutes, {length} frames",
        columns,
        [[row[key] for key in columns] for row in results],
    )
    out.print("all ways gave the same pixels")
    about = {
        "command": " ".join(["python", "benchmarks/video_seek.py", *sys.argv[1:]]),
        "python": platform.python_version(),
        "av": av.__version__,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "repeats": repeats,
        "frames in the clip": length,
        "seconds": round(time.perf_counter() - start, 1),
    }
    write_json(json_file, about | {"results": results})
    out.print(f"written: {json_file}", soft_wrap=True)


if __name__ == "__main__":
    tyro.cli(main)
