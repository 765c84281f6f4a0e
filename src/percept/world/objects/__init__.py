"""The categories of objects in the labelled world, as a literal table."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from percept.world.objects import (
    birds,
    buildings,
    clothes,
    crawlers,
    food,
    furniture,
    mammals,
    plants,
    sea,
    things,
    tools,
    vehicles,
)
from percept.world.pen import Pen

DrawingFunction = Callable[[Pen, random.Random], None]


@dataclass(frozen=True, kw_only=True)
class Category:
    """A kind of object."""

    name: str
    """Singular, as used in captions."""
    plural: str
    """Plural, as used in captions."""
    group: str
    """Group of categories: animal, vehicle, building, food, plant, furniture, clothes, tool, thing."""
    draw: DrawingFunction
    """Draws an object with a pen; the random numbers determine pose and proportions."""
    size: float = 1.0
    """Usual size relative to other categories, from 0.6 to 1.4."""
    habitat: str = "ground"
    """Usual place: ground, air, water, table or wall."""


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
        _category("hedgehog", "animal", mammals.hedgehog, 0.65),
        _category("fish", "animal", sea.fish, 0.8, "water", plural="fish"),
        _category("bird", "animal", birds.bird, 0.7, "air"),
        _category("duck", "animal", birds.duck, 0.8, "water"),
        _category("penguin", "animal", birds.penguin, 0.85),
        _category("owl", "animal", birds.owl, 0.75),
        _category("turtle", "animal", sea.turtle, 0.8),
        _category("snail", "animal", crawlers.snail, 0.65),
        _category("butterfly", "animal", crawlers.butterfly, 0.7, "air", plural="butterflies"),
        _category("spider", "animal", crawlers.spider, 0.7),
        _category("snake", "animal", crawlers.snake, 0.9),
        _category("crab", "animal", sea.crab, 0.75),
        _category("octopus", "animal", sea.octopus, 0.9, "water", plural="octopuses"),
        _category("whale", "animal", sea.whale, 1.3, "water"),
        _category("frog", "animal", sea.frog, 0.7),
        _category("dinosaur", "animal", crawlers.dinosaur, 1.2),
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
        _category("house", "building", buildings.house, 1.3),
        _category("church", "building", buildings.church, 1.35, plural="churches"),
        _category("castle", "building", buildings.castle, 1.35),
        _category("lighthouse", "building", buildings.lighthouse, 1.3),
        _category("tent", "building", buildings.tent, 1.05),
        _category("windmill", "building", buildings.windmill, 1.3),
        _category("bridge", "building", buildings.bridge, 1.3),
        _category("apple", "food", food.apple, 0.65, "table"),
        _category("banana", "food", food.banana, 0.7, "table"),
        _category("pair of cherries", "food", food.cherries, 0.65, "table", plural="pairs of cherries"),
        _category("carrot", "food", food.carrot, 0.7, "table"),
        _category("ice cream", "food", food.ice_cream, 0.75, "table"),
        _category("cake", "food", food.cake, 0.8, "table"),
        _category("pizza slice", "food", food.pizza, 0.75, "table"),
        _category("mushroom", "food", food.mushroom, 0.7),
        _category("strawberry", "food", food.strawberry, 0.65, "table", plural="strawberries"),
        _category("bunch of grapes", "food", food.grapes, 0.7, "table", plural="bunches of grapes"),
        _category("hamburger", "food", food.hamburger, 0.75, "table"),
        _category("pineapple", "food", food.pineapple, 0.75, "table"),
        _category("tree", "plant", plants.tree, 1.25),
        _category("palm tree", "plant", plants.palm_tree, 1.25),
        _category("fir tree", "plant", plants.fir_tree, 1.25),
        _category("cactus", "plant", plants.cactus, 1.0, plural="cactuses"),
        _category("flower", "plant", plants.flower, 0.8),
        _category("chair", "furniture", furniture.chair, 1.0),
        _category("table", "furniture", furniture.table, 1.15),
        _category("lamp", "furniture", furniture.lamp, 0.85, "table"),
        _category("bed", "furniture", furniture.bed, 1.25),
        _category("sofa", "furniture", furniture.sofa, 1.2),
        _category("cup", "furniture", furniture.cup, 0.7, "table"),
        _category("bottle", "furniture", furniture.bottle, 0.8, "table"),
        _category("teapot", "furniture", furniture.teapot, 0.8, "table"),
        _category("clock", "furniture", furniture.clock, 0.75, "table"),
        _category("book", "furniture", furniture.book, 0.75, "table"),
        _category("hat", "clothes", clothes.hat, 0.75, "table"),
        _category("shirt", "clothes", clothes.shirt, 0.9, "wall"),
        _category("shoe", "clothes", clothes.shoe, 0.75),
        _category("pair of glasses", "clothes", clothes.glasses, 0.75, "table", plural="pairs of glasses"),
        _category("sock", "clothes", clothes.sock, 0.7),
        _category("umbrella", "clothes", clothes.umbrella, 0.95),
        _category("crown", "clothes", clothes.crown, 0.75, "table"),
        _category("hammer", "tool", tools.hammer, 0.8, "table"),
        _category("saw", "tool", tools.saw, 0.85, "wall"),
        _category("pair of scissors", "tool", tools.scissors, 0.75, "table", plural="pairs of scissors"),
        _category("key", "tool", tools.key, 0.7, "table"),
        _category("wrench", "tool", tools.wrench, 0.75, "table", plural="wrenches"),
        _category("ladder", "tool", tools.ladder, 1.15),
        _category("pencil", "tool", tools.pencil, 0.75, "table"),
        _category("arrow", "thing", things.arrow, 0.85, "wall"),
        _category("stop sign", "thing", things.stop_sign, 0.95),
        _category("traffic light", "thing", things.traffic_light, 1.05),
        _category("flag", "thing", things.flag, 1.0),
        _category("star", "thing", things.star, 0.75, "wall"),
        _category("heart", "thing", things.heart, 0.75, "wall"),
        _category("anchor", "thing", things.anchor, 0.85),
        _category("ball", "thing", things.ball, 0.7),
        _category("gift", "thing", things.gift, 0.8),
        _category("drum", "thing", things.drum, 0.85),
        _category("guitar", "thing", things.guitar, 1.0, "wall"),
        _category("kite", "thing", things.kite, 0.9, "air"),
        _category("robot", "thing", things.robot, 0.95),
        _category("camera", "thing", things.camera, 0.75, "table"),
    )
)
"""Name → category."""
