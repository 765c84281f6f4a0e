"""The drawn objects: a literal table of everything the labelled world can show."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from percept.data.world.objects import mammals, vehicles
from percept.data.world.pen import Pen

DrawingFunction = Callable[[Pen, random.Random], None]


@dataclass(frozen=True, kw_only=True)
class Category:
    """A kind of object."""

    name: str
    """One object, as a caption names it."""
    plural: str
    """Several of them."""
    group: str
    """Kind of kind: animal, vehicle, building, food, plant, furniture, clothes, tool, thing."""
    draw: DrawingFunction
    """Draws one with a pen; the random numbers choose its pose and proportions."""
    size: float = 1.0
    """Usual apparent size against the others, 0.6 to 1.4."""
    habitat: str = "ground"
    """Where it is usually found: ground, air, water, table or wall."""


def _category(
    name: str, group: str, draw: DrawingFunction, size: float = 1.0, habitat: str = "ground", plural: str = ""
) -> tuple[str, Category]:
    return name, Category(name=name, plural=plural or f"{name}s", group=group, draw=draw, size=size, habitat=habitat)


CATEGORIES: Final[dict[str, Category]] = dict(
    (
        _category("cat", "animal", mammals.cat, 0.8),
        _category("dog", "animal", mammals.dog, 0.9),
        _category("rabbit", "animal", mammals.rabbit, 0.75),
        _category("elephant", "animal", mammals.elephant, 1.3),
        _category("giraffe", "animal", mammals.giraffe, 1.4),
        _category("horse", "animal", mammals.horse, 1.2),
        _category("pig", "animal", mammals.pig, 0.9),
        _category("sheep", "animal", mammals.sheep, 0.9, plural="sheep"),
        _category("teddy bear", "animal", mammals.bear, 0.8),
        _category("lion", "animal", mammals.lion, 0.9),
        _category("camel", "animal", mammals.camel, 1.2),
        _category("hedgehog", "animal", mammals.hedgehog, 0.65),
        _category("mouse", "animal", mammals.mouse, 0.6, plural="mice"),
        _category("car", "vehicle", vehicles.car, 1.1),
        _category("bus", "vehicle", vehicles.bus, 1.3, plural="buses"),
        _category("truck", "vehicle", vehicles.truck, 1.25),
        _category("bicycle", "vehicle", vehicles.bicycle, 1.0),
        _category("boat", "vehicle", vehicles.boat, 1.15, "water"),
        _category("airplane", "vehicle", vehicles.airplane, 1.2, "air"),
        _category("rocket", "vehicle", vehicles.rocket, 1.1, "air"),
        _category("train", "vehicle", vehicles.train, 1.25),
        _category("helicopter", "vehicle", vehicles.helicopter, 1.1, "air"),
        _category("tractor", "vehicle", vehicles.tractor, 1.15),
        _category("hot air balloon", "vehicle", vehicles.hot_air_balloon, 1.1, "air"),
        _category("submarine", "vehicle", vehicles.submarine, 1.1, "water"),
        _category("scooter", "vehicle", vehicles.scooter, 0.95),
    )
)
"""Name to category."""
