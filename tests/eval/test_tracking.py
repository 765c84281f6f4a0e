"""`percept eval tracking`: a DAVIS folder and the clips of the world, from the command to the samples."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from percept.cli import main
from percept.eval.record import read, samples_file
from tests.infer import tiny


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of three sequences in which one or two coloured squares stand still."""
    root = tmp_path_factory.mktemp("davis")
    for number, name in enumerate(("bus", "cat", "dog")):
        mask = np.zeros((24, 32), np.uint8)
        mask[4:12, 4:12] = 1
        if number:
            mask[12:20, 20:28] = 2
        pixels = np.array([[90, 90, 90], [220, 30, 30], [30, 60, 220]], np.uint8)[mask]
        mask[0, 0] = 255
        for frame in range(4):
            for folder, values, ending in (("JPEGImages", pixels, "jpg"), ("Annotations", mask, "png")):
                file = root / folder / "480p" / name / f"{frame:05d}.{ending}"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(file)
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("bus\ncat\ndog\n")
    return root


def test_a_davis_folder_gives_j_and_f(davis: Path, tmp_path: Path):
    model, out = str(tiny.folder(tmp_path / "model")), tmp_path / "card.json"
    assert main(["eval", "tracking", "--data", str(davis), "--model", model, "--out", str(out)]) == 0
    card = json.loads(out.read_text())
    scores = {row["name"]: row for row in card["scores"]}
    assert list(scores) == ["J&F", "J", "F"]
    assert scores["J&F"]["value"] == pytest.approx((scores["J"]["value"] + scores["F"]["value"]) / 2)
    assert all(0 <= row["low"] <= row["value"] <= row["high"] <= 1 and row["n"] == 5 for row in scores.values())
    assert (card["data"][0]["samples"], card["data"][0]["layout"]) == (3, "sequences of DAVIS")
    records = read(samples_file(out))[("tracking", davis.name, "J&F")]
    assert records.keys == ["bus/1", "cat/1", "cat/2", "dog/1", "dog/2"]
    assert records.group == ["bus", "cat", "cat", "dog", "dog"]
    assert main(["compare", str(out), str(out)]) == 0


def test_clips_of_the_world_are_tracked(tmp_path: Path):
    out = tmp_path / "card.json"
    model = str(tiny.folder(tmp_path / "model"))
    assert main(["eval", "tracking", "--count", "30", "--model", model, "--out", str(out)]) == 0
    assert [row["name"] for row in json.loads(out.read_text())["scores"]] == ["J&F", "J", "F"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "MODEL"], "has no JPEGImages/ and Annotations/"),
        (["--data", "DAVIS", "--subset", "val"], "--subset has no effect on a DAVIS folder"),
        (["--data", "DAVIS", "--classes", "MODEL"], "--classes has no effect"),
    ],
)
def test_mistakes(arguments: list[str], message: str, davis: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = str(tiny.folder(tmp_path / "model"))
    named = {"MODEL": model, "DAVIS": str(davis)}
    assert main(["eval", "tracking", *(named.get(each, each) for each in arguments), "--model", model]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
