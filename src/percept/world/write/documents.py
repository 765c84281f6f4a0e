"""Documents with their text: images and json files of the same names, or the json lines of Perception LM."""

import json

from percept.world.documents import DOCUMENTS, Document, generate_document
from percept.world.write.encode import png
from percept.world.write.job import INDEX, Job, Lines, index_line, key_of
from percept.world.write.questions import line_of


def check(job: Job) -> None:
    """Draw the first document.

    Raises:
        PerceptError: an argument is out of range.
    """
    _document(job, 0)


def _document(job: Job, number: int) -> Document:
    """Return document `number` of a job; the kinds follow each other in turn."""
    seed = job.seed + number
    return generate_document(seed, kind=DOCUMENTS[seed % len(DOCUMENTS)], split=job.split, width=job.size)


def write_folder(job: Job, numbers: range) -> Lines:
    """Write `KEY.png` and `KEY.json`, and return their lines of the index; the caption is all text of the document."""
    lines = []
    for number in numbers:
        document, key = _document(job, number), key_of(number)
        record = document.record()
        lines.append(index_line(job.put(f"{key}.png", png(document.image)), **record))
        job.put(f"{key}.json", json.dumps(record, ensure_ascii=False, indent=1))
    return {INDEX: lines}


def write_plm(job: Job, numbers: range) -> Lines:
    """Write the images; return a line per document."""
    lines = []
    for number in numbers:
        document = _document(job, number)
        file = job.put(f"images/{key_of(number)}.png", png(document.image))
        lines.append(line_of(document.row(file), document.pairs))
    return {"documents.jsonl": lines}
