"""`percept caption`: describe images and videos in words."""

from pathlib import Path

import tyro

from percept.cli.answers import answer_files
from percept.cli.options import ANSWER, ASSISTANT, Answering, Assisting

QUESTION = "Describe the image in one sentence."


def caption(
    paths: tyro.conf.Positional[tuple[Path, ...]],
    prompt: str = QUESTION,
    out: str | None = None,
    show: int = 40,
    model: Assisting = ASSISTANT,
    answer: Answering = ANSWER,
) -> int:
    """Write a caption for each image and video in folders or files.

    Args:
        paths: Folders (searched with their subfolders), image and video files; only the first frame of a GIF is used.
        prompt: What the model is asked for.
        out: File to write captions to, ending in .csv, .json, .jsonl or .parquet; - for json lines on standard output. Files that it describes
            already are skipped, so an interrupted run can be continued.
        show: Number of captions shown in the table.
    """
    from percept.data.files import find_media

    return answer_files(find_media(paths), prompt, out, show, model, answer)


COMMAND = caption
