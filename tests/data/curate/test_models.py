"""Steps that use a model: scores, TL;DR, RealSyn, visualness. The models are exact functions of small images."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.curate import clusters
from percept.data.curate.pipeline import Curation
from percept.data.curate.realsyn import RealSyn, Tagger, draw, quotas, retrieve
from percept.data.curate.score import Score
from percept.data.curate.step import Tools, make_steps
from percept.data.curate.tldr import Reduce, positions, whitened, whitening
from percept.data.curate.visualness import VISUAL, LabelVisualness, Visualness, best_of, null_image
from tests.data.curate.making import chunk, kept, run, write_lines

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}
PAGES = Path("pages.jsonl")


def plain_image(colour: str, shade: int = 0) -> bytes:
    buffer = io.BytesIO()
    pixels = tuple(min(255, max(0, value + (shade if value == 0 else -shade))) for value in COLOURS[colour])
    Image.new("RGB", (8, 8), pixels).save(buffer, "PNG")
    return buffer.getvalue()


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def see(images: Sequence[Any]) -> np.ndarray:
    """The mean colour, and how rough the image is."""
    rows = []
    for image in images:
        opened = Image.open(io.BytesIO(image) if isinstance(image, bytes) else image).convert("RGB")
        pixels = np.asarray(opened, dtype=np.float64) / 255
        rows.append([*pixels.mean((0, 1)), 10 * pixels.std((0, 1)).mean() + 1e-3])
    return unit(np.array(rows)).astype(np.float32)


def read(texts: Sequence[str]) -> np.ndarray:
    """The colours named in a text; a text without a colour looks like noise."""
    rows = []
    for text in texts:
        named = [np.array(COLOURS[word]) / 255 for word in text.lower().replace(".", "").split() if word in COLOURS]
        rows.append([*np.mean(named, axis=0), 1e-3] if named else [0.1, 0.1, 0.1, 1.0])
    return unit(np.array(rows)).astype(np.float32)


def tools(**more: Any) -> Tools:
    return Tools(name="colours", dim=4, images=see, texts=read, **more)


def test_scores_remove_captions_that_do_not_match(tmp_path: Path) -> None:
    rows = [["a red cup", "a blue cup"], ["a green dog"], ["nothing to see"], ["a red cup"]]
    images = [plain_image("red"), plain_image("blue"), plain_image("green"), b"broken"]
    decisions, _ = run(Score(threshold=0.9), [chunk(rows, images=images)], tmp_path, tools())
    assert decisions[0].reasons == [None, *["image and caption do not match"] * 2, "the image cannot be read"]
    assert decisions[0].texts is not None
    assert decisions[0].texts[0] == ["a red cup"]
    assert decisions[0].added["scores"][0] == [pytest.approx(1, abs=1e-3)]


@pytest.mark.parametrize("top", [0.25, 0.5, 1.0])
def test_a_top_share_of_the_scores_remains(tmp_path: Path, top: float) -> None:
    images = [plain_image("red", shade) for shade in range(0, 160, 8)]
    decisions, _ = run(Score(top=top), [chunk([["red"]] * 20, images=images)], tmp_path, tools())
    assert kept(decisions) == [place < 20 * top for place in range(20)]


def test_a_step_that_lacks_its_model_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(PerceptError, match="step score needs a model that gives images and texts"):
        Curation(source=tmp_path / "x", out=tmp_path / "y", steps=make_steps(["score"], {}))


@given(st.lists(st.integers(-1, 4), max_size=30))
def test_positions_count_earlier_equal_labels(labels: list[int]) -> None:
    assert positions(np.array(labels, dtype=np.int64)).tolist() == [
        labels[:at].count(one) for at, one in enumerate(labels)
    ]


def test_whitened_features_have_equal_variance() -> None:
    rng = np.random.default_rng(0)
    features = (
        rng.normal(size=(500, 4)) @ np.diag([10, 1, 0.1, 0]) @ np.linalg.qr(rng.normal(size=(4, 4)))[0] + 5
    ).astype(np.float32)
    mean, components = whitening(features)
    assert components.shape == (4, 3)
    np.testing.assert_allclose(np.cov(((features - mean) @ components).T), np.eye(3), atol=1e-2)
    np.testing.assert_allclose(np.linalg.norm(whitened(features, mean, components), axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("features", ["codes", "histogram", "vectors"])
def test_reduction_keeps_one_in_n_of_each_cluster_of_the_better_half(tmp_path: Path, features: Any) -> None:
    names = ["red", "green", "blue"] * 20
    captions = [name if place < 30 else "white" for place, name in enumerate(names)]  # the second half does not match
    images = [plain_image(name) for name in names]
    codes = lambda some: np.stack([np.full(4, see([image])[0, :3].argmax()) + 3 * np.arange(4) for image in some])  # noqa: E731
    say = lambda some: [f"mostly {list(COLOURS)[see([image])[0, :3].argmax()]}" for image in some]  # noqa: E731
    step = Reduce(features=features, clusters=3, every=5, caption=True)
    parts = [
        chunk([[text] for text in captions[low : low + 25]], low // 25, low, images[low : low + 25])
        for low in (0, 25, 50)
    ]
    decisions, state = run(step, parts, tmp_path, tools(codes=codes, num_codes=12, captions=say))
    stays = kept(decisions)
    expected = [names[:place].count(name) % 5 == 0 and place < 30 for place, name in enumerate(names)]
    assert stays == expected
    texts = [
        text
        for decision in decisions
        for text, reason in zip(decision.texts or [], decision.reasons, strict=True)
        if reason is None
    ]
    assert texts == [[f"{name}; mostly {name}"] for name, keep in zip(names, expected, strict=True) if keep]
    assert state["starts"].tolist() == [0, 25, 50, 60]


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(0, 200), st.sampled_from([0.0, 0.5, 1.0]))
def test_quotas_fill_the_budget_and_never_exceed_a_cluster(sizes: list[int], budget: int, power: float) -> None:
    table = np.array(sizes)
    found = quotas(table, budget, power)
    assert found.sum() == min(budget, table.sum())
    assert (found <= table).all()
    assert (found >= 0).all()
    if power == 1 and budget < table.sum():
        np.testing.assert_allclose(found, table * budget / table.sum(), atol=1)
    if power == 0:
        cut = found[found < table]
        assert not len(cut) or cut.max() - cut.min() <= 1


def test_a_draw_takes_the_smallest_numbers_of_each_cluster() -> None:
    label = np.array([0, 0, 0, 0, 1, 1])
    drawn = draw(label, np.array([4, 1, 3, 2, 9, 8]), 4, 0.5)
    assert drawn.tolist() == [False, True, False, True, True, True]


@pytest.mark.parametrize("probes", [1, 4, 16])
def test_retrieval_in_all_clusters_is_exact_and_in_few_a_subset(probes: int) -> None:
    rng = np.random.default_rng(0)
    texts, images = (
        unit(rng.normal(size=(200, 8))).astype(np.float32),
        unit(rng.normal(size=(50, 8))).astype(np.float32),
    )
    centres = clusters.train(texts, 16, seed=0)
    label = clusters.assign(texts, centres)
    order = np.argsort(label, kind="stable")
    index = {"vectors": texts[order], "centres": centres, "begins": np.searchsorted(label[order], np.arange(17))}
    rows, cosine = retrieve(images, index, count=3, probes=probes)
    exact = np.argsort(-(images @ texts[order].T), axis=1)[:, :3]
    recall = np.mean([len(set(one) & set(two)) / 3 for one, two in zip(rows, exact, strict=True)])
    assert recall == 1 if probes == 16 else recall > 0.25
    found = rows >= 0
    np.testing.assert_allclose(cosine[found], np.einsum("nd,nkd->nk", images, texts[order][rows])[found], atol=1e-5)


def pages(folder: Path) -> Path:
    """Documents in which the sentence next to an image is about something else."""
    folder.mkdir(exist_ok=True)
    rows = []
    for number in range(24):
        colour = "red" if number < 15 else ("green", "blue", "white")[number % 3]
        (folder / f"{number}.png").write_bytes(plain_image(colour, number))
        other = list(COLOURS)[(list(COLOURS).index(colour) + 1) % 4]
        text = f"Page {number} has a {colour} thing. We met on Monday at number {number}. This {other} one is beside page {number}."
        rows.append({"id": f"p{number}", "images": [None, f"{number}.png"], "texts": [text, None]})
    return write_lines(folder / PAGES, rows)


def test_documents_become_balanced_pairs(tmp_path: Path) -> None:
    settings = {
        "realsyn": {
            "text_clusters": 4,
            "sentences": 2,
            "synthesise": True,
            "share": 0.5,
            "image_clusters": 4,
            "power": 0.25,
        }
    }
    curation = Curation(
        source=pages(tmp_path / "pages"),
        out=tmp_path / "out",
        steps=make_steps(["realsyn"], settings),
        tools=tools(fuse=Tagger(see, read, list(COLOURS), tags=1)),
    )
    report = curation.run()
    rows = pq.read_table(tmp_path / "out" / "rows-00000.parquet").to_pylist()
    assert report["rows kept"] == len(rows) == 12
    seen = {
        row["key"]: list(COLOURS)[int(np.argmax(see([str(tmp_path / "out" / row["image"])]) @ read(list(COLOURS)).T))]
        for row in rows
    }
    for row in rows:
        assert len(row["captions"]) == 2
        assert all(f" {seen[row['key']]} " in text for text in row["captions"])
        assert row["synthetic"].startswith(f"{seen[row['key']]}. ")
        assert row["similarities"] == sorted(row["similarities"], reverse=True)
    reds = sum(colour == "red" for colour in seen.values())
    assert reds < 0.5 * 15  # the frequent kind lost more than half
    assert len(rows) - reds >= 6


@pytest.mark.parametrize("extract", [True, False])
def test_sentences_that_break_a_rule_are_extracted_only_on_request(tmp_path: Path, extract: bool) -> None:
    (tmp_path / "0.png").write_bytes(plain_image("red", 0))
    texts = ["All rights reserved, the red shop.", "all rights reserved, the red shop"]
    page = {"id": "p", "images": [None, "0.png", None], "texts": [texts[0], None, f"It is a red thing. {texts[1]}."]}
    steps = make_steps(["realsyn"], {"realsyn": {"extract": extract, "text_clusters": 1}})
    Curation(source=write_lines(tmp_path / PAGES, [page]), out=tmp_path / "out", steps=steps, tools=tools()).run()
    (row,) = pq.read_table(tmp_path / "out" / "rows-00000.parquet").to_pylist()
    captions = row.get("captions") or [row["caption"]]
    assert ("It is a red thing." in captions, len(captions)) == (True, 1 if extract else 3)


def test_captions_that_evoke_no_image_are_removed(tmp_path: Path) -> None:
    rows = [["a red cup", "a matter of opinion"], ["thoughts of yesterday"], ["two green dogs"]]
    decisions, _ = run(Visualness(threshold=0.5), [chunk(rows)], tmp_path, tools())
    assert kept(decisions) == [True, False, True]
    assert decisions[0].texts is not None
    assert decisions[0].texts[0] == ["a red cup"]
    assert null_image() == null_image(0) != null_image(1)


def test_sentences_of_documents_are_labelled_by_their_best_image(tmp_path: Path) -> None:
    steps = make_steps(["label-visualness"], {"label-visualness": {"above": 0.9, "below": 0.6}})
    curation = Curation(source=pages(tmp_path / "pages"), out=tmp_path / "out", steps=steps, tools=tools())
    report = curation.run()
    rows = pq.read_table(tmp_path / "out" / "rows-00000.parquet").to_pylist()
    labels = [(text, sees) for row in rows for text, sees in zip(row["captions"], row[VISUAL], strict=True)]
    assert sum("Page" in text for text, sees in labels if sees) == sum(sees for _, sees in labels) >= 20
    assert all("Monday" in text or "beside" in text for text, sees in labels if not sees)
    assert report["steps"][0]["visual sentences"] == sum(sees for _, sees in labels)


def test_the_best_of_a_group_is_kept_once() -> None:
    found = best_of(np.array([7, 7, 9, 7, 9]), np.array([0.1, 0.5, np.nan, 0.5, np.nan], dtype=np.float32))
    np.testing.assert_array_equal(found["best"], np.array([0.5, 0.5, np.nan, 0.5, np.nan], dtype=np.float32))
    assert found["owner"].tolist() == [True, False, True, False, False]
    assert found["winner"].tolist()[:2] == [False, True]
    assert found["winner"].sum() <= 2
    with pytest.raises(PerceptError, match="both must be above 0"):
        LabelVisualness(top=0.0)


def test_settings_out_of_range_are_refused() -> None:
    for make in (
        lambda: RealSyn(share=0.0),
        lambda: Reduce(every=0),
        lambda: Score(top=2.0),
        lambda: Visualness(top=None),
    ):
        with pytest.raises(PerceptError, match="must be"):
            make()
