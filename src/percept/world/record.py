"""The record of a rendered image: captions, things, words, questions and the scene, in one dictionary."""

import random
from typing import Any

from percept.core.seed import derive
from percept.world.alt_text import alt_text
from percept.world.language import long_caption, short_caption, swapped_attributes, swapped_sides
from percept.world.questions import questions
from percept.world.relations import relations
from percept.world.render import Rendering


def describe(rendering: Rendering) -> dict[str, Any]:
    """Return the ground truth of an image as plain data for json. The texts are a function of the scene.

    Boxes are xyxy in [0, 1]; `number` is a thing's value in the mask image; relations are [number, relation, number].
    """
    scene = rendering.scene
    rng = random.Random(derive(scene.seed, "truth", scene.split, scene.style))
    things = [
        {
            "number": index + 1,
            "category": thing.category,
            "colour": thing.colour,
            "fill": thing.fill,
            "size": thing.size,
            "box": _rounded(rendering.boxes[index]),
            "visible": round(float(rendering.visible[index]), 4),
            "depth": round(thing.depth, 4),
        }
        for index, thing in enumerate(scene.things)
    ]
    words = [
        {"text": word.text, "box": _rounded(box)} for word, box in zip(scene.words, rendering.word_boxes, strict=True)
    ]
    return {
        "seed": scene.seed,
        "split": scene.split,
        "style": scene.style,
        "variant": scene.variant,
        "background": scene.background,
        "alt_text": alt_text(scene, rng),
        "short_caption": short_caption(scene, rng),
        "long_caption": long_caption(scene, rng),
        "things": things,
        "words": words,
        "relations": [
            [number, relation, partner_number]
            for number, thing in enumerate(scene.things, start=1)
            for partner_number, partner in enumerate(scene.things, start=1)
            if number != partner_number
            for relation in relations(thing, partner)
        ],
        "questions": [list(pair) for pair in questions(scene, rng)],
        "wrong_captions": {
            "attributes": _listed(swapped_attributes(scene, rng)),
            "sides": _listed(swapped_sides(scene, rng)),
        },
        "scene": scene.to_dict(),
    }


def _rounded(box: Any) -> list[float]:
    return [round(float(edge), 4) for edge in box]


def _listed(pair: tuple[str, str] | None) -> list[str] | None:
    return list(pair) if pair else None
