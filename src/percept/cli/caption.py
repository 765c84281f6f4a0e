"""`percept caption`: describe images and videos in words."""

from pathlib import Path

import tyro

from percept.cli.answers import answer_files
from percept.cli.options import ANSWER, ASSISTANT, Answering, Assisting

OF_IMAGE, OF_VIDEO = "Describe the image in one sentence.", "Describe the video briefly."
"""What is asked for by default: requests that plm-nano was trained with."""


def caption(
    paths: tyro.conf.Positional[tuple[Path, ...]],
    prompt: str | None = None,
    out: str | None = None,
    show: int = 40,
    model: Assisting = ASSISTANT,
    answer: Answering = ANSWER,
) -> int:
    """Write a caption for each image and video in folders or files.

    Args:
        paths: Folders (searched with their subfolders), image and video files; only the first frame of a GIF is used.
        prompt: What the model is asked for. Default: to describe the image in one sentence, or the video briefly.
        out: File to write captions to, ending in .csv, .json, .jsonl or .parquet; - for json lines on standard output. Files that it describes
            already are skipped, so an interrupted run can be continued.
        show: Number of captions shown in the table.
    """
    from percept.data.files import find_media, is_video

    files = find_media(paths)
    questions = {file: OF_VIDEO if is_video(file) else OF_IMAGE for file in files}
    return answer_files(questions if prompt is None else dict.fromkeys(files, prompt), out, show, model, answer)


COMMAND = caption
