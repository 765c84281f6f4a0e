"""Pages of prose: a title, sections with headings and paragraphs, in one or two columns."""

import random
from dataclasses import dataclass

from percept.world.documents.facts import Facts
from percept.world.documents.paper import QUIET, Paper
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.qa.pair import Pair

_TOPICS = (
    "Harbour", "Museum", "Garden", "Library", "Railway", "Market", "School", "Theatre", "Weather", "Island", "Village",
    "Castle", "Kitchen", "Workshop", "Forest", "River",
)  # fmt: skip
_PLACES = (
    "harbour", "museum", "garden", "library", "market", "school", "theatre", "castle", "workshop", "station", "bakery",
    "bridge", "park", "tower",
)  # fmt: skip
_FORMS = ("news", "report", "notes", "guide", "letter", "history", "rules", "plans", "review", "calendar")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("January", "March", "April", "June", "August", "October", "December")
_PEOPLE = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Ida", "Jonas")
_PATTERNS = (
    "{person} found a {colour} {thing} near the {place}.",
    "On {day} the {place} was open until {hour} o'clock.",
    "The {colour} {thing} was sold for {number} coins.",
    "In {month} more than {number} people came to the {place}.",
    "{person} wrote that the {thing} was too heavy to carry.",
    "Nobody knows who painted the {thing} {colour}.",
    "The next meeting is on {day} at {hour} o'clock.",
    "Please do not leave the {thing} in front of the {place}.",
    "{person} and {other} will repair the {thing} in {month}.",
    "A {colour} {thing} stands beside the old {place}.",
    "The {place} has room for {number} visitors.",
    "It rained on {day}, and the {place} stayed closed.",
)
_TITLES = ("What is the title of the page?", "Read the title.")
_HEADINGS = ("What is the heading of section {}?", "Which heading does section {} have?")
_SECTIONS = ("How many sections does the page have?", "Count the sections.")
_FIRST = ("Which word begins the section “{}”?", "What is the first word under the heading “{}”?")
_SENTENCE = ("Read the section “{}”.", "What does the section “{}” say?")


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading with its paragraph."""

    heading: str
    paragraph: str
    fact: tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class Page:
    """The content of a page."""

    title: str
    sections: tuple[Section, ...]
    columns: int


def sample_page(facts: Facts) -> Page:
    """Sample a page whose (page, topic, form) headings the split allows."""
    rng = facts.rng
    sections: list[Section] = []
    for _ in range(rng.randint(2, 3)):
        topic, form = facts.draw(
            lambda: (rng.choice([name for name in _TOPICS if not _used(sections, name)]), rng.choice(_FORMS)),
            lambda words: ("page", *words),
        )
        sentences = [_sentence(rng) for _ in range(rng.randint(2, 4))]
        sections.append(Section(heading=f"{topic} {form}", paragraph=" ".join(sentences), fact=("page", topic, form)))
    title = f"The {rng.choice(_DAYS)} {rng.choice(('Paper', 'Post', 'Letter', 'Times', 'Herald'))}"
    return Page(title=title, sections=tuple(sections), columns=rng.choice((1, 2)) if len(sections) > 1 else 1)


def _used(sections: list[Section], topic: str) -> bool:
    return any(section.fact[1] == topic for section in sections)


def _sentence(rng: random.Random) -> str:
    person, other = rng.sample(_PEOPLE, 2)
    colour = rng.choice([name for name in COLOURS if name != "orange"])
    thing = rng.choice([name for name in CATEGORIES if name[0] not in "aeiou" and " " not in name])
    values = {
        "person": person, "other": other, "colour": colour, "thing": thing, "place": rng.choice(_PLACES),
        "day": rng.choice(_DAYS), "month": rng.choice(_MONTHS), "hour": rng.randint(2, 11), "number": rng.randint(12, 99),
    }  # fmt: skip
    return rng.choice(_PATTERNS).format(**values)


def wrap(paper: Paper, text: str, width: float, size: float) -> list[str]:
    """Break a text into lines of at most `width`."""
    lines: list[str] = []
    for word in text.split():
        if lines and paper.width_of(f"{lines[-1]} {word}", size) <= width:
            lines[-1] = f"{lines[-1]} {word}"
        else:
            lines.append(word)
    return lines


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A line of text with its position."""

    section: int
    text: str
    x: float
    y: float
    heading: bool


_LEFT, _TOP, _WIDTHS, _SIZES = 0.08, 0.21, (0.84, 0.39), (0.042, 0.038)
_SECOND = 0.53
"""Left edge of the second column."""


def page_height(page: Page) -> float:
    """Return the height of the sheet in widths: enough for the longer column."""
    lines = _lay_out(page, Paper(384, 1.0, (255, 255, 255)))
    return max(1.2, max(line.y for line in lines) + 0.2)


def _lay_out(page: Page, paper: Paper) -> list[Placed]:
    """Break the sections into lines and fill the columns from the left."""
    width, size = _WIDTHS[page.columns - 1], _SIZES[page.columns - 1]
    half = -(-len(page.sections) // page.columns)
    lines: list[Placed] = []
    x, y = _LEFT, _TOP
    for number, section in enumerate(page.sections):
        if page.columns == 2 and number == half:
            x, y = _SECOND, _TOP
        for text in wrap(paper, section.heading, 0.95 * width, 1.25 * size):
            lines.append(Placed(section=number, text=text, x=x, y=y, heading=True))
            y += 1.65 * size
        for text in wrap(paper, section.paragraph, width, size):
            lines.append(Placed(section=number, text=text, x=x, y=y, heading=False))
            y += 1.36 * size
        y += size
    return lines


def draw_page(page: Page, paper: Paper) -> None:
    """Print a page."""
    paper.print(page.title, 0.5, 0.07, size=0.075, role="title", bold=True, anchor="ma")
    paper.line(((0.08, 0.175), (0.92, 0.175)), width=0.004)
    size, before = _SIZES[page.columns - 1], None
    for line in _lay_out(page, paper):
        if (line.section, line.heading) != before:
            paper.next_row()
        before, fact = (line.section, line.heading), page.sections[line.section].fact
        if line.heading:
            paper.print(line.text, line.x, line.y, size=1.25 * size, role="heading", bold=True, fact=fact)
        else:
            paper.print(line.text, line.x, line.y, size=size, role="line", fact=fact)
    if page.columns == 2:
        paper.line(((0.5, _TOP), (0.5, paper.height - 0.1)), colour=QUIET, width=0.003)
    paper.next_row()
    paper.print("1", 0.5, paper.height - 0.05, size=0.036, role="label", anchor="mm", colour=QUIET)


def page_pairs(page: Page, paper: Paper, rng: random.Random) -> list[Pair]:
    """Return questions about the title, the headings, the order and the text of the sections."""
    everything = tuple((0, index) for index in range(len(paper.texts)))
    pairs = [
        Pair(kind="title", question=rng.choice(_TITLES), answer=page.title, things=((0, 0), *everything)),
        Pair(
            kind="count", question=rng.choice(_SECTIONS), answer=str(len(page.sections)), choices=("1", "2", "3", "4"),
            things=everything,
        ),
    ]  # fmt: skip
    for number, section in enumerate(page.sections, start=1):
        things = tuple((0, index) for index, text in enumerate(paper.texts) if text.fact == section.fact)
        asked = (
            ("heading", rng.choice(_HEADINGS).format(number), section.heading),
            ("value", rng.choice(_FIRST).format(section.heading), section.paragraph.split()[0]),
            ("reading", rng.choice(_SENTENCE).format(section.heading), section.paragraph),
        )
        pairs += [Pair(kind=kind, question=question, answer=answer, things=things) for kind, question, answer in asked]
    return pairs
