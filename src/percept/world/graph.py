"""Scene graphs: things and words as nodes with attributes, and relations as edges, all as plain data."""

from typing import Any

from percept.world.elements import Scene, Thing
from percept.world.relations import relations
from percept.world.render import Rendering
from percept.world.variants import shows_colour


def scene_graph(rendering: Rendering) -> dict[str, Any]:
    """Return the scene graph of an image for json.

    - nodes: `id`, `category`, `attributes` (colour if visible, pattern, size), `box` (xyxy in [0, 1]), `visible`
    - words: `text`, `box`
    - edges: `subject`, `relation`, `object`; every unambiguous relation of two visible things, in both directions
    """
    scene = rendering.scene
    shown = [index for index, share in enumerate(rendering.visible.tolist()) if share > 0]
    nodes = [
        {
            "id": index,
            "category": scene.things[index].category,
            "attributes": attributes_of(scene, scene.things[index]),
            "box": _rounded(rendering.boxes[index].tolist()),
            "visible": round(float(rendering.visible[index]), 4),
        }
        for index in shown
    ]
    edges = [
        {"subject": first, "relation": relation, "object": second}
        for first in shown
        for second in shown
        if first != second
        for relation in relations(scene.things[first], scene.things[second])
    ]
    words = [
        {"text": word.text, "box": _rounded(box)}
        for word, box in zip(scene.words, rendering.word_boxes.tolist(), strict=True)
    ]
    return {"background": scene.background, "nodes": nodes, "words": words, "edges": edges}


def attributes_of(scene: Scene, thing: Thing) -> list[str]:
    """Return the visible attributes of a thing: colour, pattern and size."""
    colour = thing.colour if shows_colour(scene) else ""
    fill = {"plain": "", "gradient": "shaded"}.get(thing.fill, thing.fill)
    return [attribute for attribute in (colour, fill, thing.size) if attribute]


def graph_triples(graph: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the edges of a scene graph with the names of their things, as (subject, relation, object)."""
    names = {node["id"]: node["category"] for node in graph["nodes"]}
    return [(names[edge["subject"]], edge["relation"], names[edge["object"]]) for edge in graph["edges"]]


def _rounded(box: list[float]) -> list[float]:
    return [round(side, 4) for side in box]
