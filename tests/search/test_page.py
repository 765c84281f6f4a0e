"""The page and the sheet: self-contained, escaped, and showing what was found."""

import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.files import BadFile
from percept.search.hits import Answer, Hit
from percept.search.page import Labelled, Page, write_page
from percept.search.question import Question
from percept.search.sheet import Measures, draw_sheet, write_sheet
from percept.search.spans import Span
from percept.search.thumbnails import jpeg
from tests.search.fakes import COLOURS, picture

EVIL = "<script>alert('x')</script> & \"quotes\""


class Parsed(HTMLParser):
    """Collects tags with attributes and visible text, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


def hit(path: Path, rank: int = 1, score: float = 0.5, missing: bool = False) -> Hit:
    return Hit(rank=rank, path=path, score=score, width=20, height=10, missing=missing)


def answer(*hits: Hit, text: str | None = "two red cups", image: Path | None = None) -> Answer:
    asked = Question(texts=(text,) if text else (), images=(image,) if image else ())
    return Answer(question=asked, hits=hits, searched=1234, seconds=0.0021)


def written(tmp_path: Path, page: Page) -> Parsed:
    write_page(tmp_path / "out" / "index.html", page)
    return Parsed((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))


def test_the_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    red = picture(tmp_path / "red.png", "red")
    parsed = written(
        tmp_path,
        Page(
            title="T", answers=(answer(hit(red), image=red),), labelled=(Labelled(path=red, guesses=(("cup", 0.9),)),)
        ),
    )
    sources = [attributes["src"] or "" for tag, attributes in parsed.tags if tag == "img"]
    assert len(sources) == 3
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in parsed.tags}
    assert not re.search(r"https?://|url\(|@import", (tmp_path / "out" / "index.html").read_text())


def test_everything_a_page_tells_is_on_it(tmp_path: Path) -> None:
    red, blue = picture(tmp_path / "red.png", "red"), picture(tmp_path / "blue.png", "blue")
    page = Page(
        title="My pictures",
        introduction="From the attic.",
        facts=(("Model", "nano (abc, 256 numbers)"),),
        answers=(answer(hit(red, 1, 0.81234), hit(blue, 2, -0.25)),),
        labelled=(Labelled(path=blue, guesses=(("cup", 0.91), ("hat", 0.04))),),
        num_labels=72,
        bad=(BadFile(Path("broken.jpg"), "is empty (0 bytes)"),),
    )
    text = written(tmp_path, page).text
    for expected in ["My pictures", "From the attic.", "nano (abc, 256 numbers)", "“two red cups”", "0.812", "−0.250",
                     "1,234 items", "red.png", "20 × 10", "72 labels", "91%", "hat", "broken.jpg", "is empty (0 bytes)"]:  # fmt: skip
        assert expected in text
    assert "Left out" not in written(tmp_path, Page(title="T")).text


def test_names_and_queries_cannot_become_markup(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", "red").rename(tmp_path / EVIL.replace("/", "-"))
    page = Page(
        title=EVIL,
        facts=((EVIL, EVIL),),
        answers=(answer(hit(path), text=EVIL),),
        labelled=(Labelled(path=path, guesses=((EVIL, 0.5),)),),
        bad=(BadFile(Path(EVIL), EVIL),),
    )
    parsed = written(tmp_path, page)
    assert "script" not in {tag for tag, _ in parsed.tags}
    assert parsed.text.count(EVIL) >= 5


@pytest.mark.parametrize("name", ["a b#1?.png", "日本 🚗.png", "100%.png", os.fsdecode(b"gr\xfcn.png")])
def test_links_lead_to_the_file(name: str, tmp_path: Path) -> None:
    path = picture(tmp_path / "pictures" / "x.png", "red").rename(tmp_path / "pictures" / name)
    parsed = written(tmp_path, Page(title="T", answers=(answer(hit(path)),)))
    link = next(attributes["href"] for tag, attributes in parsed.tags if tag == "a")
    assert (tmp_path / "out" / os.fsdecode(unquote_to_bytes(link or ""))).samefile(path)


def test_a_gone_file_leaves_a_note(tmp_path: Path) -> None:
    gone = hit(tmp_path / "gone.png", missing=True)
    assert "the file no longer exists" in written(tmp_path, Page(title="T", answers=(answer(gone),))).text
    draw_sheet([answer(gone)])


def test_videos_show_their_times_and_link_to_them(tmp_path: Path) -> None:
    spans = (Span(start=61.0, stop=64.5, score=0.5), Span(start=2.0, stop=4.0, score=0.4))
    small = jpeg(Image.new("RGB", (32, 20), "red"))
    film = Hit(rank=1, path=tmp_path / "a film.mp4", score=0.5, width=64, height=48, kind="video", seconds=90.0,
               span=spans[0], spans=spans, thumbnail=small, others=(tmp_path / "b.mp4",))  # fmt: skip
    gone = replace(film, rank=2, missing=True)
    parsed = written(tmp_path, Page(title="T", answers=(answer(film, gone, text="a", image=None),)))
    links = [attributes["href"] for tag, attributes in parsed.tags if tag == "a"]
    assert links == ["../a%20film.mp4#t=61.00,64.50"]
    for expected in ["at 1:01–1:04.5, also 0:02–0:04", "1:30 long", "1 more of its group", "the file no longer exists"]:
        assert expected in parsed.text
    assert len([tag for tag, _ in parsed.tags if tag == "img"]) == 2
    sheet = draw_sheet([answer(film)])
    m = Measures()
    middle = (m.margin + m.query + m.gap + m.side // 2, m.margin + m.side // 2)
    assert close(sheet.getpixel(middle), (255, 0, 0))


def test_a_page_names_what_is_avoided(tmp_path: Path) -> None:
    asked = Question(texts=("a", "b"), not_texts=("c<",), not_images=(tmp_path / "d.png",))
    shown = Answer(question=asked, hits=(), searched=1, seconds=0.1)
    assert "“a” and “b”, not “c<”, not d.png" in written(tmp_path, Page(title="T", answers=(shown,))).text


def close(pixel: object, colour: tuple[int, int, int]) -> bool:
    assert isinstance(pixel, tuple)
    return max(abs(a - b) for a, b in zip(pixel, colour, strict=True)) < 12


def test_the_sheet_shows_each_picture_in_its_place(tmp_path: Path) -> None:
    red, blue = picture(tmp_path / "red.png", "red", (40, 40)), picture(tmp_path / "blue.png", "blue", (2000, 1000))
    write_sheet(tmp_path / "sheet.png", [answer(hit(red, 1), hit(blue, 2)), answer(hit(blue), text=None, image=red)])
    sheet = Image.open(tmp_path / "sheet.png")
    m = Measures()

    def centre(row: int, column: int) -> object:
        x = m.margin + m.query + m.gap + column * (m.side + m.gap) + m.side // 2
        return sheet.getpixel((x, m.margin + row * (m.side + m.caption + m.gap) + m.side // 2))

    assert close(centre(0, 0), (255, 0, 0))
    assert close(centre(0, 1), (0, 0, 255))
    assert close(centre(1, 0), (0, 0, 255))
    assert close(sheet.getpixel((m.margin + 40, m.margin + m.side + m.caption + m.gap + 40)), (255, 0, 0))


def test_long_and_foreign_words_stay_inside(tmp_path: Path) -> None:
    path = picture(tmp_path / "x.png", "red").rename(tmp_path / (os.fsdecode(b"\xff") + "日本語" * 20 + ".png"))
    m = Measures()
    sheet = draw_sheet([answer(hit(path), text="verylongword" * 40 + " and more" * 40)], title="title " * 100)
    edge = sheet.crop((sheet.width - m.margin + 2, 0, sheet.width, sheet.height))
    assert len(edge.getcolors() or []) == 1
    between = sheet.crop((m.margin + m.query + 2, m.margin + 60, m.margin + m.query + m.gap - 2, sheet.height))
    assert len(between.getcolors() or []) == 1


def test_many_results_go_on_in_the_next_row(tmp_path: Path) -> None:
    m = Measures()
    red, blue = picture(tmp_path / "red.png", "red"), picture(tmp_path / "blue.png", "blue")
    hits = [hit(red, rank) for rank in range(1, m.columns + 1)] + [hit(blue, m.columns + 1)]
    sheet = draw_sheet([answer(*hits), answer(hit(red, 1))])
    assert sheet.width < 2000
    middle, row = m.margin + m.side // 2, m.side + m.caption + m.gap
    x = m.margin + m.query + m.gap + m.side // 2
    found = [sheet.getpixel((x, middle + line * row)) for line in range(3)]
    for pixel, colour in zip(found, ("red", "blue", "red"), strict=True):
        assert close(pixel, COLOURS[colour])


def test_a_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(PerceptError, match="at least one answer"):
        draw_sheet([])
