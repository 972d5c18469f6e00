"""`ssl-lightning probe` by protocols on tokens: wrong uses are one line each, before anything is
loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssl_lightning.cli.main import main

WRONG = {
    "--by segmentation": "--by segmentation needs targets; give them with --masks FOLDER",
    "--by tags": "--by tags needs targets; give them with --tags FILE",
    "--by tags --tags a.conll": "--by tags needs targets; give them with --tags-test FILE",
    "--by frames": "--by frames needs targets; give them with --frames FILE",
    "--by knn --masks folder": "None of --by knn reads --masks; leave it out, or add segmentation",
    "--by attentive,linear --tags a.conll": "None of --by attentive,linear reads --tags; leave it out, or add tags",
    "--by knn --frames a.conll": "None of --by knn reads --frames; leave it out, or add frames",
    "--by segmentation --masks a.conll": "--masks a.conll is no folder",
    "--by tags --tags absent --tags-test a.conll": "--tags absent is no file",
    "--by tags --tags a.conll --tags-test folder": "--tags-test folder is no file",
    "--by frames --frames absent.csv": "--frames absent.csv is no file",
    "--by attentiv": "There is no protocol 'attentiv'. Did you mean 'attentive'?",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_use_is_one_line(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.conll").write_text("We O\n")
    monkeypatch.chdir(tmp_path)
    assert main(["probe", "run", "--data", "digits", *line.split()]) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.count("\n") == 1 and error.startswith("ssl-lightning probe: error: ")
    assert WRONG[line] in error
