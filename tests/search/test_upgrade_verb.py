"""`percept index upgrade` as a person types it."""

import json
import re
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from percept.cli import main
from percept.core.config import to_dict
from percept.core.errors import PerceptError
from percept.search.index import Index
from percept.search.store import Store
from tests.search.fakes import ColourEncoder, picture
from tests.search.test_index_verbs import number
from tests.search.test_upgrade import TEXTS, TurnedEncoder

LEFT = "still searched through the map (percept index continues)"
AGAIN = "images and videos encoded again"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, **_: object) -> ColourEncoder:
        if name not in ("nano", "turned"):
            raise PerceptError(f"there is no model {name}")
        return TurnedEncoder() if name == "turned" else ColourEncoder()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("percept.infer.load.load", load)
    monkeypatch.setattr("percept.methods.compatibility.xbt.XBT.Config.steps", 20)
    rng = np.random.default_rng(0)
    for each in range(40):
        picture(Path("photos", f"{each:02}.png"), tuple(rng.integers(0, 256, 3).tolist()))
    picture(Path("photos/red.png"), "red")
    Path("texts.txt").write_text("\n".join(TEXTS))
    assert main(["index", "photos"]) == 0


def upgrade(*more: str) -> int:
    return main(["index", "upgrade", "--to", "turned", "--texts", "@texts.txt", *more])


def test_from_the_switch_to_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert upgrade("--limit", "0", "--folders") == 0
    out, err = capsys.readouterr()
    assert "is searched with turned from now on" in out + err
    assert "185 texts and 20 images" in out + err
    assert "image queries, in the same folder" in out
    assert re.search(r"text queries, as after[^\n]*100\.0%", out)
    assert AGAIN not in out
    assert main(["search", "red"]) == 0
    assert re.search(r"│ +1 │ +0?1?\.\d+ │ photos/red\.png", capsys.readouterr().out)
    assert main(["index", "status"]) == 0
    assert number("images and videos of its former model", capsys.readouterr().out) == 41
    picture(Path("photos/new.png"), "blue")
    assert main(["index", "--limit", "15"]) == 0
    out = capsys.readouterr().out
    assert [number(label, out) for label in ("encoded", AGAIN, "still searched")] == [1, 15, 26]
    assert main(["index", "--limit", "0"]) == 0
    assert AGAIN not in capsys.readouterr().out
    assert main(["index", "export", "--out", "v.npz"]) == 0
    assert "26 images and videos are left out until percept index has encoded them again" in capsys.readouterr().err
    assert upgrade("--limit", "20") == 0  # the same command continues
    assert [number(label, capsys.readouterr().out) for label in (AGAIN,)] == [20]
    assert main(["index"]) == 0
    assert number("still searched", capsys.readouterr().out) == 0
    assert main(["index", "status"]) == 0
    assert "former model" not in capsys.readouterr().out
    with Store("percept-index", TurnedEncoder()) as store:
        assert (store.status().pieces, len(store.spaces())) == (42, 1)


def test_without_a_limit_everything_is_encoded_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert upgrade() == 0
    assert number(AGAIN, capsys.readouterr().out) == 41
    assert main(["search", "red", "--top", "1"]) == 0
    assert "red.png" in capsys.readouterr().out


def test_an_old_model_that_is_gone(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("percept-index")
    Index.create("percept-index", ColourEncoder(name="lost")).close()
    with Index("percept-index", ColourEncoder(name="lost")) as index:
        index.add("photos")
    assert upgrade("--limit", "0") == 0
    assert "the map is learned from images alone: there is no model lost" in capsys.readouterr().err


def test_a_name_that_stands_for_new_weights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Retrained(TurnedEncoder):
        """Has the name of the encoder that made the index."""

        def __init__(self) -> None:
            super().__init__()
            self.identity = replace(self.identity, name="nano")

    store = Store("percept-index")
    connection = sqlite3.connect("percept-index/index.sqlite")
    with connection:  # the index was made with nano
        connection.execute("UPDATE space SET stamp = ?", (json.dumps(to_dict(replace(store.stamp, name="nano"))),))
    store.close()
    connection.close()
    monkeypatch.setattr("percept.infer.load.load", lambda *_, **__: Retrained())
    assert main(["search", "red"]) == 2
    assert "former weights, or percept index upgrade --to MODEL" in "".join(capsys.readouterr().err.split("\n"))
    assert main(["index", "upgrade", "--to", "nano", "--texts", "@texts.txt", "--limit", "0"]) == 0
    printed = "".join(capsys.readouterr())
    assert "the map is learned from images alone: nano has different weights now." in printed
    assert "0 texts and 20 images" in printed
    assert re.search(r"searched with nano \([^)]+\) from now on; the map from nano \([^)]+\)", printed)


def test_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["--to", "turned", "--images", "3"], "--images must be at least 16, got 3"),
        (["--to", "turned", "--limit", "-1"], "--limit must be at least 0, got -1"),
        (["--to", "turned", "--texts", "red"], "--texts takes @FILE with one text per line, got 'red'"),
        (["--to", "turned", "--texts", "@none.txt"], "there is no file none.txt"),
        (["--to", "nano"], "belongs to colours already"),
        (["--to", "mistyped"], "there is no model mistyped"),
        (["--to", "turned", "--index", "none"], "the folder none does not exist"),
    ):
        assert main(["index", "upgrade", *words]) == 2, words
        assert message in capsys.readouterr().err
    assert main(["index", "--limit", "-1"]) == 2
    assert "--limit must be at least 0" in capsys.readouterr().err
    assert main(["search", "red"]) == 0


def test_a_watch_encodes_again_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    from percept.cli.index import _Waiting

    assert upgrade("--limit", "0") == 0
    with Store("percept-index") as store:
        wait = _Waiting(store, TurnedEncoder())
        Path("photos/03.png").unlink()
        wait(5.0)
        assert store.remaining() == 1
        wait(0.0)
        assert wait.stuck == store.version()
        monkeypatch.setattr("percept.search.again.encode_again", None)
        wait(0.0)  # nothing has changed, so nothing is tried


def test_ctrl_c_says_in_which_state_the_index_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("percept.methods.compatibility.xbt.learned", interrupt)
        assert upgrade() == 130
    assert "stopped; percept-index belongs to colours, and no upgrade is under way" in "".join(capsys.readouterr())
    with Store("percept-index", ColourEncoder()) as store:
        assert len(store.spaces()) == 1
    with monkeypatch.context() as patch:
        patch.setattr(TurnedEncoder, "text", lambda *_: interrupt())
        assert upgrade() == 130
    assert "no upgrade is under way" in "".join(capsys.readouterr())
    with monkeypatch.context() as patch:
        image, batches = TurnedEncoder.image, []

        def interrupted(self: TurnedEncoder, images: list) -> object:
            batches.append(len(images))
            return interrupt() if sum(batches) > 41 + 32 else image(self, images)

        patch.setattr(TurnedEncoder, "image", interrupted)
        assert upgrade() == 130
    assert "is searched with turned, and 9 images and videos are still searched through the map; percept index continues" in (
        "".join(capsys.readouterr())
    )  # fmt: skip
    assert upgrade() == 0
    assert number(AGAIN, capsys.readouterr().out) == 9


def test_an_index_run_ends_an_upgrade_whose_last_old_images_were_removed(capsys: pytest.CaptureFixture[str]) -> None:
    assert upgrade("--limit", "31") == 0
    with Store("percept-index") as store:
        for piece in store.pieces_of(store.old_contents()):
            piece.paths[0].unlink()
    assert main(["index"]) == 0
    with Store("percept-index", TurnedEncoder()) as store:
        assert (len(store), len(store.spaces()), store.remaining()) == (31, 1, 0)
