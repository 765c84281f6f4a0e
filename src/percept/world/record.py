"""What is written about a picture: one dictionary with captions, things, words, questions and the scene itself."""

import random
from typing import Any

from percept.core.seed import derive
from percept.world.alt_text import alt_text
from percept.world.language import long_caption, short_caption, swapped_attributes, swapped_sides
from percept.world.questions import questions
from percept.world.relations import relations
from percept.world.render import Picture


def describe(picture: Picture) -> dict[str, Any]:
    """Return the truth of a picture as plain data for json; the same picture gives the same words.

    Boxes are xyxy in [0, 1]; `number` is a thing's value in the mask picture; relations are [number, relation, number].
    """
    scene = picture.scene
    rng = random.Random(derive(scene.seed, "truth", scene.split, scene.style))
    things = [
        {
            "number": index + 1,
            "category": thing.category,
            "colour": thing.colour,
            "fill": thing.fill,
            "size": thing.size,
            "box": _rounded(picture.boxes[index]),
            "visible": round(float(picture.visible[index]), 4),
            "depth": round(thing.depth, 4),
        }
        for index, thing in enumerate(scene.things)
    ]
    words = [
        {"text": word.text, "box": _rounded(box)} for word, box in zip(scene.words, picture.word_boxes, strict=True)
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
            [one + 1, relation, other + 1]
            for one, thing in enumerate(scene.things)
            for other, partner in enumerate(scene.things)
            if one != other
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
