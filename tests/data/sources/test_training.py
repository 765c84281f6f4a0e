"""A model trains on a source, and a run that stopped and went on equals one that did not stop."""

import json
from dataclasses import dataclass
from pathlib import Path

from percept.data import open_source
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.methods.pretraining.contrastive import Contrastive
from percept.models.clip import CLIP
from percept.models.config import ClipConfig, TextConfig, VisionConfig
from percept.train.experiment import Experiment, Settings
from percept.train.loop import fit
from tests.data.sources import made


@dataclass(frozen=True)
class Config:
    settings: Settings


def experiment(folder: Path) -> Experiment:
    tokenizer = Tokenizer.train([f"caption {n}" for n in range(8)], vocab_size=270, context=12)
    vision = VisionConfig(image_size=16, patch_size=8, width=16, layers=1, heads=1, pool_heads=1, output_dim=12)
    text = TextConfig(context=12, vocabulary=tokenizer.vocab_size, width=16, layers=1, heads=1, output_dim=12)
    settings = Settings(steps=6, batch=4, warmup=1, log_every=1, device="cpu", dtype="float32")
    return Experiment(
        name="test",
        config=Config(settings),
        settings=settings,
        task=lambda place: Contrastive(Contrastive.Config(), CLIP(ClipConfig(vision=vision, text=text))),
        source=lambda place: open_source(
            folder, batch=4, preprocess=Preprocess(size=16), tokenizer=tokenizer, max_bad=2
        ),
        save=lambda out, task, totals: None,
    )  # fmt: skip


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_stopped_run_goes_on_with_the_same_samples(tmp_path: Path) -> None:
    place = made.captioned_folder(tmp_path / "data")
    (place / "3.png").write_bytes(b"broken")
    fit(experiment(place), tmp_path / "whole")
    for _ in range(3):
        fit(experiment(place), tmp_path / "parts", minutes=0.0)  # stops after one step
    fit(experiment(place), tmp_path / "parts")
    assert len(losses(tmp_path / "whole")) == 6
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
