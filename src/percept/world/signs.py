"""Batches of signs and printed words with captions that quote them, for learning to read."""

import random

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from percept.core.seed import derive
from percept.data.tokenizers import Tokenizer
from percept.data.transforms import Preprocess
from percept.world.backgrounds import BACKGROUNDS, draw_background
from percept.world.documents import generate_document
from percept.world.elements import Word
from percept.world.lettering import print_word
from percept.world.vocabulary import draw_word

QUOTES = (
    "a sign with the word {}", "a sign that says {}", "the word {}", "the word {} on a board", "a picture with the text {}", "{}",
)  # fmt: skip
"""Captions of printed words."""
PLAIN = tuple(name for name in BACKGROUNDS if name not in ("desk", "sea", "paper"))


def quoted(word: str, rng: random.Random) -> str:
    """Return a caption that quotes a word."""
    return rng.choice(QUOTES).format(word)


def printed(rng: random.Random, side: int) -> tuple[Image.Image, str]:
    """Return a picture with one word on a background, and the word."""
    back = draw_background(rng.choice(PLAIN), rng.getrandbits(32), width=side, height=side, horizon=0.55)
    word = draw_word(rng, size=rng.uniform(0.1, 0.3))
    size = min(word.size, 0.92 * word.size / word.width)
    half, tall = 0.5 * word.width * size / word.size, 0.75 * size
    placed = Word(
        text=word.text, x=rng.uniform(half, max(half, 1 - half)), y=rng.uniform(tall, 1 - tall), size=size,
        colour=word.colour, board=word.board, case=word.case,
    )  # fmt: skip
    print_word(back, placed, float(back.width))
    return back.resize((side, side), Image.Resampling.BOX), word.text


def sign(rng: random.Random, side: int) -> tuple[Image.Image, str]:
    """Return a generated sign of the split "train" and its words."""
    document = generate_document(rng.getrandbits(40), kind="sign", width=max(side, 96))
    image = Image.fromarray(document.image)
    return image if image.width == side else image.resize((side, side), Image.Resampling.BOX), " ".join(
        document.text.split()
    )


class SignSource:
    """Batches of printed words: a function of seed and step."""

    def __init__(self, tokenizer: Tokenizer, preprocess: Preprocess, *, seed: int = 0) -> None:
        self.tokenizer, self.preprocess, self.seed = tokenizer, preprocess, seed

    def batch(self, step: int, rows: slice, size: int) -> tuple[Float[Tensor, "b 3 y x"], Int[Tensor, "b n"]]:
        """Return images and token ids of a slice of the `size` rows of a step."""
        made = [self._made(step, number) for number in range(size)[rows]]
        images = [self.preprocess.normalise(self.preprocess(image)) for image, _ in made]
        return torch.stack(images), self.tokenizer([text for _, text in made])

    def _made(self, step: int, number: int) -> tuple[Image.Image, str]:
        rng = random.Random(derive(self.seed, "sign", step, number))
        make = printed if rng.random() < 0.6 else sign
        image, text = make(rng, max(self.preprocess.shape))
        if rng.random() < 0.3:
            image = Image.fromarray(255 - np.asarray(image))
        return image, quoted(text, rng)
