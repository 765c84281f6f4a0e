"""The OpenAPI document of the search API."""

from typing import Any

from percept.core import VERSION
from percept.serve.search.request import MOST_HITS, MOST_LABELS, MOST_TEXTS

Schema = dict[str, Any]


def _one_or_several(schema: Schema, description: str) -> Schema:
    return {"description": description, "oneOf": [schema, {"type": "array", "items": schema}]}


def _object(properties: Schema, *, required: tuple[str, ...] = (), closed: bool = False) -> Schema:
    rest: Schema = {"additionalProperties": False} if closed else {"required": list(required or properties)}
    return {"type": "object", "properties": properties} | rest


def _number(description: str, low: int, high: int, default: float | None = None) -> Schema:
    return {"type": "number", "description": description, "minimum": low, "maximum": high} | (
        {} if default is None else {"default": default}
    )


def _nullable(kind: str, description: str = "") -> Schema:
    return {"type": [kind, "null"]} | ({"description": description} if description else {})


STRING: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
STRINGS: Schema = {"type": "array", "items": STRING}
VECTORS: Schema = {"type": "array", "items": {"type": "array", "items": NUMBER}}
TEXT = _one_or_several(STRING, f"Text, or at most {MOST_TEXTS} of them.")
IMAGE = _one_or_several(STRING, "Image file as base64 or as a data URI, or several.")
PIECE = _one_or_several(COUNT, "Number of a piece of the index, or several.")
TOP: Schema = {"type": "integer", "minimum": 1, "maximum": MOST_HITS, "default": 24}

FILTER = _object(
    {
        "path": _one_or_several(STRING, "Pattern such as *.jpg or holiday/*, or a folder."),
        "not_path": _one_or_several(STRING, "Pattern of paths to leave out."),
        "kind": {"type": "string", "enum": ["image", "video"]},
        "after": {"type": "string", "description": "Taken or changed then or later: 2024, 2024-05 or 2024-05-31."},
        "before": {"type": "string", "description": "Taken or changed earlier."},
        "min_side": {"type": "integer", "minimum": 1, "description": "Pixels of the shorter side."},
        "max_side": {"type": "integer", "minimum": 1, "description": "Pixels of the longer side."},
    },
    closed=True,
)
SEARCH = _object(
    {
        "text": TEXT, "image": IMAGE, "like": PIECE, "not_text": TEXT, "not_image": IMAGE,
        "weight": _number("Share of the texts if there are images too.", 0, 1, 0.5),
        "not_weight": _number("Weight of what is avoided; what is wanted has the weight 1.", 0, 100, 0.5),
        "top": TOP, "skip": COUNT | {"default": 0, "description": "Best hits to leave out."},
        "min_score": _number("Least cosine of a hit.", -1, 1),
        "group": {"type": "string", "enum": ["folder", "duplicate"]},
        "above": _number("Cosine from which two hits are near-duplicates.", 0, 1, 0.95),
        "moments": {"type": "boolean", "default": False, "description": "Hits are moments of videos."},
        "level": _number("Where a moment ends: 0 at the video's mean score, 1 at its best.", 0, 1, 0.5),
        "filter": {"$ref": "#/components/schemas/Filter"},
    },
    closed=True,
)  # fmt: skip
ITEM = _object(
    {
        "piece": COUNT, "kind": {"type": "string", "enum": ["image", "video"]}, "name": STRING, "path": STRING,
        "width": COUNT, "height": COUNT, "seconds": _nullable("number", "Length of a video."),
        "taken": _nullable("string", "EXIF date, local time."),
        "thumbnail": {"type": "string", "description": "Address of a JPEG image; needs no token."},
        "file": {"type": "string", "description": "Address of the file; needs no token."},
    }
)  # fmt: skip
SPAN = _object({"piece": COUNT, "start": NUMBER, "stop": NUMBER, "score": NUMBER, "thumbnail": STRING})
HIT = {
    "allOf": [
        {"$ref": "#/components/schemas/Item"},
        _object(
            {
                "rank": COUNT, "score": {"type": "number", "description": "Cosine."},
                "missing": {"type": "boolean", "description": "The file no longer exists."},
                "start": _nullable("number", "Seconds: best span of a video."), "stop": _nullable("number"),
                "spans": {"type": "array", "items": {"$ref": "#/components/schemas/Span"}},
                "copies": STRINGS | {"description": "Files with the same content."}, "group": _nullable("string"),
                "others": {"type": "array", "items": {"$ref": "#/components/schemas/Item"},
                           "description": "Further hits of the group."},
            }
        ),
    ]
}  # fmt: skip
ANSWER = _object(
    {
        "hits": {"type": "array", "items": {"$ref": "#/components/schemas/Hit"}},
        "more": {"type": "boolean", "description": "There are further hits; ask again with skip."},
        "searched": COUNT | {"description": "Images and spans of videos that were compared."},
        "exact": {"type": "boolean"}, "milliseconds": NUMBER,
        "version": COUNT | {"description": "Changes with the index."},
        "unknown_words": STRINGS | {"description": "Words that the model never saw in training."},
        "like": {"type": "array", "items": {"$ref": "#/components/schemas/Item"}, "description": "The pieces asked for."},
    }
)  # fmt: skip
INDEX = _object(
    {
        "name": STRING, "model": STRING, "dim": COUNT, "version": COUNT, "files": COUNT, "images": COUNT,
        "videos": COUNT, "folders": STRINGS,
        "sample": {"type": "array", "items": {"$ref": "#/components/schemas/Item"}},
    }
)  # fmt: skip
GUESS = _object({"label": STRING, "probability": NUMBER, "score": NUMBER})
CLASSIFY = _object(
    {
        "image": IMAGE, "piece": PIECE,
        "labels": _one_or_several(STRING, f"At most {MOST_LABELS} labels."),
        "templates": _one_or_several(STRING, "Text with {} in place of the label; several are averaged."),
        "top": TOP | {"default": 5},
    },
    closed=True,
)  # fmt: skip
SCHEMAS: Schema = {
    "Filter": FILTER, "Search": SEARCH, "Answer": ANSWER, "Hit": HIT, "Item": ITEM, "Span": SPAN, "Index": INDEX,
    "Encode": _object({"text": TEXT, "image": IMAGE}, closed=True),
    "Vectors": _object({"model": STRING, "dim": COUNT, "text": VECTORS, "image": VECTORS}),
    "Classify": CLASSIFY,
    "Labels": _object(
        {"labels": {"type": "array", "items": {"type": "array", "items": GUESS}}, "unknown_words": STRINGS}
    ),
    "Error": _object(
        {"error": _object({"message": STRING, "type": STRING, "param": _nullable("string"), "code": _nullable("string")})}
    ),
}  # fmt: skip
STATUSES = {
    "400": "The body is not json.", "401": "The token is missing or wrong.", "403": "Not a local name, or another page.",
    "404": "No such piece.", "408": "The body did not arrive in time.", "413": "The body or an image is too large.",
    "415": "The body is neither json nor a form, or a file is not an image.", "422": "A field is wrong.",
    "429": "Too many requests wait.", "503": "The server stops, has no memory, or the model of the index has changed.",
}  # fmt: skip
BODY_STATUSES = tuple(STATUSES)
MEDIA_STATUSES = ("401", "403", "404", "429", "503")


def _errors(names: tuple[str, ...]) -> Schema:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {name: {"description": STATUSES[name], "content": content} for name in names}


def _post(summary: str, request: str, response: str) -> Schema:
    reference = {"schema": {"$ref": f"#/components/schemas/{request}"}}
    files: Schema = {"type": "array", "items": {"type": "string", "format": "binary"}}
    form = {
        "request": {"$ref": f"#/components/schemas/{request}"}, "text": {"type": "array", "items": STRING},
        "image": files, "not_image": files,
    }  # fmt: skip
    content = {"application/json": reference, "multipart/form-data": {"schema": {"type": "object", "properties": form}}}
    good = {"application/json": {"schema": {"$ref": f"#/components/schemas/{response}"}}}
    return {
        "post": {
            "summary": summary, "operationId": request.lower(),
            "requestBody": {"required": True, "content": content},
            "responses": {"200": {"description": "Done.", "content": good}} | _errors(BODY_STATUSES),
        }
    }  # fmt: skip


def _media(summary: str, kind: str, types: Schema, extra: Schema) -> Schema:
    parameters = [
        {"name": "piece", "in": "path", "required": True, "schema": COUNT},
        {"name": "v", "in": "query", "schema": STRING, "description": "Has no effect."},
        {"name": "key", "in": "query", "schema": STRING, "description": "Permission, in place of the token."},
    ]
    responses = {"200": {"description": "The content.", "content": types}} | extra | _errors(MEDIA_STATUSES)
    return {"get": {"summary": summary, "operationId": kind, "parameters": parameters, "responses": responses}}


def document() -> Schema:
    """Return the document."""
    index = {"application/json": {"schema": {"$ref": "#/components/schemas/Index"}}}
    ranges = {
        "206": {"description": "The range that was asked for."}, "304": {"description": "Not changed."},
        "410": {"description": "The file has changed since it was indexed, or is gone."},
        "416": {"description": "The range is outside the file."},
    }  # fmt: skip
    return {
        "openapi": "3.1.0",
        "info": {"title": "percept search", "version": VERSION, "description": "Search images and videos of an index."},
        "security": [{}, {"token": []}],
        "paths": {
            "/v1/search": _post("Find images and moments of videos", "Search", "Answer"),
            "/v1/encode": _post("Return unit vectors of texts and images", "Encode", "Vectors"),
            "/v1/classify": _post("Rank labels for images", "Classify", "Labels"),
            "/v1/index": {
                "get": {
                    "summary": "Describe the index", "operationId": "index",
                    "responses": {"200": {"description": "Done.", "content": index}} | _errors(("401", "403", "503")),
                }
            },
            "/v1/thumbnails/{piece}": _media("Thumbnail of a piece", "thumbnail", {"image/jpeg": {}}, {}),
            "/v1/files/{piece}": _media("File of a piece, if it is as indexed", "file", {"*/*": {}}, ranges),
            "/health": {"get": {"summary": "Say that the server works", "operationId": "health", "security": [],
                                "responses": {"200": {"description": "It works."}} | _errors(("503",))}},
        },
        "components": {"schemas": SCHEMAS, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }  # fmt: skip
