"""Images of requests: data URIs, sizes, and addresses."""

from functools import partial

import pytest
from PIL import Image

from percept.serve.chat.pictures import check_pictures, decoded_uri, read_pictures
from percept.serve.chat.request import Picture
from percept.serve.errors import ApiError
from percept.serve.limits import Limits
from tests.serve.running import png, uri

GOOD = png(Image.new("RGB", (6, 4)))
READ = partial(read_pictures, limits=Limits(image_pixels=1000), fetch=lambda url: url.encode())


def test_a_data_uri_is_its_bytes() -> None:
    assert READ([Picture(uri(GOOD)), Picture(uri(GOOD).replace("data:image/png;", "DATA:image/PNG;name=a.png;"))]) == [
        GOOD,
        GOOD,
    ]


@pytest.mark.parametrize(
    ("url", "status", "words"),
    [
        ("data:image/png;base64,a$b=", 400, "base64 of an image is damaged"),
        ("data:image/png;base64,abc", 400, "base64 of an image is damaged"),
        ("data:image/png,abc", 400, "not a data URI of an image"),
        ("data:text/plain;base64,aGk=", 400, "not a data URI of an image"),
        ("data:", 400, "not a data URI of an image"),
        (uri(b"no image"), 400, "Image 0 is not an image"),
        (uri(b""), 400, "Image 0 is empty"),
        (uri(png(Image.new("RGB", (50, 21)))), 400, "has 50 × 21 pixels, more than the 1000 allowed"),
    ],
)
def test_refusals(url: str, status: int, words: str) -> None:
    with pytest.raises(ApiError, match=words) as caught:
        READ([Picture(url)])
    assert caught.value.status == status


def test_a_file_that_is_too_large_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(ApiError) as caught:
        decoded_uri("data:image/png;base64," + "$" * (4 << 20), 1 << 20)
    assert (caught.value.status, "more than 1 MiB" in caught.value.message) == (413, True)


def test_addresses() -> None:
    check_pictures([Picture(uri(GOOD))], Limits(), urls=False)
    check_pictures([Picture("https://a.example/b.png")], Limits(), urls=True)
    for url, words in (
        ("https://a.example/b.png", "does not fetch images by URL"), ("file:///etc/passwd", "begins with 'file'"),
        ("cat.jpg", "begins with 'cat.jpg'"), ("", "begins with ''"),
    ):  # fmt: skip
        with pytest.raises(ApiError, match=words):
            check_pictures([Picture(url)], Limits(), urls=False)
    with pytest.raises(ApiError, match="has 3 images, more than 2"):
        check_pictures([Picture(uri(GOOD))] * 3, Limits(images=2), urls=False)
