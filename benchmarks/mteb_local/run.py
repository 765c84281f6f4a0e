"""Run mteb with our adapter on tasks written here, and compare with the same numbers computed without mteb.

    sh benchmarks/mteb_local/environment.sh
    .venv-mteb/bin/python benchmarks/mteb_local/run.py --model nano

Three tasks of the generated world: find the image of a caption, find the caption of an image, and zero-shot classification of single
things. Nothing is downloaded. mteb's hit rates and accuracy must be those of `percept.eval`.
"""

import argparse
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mteb  # pyright: ignore[reportMissingImports]
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageColumn
from mteb.abstasks import AbsTaskRetrieval, AbsTaskZeroShotClassification  # pyright: ignore[reportMissingImports]
from mteb.abstasks.task_metadata import TaskMetadata  # pyright: ignore[reportMissingImports]
from PIL import Image

import percept
from percept.core.io import write_json
from percept.eval import world
from percept.eval.mteb import MtebEncoder, register
from percept.eval.retrieval import retrieval
from percept.eval.zeroshot import prompts, zeroshot
from percept.world.objects import CATEGORIES

HERE = Path(__file__).parent
TEMPLATE = ("a picture of a {}",)
UNSET = [
    "reference",
    "date",
    "domains",
    "task_subtypes",
    "license",
    "annotations_creators",
    "dialect",
    "sample_creation",
]
COUNT = 200


def described(name: str, kind: str, category: str, score: str) -> TaskMetadata:
    """Return the metadata that mteb asks for."""
    return TaskMetadata(
        name=name, type=kind, category=category, modalities=["image", "text"], main_score=score, bibtex_citation="",
        dataset={"path": "local", "revision": "1"}, description="images of the generated world", eval_splits=["test"],
        eval_langs=["eng-Latn"], **dict.fromkeys(UNSET),
    )  # fmt: skip


def images_of(arrays: list[Any]) -> Dataset:
    """Return images with their numbers."""
    rows = {"id": [f"image-{n}" for n in range(len(arrays))], "image": [Image.fromarray(array) for array in arrays]}
    return Dataset.from_dict(rows, features=Features({"id": Value("string"), "image": ImageColumn()}))


def texts_of(texts: list[str]) -> Dataset:
    """Return texts with their numbers."""
    return Dataset.from_dict({"id": [f"text-{n}" for n in range(len(texts))], "text": texts})


class Captions(AbsTaskRetrieval):
    """Find the image of a caption."""

    metadata = described("WorldT2I", "Any2AnyRetrieval", "t2i", "hit_rate_at_1")

    def load_data(self, **_: Any) -> None:
        """Draw the images; mteb would download them."""
        data = world.captioned(COUNT)
        right = {f"text-{n}": {f"image-{n}": 1} for n in range(len(data.images))}
        self.take(images_of(data.images), texts_of(data.long), right)

    def take(self, corpus: Dataset, queries: Dataset, right: dict[str, dict[str, int]]) -> None:
        """Use these images and texts."""
        split = {"corpus": corpus, "queries": queries, "relevant_docs": right, "top_ranked": None}
        self.dataset, self.data_loaded = {"default": {"test": split}}, True


class Images(Captions):
    """Find the caption of an image."""

    metadata = described("WorldI2T", "Any2AnyRetrieval", "i2t", "hit_rate_at_1")

    def load_data(self, **_: Any) -> None:
        """Draw the images; mteb would download them."""
        data = world.captioned(COUNT)
        right = {f"image-{n}": {f"text-{n}": 1} for n in range(len(data.images))}
        self.take(texts_of(data.long), images_of(data.images), right)


class Categories(AbsTaskZeroShotClassification):
    """Classify images of one thing."""

    metadata = described("WorldZeroShot", "ZeroShotClassification", "i2t", "accuracy")

    def load_data(self, **_: Any) -> None:
        """Draw the images; mteb would download them."""
        data = world.singles(COUNT)
        features = Features({"image": ImageColumn(), "label": ClassLabel(names=list(CATEGORIES))})
        rows = {"image": [Image.fromarray(array) for array in data.images], "label": data.categories}
        self.dataset, self.data_loaded = {"test": Dataset.from_dict(rows, features=features)}, True

    def get_candidate_labels(self) -> list[str]:
        """Return the texts of the classes."""
        return [texts[0] for texts in prompts(list(CATEGORIES), TEMPLATE)]


def directly(model: str) -> dict[str, float]:
    """Return the numbers that mteb has to find."""
    encoder: Any = percept.load(model)
    data, singles = world.captioned(COUNT), world.singles(COUNT)
    scores = {score.name: score.value for score in retrieval(encoder, data.images, data.long)}
    names = list(CATEGORIES)
    classified = zeroshot(encoder, singles.images, singles.categories, names, prompts(names, TEMPLATE), name="category")
    return {
        "WorldT2I": scores["caption→image R@1"],
        "WorldI2T": scores["image→caption R@1"],
        "WorldZeroShot": classified.scores[0].value,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano", help="name or folder")
    parser.add_argument("--out", type=Path, default=HERE / "result.json")
    chosen = parser.parse_args()
    start = time.perf_counter()
    name = register(chosen.model)
    model = MtebEncoder(name, mteb.get_model_meta(name).revision, model=chosen.model)
    tasks = [Captions(), Images(), Categories()]
    results = mteb.evaluate(model, tasks, cache=None, co2_tracker=False, encode_kwargs={"batch_size": 32}).task_results
    found = {each.task_name: each.get_score() for each in results}
    expected = directly(chosen.model)
    result = {
        "command": " ".join(["benchmarks/mteb_local/run.py", *sys.argv[1:]]),
        "versions": {name: version(name) for name in ("percept-models", "mteb", "torch")},
        "model": {"name": model.mteb_model_meta.name, "revision": model.mteb_model_meta.revision},
        "seconds": round(time.perf_counter() - start),
        "n": COUNT,
        "mteb": found,
        "direct": expected,
        "largest difference": max(abs(found[name] - expected[name]) for name in expected),
    }
    write_json(chosen.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
