"""Words on pictures stay in their room."""

import pytest
from PIL import Image, ImageDraw

from percept.data.captions import font_for, write_line


@pytest.mark.parametrize(
    "text", ["short", "a name that is much too long for the room it has.jpg", "line\nbreak \x1b[31m"]
)
def test_a_line_stays_in_its_room(text: str) -> None:
    image = Image.new("RGB", (300, 40), "white")
    write_line(ImageDraw.Draw(image), (10, 10), text, 13, "black", 120)
    box = Image.eval(image.convert("L"), lambda value: 255 - value).getbbox()
    assert box is not None
    assert box[0] >= 10
    assert box[2] <= 10 + 120 + 1
    assert box[3] <= 30  # one line


def test_no_room_at_all_writes_no_letters() -> None:
    image = Image.new("RGB", (100, 30), "white")
    write_line(ImageDraw.Draw(image), (0, 0), "word", 13, "black", 1)
    dots = sum(value < 128 for value in image.convert("L").tobytes())
    assert dots < 12  # an ellipsis


def test_letters_of_any_writing_get_a_font() -> None:
    assert font_for("猫", 12).getlength("猫") > 0
    assert font_for("cat", 12) is font_for("dog", 12)
