"""What `make demo` runs, on a small folder with an encoder that sees only colour."""

import runpy
from pathlib import Path

import pytest

from percept.data.images import read_image
from percept.world.objects import CATEGORIES
from tests.search.fakes import COLOURS, ColourEncoder, picture

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


def test_the_demo_writes_its_page_and_sheet_and_is_quicker_the_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in COLOURS:
        picture(tmp_path / "pictures" / f"{name}.png", name)
    (tmp_path / "pictures" / "bad.jpg").write_bytes(b"")
    encoder = ColourEncoder()
    monkeypatch.setattr("percept.load", lambda _: encoder)
    demo = runpy.run_path(str(DEMO))
    encoded = []
    for _ in range(2):
        demo["main"](pictures=tmp_path / "pictures", folder=tmp_path / "demo")
        encoded.append(encoder.encoded)
        printed = capsys.readouterr().out
        page = (tmp_path / "demo" / "index.html").read_text(encoding="utf-8")
        for text in demo["TEXTS"]:
            assert f"“{text}”" in printed
            assert f"“{text}”" in page
        assert page.count("images like this one") == 2
        assert "is empty (0 bytes)" in printed
        assert "is empty (0 bytes)" in page
        assert any(name in page for name in CATEGORIES)
        assert read_image(tmp_path / "demo" / "sheet.png").height > 8 * 168
    assert encoded[0] - 2 == len(COLOURS)  # two queries by picture
    assert encoded[1] - encoded[0] == 2
    picture(tmp_path / "other" / "one.png", "red")
    demo["main"](pictures=tmp_path / "other", folder=tmp_path / "demo")
    assert "best 1 of 1" in (tmp_path / "demo" / "index.html").read_text(
        encoding="utf-8"
    )  # and none of the first folder
