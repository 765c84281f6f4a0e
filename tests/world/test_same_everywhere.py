"""Questions, documents and rooms do not depend on the process, in particular not on the order of sets."""

import os
import subprocess
import sys

DIGEST = """
import hashlib, random
from percept.world import sample_scene
from percept.world.documents import DOCUMENTS, generate_document
from percept.world.languages import LANGUAGES, caption_in
from percept.world.noise import Noise, noisy_caption
from percept.world.qa import KINDS, example
from percept.world.rooms import generate_room
h = hashlib.sha256()
for split in ("train", "evaluation"):
    for kind in KINDS:
        found = example(5, kind=kind, split=split, size=48, more=2)
        h.update(repr(found.pairs).encode() + b"".join(image.image.tobytes() for image in found.images))
    for kind in DOCUMENTS:
        document = generate_document(2, kind=kind, split=split, width=96)
        h.update(repr(document.record()).encode() + document.image.tobytes())
    room = generate_room(3, split=split, views=2, size=32)
    h.update(repr(room.record()).encode() + b"".join(view.image.tobytes() + view.depth.tobytes() for view in room.views))
for number, language in enumerate(LANGUAGES):
    scene = sample_scene(number)
    h.update(caption_in(scene, language, random.Random(0)).encode())
    h.update(noisy_caption(scene, number, Noise(wrong=0.5)).text.encode())
print(h.hexdigest())
"""


def test_the_same_bytes_in_processes_that_hash_differently() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
    assert len(digests.pop()) == 65
