"""Cutting a part out of a video: encoded again, so that it begins and ends exactly where it should."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from percept.core.errors import PerceptError, missing_extra
from percept.core.io import replacing
from percept.core.report import notice
from percept.data.video import frames_within, open_video
from percept.data.video.files import decoding, open_container, open_source

UNIT = Fraction(1, 90_000)
"""Seconds in which the times of frames are counted."""
QUALITY = "18"
"""Constant rate factor of H.264; lower is better and larger."""


def cut(video: Path, start: float, stop: float, out: Path) -> None:
    """Write seconds [start, stop) of a video to an MP4 file (H.264, and AAC if it has sound), atomically.

    The frame on screen at `start` is the first; every frame keeps its time. Sound begins at its first whole packet.

    Args:
        video: video file.
        start: seconds from its first frame.
        stop: seconds; the clip ends earlier where the video does.
        out: file to write.

    Raises:
        PerceptError: PyAV is missing, the video cannot be read, or the part is empty or outside it.
    """
    try:
        import av
    except ImportError:
        raise missing_extra("PyAV", "video", "cutting clips") from None
    with open_video(video) as source:
        numbers = frames_within(source.times, source.duration, (start, stop))
        times = [max(0.0, float(source.times[number]) - start) for number in numbers]
        end = min(stop, source.duration) - start
        with replacing(out) as temporary, av.open(str(temporary), "w", format="mp4") as container:
            sound = _sound(video, start, stop, container)  # before the pictures: streams come before their content
            images = (image for _, image in source.frames(numbers))
            for packet in _pictures(container, images, times, end):
                container.mux([packet, *sound])
                sound.clear()


def _pictures(container: Any, images: Iterable[Image.Image], times: list[float], end: float) -> Iterator[Any]:
    """Encode frames that appear at `times`, the last one until `end`, and yield their packets."""
    import av

    stream = None
    for image, time, until in zip(images, times, [*times[1:], end], strict=True):
        pixels = _even(image)
        if stream is None:
            rate = Fraction(len(times) / end).limit_denominator(1000)
            stream = container.add_stream("libx264", rate=rate, options={"crf": QUALITY})
            stream.height, stream.width, stream.pix_fmt = pixels.shape[0], pixels.shape[1], "yuv420p"
            stream.codec_context.time_base = UNIT
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base, frame.duration = round(time / UNIT), UNIT, round((until - time) / UNIT)
        yield from stream.encode(frame)
    if stream is not None:
        yield from stream.encode()


def _even(image: Image.Image) -> np.ndarray:
    """Return pixels with even sides, as the format requires, by repeating the last row or column."""
    pixels = np.array(image)
    return np.pad(pixels, ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)), mode="edge")


def _sound(video: Path, start: float, stop: float, out: Any) -> list[Any]:
    """Return the encoded sound of a part; empty if it has none, or, with a notice, if it cannot be decoded."""
    try:
        with decoding(str(video)), open_source(video) as file:
            container = open_container(file, str(video))
            with container:
                if container.streams.audio and container.streams.video:
                    return _encoded_sound(container, start, stop, out)
    except PerceptError as error:
        notice(f"the clip of {video} has no sound: {error}")
    return []


def _encoded_sound(container: Any, start: float, stop: float, out: Any) -> list[Any]:
    import av

    audio, picture = container.streams.audio[0], container.streams.video[0]
    begin = float((picture.start_time or 0) * picture.time_base) + start
    container.seek(max(0, int((begin - 1) * 1_000_000)))
    frames = []
    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=48_000, frame_size=1024)
    for frame in container.decode(audio):
        if frame.time is None or frame.time < begin:
            continue
        if frame.time >= begin + stop - start:
            break
        frame.pts = round((frame.time - begin) / frame.time_base)
        frames += resampler.resample(frame)
    if not frames:
        return []
    stream = out.add_stream("aac", rate=48_000, layout="stereo")
    return [packet for frame in [*frames, *resampler.resample(None), None] for packet in stream.encode(frame)]
