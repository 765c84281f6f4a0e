"""Questions and captions about images: VQAv2, TextVQA, DocVQA, InfographicVQA, ChartQA, POPE, RefCOCO, COCO, multiple choice."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from percept.core.errors import PerceptError
from percept.data.chat.conversation import ImageInput, Media, VideoInput
from percept.data.images import upright_size
from percept.eval.vlm.choices import LETTERS, lettered
from percept.eval.vlm.item import Item, ask
from percept.eval.vlm.readers.files import Place, counted, field, media_file, read_data, rows_of, texts
from percept.eval.vlm.spans import share_box

SHORT = "Answer with a single word or phrase."
BOX = "Give the box of what is described, as [x0,y0,x1,y1] in thousandths of width and height:"
CAPTION = "Write a one-sentence caption of the image."
LETTER = "Answer with the letter of the correct option only."


def _item(key: str, question: str, image: Path, reference: Any, **more: Any) -> Item:
    return Item(key=key, prompt=ask(question, [ImageInput(source=image)]), reference=reference, **more)


def vqav2(place: Place) -> Iterator[Item]:
    """Yield the questions of a VQAv2 questions file; the answers are in the annotations file beside it.

    The file of answers has the name of the file of questions with "annotations" for "questions" and without "OpenEnded_". Images are
    COCO_{split}2014_{12 digits}.jpg or {12 digits}.jpg.
    """
    asked = read_data(place.data)
    answers_file = place.data.with_name(place.data.name.replace("questions", "annotations").replace("OpenEnded_", ""))
    if answers_file == place.data:
        raise PerceptError(f"{place.data} does not have 'questions' in its name. Give the file of questions of VQAv2.")
    answers = {
        row["question_id"]: row for row in field(read_data(answers_file), "annotations", list, answers_file.name)
    }
    subtype = asked.get("data_subtype", "val2014")
    for row in field(asked, "questions", list, place.data.name):
        where = f"question {row.get('question_id')}"
        if row["question_id"] not in answers:
            raise PerceptError(f"{where} has no answers in {answers_file}. Give files of the same split.")
        number = field(row, "image_id", int, where)
        image = media_file(place, where, [f"COCO_{subtype}_{number:012d}.jpg", f"{number:012d}.jpg"])
        reference = texts(answers[row["question_id"]], "answers", where)
        yield _item(str(row["question_id"]), f"{field(row, 'question', str, where)}\n{SHORT}", image, reference)


def textvqa(place: Place) -> Iterator[Item]:
    """Yield the questions of a TextVQA file; images are {image_id}.jpg."""
    for where, row in rows_of(place.data):
        name = field(row, "image_id", str, where)
        image = media_file(place, where, [f"{name}.jpg", f"train_images/{name}.jpg", f"test_images/{name}.jpg"])
        question = f"{field(row, 'question', str, where)}\n{SHORT}"
        yield _item(str(row.get("question_id", where)), question, image, texts(row, "answers", where))


def docvqa(place: Place) -> Iterator[Item]:
    """Yield the questions of a DocVQA or InfographicVQA file; a row names its image in `image` or `image_local_name`."""
    for where, row in rows_of(place.data):
        name = row.get("image") or row.get("image_local_name") or ""
        image = media_file(place, where, [str(name), Path(str(name)).name])
        question = f"{field(row, 'question', str, where)}\n{SHORT}"
        yield _item(str(row.get("questionId", where)), question, image, texts(row, "answers", where))


def chartqa(place: Place) -> Iterator[Item]:
    """Yield the questions of a ChartQA file; images are in the folder or in its folder png."""
    for where, row in rows_of(place.data):
        name = field(row, "imgname", str, where)
        image = media_file(place, where, [name, f"png/{name}"])
        question = f"{field(row, 'query', str, where)}\n{SHORT}"
        label = row.get("label")
        if isinstance(label, list) and len(label) == 1:
            label = label[0]
        if not isinstance(label, str | int | float):
            raise PerceptError(f"{where}: the label is {label!r}. It should be a text or a number.")
        yield _item(where, question, image, str(label))


def pope(place: Place) -> Iterator[Item]:
    """Yield the questions of a POPE file of json lines."""
    for where, row in rows_of(place.data):
        label = field(row, "label", str, where).strip().lower()
        if label not in ("yes", "no"):
            raise PerceptError(f"{where}: the label is {label!r}. It should be yes or no.")
        image = media_file(place, where, [field(row, "image", str, where)])
        question = f"{field(row, 'text', str, where)}\nAnswer yes or no."
        yield _item(str(row.get("question_id", where)), question, image, label, chance=0.5)


def refcoco(place: Place) -> Iterator[Item]:
    """Yield the expressions of a RefCOCO file: an object with `images` and `annotations`, or rows with an image, a text and a box.

    In an object boxes are [x, y, width, height], as in COCO, and each image has one `caption`, the expression. In rows the
    image is in `image`, `img_path` or `file_name`, the text in `sent`, `expression` or `caption`, and `bbox` is [x0, y0, x1, y1]. Pixels.
    """
    value = read_data(place.data) if place.data.suffix == ".json" else None
    if not isinstance(value, Mapping) or "annotations" not in value:
        for where, row in rows_of(place.data):
            yield _expression(place, where, row, row.get("bbox"))
        return
    images = {row["id"]: row for row in field(value, "images", list, place.data.name)}
    for number, row in enumerate(field(value, "annotations", list, place.data.name), start=1):
        where = f"annotation {number}"
        if row.get("image_id") not in images:
            raise PerceptError(f"{where} belongs to image {row.get('image_id')}, which is not in the file. Check it.")
        box = row.get("bbox")
        corners = [box[0], box[1], box[0] + box[2], box[1] + box[3]] if _is_box(box) else None
        yield _expression(place, where, images[row["image_id"]], corners)


def _is_box(box: Any) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(isinstance(side, int | float) for side in box)


def _expression(place: Place, where: str, row: Mapping[str, Any], box: Any) -> Item:
    if not _is_box(box):
        raise PerceptError(f"{where}: the box is {box!r}. It should be four numbers in pixels.")
    names = [str(row[name]) for name in ("image", "img_path", "file_name") if row.get(name)] or ["?"]
    text = next((str(row[name]) for name in ("sent", "expression", "caption") if row.get(name)), "")
    if not text:
        raise PerceptError(f"{where} has no expression. It should be in sent, expression or caption.")
    image = media_file(place, where, [*names, *(Path(name).name for name in names)])
    width, height = row.get("width"), row.get("height")
    if not width or not height:
        width, height = upright_size(image)
    return _item(where, f"{BOX} {text}", image, list(share_box(box, width, height)))


def captions(place: Place) -> Iterator[Item]:
    """Yield the images of a COCO captions file, or of the split "test" of Karpathy's file (`sentences` in each image)."""
    value = read_data(place.data)
    images = field(value, "images", list, place.data.name)
    if "annotations" in value:
        by_image = counted(value["annotations"], lambda row: row.get("image_id"))
        listed = [(row, [each["caption"] for each in by_image.get(row.get("id"), [])]) for row in images]
    else:
        chosen = [row for row in images if row.get("split") == "test"]
        listed = [(row, [each["raw"] for each in row.get("sentences", [])]) for row in chosen]
    for row, reference in listed:
        where = f"image {row.get('id', row.get('cocoid'))}"
        if not reference:
            raise PerceptError(f"{where} has no captions. Every image needs at least one.")
        name = str(row.get("file_name") or row.get("filename"))
        image = media_file(place, where, [name, f"{row.get('filepath', '.')}/{name}"])
        yield _item(str(row.get("id", row.get("cocoid"))), CAPTION, image, reference)


def choice(place: Place) -> Iterator[Item]:
    """Yield questions with options: rows with `question`, `options` or `choices`, `answer`, and `image`, a list of them, or `video`.

    The answer is the number of an option from 0 on, its letter, or its text.
    """
    for where, row in rows_of(place.data):
        options = row.get("options", row.get("choices"))
        if not isinstance(options, list) or not 2 <= len(options) <= len(LETTERS):
            raise PerceptError(f"{where} has the options {options!r}. Give a list of 2 to {len(LETTERS)} texts.")
        options = [str(option) for option in options]
        media = _media(place, where, row)
        tags = "<image>" * len(media) if len(media) > 1 else ""
        question = f"{tags}{field(row, 'question', str, where)}\n{lettered(options)}\n{LETTER}"
        yield Item(
            key=str(row.get("id", row.get("question_id", where))), prompt=ask(question, media),
            reference=_number(row.get("answer"), options, where), options=tuple(options), chance=1 / len(options),
        )  # fmt: skip


def _media(place: Place, where: str, row: Mapping[str, Any]) -> list[Media]:
    if row.get("video"):
        return [VideoInput(source=media_file(place, where, [str(row["video"])], "video"))]
    named = row.get("image") or []
    names = named if isinstance(named, list) else [named]
    return [ImageInput(source=media_file(place, where, [str(name)])) for name in names]


def _number(answer: Any, options: list[str], where: str) -> int:
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(options):
        return answer
    text = str(answer).strip()
    if text in options:
        return options.index(text)
    letter = text.strip("().").upper()
    if len(letter) == 1 and letter in LETTERS[: len(options)]:
        return LETTERS.index(letter)
    raise PerceptError(
        f"{where}: the answer {answer!r} is none of the options. Give a number from 0 on, a letter or a text."
    )
