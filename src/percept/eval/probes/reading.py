"""Reading: the characters of a printed word by one linear layer on features along its box, trained with CTC.

Graves et al. 2006, "Connectionist temporal classification".
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from percept.eval.probes.linear import Linear, Standardise
from percept.eval.probes.outcome import Outcome, Sums, ratio
from percept.eval.probes.probe import held_out
from percept.eval.probes.stream import OnPatches

COLUMNS, LINES = 24, 2
"""Places at which features are read along a word, and across it."""
STEPS, RATE, DECAY = 300, 0.02, 0.1
CHECK_EVERY = 10
"""Steps between measurements on held-out words."""


def along_boxes(maps: Float[Tensor, "w y x"], boxes: Float[Tensor, "m 4"]) -> Float[Tensor, "m t d"]:
    """Return interpolated features at `COLUMNS` places along each box (xyxy in [0, 1]); those of `LINES` heights are joined."""
    across = (torch.arange(COLUMNS) + 0.5) / COLUMNS
    down = (torch.arange(LINES) + 0.5) / LINES
    x = boxes[:, None, None, 0] + across[None, None] * (boxes[:, 2] - boxes[:, 0])[:, None, None]
    y = boxes[:, None, None, 1] + down[None, :, None] * (boxes[:, 3] - boxes[:, 1])[:, None, None]
    places = torch.stack(torch.broadcast_tensors(x, y), dim=-1)
    found = F.grid_sample(
        maps.expand(len(boxes), -1, -1, -1), 2 * places - 1, align_corners=False, padding_mode="border"
    )
    return found.permute(0, 3, 1, 2).flatten(2)


def edit_distance(one: str, other: str) -> int:
    """Return the least number of insertions, deletions and exchanges of characters that turn one text into the other.

    >>> edit_distance("kitten", "sitting"), edit_distance("", "ab")
    (3, 2)
    """
    row = list(range(len(other) + 1))
    for number, letter in enumerate(one, start=1):
        above, row[0] = row[0], number
        for place, letter_of_other in enumerate(other, start=1):
            above, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, above + (letter != letter_of_other))
    return row[-1]


def greedy(outputs: Float[Tensor, "t c"], letters: str) -> str:
    """Return the best character of each place; repeated ones count once, and the blank (0) is dropped."""
    best = torch.unique_consecutive(outputs.argmax(dim=1)).tolist()
    return "".join(letters[number - 1] for number in best if number)


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedWords:
    """A trained reader."""

    model: Linear | None
    """None if the training samples have no words."""
    letters: str

    def judge(
        self, features: Sequence[Tensor], targets: Sequence[tuple[np.ndarray, tuple[str, ...]]]
    ) -> Mapping[str, Outcome]:
        """Return the character error rate, and the share of words that are read without an error."""
        texts = [_lowered(texts) for _, texts in targets]
        read = [self._read(maps, boxes) for maps, (boxes, _) in zip(features, targets, strict=True)]
        pairs = [list(zip(*pair, strict=True)) for pair in zip(read, texts, strict=True)]
        edits = [[sum(edit_distance(*pair) for pair in of), sum(len(text) for _, text in of)] for of in pairs]
        whole = [[sum(one == other for one, other in of), len(of)] for of in pairs]
        return {
            "character error rate": Sums(sums=np.array(edits, np.float64), measure=ratio, better="less"),
            "words read": Sums(sums=np.array(whole, np.float64), measure=ratio),
        }

    def _read(self, maps: Tensor, boxes: np.ndarray) -> list[str]:
        if not len(boxes) or self.model is None:
            return [""] * len(boxes)
        return [greedy(one, self.letters) for one in self.model(along_boxes(maps, torch.from_numpy(boxes).float()))]

    def head(self, layer: int) -> None:
        """Return None: the reader needs boxes, which no head finds."""


class Words(OnPatches):
    """Character error rate of a linear reader. Targets are boxes xyxy in [0, 1] and their words; case does not matter."""

    def thin(self, features: dict[int, Tensor], target: Any, rng: np.random.Generator) -> tuple[dict[int, Tensor], Any]:
        """Return features along the boxes, and the words."""
        boxes = torch.from_numpy(target[0]).float().reshape(-1, 4)
        return {layer: along_boxes(maps, boxes) for layer, maps in features.items()}, _lowered(target[1])

    def fit(self, features: Sequence[Tensor], targets: Sequence[tuple[str, ...]], *, seed: int) -> FittedWords:
        """Train on all words."""
        words = [text for texts in targets for text in texts]
        letters = "".join(sorted(set("".join(words))))
        if not letters:
            return FittedWords(model=None, letters="")
        inputs = torch.cat(list(features)).to(self.setup.device)
        with torch.random.fork_rng(), torch.enable_grad():
            torch.manual_seed(seed)
            model = _train(inputs, words, letters, seed)
        return FittedWords(model=model.cpu().requires_grad_(False), letters=letters)


def _lowered(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(text.lower() for text in texts)


def _train(inputs: Float[Tensor, "m t d"], words: list[str], letters: str, seed: int) -> Linear:
    """Minimise the CTC loss of three quarters of the words; the step with the least loss on the others is kept."""
    model = Linear(inputs.shape[-1], len(letters) + 1).to(inputs.device)
    model.standardise = Standardise.of(inputs.flatten(0, 1))
    scaled, (train, rest) = model.standardise(inputs), held_out(len(words), seed)
    optimiser = torch.optim.AdamW(model.linear.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    best, least = model, float("inf")
    for step in range(STEPS):
        loss = _ctc(model, scaled, words, letters, train)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % CHECK_EVERY == 0 or step == STEPS - 1:
            with torch.no_grad():
                held = float(_ctc(model, scaled, words, letters, rest if len(rest) else train))
            if held < least:
                best, least = copy.deepcopy(model), held
    return best


def _ctc(model: Linear, scaled: Tensor, words: list[str], letters: str, rows: np.ndarray) -> Float[Tensor, ""]:
    """Return the mean CTC loss of some words, per character."""
    chosen = [words[row] for row in rows]
    ids = torch.tensor([letters.index(letter) + 1 for word in chosen for letter in word], device=scaled.device)
    lengths, places = torch.tensor([len(word) for word in chosen]), torch.full((len(chosen),), COLUMNS)
    outputs = model.linear(scaled[torch.from_numpy(rows)]).log_softmax(dim=-1).transpose(0, 1)
    return F.ctc_loss(outputs, ids, places, lengths, zero_infinity=True)
