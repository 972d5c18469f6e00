"""Lightning's `EarlyStopping` and `ModelCheckpoint` on the metrics of a run."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from ssl_lightning.methods.finetune import Finetune
from ssl_lightning.methods.simclr import SimCLR

from ssl_lightning import Trainer
from ssl_lightning.cli.main import main
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.plugins.archive import read
from ssl_lightning.run.folder.metrics import log_metrics, rows_of
from ssl_lightning.run.settings.monitors import may_log
from ssl_lightning.testing import TinyEncoder, TinyImages

TOP1 = "probe/linear/top1"


class Script(Callback):
    """Logs a metric of given values in given steps, in place of a probe."""

    def __init__(self, values: dict[int, float], name: str = TOP1) -> None:
        self.values, self.name = values, name

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step in self.values:
            log_metrics(trainer, {self.name: self.values[trainer.global_step]})


def trainer(folder: Path, *callbacks: Callback, epochs: int = 6, **settings: Any) -> Trainer:
    """4 steps an epoch. The probe looks in the last step; the script's values stand for its."""
    off = [Report(enabled=False), KNNProbe(enabled=False), OnlineLinearProbe(eval_every_n_steps=99)]
    options = {"max_epochs": epochs, "accelerator": "cpu", "enable_progress_bar": False, **settings}
    return Trainer(default_root_dir=str(folder), callbacks=[*off, *callbacks], **options)


def fit(folder: Path, *callbacks: Callback, ckpt_path: Any = None, method: Any = None, **settings: Any) -> Trainer:
    fitted = trainer(folder, *callbacks, **settings)
    method = method or SimCLR(TinyEncoder(), hidden_dim=8, output_dim=4)
    fitted.fit(method, datamodule=TinyImages(), ckpt_path=ckpt_path)
    return fitted


def early(**settings: Any) -> EarlyStopping:
    return EarlyStopping(**{"monitor": TOP1, "mode": "max", "patience": 2, **settings})


def test_a_run_waits_for_the_first_look_and_counts_each_value_once(tmp_path: Path) -> None:
    """The probe looks in steps 6, 13 and 20: without an improvement in the second and third, the
    run stops in step 20; Lightning would raise an error at the end of the first epoch, and with
    values looked at in each epoch it would stop in step 16."""
    stopping = early()
    ended = fit(tmp_path, Script({6: 0.5, 13: 0.4, 20: 0.4}), stopping)
    assert ended.global_step == 20 and stopping.wait_count == 2
    assert ended.run_folder is not None
    assert (ended.run_folder / "checkpoints" / "step-00000020.ckpt").is_file()


@pytest.mark.slow
def test_a_resumed_run_stops_where_the_undisturbed_one_does(tmp_path: Path) -> None:
    """Resumed from a checkpoint at the end of each epoch, some with values not looked at yet."""
    values = {3: 0.5, 8: 0.4, 11: 0.6, 16: 0.5, 19: 0.4}
    from ssl_lightning.run.checkpoints.saving import Checkpoint

    ended = fit(tmp_path, Script(values), early(), Checkpoint(keep=9))
    assert ended.run_folder is not None and ended.global_step == 19
    for step in (4, 8, 12, 16):
        path = ended.run_folder / "checkpoints" / f"step-{step:08d}.ckpt"
        again = fit(tmp_path / str(step), Script(values), early(), ckpt_path=path)
        assert again.global_step == 19, step


def test_a_run_that_had_stopped_does_not_go_on_when_resumed(tmp_path: Path) -> None:
    ended = fit(tmp_path, Script({1: 0.5, 2: 0.5}), early(patience=1))
    assert ended.global_step == 2 and ended.run_folder is not None
    newest = ended.run_folder / "checkpoints" / "step-00000002.ckpt"
    assert fit(tmp_path, early(patience=1), ckpt_path=newest).global_step == 2


def test_a_training_metric_is_looked_at_once_an_epoch(tmp_path: Path) -> None:
    stopping = early(monitor="train/loss", mode="min", stopping_threshold=100.0)
    ended = fit(tmp_path, stopping, log_every_n_steps=1)
    assert ended.global_step == 4 and stopping.wait_count == 0


def test_a_checkpoint_is_kept_for_the_weights_that_were_measured(tmp_path: Path) -> None:
    """In the epochs in which the metric came: the value of step 6 is not that of the weights of
    step 12."""
    best = ModelCheckpoint(tmp_path / "kept", "{step}", monitor=TOP1, mode="max", save_top_k=-1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is said of epochs without a look
        warnings.filterwarnings("ignore", message="Checkpoint directory|spectrum/alpha is not logged: .* 8 dimensions")
        ended = fit(tmp_path, Script({6: 0.5, 15: 2.0}), best, epochs=5)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [
        "step=16.ckpt",
        "step=20.ckpt",
        "step=8.ckpt",
    ]
    assert best.best_model_path.endswith("step=16.ckpt")
    assert ended.run_folder is not None
    states = read(ended.run_folder / "checkpoints" / "step-00000020.ckpt")["callbacks"]
    (state,) = (state for key, state in states.items() if key.startswith("ModelCheckpoint"))
    assert state["best_model_path"] == best.best_model_path  # the checkpoint of a step knows of the look in it
    resumed = fit(tmp_path / "again", ckpt_path=best.best_model_path, epochs=5)
    for name, value in resumed.lightning_module.state_dict().items():
        assert value.equal(ended.lightning_module.state_dict()[name]), name


@pytest.mark.parametrize("follower", [EarlyStopping, ModelCheckpoint])
@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ("probe/linear/top", r"Did you mean 'probe/linear/top1'\?"),
        ("probe/knn/top1", "this run logs no such metric"),  # it is off
        ("collapse/stdev", r"Did you mean 'collapse/std'\?"),
        ("val_loss", "It logs collapse/agreement, .*, collapse/std, probe/linear/top1"),
        ("held_out/loss", "this run logs no such metric"),
    ],
)
def test_a_monitor_that_nothing_logs_is_refused_before_anything_is_written(
    follower: Any, monitor: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(MisconfigurationException, match=message) as refusal:
        fit(tmp_path, follower(monitor=monitor))
    assert "\n" not in str(refusal.value) and not list(tmp_path.rglob("*.yaml"))


def test_a_misspelt_training_metric_is_refused_at_the_first_row(tmp_path: Path) -> None:
    """What a method logs is known only then."""
    with pytest.raises(MisconfigurationException, match=r"Did you mean 'train/loss'\?"):
        fit(tmp_path, early(monitor="train/losss", mode="min"), log_every_n_steps=1)


def test_an_accuracy_is_not_to_fall(tmp_path: Path) -> None:
    """`min` is Lightning's default."""
    for follower in (EarlyStopping(TOP1), ModelCheckpoint(monitor=TOP1)):
        with pytest.raises(MisconfigurationException, match="give mode='max'"):
            fit(tmp_path, follower)


class Says(SimCLR):
    """Logs in Lightning's way."""

    def on_train_epoch_end(self) -> None:
        self.log("mine", 1.0)


def test_what_a_method_logs_itself_is_left_to_lightning(tmp_path: Path) -> None:
    method = Says(TinyEncoder(), hidden_dim=8, output_dim=4)
    assert may_log(method) and not may_log(SimCLR(TinyEncoder()))
    assert fit(tmp_path, early(monitor="mine", patience=1), method=method).global_step == 8


def test_a_metric_that_never_came_is_said_at_the_end(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"EarlyStopping\(monitor='collapse/std'\) has done nothing"):
        fit(tmp_path, early(monitor="collapse/std"), CollapseMonitor(every_n_steps=99), epochs=1)


def test_validation_of_a_supervised_run_may_be_followed(tmp_path: Path) -> None:
    stopping = early(monitor="val/loss", mode="min", patience=1, min_delta=1e9)
    ended = fit(tmp_path, stopping, method=Finetune(TinyEncoder()))
    assert ended.global_step < 6 * 4 and stopping.wait_count == 1


def test_the_command_line_takes_both_on_the_online_probe(tmp_path: Path) -> None:
    """What people try first. The probe is judged every 5 steps, an epoch has 11."""
    command = [
        "fit", "--model", "simclr", "--model.encoder", "ssl_lightning.testing.TinyEncoder",
        "--data", "ssl_lightning.testing.TinyImages", "--trainer.accelerator", "cpu", "--trainer.max_epochs", "9",
        "--trainer.default_root_dir", str(tmp_path), "--report.enabled", "false", "--knn_probe.enabled", "false",
        "--online_probe.eval_every_n_steps", "5",
        "--trainer.callbacks+=EarlyStopping", f"--trainer.callbacks.monitor={TOP1}", "--trainer.callbacks.mode=max",
        "--trainer.callbacks.patience=1", "--trainer.callbacks.min_delta=1",
        "--trainer.callbacks+=ModelCheckpoint", f"--trainer.callbacks.monitor={TOP1}", "--trainer.callbacks.mode=max",
        f"--trainer.callbacks.dirpath={tmp_path / 'kept'}",
    ]  # fmt: skip
    assert main(command) == 0
    (folder,) = tmp_path.glob("*/*/config.yaml")
    assert (folder.parent / "checkpoints" / "step-00000010.ckpt").is_file()  # no gain in step 10
    assert len(list((tmp_path / "kept").glob("*.ckpt"))) == 1


def test_rows_have_each_value_once(tmp_path: Path) -> None:
    """Looking changes nothing in what a run writes."""
    ended = fit(tmp_path, Script({6: 0.5}), early(), epochs=2)
    assert [row["step"] for row in rows_of(ended) if row.get(TOP1) == 0.5] == [6]
