"""Signs: one to three words on a board of some shape and colour, often with an arrow, in front of a scene."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from percept.world.backgrounds import BACKGROUNDS, draw_background
from percept.world.documents.facts import Facts
from percept.world.documents.paper import Paper
from percept.world.palette import COLOURS, Rgb, blend
from percept.world.qa.pair import Pair
from percept.world.vocabulary import BOARDS, WORDS

SHAPES = ("rectangle", "round", "diamond", "octagon")
ARROWS = ("left", "right", "up")
_READ = ("What does the sign say?", "Read the sign.", "What is written on the sign?")
_COLOUR = ("What colour is the sign?", "Which color does the sign have?")
_SHAPE = ("Which shape does the sign have?", "What is the shape of the sign?")
_ARROW = ("In which direction does the arrow point?", "Where does the arrow on the sign point?")
_HAS_ARROW = ("Is there an arrow on the sign?", "Does the sign show an arrow?")


@dataclass(frozen=True, kw_only=True)
class Sign:
    """The content of a sign."""

    words: tuple[str, ...]
    """One word per line, in lower case."""
    case: str
    ink: str
    board: str
    shape: str
    arrow: str
    """A name of `ARROWS`, or empty."""
    background: str
    background_seed: int


def sample_sign(facts: Facts) -> Sign:
    """Sample a sign whose (word, board colour, case) facts the split allows."""
    rng = facts.rng
    ink, board = rng.choice(BOARDS)
    case = rng.choice(("upper", "title", "lower"))
    shape = rng.choice(SHAPES) if rng.random() < 0.6 else "rectangle"
    most = 3 if shape == "rectangle" else 2
    words: list[str] = []
    for _ in range(rng.randint(1, most)):
        words.append(
            facts.draw(
                lambda: rng.choice([word for word in WORDS if word not in words and len(word) < 9]),
                lambda word: (word, board, case),
            )
        )
    scenic = [name for name, each in BACKGROUNDS.items() if name not in ("desk", "sea", "paper") or each.flat]
    return Sign(
        words=tuple(words), case=case, ink=ink, board=board, shape=shape,
        arrow=rng.choice(ARROWS) if rng.random() < 0.5 else "",
        background=rng.choice([name for name in scenic if name != "paper"]), background_seed=rng.getrandbits(32),
    )  # fmt: skip


def printed(sign: Sign, word: str) -> str:
    """Return a word in the case of the sign."""
    return {"lower": word, "upper": word.upper(), "title": word.title()}[sign.case]


def draw_sign(sign: Sign, paper: Paper) -> None:
    """Draw the background, a pole, the board, the words and the arrow on a square sheet."""
    pixels = paper.image.width // 2
    behind = draw_background(sign.background, sign.background_seed, width=pixels, height=pixels, horizon=0.55)
    paper.image.paste(behind.resize(paper.image.size, Image.Resampling.BILINEAR))
    if not BACKGROUNDS[sign.background].flat:
        paper.box((0.475, 0.5, 0.525, 1.0), (120, 122, 128), outline=(84, 86, 92))
    board, ink = COLOURS[sign.board], COLOURS[sign.ink]
    edge = blend(board, ink, 0.75)
    for grow, colour in ((0.012, blend(board, (0, 0, 0), 0.35)), (0.0, board), (-0.02, edge), (-0.035, board)):
        paper.polygon(_outline(sign, grow), colour)
    _print_words(sign, paper, ink)


def _outline(sign: Sign, grow: float) -> list[tuple[float, float]]:
    """Return the corners of the board, larger by `grow` on all sides."""
    x, y = 0.5, 0.45
    if sign.shape == "rectangle":
        half = 0.11 + 0.085 * (len(sign.words) + bool(sign.arrow)) + grow
        wide = 0.43 + grow
        return [(x - wide, y - half), (x + wide, y - half), (x + wide, y + half), (x - wide, y + half)]
    corners, radius, turn = {"round": (60, 0.41, 0.0), "diamond": (4, 0.47, 0.0), "octagon": (8, 0.43, math.pi / 8)}[
        sign.shape
    ]
    radius += grow * (1.3 if sign.shape == "diamond" else 1.0)
    angles = [turn + 2 * math.pi * corner / corners for corner in range(corners)]
    return [(x + radius * math.cos(angle), min(y, 0.48) + radius * math.sin(angle)) for angle in angles]


def _print_words(sign: Sign, paper: Paper, ink: Rgb) -> None:
    rows = len(sign.words) + bool(sign.arrow)
    room = {"rectangle": 0.74, "round": 0.6, "diamond": 0.46, "octagon": 0.64}[sign.shape]
    tall = {"rectangle": 0.17, "round": 0.15, "diamond": 0.12, "octagon": 0.16}[sign.shape]
    longest = max(paper.width_of(printed(sign, word), 1.0) for word in sign.words)
    size = min(0.155, room / longest, tall)
    y = 0.45 - tall * (rows - 1) / 2
    for word in sign.words:
        paper.print(
            printed(sign, word), 0.5, y, size=size, role="word", colour=ink, bold=True, anchor="mm",
            fact=(word, sign.board, sign.case),
        )  # fmt: skip
        paper.next_row()
        y += tall
    if sign.arrow:
        paper.polygon(_arrow(sign.arrow, y, 0.85 * tall), ink)


def _arrow(direction: str, y: float, size: float) -> list[tuple[float, float]]:
    shaft = ((0.5, 0.0), (0.05, -0.45), (0.05, -0.16), (-0.5, -0.16), (-0.5, 0.16), (0.05, 0.16), (0.05, 0.45))
    turned: Sequence[tuple[float, float]] = {
        "right": shaft,
        "left": [(-across, down) for across, down in shaft],
        "up": [(down, -across) for across, down in shaft],
    }[direction]
    return [(0.5 + size * across, y + size * down) for across, down in turned]


def sign_pairs(sign: Sign, paper: Paper, rng: random.Random) -> list[Pair]:
    """Return questions about the words, the colour and shape of the board, and the arrow."""
    everything = tuple((0, index) for index in range(len(paper.texts)))
    text = " ".join(sign.words)
    boards = tuple(dict.fromkeys(board for _, board in BOARDS))
    asked = [
        ("reading", _READ, text, WORDS if len(sign.words) == 1 else ()),
        ("colour", _COLOUR, sign.board, boards),
        ("shape", _SHAPE, sign.shape, SHAPES),
        ("existence", _HAS_ARROW, "yes" if sign.arrow else "no", ("yes", "no")),
    ]
    if sign.arrow:
        asked.append(("direction", _ARROW, sign.arrow, ARROWS))
    return [
        Pair(kind=kind, question=rng.choice(questions), answer=answer, choices=choices, things=everything)
        for kind, questions, answer, choices in asked
    ]
