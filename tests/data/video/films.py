"""Clips made when a test asks for them: every frame carries its number in 10 black or white squares."""

import io
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from PIL import Image

SQUARE, BITS = 16, 10
WIDTH, HEIGHT = SQUARE * BITS, 48


def numbered(number: int) -> np.ndarray:
    """The number in binary, least bit left, over a grey that also moves."""
    pixels = np.full((HEIGHT, WIDTH, 3), 100 + number % 50, np.uint8)
    for bit in range(BITS):
        pixels[:SQUARE, bit * SQUARE : (bit + 1) * SQUARE] = 255 * (number >> bit & 1)
    return pixels


def number_on(picture: Image.Image) -> int:
    """Read what `numbered` drew."""
    row = np.asarray(picture.convert("L"))[SQUARE // 2, SQUARE // 2 : WIDTH : SQUARE]
    return sum(1 << bit for bit, value in enumerate(row) if value > 128)


def film(
    path: Path,
    count: int = 60,
    *,
    codec: str = "libx264",
    rate: int = 25,
    gop: int = 10,
    stamps: list[int] | None = None,
    unit: Fraction | None = None,
    sound: bool = False,
    container: dict[str, str] | None = None,
    title: str = "",
    **options: str,
) -> Path:
    """Encode numbered frames; `stamps` in `unit` seconds make the rate variable."""
    with av.open(str(path), "w", container_options=container) as output:
        output.metadata["title"] = title
        stream = cast(VideoStream, output.add_stream(codec, rate=rate, options={"g": str(gop), **options}))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        if codec == "mjpeg":
            stream.pix_fmt, stream.codec_context.color_range = "yuvj420p", 2
        stream.codec_context.time_base = unit or Fraction(1, rate)
        speech = cast(AudioStream, output.add_stream("aac", rate=16000)) if sound else None
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(numbered(number), format="rgb24")
            frame.pts = stamps[number] if stamps else number
            frame.time_base = unit or Fraction(1, rate)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
        if speech is not None:
            output.mux([*speech.encode(silence()), *speech.encode()])
    return path


def silence(samples: int = 1024) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.zeros((1, samples), np.float32), format="fltp", layout="mono")
    frame.sample_rate, frame.pts = 16000, 0
    return frame


def sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        container.mux([*stream.encode(silence()), *stream.encode()])
    return path


def turned(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write a display matrix (a, b, c, d) into the track header of an mp4 file (ISO 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    numbers = [matrix[0] * one, matrix[1] * one, 0, matrix[2] * one, matrix[3] * one, 0, 0, 0, 1 << 30]
    data[at : at + 36] = b"".join(number.to_bytes(4, "big", signed=True) for number in numbers)
    path.write_bytes(data)
    return path


def gif(path: Path, colours: list[str], durations: list[int]) -> Path:
    pictures = [Image.new("RGB", (32, 24), colour) for colour in colours]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    return path


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()
