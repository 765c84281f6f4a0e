"""The search page in a real browser; skipped without playwright and Chromium."""

import re
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from percept.search.build import build
from percept.search.store import Root, Store
from tests.search.fakes import ColourEncoder, picture
from tests.serve.searching import base64_of, file_of, indexed, served

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
expect = playwright.expect
expect.set_options(timeout=30_000)  # the 5 s that playwright gives are too few on a busy machine

DROP = """([name, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, {type: "image/png"}));
  for (const kind of ["dragover", "drop"])
    document.body.dispatchEvent(new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: transfer}));
}"""
PASTE = DROP.replace('for (const kind of ["dragover", "drop"])', "").replace(
    "new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer: transfer})",
    'new ClipboardEvent("paste", {bubbles: true, cancelable: true, clipboardData: transfer})',
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[Store]:
    with indexed(folder) as made:
        yield made


@pytest.fixture(scope="module")
def url(store: Store) -> Iterator[str]:
    with served(store) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as library:
        browser = library.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page whose errors fail the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert errors == []


def searched(page: Any, url: str, text: str) -> None:
    page.goto(url)
    page.get_by_role("textbox", name="Search").fill(text)
    page.keyboard.press("Enter")
    expect(page).to_have_title(re.compile(re.escape(text)))


def names(page: Any) -> list[str]:
    return page.locator(".card .file").all_text_contents()


def test_a_query_its_results_and_the_address(page: Any, url: str) -> None:
    page.goto(url)
    expect(page.get_by_role("heading", level=1)).to_have_text("4 images and 1 video")
    expect(page.locator(".card")).to_have_count(5)
    searched(page, url, "blue")
    expect(page.locator(".card").first).to_contain_text("blue <b>&.png")
    expect(page.get_by_role("status").first).to_contain_text("of 6 items")
    assert page.locator(".shot img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    searched_at = page.url
    assert "q=blue" in searched_at
    page.reload()
    expect(page.locator(".card").first).to_contain_text("blue <b>&.png")
    expect(page.get_by_role("textbox", name="Search")).to_have_value("blue")
    page.get_by_role("textbox", name="Search").fill("red")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator(".card").first).to_contain_text("red copy.png")
    page.go_back()
    expect(page.locator(".card").first).to_contain_text("blue <b>&.png")


def test_similar_images(page: Any, url: str) -> None:
    searched(page, url, "red")
    expect(page.locator(".card").first).to_contain_text("red copy.png")
    page.locator(".card").first.hover()
    page.get_by_role("button", name="Similar: red copy.png").click()
    expect(page).to_have_url(re.compile("like="))
    expect(page).to_have_title(re.compile("like this image"))
    expect(page.locator("#examples img")).to_have_count(1)
    expect(page.locator(".card").first).to_contain_text("reddish.png")
    page.get_by_role("textbox", name="Search").fill("blue")
    page.keyboard.press("Enter")
    slider = page.get_by_role("slider", name="Share of the text")
    slider.fill("1")
    expect(page.locator(".card").first).to_contain_text("blue <b>&.png")
    page.get_by_role("button", name="Remove red copy.png").click()
    expect(slider).to_be_hidden()


@pytest.mark.parametrize("script", [DROP, PASTE], ids=["dropped", "pasted"])
def test_an_image_from_outside(page: Any, url: str, folder: Path, script: str) -> None:
    page.goto(url)
    expect(page.locator(".card").first).to_be_visible()
    page.evaluate(script, ["query.png", base64_of(file_of("green", folder))])
    expect(page.get_by_role("heading", level=1)).to_have_text("like this image")
    expect(page.locator("#examples img")).to_have_attribute("alt", "query.png")
    assert names(page)[0] in ("green.png", "clip.mp4")
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_text("like this image")


def test_an_uploaded_file_that_is_not_an_image(page: Any, url: str, folder: Path) -> None:
    page.goto(url)
    file = folder / "fake.png"
    file.write_bytes(b"%PDF-1.7")
    page.locator("#file").set_input_files(file)
    expect(page.locator("#message")).to_contain_text("is not an image: it is a PDF file")
    page.locator("#file").set_input_files({"name": "green.png", "mimeType": "", "buffer": file_of("green", folder)})
    expect(page.locator(".card")).not_to_have_count(0)


def test_the_keyboard(page: Any, url: str) -> None:
    page.goto(url)
    expect(page.locator(".card")).to_have_count(5)
    page.keyboard.press("/")
    expect(page.get_by_role("textbox", name="Search")).to_be_focused()
    page.keyboard.type("red")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("“red”")
    page.keyboard.press("ArrowDown")
    first, second = page.locator(".shot").nth(0), page.locator(".shot").nth(1)
    expect(first).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(second).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("heading", level=2)).to_have_text("red copy.png")
    page.keyboard.press("ArrowRight")
    expect(dialog.get_by_role("heading", level=2)).not_to_have_text("red copy.png")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(second).to_be_focused()
    page.keyboard.press("s")
    expect(page).to_have_url(re.compile("like="))
    expect(page.get_by_role("heading", level=1)).to_have_text("like this image")  # then the first result has the focus
    page.keyboard.press("Escape")
    expect(page.get_by_role("textbox", name="Search")).to_be_focused()


def test_a_video_begins_at_its_span(page: Any, url: str) -> None:
    searched(page, url, "red")
    page.get_by_role("button", name="Filters").click()
    page.get_by_label("Type").select_option("Videos")
    expect(page.locator(".card")).to_have_count(1)
    expect(page.locator(".badge.time")).to_contain_text("0:04 – 0:08")
    page.locator(".shot").click()
    video = page.locator("video")
    expect(video).to_have_attribute("src", re.compile(r"#t=4\.00,8\.00$"))
    assert (
        video.evaluate(
            "video => new Promise((done) => { const look = () => (video.currentTime >= 4 ? done(video.currentTime) : setTimeout(look, 50)); look(); })"
        )
        >= 4
    )
    assert page.get_by_role("link", name="Open file").get_attribute("href").endswith("#t=4.00,8.00")


def test_filters_near_duplicates_and_empty_results(page: Any, url: str) -> None:
    page.goto(f"{url}/?q=red")
    expect(page.locator(".badge.same").first).to_be_visible()
    grouped = page.locator(".card").count()
    page.get_by_role("button", name="Filters").click()
    page.get_by_label("Group near-duplicates").uncheck()
    expect(page.locator(".card")).to_have_count(grouped + 2)
    page.get_by_label("Folder or pattern").fill("*.tiff")
    page.get_by_label("Folder or pattern").press("Tab")
    expect(page.locator("#message")).to_contain_text("No item passes the filters.")
    assert "path=" in page.url
    page.locator("#message").get_by_role("button", name="Clear filters").click()
    expect(page.locator(".card")).to_have_count(grouped)


def test_copying_a_path(page: Any, url: str, store: Store) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    searched(page, url, "blue")
    page.locator(".shot").first.focus()
    page.keyboard.press("c")
    expect(page.locator("#toast")).to_have_text("Path copied")
    assert page.evaluate("navigator.clipboard.readText()").endswith("pictures/blue <b>&.png")


def test_a_token(browser: Any, store: Store) -> None:
    with served(store, token="very secret") as url:
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        page.get_by_role("textbox", name="Token").fill("wrong")
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_role("alert")).to_be_visible()
        page.get_by_role("textbox", name="Token").fill("very secret")
        page.get_by_role("button", name="Continue").click()
        expect(page.locator(".card")).to_have_count(5)
        assert page.locator(".shot img").first.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        context.close()
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{url}/#token=very%20secret")
        expect(page.locator(".card")).to_have_count(5)
        assert "secret" not in page.url
        context.close()


def test_changes_and_a_server_that_is_gone(page: Any, tmp_path: Path) -> None:
    store = indexed(tmp_path, video=False)
    with store:
        with served(store) as url:
            searched(page, url, "white")
            picture(tmp_path / "pictures" / "white.png", "white")
            add = partial(build, store, ColourEncoder(), [Root(path=tmp_path / "pictures")])
            thread = threading.Thread(target=add)
            thread.start()
            thread.join()
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
            page.get_by_role("button", name="Search again").click()
            expect(page.locator(".card").first).to_contain_text("white.png")
        page.get_by_role("textbox", name="Search").fill("red")
        page.keyboard.press("Enter")
        expect(page.locator("#message")).to_contain_text("The server does not answer. Is it still running?")


def test_every_control_has_a_name(page: Any, url: str) -> None:
    page.goto(f"{url}/?q=red&type=video")
    expect(page.locator(".card")).to_have_count(1)
    for control in page.locator("button:visible, a:visible, input:visible, select:visible").all():
        named = control.evaluate("each => (each.ariaLabel || each.labels?.[0]?.textContent || each.textContent).trim()")
        assert named, control.evaluate("each => each.outerHTML")


def test_dark_colours(browser: Any, url: str) -> None:
    backgrounds = []
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto(url)
        backgrounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        context.close()
    assert backgrounds == ["rgb(250, 249, 246)", "rgb(19, 20, 22)"]
