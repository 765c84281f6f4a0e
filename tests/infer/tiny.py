"""A model small enough to be made in every test: random weights, everything else real."""

from pathlib import Path

import torch

from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.infer.encoder import Encoder
from percept.infer.setting import Setting
from percept.models.clip import CLIP
from percept.models.config import ClipConfig, TextConfig, VisionConfig
from percept.weights.folder import save_folder

SIZE, DIM, CONTEXT = 24, 20, 16


def tokenizer() -> Tokenizer:
    return Tokenizer.train(["a picture of a red cup", "a dog to the left of a cat"], vocab_size=290, context=CONTEXT)


def config(*, text: bool = True) -> ClipConfig:
    tower = VisionConfig(
        image_size=SIZE, patch_size=8, width=16, layers=3, heads=2, pool_heads=2,
        pool="attention" if text else "none", norm_post=text, output_dim=DIM if text else None,
    )  # fmt: skip
    words = TextConfig(context=CONTEXT, vocabulary=tokenizer().vocab_size, width=16, layers=2, heads=2, output_dim=DIM)
    return ClipConfig(vision=tower, text=words if text else None)


def model(*, text: bool = True, seed: int = 0) -> CLIP:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CLIP(config(text=text)).eval()


def encoder(*, text: bool = True, dtype: torch.dtype = torch.float32, batch: int = 4) -> Encoder:
    return Encoder(
        model(text=text),
        preprocess=Preprocess(size=SIZE),
        tokenizer=tokenizer() if text else None,
        name="tiny",
        setting=Setting(device=torch.device("cpu"), dtype=dtype, batch=batch),
    )


def folder(path: Path, *, text: bool = True, seed: int = 0) -> Path:
    save_folder(
        path,
        model(text=text, seed=seed),
        name="tiny",
        preprocess=Preprocess(size=SIZE),
        tokenizer=tokenizer() if text else None,
    )
    return path
