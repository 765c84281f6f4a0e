"""Encoding: PNG of colours, numbers and depth, JPEG, members of tar files, run lengths and MP4."""

import io
import tarfile
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8, UInt16
from PIL import Image

from percept.core.errors import missing_extra

RATE = 6
"""Frames per second of clips, as in the videos of PLM's region tasks."""


def png(pixels: UInt8[np.ndarray, "y x *c"] | UInt16[np.ndarray, "y x"]) -> bytes:
    """Encode colours, or numbers of 8 or 16 bits, as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def near_far_png(depth: Float[np.ndarray, "y x"]) -> bytes:
    """Encode depth in [0, 1] as PNG of 8 bits."""
    return png(np.rint(depth * 255).astype(np.uint8))


def millimetre_png(depth: Float[np.ndarray, "y x"]) -> bytes:
    """Encode depth in metres as PNG of 16 bits, in millimetres, as in ScanNet."""
    return png(np.clip(np.rint(depth * 1000), 0, 65535).astype(np.uint16))


def palette_png(ids: UInt8[np.ndarray, "y x"]) -> bytes:
    """Encode numbers of objects as PNG with the palette of DAVIS and PASCAL VOC."""
    image, buffer = Image.fromarray(ids), io.BytesIO()
    image.putpalette(bytes(part for number in range(256) for part in palette_colour(number)))
    image.save(buffer, "PNG")
    return buffer.getvalue()


def palette_colour(number: int) -> tuple[int, int, int]:
    """Return a colour of the palette of PASCAL VOC: the bits of the number, in turn, are the high bits of red, green and blue.

    >>> palette_colour(0), palette_colour(1), palette_colour(3), palette_colour(9)
    ((0, 0, 0), (128, 0, 0), (128, 128, 0), (192, 0, 0))
    """
    channels = [0, 0, 0]
    for bit in range(8):
        channels[bit % 3] |= (number >> bit & 1) << (7 - bit // 3)
    return channels[0], channels[1], channels[2]


def jpeg(pixels: UInt8[np.ndarray, "y x 3"]) -> bytes:
    """Encode an image as JPEG of high quality."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file without owner and time to a tar file."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


def run_lengths(mask: Bool[np.ndarray, "y x"]) -> dict[str, Any]:
    """Return a mask in the uncompressed run-length form of COCO: lengths of runs of 0 and 1 in turn, column by column.

    >>> run_lengths(np.array([[False, True], [True, True]]))
    {'size': [2, 2], 'counts': [1, 3]}
    """
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": [0, *runs] if flat[0] else runs}


def mp4(frames: UInt8[np.ndarray, "t y x 3"], *, rate: int = RATE) -> bytes:
    """Encode frames as MP4 without loss: H.264 in RGB, which readers that rest on FFmpeg decode to the same bytes.

    Halved colour resolution (yuv420p), the usual form, changes edges of small frames by more than half of the range.

    Raises:
        PerceptError: PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        raise missing_extra("PyAV", "video", "writing video files") from None
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264rgb", rate=rate, options={"crf": "0"})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "rgb24"
        stream.codec_context.thread_count = 1  # the bytes do not depend on the machine's cores
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()
