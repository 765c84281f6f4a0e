"""Video files: which frames stand for a clip (`choice`), and reading just those (`reader`)."""

from percept.data.video.choice import CHOICES, choose, frames_within
from percept.data.video.reader import Video, open_video

__all__ = ["CHOICES", "Video", "choose", "frames_within", "open_video"]
