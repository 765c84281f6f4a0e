"""Batches of generated images, made on the CPU or an accelerator. On one kind of device a batch is a function of its step."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8, UInt16
from torch import Tensor

from percept.core.errors import PerceptError, unknown_name
from percept.core.io import read_json
from percept.core.seed import derive
from percept.data.source import share as share_of
from percept.data.tokenizers import Tokenizer
from percept.world.augment import Draws, cropped, lit
from percept.world.batch import WorldBatch
from percept.world.cache import IDS, WorldData
from percept.world.claims import MOST_IN_IMAGE, MOST_IN_TEXT
from percept.world.elements import MOST_THINGS
from percept.world.patches import cover_of
from percept.world.regions import cut, windows

SHOWN = ("words", "regions", "scenes")
"""Content of a batch: windows around single objects with words as labels, such windows with texts, or whole scenes."""
ROWS = 4096
"""Rows whose texts are tokenized at once; 64-bit ids of all rows would take too much memory."""
MEMORY_SHARE = 0.4
"""Largest share of an accelerator's free memory that images may take."""


@dataclass(frozen=True)
class Stage:
    """Content of the batches from step `first` on, as square images of `size` pixels."""

    first: int
    size: int
    shown: str = "scenes"
    """One of SHOWN."""
    keep: float = 1.0
    """Share of the patches that the model sees, chosen at random (FLIP, Li et al. 2023, arXiv:2212.00794)."""

    def __post_init__(self) -> None:
        if self.size < 1:
            raise PerceptError(f"the image size of a stage must be at least 1 pixel, got {self.size}.")
        if not 0 < self.keep <= 1:
            raise PerceptError(
                f"the share of patches that a stage keeps must be above 0 and at most 1, got {self.keep}."
            )
        if self.shown not in SHOWN:
            raise unknown_name("stage", self.shown, SHOWN)


def stages_of(shares: Sequence[tuple[str, int, float, float]], steps: int) -> tuple[Stage, ...]:
    """Return the stages of a run of `steps` steps.

    Args:
        shares: (content, image size in pixels, share of patches seen, share of the steps) of each stage.

    Raises:
        PerceptError: a share is not positive, or the shares do not sum to 1.
    """
    if any(not share > 0 for *_, share in shares):
        raise PerceptError(f"the share of every stage must be above 0, got {shares}.")
    total = sum(share for *_, share in shares)
    if abs(total - 1) > 1e-6:
        raise PerceptError(f"the shares of the stages sum to {total}. They must sum to 1.")
    stages, reached = [], 0.0
    for shown, size, keep, share in shares:
        stages.append(Stage(round(reached * steps), size, shown, keep))
        reached += share
    return tuple(stages)


def described(stages: Sequence[Stage]) -> dict[int, str]:
    """Return a description of every stage by its first step."""
    return {
        stage.first: f"stage {number} of {len(stages)}, {stage.shown} of {stage.size} pixels, "
        f"{100 * stage.keep:.0f} % of the patches seen"
        for number, stage in enumerate(stages, start=1)
    }


class ImageStore:
    """Pixels and ids of all images, in the memory of a GPU if they fit, else memory-mapped files."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        files = sorted(folder.glob("*.npy"))
        self.device = device
        self._parts = [[np.load(file.with_suffix(ending), mmap_mode="r") for file in files] for ending in (".npy", IDS)]
        self._held: list[Tensor] | None = None
        if device.type == "cuda" and self.size < MEMORY_SHARE * torch.cuda.mem_get_info(device)[0]:
            self._held = [
                torch.cat([torch.from_numpy(np.array(array)).to(device) for array in part]) for part in self._parts
            ]

    @property
    def size(self) -> int:
        """Total size in bytes."""
        return sum(array.nbytes for part in self._parts for array in part)

    def of(self, numbers: Int[np.ndarray, " b"]) -> tuple[UInt8[Tensor, "b 3 y x"], UInt8[Tensor, "b y x"]]:
        """Return the pixels and ids of the numbered images, on the device."""
        if self._held is not None:
            image, ids = (held[torch.from_numpy(numbers).to(self.device)] for held in self._held)
        else:
            per_file = len(self._parts[0][0])  # only the last file may hold fewer
            places = [divmod(int(number), per_file) for number in numbers]
            image, ids = (
                torch.from_numpy(np.stack([files[file][place] for file, place in places])).to(self.device)
                for files in self._parts
            )
        return image.permute(0, 3, 1, 2), ids


class WorldSource:
    """Batches from a cache of generated images. A batch is a function of seed and step, so a resumed run gets the same batches."""

    def __init__(
        self,
        data: WorldData,
        folder: Path,
        tokenizer: Tokenizer,
        *,
        batch: int,
        stages: Sequence[Stage],
        seed: int,
        patch: int = 8,
        device: torch.device | str = "cpu",
    ) -> None:
        self.data, self.tokenizer, self.batch_size, self.stages, self.seed = data, tokenizer, batch, tuple(stages), seed
        self.patch, self.device = patch, torch.device(device)
        self.images = ImageStore(folder, self.device)
        annotations = [read_json(file.with_suffix(".json")) for file in sorted(folder.glob("*.npy"))]

        def rows(name: str) -> list[list]:
            return [row for chunk in annotations for row in chunk[name]]

        self.ids = _tokenized(rows("texts"), tokenizer)
        things = rows("things")
        self.things = _padded([[thing[:2] for thing in row] for row in things], MOST_THINGS, (-1, -1))
        self.names = _named([[name for *_, name in row] for row in things], tokenizer)
        self.claims = _padded(rows("claims"), MOST_IN_IMAGE, 0)
        contrary = rows("contrary")
        self.contrary = _tokenized([[text for texts, _ in row for text in texts] for row in contrary], tokenizer)
        self.said = _padded([claims for row in contrary for _, pair in row for claims in pair], MOST_IN_TEXT, 0)
        self.said = self.said.reshape(*self.contrary.shape[:2], -1)
        regions = [(image, *region) for image, row in enumerate(rows("regions")) for region in row]
        self.region_images = np.array([image for image, _, _ in regions], dtype=np.int64)
        self.region_boxes = np.array([box for _, box, _ in regions], dtype=np.float32).reshape(-1, 4)
        self.region_ids = _distinct([names for _, _, names in regions], tokenizer)
        self._orders: dict[str, tuple[int, np.ndarray]] = {}
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        """Separate stream, so that batches are made while the model trains."""
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self.device))  # images may still be in transfer

    def stage_at(self, step: int) -> Stage:
        """Return the stage of a step."""
        return next(stage for stage in reversed(self.stages) if stage.first <= step)

    def _walk(self, step: int, count: int, total: int, name: str) -> np.ndarray:
        """Return the `count` of `total` numbers of a step; every epoch has a new random order."""
        per_epoch = total // count
        if per_epoch == 0:
            raise PerceptError(
                f"{total} {name} are fewer than the {count} of one batch. Generate more images or use smaller batches."
            )
        epoch, place = divmod(step, per_epoch)
        if name not in self._orders or self._orders[name][0] != epoch:
            rng = np.random.default_rng(derive(self.seed, "order", name, epoch))
            self._orders[name] = epoch, rng.permutation(total)
        return self._orders[name][1][place * count : (place + 1) * count]

    def numbers_of(self, step: int) -> np.ndarray:
        """Return the image numbers of a step: whole pairs first, then one image of each further pair."""
        whole = int(self.batch_size * self.data.twins) // 2
        pairs = self._walk(step, self.batch_size - whole, self.data.pairs, "pairs")
        side = np.random.default_rng(derive(self.seed, "side", step)).integers(0, 2, len(pairs) - whole)
        return np.concatenate([2 * pairs[:whole], 2 * pairs[:whole] + 1, 2 * pairs[whole:] + side])

    def batch(self, step: int, *, rank: int = 0, world_size: int = 1) -> WorldBatch:
        """Return this process's share of the batch of a step: images at the stage's size in [-1, 1], with one text each.

        All texts of a step are of one kind, so that they describe their images in equal detail. Random numbers are drawn
        for the global batch; pixels are computed for the share only.
        """
        rows = share_of(self.batch_size, rank, world_size)
        if self._stream is None:
            return self._batch(step, rows)
        with torch.cuda.stream(self._stream):
            batch = self._batch(step, rows)
        self._stream.synchronize()
        for tensor in batch.tensors().values():
            tensor.record_stream(torch.cuda.default_stream(self.device))
        return batch

    def _batch(self, step: int, rows: slice) -> WorldBatch:
        draws = Draws(derive(self.seed, "draw", step), self.device, rows)
        stage = self.stage_at(step)
        scenes = stage.shown == "scenes"
        if scenes:
            numbers = self.numbers_of(step)
            ids = self.ids[numbers, _drawn(draws.rng, self.data.weights)]
            image, things = cropped(*self.images.of(numbers[rows]), stage.size, self.data.augment.crop, draws)
        else:
            chosen = self._walk(step, self.batch_size, len(self.region_boxes), "regions")
            numbers = self.region_images[chosen]
            ids = self.region_ids[chosen, _drawn(draws.rng, self.data.region_weights)]
            where = windows(self.region_boxes[chosen], self.looseness(step), draws.rng)
            image, things = cut(*self.images.of(numbers[rows]), where[rows], stage.size)
        tokens, grey = self._to(ids[rows]), np.flatnonzero(self.things[numbers][:, 0, 1] < 0)
        cover = cover_of(things, self.patch)
        contrary, said = self._contrary(numbers, draws.rng, rows) if scenes else (None, None)
        mine = numbers[rows]
        return WorldBatch(
            image=lit(image, things, grey, self.data.augment, draws, self.batch_size),
            tokens=None if stage.shown == "words" else tokens,
            words=tokens,
            cover=cover,
            things=self._to(self.things[mine]),
            names=self._to(self.names[mine]) if stage.shown != "words" else None,
            claims=self._to(self.claims[mine]) if scenes else None,
            contrary=contrary,
            said=said,
            keep=self._kept(cover.shape[1], stage.keep, draws.rng),
        )

    def looseness(self, step: int) -> float:
        """Return the looseness of the windows of a step: from 0 at the start to 1 where the scenes begin."""
        scenes = next((stage.first for stage in self.stages if stage.shown == "scenes"), None)
        return step / scenes if scenes else 1.0

    def _contrary(
        self, numbers: np.ndarray, rng: np.random.Generator, rows: slice
    ) -> tuple[Int[Tensor, "b m 2 n"], Int[Tensor, "b m 2 c"]]:
        """Choose half of the pairs of right and wrong texts of each image, one of each kind, with their claims."""
        half = self.contrary.shape[1] // 4
        chosen = 2 * np.arange(half) + rng.integers(0, 2, (len(numbers), half))
        pairs = (values.reshape(len(values), 2 * half, 2, -1) for values in (self.contrary, self.said))
        texts, claims = (self._to(values[numbers[rows, None], chosen[rows]]) for values in pairs)
        return texts, claims

    def _to(self, numbers: UInt16[np.ndarray, "*b n"] | Int[np.ndarray, "*b n"]) -> Int[Tensor, "*b n"]:
        return torch.from_numpy(numbers.astype(np.int64)).to(self.device)

    def _kept(self, count: int, share: float, rng: np.random.Generator) -> Int[Tensor, " k"] | None:
        """Choose the patches to keep, in ascending order; None for all."""
        if share == 1:
            return None
        return self._to(np.sort(rng.permutation(count)[: max(1, round(share * count))]))


def _drawn(rng: np.random.Generator, weights: Sequence[float]) -> int:
    """Return a random index with these weights."""
    return int(rng.choice(len(weights), p=np.array(weights) / sum(weights)))


def _padded(rows: Sequence[Sequence], count: int, padding: object) -> np.ndarray:
    """Pad all rows to `count` entries."""
    return np.array([[*row, *[padding] * (count - len(row))] for row in rows], dtype=np.int16)


def _tokenized(rows: Sequence[Sequence[str]], tokenizer: Tokenizer) -> UInt16[np.ndarray, "r t n"]:
    """Return ids [rows, texts, context]."""
    parts = [
        tokenizer([text for row in rows[first : first + ROWS] for text in row]).numpy().astype(np.uint16)
        for first in range(0, len(rows), ROWS)
    ]
    return np.concatenate(parts).reshape(len(rows), len(rows[0]), -1)


def _distinct(rows: Sequence[Sequence[str]], tokenizer: Tokenizer) -> UInt16[np.ndarray, "r t n"]:
    """Return ids [rows, texts, context]; every distinct text is tokenized once."""
    known = {text: number for number, text in enumerate(dict.fromkeys(text for row in rows for text in row))}
    ids = _tokenized([[text] for text in known], tokenizer)[:, 0]
    return ids[np.array([[known[text] for text in row] for row in rows])]


def _named(rows: Sequence[Sequence[str]], tokenizer: Tokenizer) -> UInt16[np.ndarray, "r k n"]:
    """Return the token ids of the names of objects; all 0 for an object without a name."""
    names = _distinct([[*row, *[""] * (MOST_THINGS - len(row))] for row in rows], tokenizer)
    names[names[..., 1] == tokenizer.end_id] = 0
    return names
