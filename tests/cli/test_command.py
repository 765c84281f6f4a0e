import pytest

from percept.cli import VERBS, diagnosis, doctor, main, usage
from percept.cli.catalogue import short
from percept.cli.show import split_labels
from percept.core.errors import PerceptError


def test_every_verb_stands_in_the_help(capsys):
    assert main([]) == main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {verb} " in printed and line in printed for verb, (_, line) in VERBS.items())
    assert all(len(line) < 100 for line in usage().splitlines())


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "percept 0.1.0\n"


def test_an_unknown_verb_suggests_the_nearest(capsys):
    assert main(["clasify"]) == 2
    assert "did you mean 'classify'" in capsys.readouterr().err


def test_wrong_options_end_with_two(capsys):
    assert main(["classify", "x.png", "--lables", "cat"]) == 2
    assert "--labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code"),
    [(KeyboardInterrupt(), 130), (PerceptError("so it is"), 2), (SystemExit(3), 3), (OSError(28, "No space left"), 2)],
)
def test_exit_codes(monkeypatch, capsys, raised, code):
    def fail() -> None:
        raise raised

    monkeypatch.setattr(doctor, "COMMAND", fail)
    assert main(["doctor"]) == code
    assert "Traceback" not in capsys.readouterr().err


def test_a_bug_is_not_hidden(monkeypatch):
    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(doctor, "COMMAND", fail)
    with pytest.raises(ZeroDivisionError):
        main(["doctor"])


def test_labels_from_text_and_file(tmp_path):
    assert split_labels(" cat, red cup ,,dog") == ["cat", "red cup", "dog"]
    (tmp_path / "labels.txt").write_text("cat\n\nred, round cup\n")
    assert split_labels(f"@{tmp_path / 'labels.txt'}") == ["cat", "red, round cup"]
    for bad in ("", " , ", f"@{tmp_path / 'none.txt'}"):
        with pytest.raises(PerceptError, match="cat,dog"):
            split_labels(bad)


@pytest.mark.parametrize(("text", "reason"), [("@", "no file is named after the @"), ("@.", "is a folder")])
def test_labels_from_no_file(text, reason):
    with pytest.raises(PerceptError, match=reason):
        split_labels(text)


def test_an_error_about_a_name_that_is_no_text_is_printed(monkeypatch, capsys):
    def fail() -> None:
        raise PerceptError("no \x1b[31m\udcff\nhere")

    monkeypatch.setattr(doctor, "COMMAND", fail)
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == "percept doctor: no �[31m�\nhere\n"


def test_short_numbers():
    assert [short(number) for number in (999_949, 63_405_056, 1_882_032_640)] == ["1.0 M", "63.4 M", "1.88 G"]


def test_doctor_measures_and_names_remedies(monkeypatch, capsys):
    monkeypatch.setitem(diagnosis.OPTIONAL, "no-such-library", ("data", "nothing"))
    assert main(["doctor", "--seconds", "0.01"]) == 0
    printed = capsys.readouterr().out
    for part in ("torch", "GFLOP/s", "bfloat16", "weights cache", "used by default", "percept-models[data]"):
        assert part in printed


def test_list_shows_models_with_sizes_and_recipes(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["list"]) == 0
    rows = {row.split()[1]: row for row in capsys.readouterr().out.splitlines() if len(row.split()) > 3}
    assert "447.7 M" in rows["PE-Core-B16-224"]
    assert "tokens" in rows["PE-Spatial-G14-448"]
    assert "1.85 G" in rows["PE-Spatial-G14-448"]
    assert "nano" in rows
    assert "pe/nano" in rows


def test_an_error_of_the_system_names_the_file_a_person_asked_for(monkeypatch, capsys):
    def fail() -> None:
        raise PermissionError(13, "Permission denied", "runs/.card.json.4711.part")

    monkeypatch.setattr(doctor, "COMMAND", fail)
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == "percept doctor: runs/card.json cannot be read or written: Permission denied\n"


def test_doctor_prints_no_speed_that_was_not_measured(capsys):
    for seconds in ("0", "-1"):
        assert main(["doctor", "--seconds", seconds]) == 2
        captured = capsys.readouterr()
        assert "--seconds must be above 0" in captured.err
        assert "GFLOP" not in captured.out
