"""What `ckpt_path` may name, in Python and on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.callbacks import ModelCheckpoint
from ssl_lightning.methods.simclr import SimCLR

from ssl_lightning import Trainer
from ssl_lightning.cli.main import main
from ssl_lightning.run.checkpoints.saving import Checkpoint
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.trainer import STANDING


def trainer(root: Path, *callbacks: Any, **settings: Any) -> Trainer:
    off = [STANDING[key](enabled=False) for key in ("report", "online_probe", "knn_probe")]  # type: ignore[call-arg]
    options = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False, **settings}
    return Trainer(default_root_dir=str(root), callbacks=[*off, *callbacks], **options)


def method(**settings: Any) -> SimCLR:
    return SimCLR(TinyEncoder(), **{"hidden_dim": 8, "output_dim": 4, **settings})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds one run of one epoch."""
    folder = tmp_path_factory.mktemp("runs")
    fitted = trainer(folder)
    fitted.fit(method(), datamodule=TinyImages())
    fitted.save_checkpoint(folder / "encoder.safetensors")  # of this name alone
    return folder


def test_last_is_the_newest_checkpoint_of_the_same_settings(root: Path) -> None:
    again = trainer(root, max_epochs=2)
    again.fit(method(), datamodule=TinyImages(), ckpt_path="last")
    assert again.global_step == 8 and str(again.ckpt_path).endswith("step-00000004.ckpt")
    for verb in ("test", "predict"):
        other = trainer(root, max_epochs=2)
        getattr(other, verb)(method(), datamodule=TinyImages(), ckpt_path="last")
        assert str(other.ckpt_path).endswith("step-00000008.ckpt")


@pytest.mark.parametrize("verb", ["fit", "test", "validate", "predict"])
def test_last_never_starts_anew(verb: str, root: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no checkpoint of a run with these settings .*model.temperature 0.2, not 0.7"
    ):
        getattr(trainer(root), verb)(method(temperature=0.7), datamodule=TinyImages(), ckpt_path="last")
    with pytest.raises(ValueError, match=r"no checkpoint of a run with these settings .* Leave it out to start anew"):
        getattr(trainer(tmp_path), verb)(method(), datamodule=TinyImages(), ckpt_path="last")


def test_best_is_what_a_callback_of_this_process_holds_for_the_best(tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path / "kept", monitor="train/loss")
    fitted = trainer(tmp_path, best, log_every_n_steps=1)
    with pytest.raises(ValueError, match="ckpt_path='best': there is no checkpoint of a run"):
        fitted.fit(method(), datamodule=TinyImages(), ckpt_path="best")
    fitted.fit(method(), datamodule=TinyImages())
    fitted.predict(method(), datamodule=TinyImages(), ckpt_path="best")
    assert fitted.ckpt_path == best.best_model_path


def test_best_is_else_what_the_newest_run_with_these_settings_kept(tmp_path: Path, root: Path) -> None:
    keeps = Checkpoint(monitor="train/loss", keep=1, top=1)
    trainer(tmp_path, keeps, log_every_n_steps=1).fit(method(), datamodule=TinyImages())
    later = trainer(tmp_path)
    later.predict(method(), datamodule=TinyImages(), ckpt_path="best")
    assert str(later.ckpt_path) == keeps.best_model_path
    with pytest.raises(ValueError, match="no metric was followed"):
        trainer(root).predict(method(), datamodule=TinyImages(), ckpt_path="best")


@pytest.mark.parametrize("verb", ["fit", "test"])
def test_a_path_that_is_none_of_a_checkpoint_is_named(verb: str, root: Path) -> None:
    (run,) = root.glob("*/*/checkpoints")
    for path, message in (
        (run / "step-00000040.ckpt", r"There is no checkpoint '.*40.ckpt'. Did you mean 'step-0000000\d.ckpt'\?"),
        (root / "none", "There is no checkpoint '.*none'"),
        (root / "encoder.safetensors", "holds an encoder alone"),
        (root, "There is no whole checkpoint in"),
        (run.parent / "config.yaml", "is not a whole checkpoint"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message) as refusal:
            getattr(trainer(root), verb)(method(), datamodule=TinyImages(), ckpt_path=str(path))
        assert "\n" not in str(refusal.value)


def test_a_run_folder_stands_for_its_newest_checkpoint(root: Path) -> None:
    (run,) = root.glob("*/*/checkpoints")
    for path in (run, run.parent):
        other = trainer(root)
        other.predict(method(), datamodule=TinyImages(), ckpt_path=path)
        assert str(other.ckpt_path).endswith(".ckpt")


def test_weights_of_another_size_name_the_argument(root: Path) -> None:
    (run,) = root.glob("*/*/checkpoints")
    other = SimCLR(TinyEncoder(16), hidden_dim=8, output_dim=2)
    for verb in ("fit", "test", "validate", "predict"):
        with pytest.raises(ValueError, match="another network") as refusal:
            getattr(trainer(root, max_epochs=3), verb)(other, datamodule=TinyImages(), ckpt_path=run)
        said = str(refusal.value)
        assert "--model.encoder.dim 16 here, 8 in the checkpoint" in said
        assert "--model.output_dim 2 here, 4 in the checkpoint" in said and "temperature" not in said


def test_settings_that_leave_the_weights_as_they_are_do_not_hinder(root: Path) -> None:
    (run,) = root.glob("*/*/checkpoints")
    trainer(root).predict(method(temperature=0.7), datamodule=TinyImages(), ckpt_path=run)


@pytest.mark.by_default(1)
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("last", "no checkpoint of a run with these settings"),
        ("best", "no checkpoint of a run with these settings"),
        ("x.ckpt", "There is no checkpoint 'x.ckpt'"),
    ],
)
def test_the_command_line_says_it_in_one_line(
    path: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("fit", "test"):
        command = [
            verb, "--model", "simclr", "--data", "digits", "--trainer.accelerator", "cpu", "--ckpt_path", path,
            "--trainer.default_root_dir", str(tmp_path),
        ]  # fmt: skip
        assert main(command) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1
