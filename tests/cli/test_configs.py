"""The configs that ship are found by name from anywhere, and listed with what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ssl_lightning.cli.configs import config_file, row, shipped
from ssl_lightning.cli.main import main
from ssl_lightning.cli.names import Names
from ssl_lightning.cli.request import read_request
from ssl_lightning.plugins.gate import read_yaml

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names() -> Names:
    return Names(lambda text: read_yaml(text, "it"))


def test_every_config_of_the_tree_ships_under_its_method_and_data() -> None:
    files = {path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.yaml")}
    assert set(shipped()) == files and len(files) > 30
    for name, path in shipped().items():
        line = row(name, path, with_command=True)
        assert line["method"] == name.partition("/")[0] and line["data"]
        assert line["command"].startswith(f"ssl-lightning fit --config {name}")
        assert "cores" in line["needs"] and "minutes" in line["needs"] and line["score"]


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("value", ["simclr/digits", "simclr/digits.yaml", "./simclr/digits"])
def test_a_name_is_the_config_that_ships_for_every_command(command: str, value: str) -> None:
    chosen = read_request([command, "--config", value], names()).chosen
    assert chosen["trainer.max_epochs"] == 80 and chosen["model"].endswith(".SimCLR")


@pytest.mark.parametrize("file", ["simclr/digits", "simclr/digits.yaml"])
def test_a_file_of_the_user_s_with_that_path_wins(elsewhere: Path, file: str) -> None:
    (elsewhere / "simclr").mkdir()
    (elsewhere / file).write_text("trainer: {max_epochs: 3}")
    assert read_request(["fit", "--config", "simclr/digits"], names()).chosen == {"trainer.max_epochs": 3}


def test_a_folder_of_that_name_does_not_hide_it_and_none_is_a_config(elsewhere: Path) -> None:
    (elsewhere / "simclr" / "digits").mkdir(parents=True)
    assert config_file("simclr/digits") == shipped()["simclr/digits"]
    assert main(["fit", "--config", "simclr"]) == 2


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("simclr/digts", "There is no config 'simclr/digts'"),
        ("configs/simclr/digits.yaml", "Did you mean 'simclr/digits'?"),
        ("SimCLR/Digits", "Did you mean 'simclr/digits'?"),
        ("simclr", "one that ships"),
        ("../configs/../nothing\n", r"nothing\n', neither"),
        ("x" * 5000, "neither a file"),
        (".", "is a folder"),
        ("{model: [", "is not valid YAML"),
    ],
)
@pytest.mark.parametrize("command", ["fit", "data"])
def test_a_wrong_name_is_one_line(command: str, value: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--config", value]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and says in told


def test_data_takes_the_name_too_and_describes_it(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "--config", "simclr/digits", "--to", "pictures"]) == 0
    assert "1,400" in capsys.readouterr().out and list((elsewhere / "pictures").iterdir())


def test_the_list_is_a_row_each_and_for_programs_has_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split("\t") == ["name", "method", "data", "needs", "score"] and len(lines) == len(shipped())
    assert main(["configs", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in rows] == list(shipped()) and "--data.root" in rows[-1]["command"]
    for wrong in (["configs", "x"], ["configs", "--check"]):
        assert main(wrong) == 2 and capsys.readouterr().err.count("\n") == 1


def test_an_installation_of_before_the_configs_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ssl_lightning.cli.configs.FOLDER", "ssl_lightning.no_configs")
    for argv in (["configs"], ["fit", "--config", "simclr/digits"]):
        assert main(argv) == 2
        assert "install the package anew" in capsys.readouterr().err
