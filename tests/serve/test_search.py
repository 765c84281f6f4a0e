"""The search API: hits, files, refusals, and what happens while an index changes."""

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from percept.core.errors import PerceptError
from percept.search.build import build
from percept.search.store import Root, Store
from percept.serve.errors import ApiError
from percept.serve.limits import Limits
from percept.serve.search.media import byte_range
from percept.serve.search.openapi import document
from percept.serve.search.vectors import Vectors
from tests.search.fakes import ColourEncoder, picture
from tests.serve.searching import ORIGIN, base64_of, client, file_of, indexed, names, search


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with indexed(tmp_path_factory.mktemp("served")) as made:
        yield made


@pytest.fixture(scope="module")
def api(store: Store) -> Iterator[TestClient]:
    limits = Limits(images=2, image_pixels=10_000, image_mib=1, body_mib=2)
    with client(store, limits=limits) as made:
        yield made


def refused(api: TestClient, status: int, path: str = "/v1/search", **fields: Any) -> str:
    response = api.post(path, json=fields)
    assert response.status_code == status, response.text
    jsonschema.validate(response.json(), schema("Error"))
    return response.json()["error"]["message"]


def schema(name: str) -> dict[str, Any]:
    return document() | {"$ref": f"#/components/schemas/{name}"}


def test_a_text_finds_images_and_spans_of_videos(api: TestClient) -> None:
    answer = search(api, text="red", top=3)
    jsonschema.validate(answer, schema("Answer"))
    red, reddish, video = answer["hits"]
    assert [red["kind"], reddish["name"], video["kind"]] == ["image", "reddish.png", "video"]
    assert (red["rank"], red["width"], red["height"], len(red["copies"])) == (1, 40, 20, 1)
    assert red["score"] > reddish["score"] > 0.9
    assert (video["start"], video["stop"]) == (4.0, 8.0)
    assert (answer["more"], answer["searched"], answer["exact"]) == (True, 6, True)


def test_following_pages_continue_where_the_first_ended(api: TestClient) -> None:
    whole = search(api, text="red", top=5)["hits"]
    first, second = search(api, text="red", top=2), search(api, text="red", top=3, skip=2)
    assert first["hits"] + second["hits"] == whole
    assert (first["more"], second["more"]) == (True, False)


def test_an_image_as_base64_as_a_data_uri_and_in_a_form(api: TestClient, tmp_path: Path) -> None:
    data = file_of("green", tmp_path)
    plain = search(api, image=base64_of(data))
    assert names(plain)[0] == "green.png"
    assert search(api, image=f"data:image/png;base64,{base64_of(data)}")["hits"] == plain["hits"]
    form = api.post("/v1/search", files={"image": ("query.png", data)}, data={"request": json.dumps({"top": 24})})
    assert form.json()["hits"] == plain["hits"]
    both = api.post("/v1/search", files={"image": data}, data={"text": "blue", "request": '{"weight": 0.9}'})
    assert names(both.json())[0] == "blue <b>&.png"


def test_weights_and_what_is_avoided(api: TestClient, tmp_path: Path) -> None:
    image = base64_of(file_of("green", tmp_path))
    assert names(search(api, text="blue", image=image, weight=0.9))[0] == "blue <b>&.png"
    assert names(search(api, text="blue", image=image, weight=0.1, filter={"kind": "image"}))[0] == "green.png"
    assert names(search(api, text=["red", "green"], not_text="red", not_weight=0.9))[0] == "green.png"


def test_similar_items_do_not_include_the_item_itself(api: TestClient) -> None:
    red = search(api, text="red", top=1)["hits"][0]
    answer = search(api, like=red["piece"], top=2)
    assert names(answer) == ["reddish.png", "clip.mp4"]
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2]
    assert answer["like"][0]["name"] == red["name"]
    grouped = search(api, like=red["piece"], group="duplicate", above=0.9)["hits"][0]
    assert (grouped["name"], grouped["others"][0]["name"]) == (red["name"], "reddish.png")
    assert refused(api, 404, like=10**6) == "The index has no piece 1000000. Search again."


def test_groups_filters_and_moments(api: TestClient, store: Store) -> None:
    grouped = search(api, text="red", group="duplicate", above=0.9)["hits"][0]
    assert [other["name"] for other in grouped["others"]][:1] == ["reddish.png"]
    assert names(search(api, text="red", filter={"kind": "video"})) == ["clip.mp4"]
    assert names(search(api, text="red", filter={"path": ["again/*"]})) == ["red copy.png"]
    assert names(search(api, text="red", filter={"path": str(store.roots()[0].path / "again")})) == ["red copy.png"]
    assert names(search(api, text="red", filter={"before": "1999"})) == []
    scores = [hit["score"] for hit in search(api, text="red")["hits"]]
    assert len(search(api, text="red", min_score=(scores[1] + scores[2]) / 2)["hits"]) == 2
    moments = search(api, text="green", moments=True)["hits"]
    assert (moments[0]["start"], moments[0]["stop"], moments[0]["kind"]) == (0.0, 4.0, "video")


def test_encode_and_classify(api: TestClient, store: Store, tmp_path: Path) -> None:
    encoder, data = ColourEncoder(), file_of("red", tmp_path)
    answer = api.post("/v1/encode", json={"text": ["red", "blue"], "image": [base64_of(data)]}).json()
    jsonschema.validate(answer, schema("Vectors"))
    np.testing.assert_allclose(answer["text"], encoder.text(["red", "blue"]).numpy(), atol=1e-6)
    np.testing.assert_allclose(answer["image"], encoder.image([data]).numpy(), atol=1e-6)
    piece = search(api, text="green", top=1)["hits"][0]["piece"]
    fields = {"image": base64_of(data), "piece": piece, "labels": ["red", "green", "blue"], "top": 2}
    labels = api.post("/v1/classify", json=fields).json()
    jsonschema.validate(labels, schema("Labels"))
    assert [row[0]["label"] for row in labels["labels"]] == ["red", "green"]
    assert [len(row) for row in labels["labels"]] == [2, 2]


def test_the_index_is_described(api: TestClient, store: Store) -> None:
    about = api.get("/v1/index").json()
    jsonschema.validate(about, schema("Index"))
    assert (about["files"], about["images"], about["videos"]) == (6, 4, 1)
    assert about["folders"] == [str(store.roots()[0].path)]
    assert len(about["sample"]) == 5
    served = {(path, method) for path, methods in document()["paths"].items() for method in methods}
    assert ("/v1/search", "post") in served
    assert api.get("/openapi.json").json() == document()
    assert api.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "A search needs a text, an image, or both"),
        ({"text": 5}, "text must be a string, got 5."),
        ({"text": "?"}, "The text '[?]' has no letters or digits"),
        ({"txt": "red"}, "unknown field 'txt'; did you mean 'text'?"),
        ({"text": "red", "top": 0}, "top must be an integer from 1 to 1000, got 0."),
        ({"text": "red", "top": 900, "skip": 900}, "skip [+] top must be at most 1000"),
        ({"text": "red", "weight": 2}, "weight must be 0 to 1, got 2."),
        ({"text": "red", "group": "size"}, "group must be folder or duplicate, got 'size'."),
        ({"text": "red", "filter": {"kind": "sound"}}, "filter.kind must be image or video"),
        ({"text": "red", "filter": {"after": "soon"}}, "filter: 'soon' is not a date"),
        ({"text": "red", "filter": {"size": 3}}, "unknown field 'size'"),
        ({"text": "red", "filter": {"min_side": 0}}, "min_side must be a positive integer"),
        ({"text": "red", "moments": True, "group": "folder"}, "Moments are hits of their own"),
        ({"like": -1}, "like must be the number of a piece"),
        ({"image": "%%%"}, "image is not base64"),
        ({"image": base64_of(b"GIF89a")}, "image: the image"),
        ({"image": ["", "", ""]}, ""),
    ],
)
def test_wrong_fields_are_status_422_or_415(api: TestClient, fields: dict[str, Any], message: str) -> None:
    assert re.search(message, refused(api, 415 if fields.get("image") == ["", "", ""] else 422, **fields))


def test_sizes_and_types_are_refused(api: TestClient, tmp_path: Path) -> None:
    assert "is not an image: it is a PDF file" in refused(api, 415, image=base64_of(b"%PDF-1.7 and more"))
    assert "more than 1 MiB" in refused(api, 413, image=base64_of(b"\0" * (1 << 20) + b"x"))
    assert "more than the 10000 allowed" in refused(api, 413, image=base64_of(file_of("red", tmp_path, (200, 100))))
    assert "more than 2 MiB" in refused(api, 413, text="x" * (3 << 20))
    assert "3 images, more than 2" in refused(api, 422, image=[base64_of(file_of("red", tmp_path))] * 3)
    for kind, body, status in (
        ("text/plain", b"{}", 415),
        ("application/json", b"{", 400),
        ("application/json", b"[]", 400),
    ):
        assert api.post("/v1/search", content=body, headers={"content-type": kind}).status_code == status
    assert api.post("/v1/search", content=b"x", headers={"content-type": "multipart/form-data"}).status_code == 400
    assert api.get("/v1/search").status_code == 405
    assert api.get("/v2").json()["error"]["message"] == "There is nothing at this address. See /openapi.json."


def test_a_damaged_image_does_not_fail_the_others(store: Store, tmp_path: Path) -> None:
    good, bad = file_of("red", tmp_path), file_of("green", tmp_path)[:60]
    vectors = Vectors(ColourEncoder())
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(vectors.image, [each]) for each in (good, bad)]
        assert asked[0].result().shape == (1, 4)
        with pytest.raises(PerceptError):
            asked[1].result()
    with pytest.raises(PerceptError):
        vectors.image([bad])  # a failure is not kept
    vectors.close()


def test_queries_that_wait_are_computed_together_and_once() -> None:
    gate, sizes = threading.Event(), []

    class Slow(ColourEncoder):
        def text(self, texts: list[str]) -> torch.Tensor:
            sizes.append(len(texts))
            assert gate.wait(20)
            return super().text(texts)

    vectors = Vectors(Slow())
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(vectors.text, ["red"])
        while not sizes:
            time.sleep(0.001)
        rest = [pool.submit(vectors.text, [colour]) for colour in ("red", "green", "blue", "green", "blue", "white")]
        while vectors._jobs.qsize() < 3:
            time.sleep(0.001)
        gate.set()
        assert torch.equal(first.result(), rest[0].result())
        assert torch.equal(rest[1].result(), rest[3].result())
    assert sizes == [1, 3]
    vectors.close()


# Files


def test_files_and_ranges(api: TestClient, store: Store) -> None:
    hit = search(api, text="red", filter={"kind": "video"})["hits"][0]
    data = Path(hit["path"]).read_bytes()
    whole = api.get(hit["file"])
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, data, "video/mp4")
    assert whole.headers["x-content-type-options"] == "nosniff"
    part = api.get(hit["file"], headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, data[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(data)}"
    assert api.get(hit["file"], headers={"range": "bytes=-7"}).content == data[-7:]
    beyond = api.get(hit["file"], headers={"range": f"bytes={len(data)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(data)}")
    same = api.get(hit["file"], headers={"if-none-match": whole.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    head = api.head(hit["file"])
    assert (head.headers["content-length"], head.content) == (str(len(data)), b"")


def test_byte_range() -> None:
    assert byte_range("bytes=0-0,5-6", 10) is None
    assert byte_range("bytes=-", 10) is None
    assert byte_range("bytes=5-100", 10) == (5, 10)
    with pytest.raises(ApiError):
        byte_range("bytes=6-5", 10)


def test_thumbnails_of_videos_show_the_span(api: TestClient) -> None:
    from io import BytesIO

    from PIL import Image

    for colour, channel in (("green", 1), ("red", 0)):
        hit = search(api, text=colour, filter={"kind": "video"})["hits"][0]
        response = api.get(hit["thumbnail"])
        assert response.headers["content-type"] == "image/jpeg"
        pixel: Any = Image.open(BytesIO(response.content)).getpixel((20, 20))
        assert pixel.index(max(pixel)) == channel


@pytest.mark.parametrize(
    "address",
    ["/v1/files/..%2f..%2fetc%2fpasswd", "/v1/files//etc/passwd", "/v1/files/999", "/page/..%2fapp.py", "/v1/files/-1"],
)
def test_nothing_but_pieces_of_the_index_can_be_fetched(api: TestClient, address: str) -> None:
    assert api.get(address).status_code == 404


def test_a_file_that_was_swapped_or_changed_is_not_sent(tmp_path: Path) -> None:
    with indexed(tmp_path, video=False) as store, client(store) as api:
        hit = search(api, text="green", top=1)["hits"][0]
        path, secret = Path(hit["path"]), tmp_path / "secret"
        state, data = path.stat(), path.read_bytes()
        secret.write_bytes(b"s" * len(data))
        os.utime(
            secret, ns=(state.st_atime_ns, state.st_mtime_ns)
        )  # the same size and time as the file that was indexed

        def status() -> int:
            response = api.get(hit["file"])
            assert b"ssss" not in response.content
            return response.status_code

        assert status() == 200
        path.unlink()
        path.symlink_to(secret)
        assert status() == 410
        path.unlink()
        os.mkfifo(path)
        assert status() == 410
        path.unlink()
        assert status() == 410
        assert api.get(hit["thumbnail"]).status_code == 200
        path.write_bytes(data)
        assert status() == 200
        again = search(api, text="green", top=1)["hits"][0]
        assert not again["missing"]


def test_a_copy_is_sent_in_place_of_a_file_that_is_gone(tmp_path: Path) -> None:
    with indexed(tmp_path, video=False) as store, client(store) as api:
        hit = search(api, text="red", top=1)["hits"][0]
        data = Path(hit["path"]).read_bytes()
        Path(hit["path"]).unlink()
        assert api.get(hit["file"]).content == data


def test_names_that_are_not_text(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path / "pictures") + b"/\xff\xfe \xe2\x82\xac.png"
    (tmp_path / "pictures").mkdir()
    Path(os.fsdecode(raw)).write_bytes(picture(tmp_path / "white.png", "white").read_bytes())
    with indexed(tmp_path, video=False) as store, client(store) as api:
        hit = search(api, text="white", top=1)["hits"][0]
        assert hit["name"] == "�� €.png"
        response = api.get(hit["file"])
        assert response.status_code == 200
        assert response.headers["content-disposition"].endswith("%FF%FE%20%E2%82%AC.png")


# A changing index


def test_changes_of_the_index_are_seen(tmp_path: Path) -> None:
    with indexed(tmp_path, video=False) as store, client(store) as api:
        before = search(api, text="white", top=1)
        with Store(tmp_path / "index") as writer:  # as another process has it
            path = picture(tmp_path / "pictures" / "white.png", "white")
            build(writer, ColourEncoder(), [Root(path=tmp_path / "pictures")])
            after = search(api, text="white", top=1)
            assert names(after) == ["white.png"] != names(before)
            assert after["version"] > before["version"]
            assert api.get("/v1/index").json()["version"] == after["version"]
            path.unlink()
            writer.remove([path])
        assert api.get(after["hits"][0]["file"]).status_code == 404
        assert names(search(api, text="white", top=1)) == names(before)


def test_an_empty_index(tmp_path: Path) -> None:
    encoder = ColourEncoder()
    with Store.create(tmp_path / "index", encoder) as store, client(store) as api:
        assert search(api, text="red") | {"version": 0} == {
            "hits": [], "more": False, "searched": 0, "exact": True, "milliseconds": 0.0, "version": 0,
            "unknown_words": [], "like": [],
        }  # fmt: skip
        assert api.get("/v1/index").json()["sample"] == []


def test_a_model_that_does_not_fit_is_refused(store: Store) -> None:
    with pytest.raises(PerceptError, match="cannot be compared"), client(store, ColourEncoder("other")):
        pass


# Access


def test_a_token_is_needed_and_links_carry_their_own_key(store: Store) -> None:
    with client(store, token="secret") as api, client(store, token="secret") as restarted:
        for path in ("/", "/page/page.js", "/openapi.json", "/health"):
            assert api.get(path).status_code == 200
        for path in ("/v1/index", "/v1/files/1", "/v1/files/1?key=00", "/v1/thumbnails/1"):
            assert api.get(path).status_code == 401
        assert api.post("/v1/search", json={"text": "red"}).headers["www-authenticate"] == "Bearer"
        api.headers["authorization"] = "Bearer secret"
        first, second = search(api, text="red", top=2)["hits"]
        del api.headers["authorization"]
        assert api.get(first["file"]).status_code == api.get(first["thumbnail"]).status_code == 200
        key = first["file"].partition("key=")[2]
        assert api.get(f"/v1/files/{second['piece']}?key={key}").status_code == 401
        assert api.get(first["file"].replace("files", "thumbnails")).status_code == 401
        assert restarted.get(first["file"]).status_code == 401


def test_other_names_and_other_pages_are_refused(api: TestClient) -> None:
    assert api.get("/", headers={"host": "evil.example"}).status_code == 403
    assert api.post("/v1/search", json={"text": "red"}, headers={"origin": "http://evil.example"}).status_code == 403
    assert api.post("/v1/search", json={"text": "red"}, headers={"origin": "null"}).status_code == 403
    assert api.post("/v1/search", json={"text": "red"}, headers={"origin": ORIGIN}).status_code == 200
    assert (
        api.get("/v1/thumbnails/1", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}).status_code
        == 403
    )
    assert api.get("/", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}).status_code == 200


def test_the_page_loads_nothing_from_elsewhere(api: TestClient) -> None:
    page = api.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for name in ("/", *(f"/page/{file}" for file in ("page.css", "page.js", "api.js", "results.js", "viewer.js"))):
        text = api.get(name).text.replace("http://www.w3.org/2000/svg", "")
        assert "http" not in text.replace('"https', "")
        assert "style=" not in text
        assert "innerHTML" not in text


def test_more_requests_than_the_queue_holds_are_status_429(store: Store) -> None:
    gate, entered = threading.Event(), threading.Event()

    class Slow(ColourEncoder):
        def text(self, texts: list[str]) -> torch.Tensor:
            entered.set()
            assert gate.wait(20)
            return super().text(texts)

    with client(store, Slow(), limits=Limits(queue=1)) as api, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(search, api, text="red")
        assert entered.wait(20)
        response = api.post("/v1/search", json={"text": "blue"})
        gate.set()
        assert (response.status_code, response.headers["retry-after"]) == (429, "2")
        assert waiting.result()["hits"]
        assert search(api, text="blue")["hits"]
