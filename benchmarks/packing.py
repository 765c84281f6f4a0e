"""How much faster pictures of many shapes run as one packed row than one by one or padded to the longest.

    python benchmarks/packing.py                     # prints a table and writes packing.json beside this file

Pictures in their own shapes, as `resize="native"` makes them of photos whose aspect ratios lie between 1 : 2 and 2 : 1, go
through the vision tower of a model in batches: as one packed row; one by one; and padded, with a mask, to the longest of
their batch. All three give the same vectors (checked). Seconds of the processor, the best of several repeats in turns; the
ratio compares ways of the same repeat, so that a busy machine slows both.
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
from percept.nn.block import Block

RESULTS = Path(__file__).with_suffix(".json")


def photos(count: int, tokens: int, patch: int, seed: int) -> list[Tensor]:
    """Return preprocessed pictures [1, 3, y, x] whose longest use the whole budget and whose smallest a quarter of it."""
    generator, found = torch.Generator().manual_seed(seed), []
    for _ in range(count):
        aspect, share = 2 ** (2 * torch.rand(2, generator=generator) - 1)
        height = (tokens * float(share) / 2 * float(aspect)) ** 0.5
        rows, columns = native_grid(height, height / float(aspect), tokens)
        found.append(torch.randn(1, 3, patch * rows, patch * columns, generator=generator))
    return found


def packed(tower: VisionTower, pictures: Sequence[Tensor]) -> list[Tensor]:
    """Run all pictures as one row, those of equal length side by side."""
    order = sorted(range(len(pictures)), key=lambda place: pictures[place].numel())
    outs = tower.packed([pictures[place] for place in order])
    return [one.pooled for _, one in sorted(zip(order, outs, strict=True)) if one.pooled is not None]


def one_by_one(tower: VisionTower, pictures: Sequence[Tensor]) -> list[Tensor]:
    """Run each picture alone."""
    return [one for one in (tower(picture).pooled for picture in pictures) if one is not None]


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate neighbouring channel pairs by a table [b, 1, n, e] of each picture's own angles."""
    a, b = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return (x * cos + torch.stack([-b, a], dim=-1).flatten(-2) * sin).to(x.dtype)


def padded(tower: VisionTower, pictures: Sequence[Tensor]) -> list[Tensor]:
    """Run all pictures as one batch, filled up to the longest, with the filling hidden from attention."""
    cut = [tower.embed_patches(picture.to(tower.patch.weight.dtype)) for picture in pictures]
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
        qkv = attention.qkv(block.norm_1(x)).unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = turned(qkv[0], cos, sin), turned(qkv[1], cos, sin), qkv[2]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + block.scale_1(attention.out(mixed.transpose(1, 2).flatten(-2)))
        x = x + block.scale_2(block.mlp(block.norm_2(x)))
    tokens = tower.norm_post(x)
    vectors = (tower.pooled(row[None, :length], tower.prefix) for row, length in zip(tokens, lengths, strict=True))
    return [one for one in vectors if one is not None]


WAYS: dict[str, Callable[[VisionTower, Sequence[Tensor]], list[Tensor]]] = {
    "packed": packed,
    "one by one": one_by_one,
    "padded": padded,
}


def check(tower: VisionTower, pictures: Sequence[Tensor]) -> None:
    """Compare the vectors of all ways.

    Raises:
        PerceptError: they differ, so that seconds would say nothing.
    """
    expected = torch.cat(one_by_one(tower, pictures)).float()
    for name, way in WAYS.items():
        found = torch.cat(way(tower, pictures)).float()
        cosine = float(F.cosine_similarity(found, expected).min())
        if cosine < 0.995:
            raise PerceptError(f"{name} gives other vectors: smallest cosine {cosine:.4f}")


def seconds(
    way: Callable[[VisionTower, Sequence[Tensor]], object], tower: VisionTower, pictures: list[Tensor]
) -> float:
    """Return the processor seconds of one pass over all pictures of a batch."""
    start = time.process_time()
    way(tower, pictures)
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
    """Measure packed rows against one by one and padded.

    Args:
        model: Whose vision tower is used.
        tokens: Most patches of a picture.
        dtypes: Number types to compute in.
        batch: Pictures that go together.
        repeats: Turns of all ways.
        seed: Of the pictures.
        json_file: Where to write the results.
    """
    rows, start = [], time.perf_counter()
    for dtype in dtypes:
        encoder = load(model, dtype=dtype, device="cpu")
        tower = encoder.model.vision
        for budget in tokens:
            pictures = photos(batch, budget, encoder.patch, seed)
            check(tower, pictures)  # also the first pass, which is slower
            turns = [{name: seconds(way, tower, pictures) for name, way in WAYS.items()} for _ in range(repeats)]
            for name in WAYS:
                ratios = sorted(turn[name] / turn["packed"] for turn in turns)
                rows.append({
                    "type": dtype, "tokens": budget, "way": name, "n": repeats,
                    "seconds": min(turn[name] for turn in turns), "times packed": ratios[len(ratios) // 2],
                    "lowest": ratios[0], "highest": ratios[-1],
                })  # fmt: skip
    columns = ("type", "tokens", "way", "n", "seconds", "times packed", "lowest", "highest")
    table(
        f"{batch} pictures of many shapes through {model}", columns, [[row[name] for name in columns] for row in rows]
    )
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
