"""Forms with fields and values, and receipts with items, prices and a total."""

import random
from dataclasses import dataclass

from percept.world.documents.facts import Facts
from percept.world.documents.paper import QUIET, Paper
from percept.world.objects import CATEGORIES
from percept.world.palette import COLOURS
from percept.world.qa.pair import Pair

_NAMES = (
    "Anna Berg",
    "Ben Carter",
    "Clara Diaz",
    "David Engel",
    "Emma Fischer",
    "Felix Grant",
    "Grace Hill",
    "Ida Jensen",
)
_CITIES = ("Paris", "Rome", "Oslo", "Cairo", "Lima", "Tokyo", "Berlin", "London")
_SHOPS = ("Corner Shop", "Blue Market", "Old Bakery", "Green Grocer", "Harbour Store", "City Kiosk")
_ITEMS = (
    "Bread", "Butter", "Cheese", "Coffee", "Honey", "Juice", "Milk", "Rice", "Salt", "Soup", "Sugar", "Tea", "Apples",
    "Carrots", "Pencil", "Book",
)  # fmt: skip
_TITLES = ("Registration", "Order form", "Visitor pass", "Library card", "Parcel slip", "Ticket")
_FIELD = ("What is the {}?", "Which {} is entered?", "What does the form say for {}?", "Read the field {}.")
_FORM_TITLE = ("What is the title of the form?", "What kind of form is this?")
_FIELDS = ("How many fields does the form have?", "Count the fields.")
_PRICE = ("What does the {} cost?", "What is the price of the {}?", "How much is the {}?")
_TOTAL = ("What is the total?", "How much is to be paid?", "What is the sum of the receipt?")
_DEAREST = ("Which item is the most expensive?", "Which item costs most?")
_CHEAPEST = ("Which item is the cheapest?", "Which item costs least?")
_ITEM_COUNT = ("How many items are on the receipt?", "How many different items were bought?")
_SHOP = ("What is the name of the shop?", "Where was this bought?")
_KEYS = ("Name", "City", "Date", "Number", "Colour", "Object", "Time", "Day", "Seat")


@dataclass(frozen=True, kw_only=True)
class Form:
    """Title, and (key, value) of each field."""

    title: str
    fields: tuple[tuple[str, str], ...]
    boxed: bool
    """True if every value stands in a box, False if it stands on a line."""


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """Shop, date, and (item, price in cents) of each item."""

    shop: str
    date: str
    items: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        """Sum in cents."""
        return sum(price for _, price in self.items)


def sample_form(facts: Facts) -> Form:
    """Sample a form whose (form, key, value) facts the split allows."""
    rng = facts.rng
    keys = rng.sample(_KEYS, rng.randint(4, 6))
    fields = []
    for key in keys:
        value = facts.draw(lambda key=key: _value(rng, key), lambda value, key=key: ("form", key, value))
        fields.append((key, value))
    return Form(title=rng.choice(_TITLES), fields=tuple(fields), boxed=rng.random() < 0.5)


def _value(rng: random.Random, key: str) -> str:
    return {
        "Name": lambda: rng.choice(_NAMES),
        "City": lambda: rng.choice(_CITIES),
        "Date": lambda: _date(rng),
        "Number": lambda: str(rng.randint(1000, 9999)),
        "Colour": lambda: rng.choice(tuple(COLOURS)),
        "Object": lambda: rng.choice([name for name in CATEGORIES if " " not in name]),
        "Time": lambda: f"{rng.randint(8, 19)}:{rng.choice(('00', '15', '30', '45'))}",
        "Day": lambda: rng.choice(("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")),
        "Seat": lambda: f"{rng.choice('ABCDEF')}{rng.randint(1, 30)}",
    }[key]()


def _date(rng: random.Random) -> str:
    return f"{rng.randint(1, 28):02d}.{rng.randint(1, 12):02d}.20{rng.randint(18, 26)}"


def draw_form(form: Form, paper: Paper) -> None:
    """Print a form: one field per row."""
    paper.box((0.0, 0.0, 1.0, 0.17), (228, 232, 240))
    paper.print(form.title, 0.07, 0.085, size=0.075, role="title", bold=True, anchor="lm")
    paper.next_row()
    for number, (key, value) in enumerate(form.fields):
        y, fact = 0.27 + 0.14 * number, ("form", key, value)
        paper.print(f"{key}:", 0.07, y, size=0.052, role="key", anchor="lm", fact=fact)
        if form.boxed:
            paper.box((0.35, y - 0.05, 0.93, y + 0.05), (255, 255, 255), outline=QUIET)
        else:
            paper.line(((0.35, y + 0.045), (0.93, y + 0.045)), colour=QUIET, width=0.003)
        paper.print(value, 0.38, y, size=0.056, role="value", anchor="lm", fact=fact, colour=(24, 44, 120))
        paper.next_row()


def form_height(form: Form) -> float:
    """Return the height of the sheet in widths."""
    return 0.27 + 0.14 * len(form.fields)


def form_pairs(form: Form, paper: Paper, rng: random.Random) -> list[Pair]:
    """Return questions about the fields."""
    everything = tuple((0, index) for index in range(len(paper.texts)))
    pairs = []
    for key, value in form.fields:
        things = tuple((0, index) for index, text in enumerate(paper.texts) if text.fact == ("form", key, value))
        question = rng.choice(_FIELD).format(key.lower())
        pairs.append(Pair(kind="value", question=question, answer=value, things=things))
    pairs.append(Pair(kind="title", question=rng.choice(_FORM_TITLE), answer=form.title, things=everything))
    pairs.append(
        Pair(
            kind="count", question=rng.choice(_FIELDS), answer=str(len(form.fields)), choices=("3", "4", "5", "6", "7"),
            things=everything,
        )
    )  # fmt: skip
    return pairs


def sample_receipt(facts: Facts) -> Receipt:
    """Sample a receipt whose (receipt, item, price) facts the split allows; all prices differ."""
    rng = facts.rng
    items: list[tuple[str, int]] = []
    for item in rng.sample(_ITEMS, rng.randint(2, 5)):
        price = facts.draw(
            lambda: rng.choice([cents for cents in range(50, 995, 5) if cents not in dict(items).values()]),
            lambda cents, item=item: ("receipt", item, money(cents)),
        )
        items.append((item, price))
    return Receipt(shop=rng.choice(_SHOPS), date=_date(rng), items=tuple(items))


def money(cents: int) -> str:
    """Return an amount in print.

    >>> money(1205)
    '12.05'
    """
    return f"{cents // 100}.{cents % 100:02d}"


def receipt_height(receipt: Receipt) -> float:
    """Return the height of the sheet in widths."""
    return 0.72 + 0.12 * len(receipt.items)


def draw_receipt(receipt: Receipt, paper: Paper) -> None:
    """Print a receipt: one item per row, and the total below a line."""
    paper.print(receipt.shop, 0.5, 0.1, size=0.085, role="title", bold=True, anchor="mm")
    paper.next_row()
    paper.print(receipt.date, 0.5, 0.21, size=0.055, role="label", anchor="mm", colour=QUIET)
    paper.next_row()
    _dashes(paper, 0.27)
    y = 0.35
    for item, cents in receipt.items:
        fact = ("receipt", item, money(cents))
        paper.print(item, 0.08, y, size=0.064, role="item", anchor="lm", fact=fact)
        paper.print(money(cents), 0.92, y, size=0.064, role="price", anchor="rm", fact=fact)
        paper.next_row()
        y += 0.12
    _dashes(paper, y - 0.03)
    paper.print("TOTAL", 0.08, y + 0.06, size=0.072, role="key", bold=True, anchor="lm")
    paper.print(money(receipt.total), 0.92, y + 0.06, size=0.072, role="value", bold=True, anchor="rm")
    paper.next_row()
    paper.print("Thank you", 0.5, y + 0.2, size=0.055, role="label", anchor="mm", colour=QUIET)
    paper.next_row()


def _dashes(paper: Paper, y: float) -> None:
    for dash in range(21):
        x = 0.08 + 0.04 * dash
        paper.line(((x, y), (x + 0.022, y)), colour=QUIET, width=0.004)


def receipt_pairs(receipt: Receipt, paper: Paper, rng: random.Random) -> list[Pair]:
    """Return questions about prices, extremes, the number of items, the total and the shop."""
    everything = tuple((0, index) for index in range(len(paper.texts)))
    names = tuple(item for item, _ in receipt.items)
    pairs = []
    for item, cents in receipt.items:
        fact = ("receipt", item, money(cents))
        things = tuple((0, index) for index, text in enumerate(paper.texts) if text.fact == fact)
        question = rng.choice(_PRICE).format(item.lower())
        pairs.append(Pair(kind="value", question=question, answer=money(cents), things=things))
    ordered = sorted(receipt.items, key=lambda row: row[1])
    facts = (
        ("extreme", _DEAREST, ordered[-1][0], names),
        ("extreme", _CHEAPEST, ordered[0][0], names),
        ("total", _TOTAL, money(receipt.total), ()),
        ("count", _ITEM_COUNT, str(len(names)), ("2", "3", "4", "5")),
        ("title", _SHOP, receipt.shop, _SHOPS),
    )
    pairs += [
        Pair(kind=kind, question=rng.choice(questions), answer=answer, choices=choices, things=everything)
        for kind, questions, answer, choices in facts
    ]
    return pairs
