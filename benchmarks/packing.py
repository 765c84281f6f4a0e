"""Compare three ways to run images of many shapes: as one packed row, one by one, and padded to the longest.

    python benchmarks/packing.py                     # prints a table and writes packing.json next to this file

Batches of images with aspect ratios between 1 : 2 and 2 : 1, in the shapes of `resize="native"`, run through the image tower
of a model: as one packed row; one by one; and padded to the longest of the batch, with a mask. All three return the same
vectors (checked). The figures are processor seconds, the best of several repeats in turns; the ratio compares two ways
within one repeat, so that a busy machine affects both.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import tyro
from torch import Tensor
from torch.nn import functional as F

from percept.core.errors import PerceptError
from percept.core.io import write_json
from percept.core.machine import device_name
from percept.core.report import out, table
from percept.data.transforms import native_grid
from percept.infer.load import load
from percept.models.vision import VisionTower
from percept.nn.attention import Attention
from percept.nn.block import Block

RESULTS = Path(__file__).with_suffix(".json")


def photos(count: int, tokens: int, patch: int, seed: int) -> list[Tensor]:
    """Return random images [1, 3, y, x] that use between a quarter of the token budget and all of it."""
    generator, images = torch.Generator().manual_seed(seed), []
    for _ in range(count):
        aspect, share = 2 ** (2 * torch.rand(2, generator=generator) - 1)
        height = (tokens * float(share) / 2 * float(aspect)) ** 0.5
        rows, columns = native_grid(height, height / float(aspect), tokens)
        images.append(torch.randn(1, 3, patch * rows, patch * columns, generator=generator))
    return images


def packed(tower: VisionTower, images: Sequence[Tensor]) -> list[Tensor]:
    """Run all images as one row, with images of equal length next to each other."""
    order = sorted(range(len(images)), key=lambda place: images[place].numel())
    outs = tower.packed([images[place] for place in order])
    results = dict(zip(order, outs, strict=True))
    return [pooled for place in range(len(images)) if (pooled := results[place].pooled) is not None]


def one_by_one(tower: VisionTower, images: Sequence[Tensor]) -> list[Tensor]:
    """Run each image alone."""
    return [pooled for image in images if (pooled := tower(image).pooled) is not None]


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs of adjacent channels by tables [b, 1, n, e] of each image."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return (x * cos + torch.stack([-b, a], dim=-1).flatten(-2) * sin).to(x.dtype)


def padded(tower: VisionTower, images: Sequence[Tensor]) -> list[Tensor]:
    """Run all images as one batch, padded to the longest, with the padding hidden from attention."""
    cut = [tower.embed_patches(image) for image in images]
    rows = [tower.norm_pre(tower.add_positions(embeddings, grid)) for embeddings, grid in cut]
    lengths = [row.shape[1] for row in rows]
    longest = max(lengths)
    x = torch.cat([F.pad(row, (0, 0, 0, longest - row.shape[1])) for row in rows])
    tables = [tower.rope(grid, tower.prefix, x.device) for _, grid in cut]
    cos, sin = (
        torch.stack([F.pad(table, (0, 0, 0, longest - len(table))) for table in kind])[:, None]
        for kind in zip(*tables, strict=True)
    )
    hide = torch.arange(longest) >= torch.tensor(lengths)[:, None]
    mask = torch.zeros(len(rows), 1, 1, longest, dtype=x.dtype).masked_fill(hide[:, None, None], float("-inf"))
    for block in tower.blocks:
        assert isinstance(block, Block)
        attention = block.attention
        assert isinstance(attention, Attention)
        qkv = attention.qkv(block.norm_1(x)).unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = turned(qkv[0], cos, sin), turned(qkv[1], cos, sin), qkv[2]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + block.scale_1(attention.out(mixed.transpose(1, 2).flatten(-2)))
        x = x + block.scale_2(block.mlp(block.norm_2(x)))
    tokens = tower.norm_post(x)
    vectors = (tower.pooled(row[None, :length], tower.prefix) for row, length in zip(tokens, lengths, strict=True))
    return [vector for vector in vectors if vector is not None]


WAYS: dict[str, Callable[[VisionTower, Sequence[Tensor]], list[Tensor]]] = {
    "packed": packed,
    "one by one": one_by_one,
    "padded": padded,
}


def check(tower: VisionTower, images: Sequence[Tensor]) -> None:
    """Compare the vectors of all ways.

    Raises:
        PerceptError: the vectors differ, so the times are not comparable.
    """
    expected = torch.cat(one_by_one(tower, images)).float()
    for name, way in WAYS.items():
        cosine = float(F.cosine_similarity(torch.cat(way(tower, images)).float(), expected).min())
        if cosine < 0.995:
            raise PerceptError(f"{name} returns different vectors: smallest cosine {cosine:.4f}")


def seconds(way: Callable[[VisionTower, Sequence[Tensor]], object], tower: VisionTower, images: list[Tensor]) -> float:
    """Return the processor seconds of one pass over all images of a batch."""
    start = time.process_time()
    way(tower, images)
    return time.process_time() - start


@torch.no_grad()
def main(
    model: str = "nano",
    tokens: tuple[int, ...] = (144, 576),
    dtypes: tuple[str, ...] = ("bfloat16", "float32"),
    batch: int = 32,
    repeats: int = 7,
    seed: int = 0,
    json_file: Path = RESULTS,
) -> None:
    """Compare packed rows with images one by one and padded.

    Args:
        model: Model whose image tower is used.
        tokens: Largest number of patches of an image.
        dtypes: Number types to compute in.
        batch: Images that run together.
        repeats: Number of turns, each with all ways.
        seed: Seed of the images.
        json_file: Result file.
    """
    rows, start = [], time.perf_counter()
    for dtype in dtypes:
        encoder = load(model, dtype=dtype, device="cpu")
        tower = encoder.model.vision
        assert isinstance(tower, VisionTower)
        for budget in tokens:
            images = photos(batch, budget, encoder.patch, seed)
            check(tower, images)  # also warms up
            turns = [{name: seconds(way, tower, images) for name, way in WAYS.items()} for _ in range(repeats)]
            for name in WAYS:
                ratios = sorted(turn[name] / turn["packed"] for turn in turns)
                rows.append({
                    "type": dtype, "tokens": budget, "way": name, "n": repeats,
                    "seconds": min(turn[name] for turn in turns), "times packed": ratios[len(ratios) // 2],
                    "lowest": ratios[0], "highest": ratios[-1],
                })  # fmt: skip
    columns = ("type", "tokens", "way", "n", "seconds", "times packed", "lowest", "highest")
    table(f"{batch} images of many shapes through {model}", columns, [[row[name] for name in columns] for row in rows])
    about = {
        "command": " ".join(["python", "benchmarks/packing.py", *sys.argv[1:]]),
        "torch": torch.__version__, "machine": device_name(torch.device("cpu")), "device": "cpu",
        "threads": torch.get_num_threads(), "load": round(os.getloadavg()[0], 2), "seed": seed, "model": model,
        "batch": batch, "repeats": repeats, "seconds": round(time.perf_counter() - start, 1),
    }  # fmt: skip
    write_json(json_file, about | {"results": rows})
    out.print(f"written: {json_file}", soft_wrap=True)


if __name__ == "__main__":
    tyro.cli(main)
