"""Contact sheets of clips: a row of frames per clip with the boxes of the tracks, and the texts below."""

import random
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from percept.core.io import replacing
from percept.world.clips.clip import Clip
from percept.world.clips.language import dense_events, long_caption

SIDE, GAP, LINE, TEXT_LINES = 144, 6, 15, 7
_TINTS = ((230, 25, 75), (0, 130, 200), (60, 160, 60), (245, 130, 48), (145, 30, 180), (0, 150, 150))


def make_sheet(clips: Sequence[Clip], *, columns: int = 10) -> Image.Image:
    """Arrange `columns` frames of each clip, at equal distances, in a row above its caption and events."""
    height = SIDE + TEXT_LINES * LINE + 3 * GAP
    sheet = Image.new("RGB", (columns * (SIDE + GAP) + GAP, len(clips) * height), (250, 249, 246))
    for row, clip in enumerate(clips):
        chosen = np.linspace(0, len(clip.frames) - 1, min(columns, len(clip.frames))).round().astype(int)
        for column, frame in enumerate(chosen.tolist()):
            sheet.paste(_framed(clip, frame), (GAP + column * (SIDE + GAP), row * height + GAP))
        _write(ImageDraw.Draw(sheet), clip, GAP, row * height + SIDE + 2 * GAP, sheet.width // 6)
    return sheet


def save_sheet(path: Path | str, clips: Sequence[Clip], *, columns: int = 10) -> None:
    """Write a contact sheet as PNG, atomically."""
    with replacing(path) as temporary:
        make_sheet(clips, columns=columns).save(temporary, "PNG")


def _framed(clip: Clip, frame: int) -> Image.Image:
    """Enlarge a frame and draw its number and the boxes of the tracks."""
    image = Image.fromarray(clip.frames[frame]).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    boxes = clip.boxes[frame] if clip.boxes is not None else np.zeros((0, 4), np.float32)
    for number, box in enumerate(boxes):
        if box.any():
            left, top, right, bottom = (box * SIDE).tolist()
            draw.rectangle((left, top, right - 1, bottom - 1), outline=_TINTS[number % len(_TINTS)])
    draw.text((3, 1), str(frame), fill="white", stroke_width=1, stroke_fill="black", font=ImageFont.load_default(11))
    return image


def _write(draw: ImageDraw.ImageDraw, clip: Clip, x: int, y: int, width: int) -> None:
    plan = clip.plan
    events = "; ".join(f"[{each.start}, {each.end}] {each.text}" for each in dense_events(plan))
    texts = [f"{plan.split} {plan.seed}: {long_caption(plan, random.Random(plan.seed))}", events]
    lines = [line for text in texts for line in textwrap.wrap(text, width)]
    for number, line in enumerate(lines[:TEXT_LINES]):
        draw.text((x, y + number * LINE), line, fill=(28, 30, 36), font=ImageFont.load_default(12))
