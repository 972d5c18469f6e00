"""Mistakes about loggers, each told in one line."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from lightning_fabric.utilities.exceptions import MisconfigurationException

from ssl_lightning.cli.main import main
from ssl_lightning.run.loggers.show import as_loggers
from ssl_lightning.run.loggers.wandb import Wandb

MISTAKES = {
    "--trainer.logger '[csv, csv]'": "The logger 'csv' is given 2 times, and all would write to the same place of the"
    " run folder; give it once.",
    "--trainer.logger wandb --trainer.logger.tags '{a: 1}'": "--trainer.logger.tags expects list or str, got"
    " \"{'a': 1}\".",
    "--trainer.logger wandb --trainer.logger.grup g": "There is no option --trainer.logger.grup. Did you mean"
    " '--trainer.logger.group'?",
    "--trainer.logger tensorboard --trainer.logger.group g": "There is no option --trainer.logger.group. Did you mean"
    " '--trainer.logger'?",
    "--trainer.logger.group g": "--trainer.logger.group belongs to a class: give --trainer.logger before it, such as"
    " --trainer.logger wandb.",
    "--trainer.logger wandb --trainer.logger.log_model maybe": "--trainer.logger.log_model expects bool, got 'maybe'.",
}


@pytest.mark.by_default(3)
@pytest.mark.parametrize("typed", MISTAKES)
def test_a_mistake_on_the_command_line_is_one_line(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--model", "simclr", "--data", "digits", *shlex.split(typed)]) == 2
    assert capsys.readouterr().err.splitlines() == [f"ssl-lightning fit: error: {MISTAKES[typed]}"]


def test_two_loggers_of_a_kind_are_refused_and_two_kinds_are_not() -> None:
    assert len(as_loggers(["csv", "tensorboard"])) == 2
    with pytest.raises(MisconfigurationException, match="'wandb' is given 2 times"):
        as_loggers(["wandb", Wandb(group="g")])


def test_a_project_that_wandb_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = Wandb(project="a/b")
    logger.open(tmp_path, fits=True)
    with pytest.raises(ValueError, match=r"^W&B does not start: Invalid project name 'a/b': .*found '/'\.$"):
        _ = logger.experiment


def test_tags_are_a_list_or_a_text_with_commas() -> None:
    assert Wandb(tags="a, b")._wandb_init["tags"] == Wandb(tags=["a", "b"])._wandb_init["tags"] == ["a", "b"]
