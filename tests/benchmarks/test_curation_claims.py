"""The benchmarks of TL;DR, RealSyn and visualness: their data is what they say, and verdicts follow from the intervals."""

import io
import json
from collections.abc import Sequence
from pathlib import Path

import curation_realsyn
import curation_visualness
import numpy as np
import pytest
import torch
from curation_models import Fusion, Images, Writer, coloured, named, overlap, train
from curation_seeds import Scores, by_seed, compared, judged
from PIL import Image
from small_clip import CONTEXT, NAMES

from percept.data.curate.rules import TextRules
from percept.data.curate.sizes import ImageSizes
from percept.data.tokenizers import Tokenizer


def test_a_stopped_run_continues_with_the_seeds_that_are_missing(tmp_path: Path) -> None:
    file, called = tmp_path / "result.json", []

    def run(seed: int) -> Scores:
        called.append(seed)
        return {"ours": {"mean": 0.5 + seed / 100}, "other": {"mean": 0.1}}

    def summary(runs: Sequence[Scores]) -> dict:
        return {"difference": compared(runs, "ours", "other", "mean")}

    by_seed(file, {"steps": 3}, [0], run, summary)
    by_seed(file, {"steps": 3}, [0, 1, 2], run, summary)
    assert called == [0, 1, 2]
    result = json.loads(file.read_text())["result"]
    assert result["difference"]["verdict"] == "holds"
    assert list(result["runs"]) == ["0", "1", "2"]
    by_seed(file, {"steps": 4}, [0], run, summary)
    assert called == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("low", "high", "margin", "verdict"),
    [(0.01, 0.02, 0, "holds"), (-0.02, -0.01, 0, "does not hold"), (-0.01, 0.02, 0, "within noise"), (-0.005, 0.02, -0.01, "holds")],
)  # fmt: skip
def test_the_verdict_is_that_of_the_interval(low: float, high: float, margin: float, verdict: str) -> None:
    assert judged({"low": low, "high": high}, margin)["verdict"] == verdict


def test_only_the_noun_tells_visual_sentences_from_others() -> None:
    found = curation_visualness.sentences(
        240, 3, curation_visualness.HELD_OUT, curation_visualness.HELD_OUT_NOUNS, "evaluation"
    )
    assert found.visual.sum() == len(found.images) == 120
    assert not set(curation_visualness.NOUNS) & set(curation_visualness.HELD_OUT_NOUNS)
    things = sorted(NAMES, key=len, reverse=True)

    def form(text: str) -> str:
        for noun in (*things, *curation_visualness.HELD_OUT_NOUNS):
            text = text.replace(f" {noun}", " X")
        return " ".join("X" if coloured(word) >= 0 else word for word in text.split()).replace("X X", "X")

    forms = [
        {form(text) for text, visual in zip(found.texts, found.visual, strict=True) if visual == side}
        for side in (True, False)
    ]
    assert forms[0] == forms[1] == {one.format(x="X") for one in curation_visualness.FORMS}


def test_thresholds_and_ranks() -> None:
    truth = np.array([False, False, True, True])
    assert curation_visualness.chosen_threshold(np.array([0.1, 0.2, 0.6, 0.9]), truth) == pytest.approx(0.4)
    assert curation_visualness.auroc(np.array([0.1, 0.9, 0.6, 0.9]), truth) == pytest.approx(0.625)


def test_a_document_has_what_extraction_removes() -> None:
    page, names = curation_realsyn.document(4, seed=1)
    images = [image for image in page["images"] if image]
    assert len(images) == 5
    assert len(names) == 3
    assert set(names.values()) <= set(NAMES)
    sides = [sorted(Image.open(io.BytesIO(image)).size) for image in names]
    assert all(ImageSizes(min_side=64).reason(*side) is None for side in sides)
    texts = [text for text in page["texts"] if text]
    assert len(texts) == 16
    assert sum(TextRules().reason(text) is not None for text in texts) >= 6


def test_slopes_are_gains_per_doubling() -> None:
    scales = {"full, 1/4 of the documents": 0.1, "full, 1/2 of the documents": 0.2, "full": 0.3}
    run = {arm: {"mean": value} for arm, value in scales.items()}
    assert curation_realsyn.slopes([run, run], "full", "mean") == pytest.approx([0.1, 0.1])


def test_captions_are_read_for_what_they_name() -> None:
    assert NAMES[named("a green palm tree on a plain background")] == "palm tree"
    assert named("untitled") == coloured("untitled") == -1
    assert overlap("a red cup", "a red hat") == pytest.approx(2 / 3)


@pytest.mark.parametrize("kind", ["fusion", "captioner"])
def test_a_model_learns_pairs(kind: str) -> None:
    torch.manual_seed(0)
    texts = [f"a {name}" for name in NAMES[:8]]
    tokenizer = Tokenizer.train(texts, vocab_size=400, context=CONTEXT)
    images = Images(torch.randn(8, 256), torch.randn(8, 17, 256))
    model = train(kind, images, [[text] for text in texts], tokenizer, steps=25, seed=0)
    if isinstance(model, Fusion):
        assert (model.match(images, texts).argmax(dim=1) == torch.arange(8)).float().mean() > 0.8
    else:
        assert isinstance(model, Writer)
        assert np.mean([one == two for one, two in zip(model.write(images), texts, strict=True)]) > 0.8
