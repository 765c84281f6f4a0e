"""Captions that an assistant adapts to one image at a time: RLCF against no adaptation, entropy minimisation and random rewards.

    PYTHONPATH=benchmarks python benchmarks/adaptation/rlcf_captions.py --json-file benchmarks/adaptation/rlcf_captions.json

Images of the world with one thing, in styles that plm-nano was not trained on, mixed with a blurred, noisy and faint form of themselves. The policy
captions an image, its projector is adapted with a few samples of its own, it captions the image again, and is reset, which is checked. A caption is
right if it names the kind and the colour of the thing (the rule of `percept eval plm`); further scores are CIDEr against five captions of the
scene, and the cosine that the reward model gives. "best of samples" takes the caption that the reward model likes best among those that the policy
writes without adaptation, as many as RLCF samples. An image costs about 0.8 s of one core for each arm that is adapted.

Learning rates are those of --rates, chosen for each policy and arm on other images by the share that is right; the paper's 5e-6 is too small to
change a caption of plm-nano. Every cell (policy, bed, seed) is a line of --runs, so the command goes on where it was interrupted. Two processes may
share the work, each with its own --runs file and its own --seeds; --report --runs ONE OTHER judges both. Two intervals of 95 %: a bootstrap over
cells, and a paired one over images.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
import tyro
from beds import about, harder
from harness import save
from modx_streams import SIDE, STREAMS
from PIL import Image
from recorded import Record, RunOptions, Runs, best_of, files_of, of_one_setting, passes_gate, read_files, weights_of
from rlcf_report import caption_shares, captions_report
from torch import Tensor

import percept
from percept.core.config import to_dict
from percept.core.errors import PerceptError, unknown_name
from percept.core.seed import derive
from percept.eval.vlm.graders import Grading, kind_and_colour
from percept.eval.vlm.item import Answered, Item, ask
from percept.infer.asking import asked
from percept.infer.assistant import Assistant
from percept.infer.encoder import Encoder
from percept.methods.adaptation.bench import digest
from percept.methods.adaptation.rlcf import RLCF
from percept.methods.adaptation.rlcf_captions import captioned
from percept.weights.fingerprint import hash_tensors, joined_hash
from percept.world import CATEGORIES, Scene, render, short_caption, shows_colour

SHIFTS = {"comic": 0.8, "chalk": 0.8, "fog": 0.5, "psychedelic": 0.8, "pixels": 0.8}
"""Style to the share of the damaged form of an image: plm-nano is right about 45 to 75 % of them, before anything was adapted."""
OBJECTIVES = {"RLCF": "reward", "entropy": "entropy", "random reward": "random"}
"""Arms that are adapted, to their objectives."""
QUESTION, TOKENS, REFERENCES = "Describe the image.", 48, 5
"""What is asked, most tokens of a caption, and captions of a scene that CIDEr compares with."""
VERSION, VALIDATION, GATED = 1, 1_000_003, 40
"""Changes with the images and with what is measured; seed of the images on which beds and rates are chosen; number of those for a bed."""
PLACE = ("policy", "weights", "reward", "reward weights", "bed", "seed")
"""Fields that identify a cell, with `settings`, the hash of everything else that changes its result."""
KEY = (*PLACE, "settings")


@dataclass(frozen=True, kw_only=True)
class Options(RunOptions):
    """Options of the benchmark."""

    policies: tuple[str, ...] = ("plm-nano",)
    """Assistants that are adapted."""
    reward: str = "nano"
    """Encoder that judges captions."""
    beds: tuple[str, ...] = tuple(SHIFTS)
    """Shifted styles."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Seeds of images and samples."""
    count: int = 20
    """Images of a cell, and of all beds together on which rates are chosen."""
    steps: int = 4
    """Steps for an image."""
    samples: int = 6
    """Captions that are judged in a step."""
    rates: tuple[float, ...] = (1e-4, 5e-4, 2e-3)
    """Learning rates that are tried for the projector."""

    def __post_init__(self) -> None:
        if unknown := [name for name in self.beds if name not in SHIFTS]:
            raise unknown_name("bed", unknown[0], SHIFTS)
        if self.count < 1 or not self.rates or not self.seeds:
            raise PerceptError(f"count={self.count}, rates={self.rates}, seeds={self.seeds}: there is nothing to run. Give at least one of each.")  # fmt: skip

    @property
    def told(self) -> Record:
        """Settings that every record has in words, besides the hash."""
        return {"reward": self.reward, "count": self.count, "steps": self.steps, "samples": self.samples}

    def config(self, arm: str, rate: float) -> RLCF.Config:
        """Return the configuration of an arm."""
        return RLCF.Config.captions(objective=OBJECTIVES[arm], steps=self.steps, answers=self.samples, rate=rate)

    @property
    def settings(self) -> str:
        """Hash of what decides a cell besides its place."""
        config = to_dict(self.config("RLCF", 1.0))
        return digest([VERSION, config, self.count, self.rates, self.beds, SHIFTS, QUESTION, TOKENS, REFERENCES])


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """An image with what is true of it."""

    image: Image.Image
    references: tuple[str, ...]
    truth: dict[str, str]
    """Kind and colour, which is empty where the style shows none, as the grader takes them."""
    seed: int

    @classmethod
    def of(cls, scene: Scene, share: float, seed: int) -> "Shown":
        """Draw a scene with one thing, and mix it with its damaged form."""
        rng, thing = random.Random(seed), scene.things[0]
        clean = Image.fromarray(render(scene, size=SIDE, truth=False).image)
        texts = tuple(short_caption(scene, random.Random(number)) for number in range(REFERENCES))
        colour = thing.colour if shows_colour(scene) else ""
        truth = {"kind": thing.category, "colour": colour, "caption": texts[0]}
        return cls(image=Image.blend(clean, harder(clean, rng), share), references=texts, truth=truth, seed=seed)

    def right(self, caption: str) -> float:
        """Return 1 for a caption that names the kind and the colour of the thing."""
        item = Item(key="", prompt=ask(QUESTION), reference=self.truth)
        return kind_and_colour([Answered(item=item, text=caption)], Grading()).samples[0]


def drawn(bed: str, count: int, seed: int) -> list[Shown]:
    """Draw images of a bed; different seeds have no scene in common but by chance."""
    domain = next(part for part in STREAMS["styles"].parts if part.name == bed)
    scenes = replace(domain, things=(1, 1)).scenes(seed)
    return [Shown.of(next(scenes), SHIFTS[bed], derive(seed, "captions", bed, row) % 2**31) for row in range(count)]


@dataclass(frozen=True, eq=False)
class Captioning:
    """A policy and a reward model."""

    policy: Assistant
    reward: Encoder
    options: Options

    def cosines(self, image: Image.Image, captions: Sequence[str]) -> Tensor:
        """Return the reward of captions."""
        return self.reward.text(list(captions)) @ self.reward.image(image)[0]

    def plain(self, one: Shown) -> str:
        """Return the caption of the policy without adaptation."""
        return self.policy.ask(one.image, QUESTION, max_new_tokens=TOKENS)

    def best(self, one: Shown, caption: str) -> str:
        """Return the caption that the reward model likes best: the given one, or one of as many samples as RLCF takes."""
        count = self.options.steps * self.options.samples
        texts = [caption, *self.policy.reply(asked(one.image, QUESTION), samples=count, temperature=1.0, max_new_tokens=TOKENS, seed=one.seed)]  # fmt: skip
        return texts[int(self.cosines(one.image, texts).argmax())]

    def adapted(self, arm: str, rate: float, one: Shown) -> str:
        """Return the caption after adaptation to an image."""
        vector = self.reward.image(one.image)[0]
        return captioned(
            self.policy, one.image, lambda captions: self.reward.text(list(captions)) @ vector, config=self.options.config(arm, rate),
            question=QUESTION, max_new_tokens=TOKENS, seed=one.seed,
        )  # fmt: skip

    @cached_property
    def beds(self) -> list[str]:
        """Beds on which the policy has something to gain and something to lose."""
        policy, chance = self.policy.name, 1 / len(CATEGORIES)
        images = {bed: drawn(bed, GATED, VALIDATION) for bed in self.options.beds}
        shares = {bed: sum(one.right(self.plain(one)) for one in own) / GATED for bed, own in images.items()}
        return [bed for bed, share in shares.items() if passes_gate(bed, share, chance, policy, what="un-adapted")]

    @cached_property
    def rates(self) -> dict[str, float]:
        """The rate of every arm that is right most often, on the validation images of all beds together."""
        each = max(1, self.options.count // len(self.beds))
        images = [one for bed in self.beds for one in drawn(bed, each, VALIDATION)]

        def worth(arm: str, rate: float) -> float:
            return sum(one.right(self.adapted(arm, rate, one)) for one in images)

        return {arm: best_of(self.options.rates, lambda rate, arm=arm: worth(arm, rate)) for arm in OBJECTIVES}

    def captions(self, one: Shown) -> dict[str, str]:
        """Return the caption of every arm."""
        plain = self.plain(one)
        found = {"un-adapted": plain, "best of samples": self.best(one, plain)}
        return found | {arm: self.adapted(arm, rate, one) for arm, rate in self.rates.items()}

    def measured(self, bed: str, seed: int) -> Record:
        """Return captions and scores of every arm on the images of a cell."""
        images, before = drawn(bed, self.options.count, seed), weights(self.policy)
        rows = [self.captions(one) for one in images]
        assert weights(self.policy) == before, "the policy was not reset"
        arms: dict[str, dict[str, list[Any]]] = {}
        for arm in rows[0]:
            texts = [row[arm] for row in rows]
            found = [float(self.cosines(one.image, [text])[0]) for one, text in zip(images, texts, strict=True)]
            right = [one.right(text) for one, text in zip(images, texts, strict=True)]
            arms[arm] = {"captions": texts, "right": right, "reward": [round(value, 4) for value in found]}
        return self.options.told | {"rates": self.rates, "references": [one.references for one in images], "arms": arms}


def weights(assistant: Assistant) -> str:
    """Return a short hash of the weights of an assistant."""
    return joined_hash(hash_tensors(assistant.model.state_dict()))[:16]


def run_all(options: Options, files: Sequence[Path]) -> list[Record]:
    """Run what the files do not hold yet, and return the records of these options."""
    run, reward, found = Runs(files, KEY), percept.load(options.reward, dtype="float32"), []
    for name in options.policies:
        work = Captioning(percept.assistant(name, dtype="float32"), reward, options)
        hashes = work.policy.name, weights(work.policy), options.reward, weights_of(reward)
        for seed, bed in product(options.seeds, work.beds):
            made = partial(work.measured, bed, seed)
            found.append(run.once((*hashes, bed, seed, options.settings), made, shown))
    return found


def shown(record: Record) -> str:
    """Return a line about a cell."""
    return f"{record['policy']} {record['bed']} {record['seed']}: {caption_shares(record)}"


def recorded(options: Options, files: Sequence[Path]) -> list[Record]:
    """Return the records of the files that have these options, whatever their policies and seeds."""
    kept = [record for record in read_files(files, KEY) if record["settings"] == options.settings and record["reward"] == options.reward]  # fmt: skip
    return of_one_setting(kept, PLACE, {"policy": "weights", "reward": "reward weights"})


def main(options: Options) -> None:
    """Run what is missing, print and write the comparison.

    Raises:
        PerceptError: no cell has these options.
    """
    torch.set_num_threads(options.threads)
    start, files = time.perf_counter(), files_of(options.runs, "rlcf_captions.jsonl")
    records = recorded(options, files) if options.report else run_all(options, files)
    if not records:
        raise PerceptError("there is no run to judge. Give --runs files of these options, or beds that pass the gate of a policy.")  # fmt: skip
    save(options.json_file, {**about(start), **captions_report(records)})


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
