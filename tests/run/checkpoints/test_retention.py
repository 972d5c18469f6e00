"""The newest checkpoints stay and the best, and there is always a whole one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from ssl_lightning.methods.simclr import SimCLR

import ssl_lightning
from ssl_lightning.data.files.unwritable import Unwritable
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor
from ssl_lightning.evaluation.probes.held_out import HeldOut
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.plugins.archive import is_whole, read
from ssl_lightning.run.checkpoints import checkpoint as module
from ssl_lightning.run.checkpoints.checkpoint import AtomicIO, find_newest
from ssl_lightning.run.checkpoints.names import ours
from ssl_lightning.run.checkpoints.retention import Retention
from ssl_lightning.run.checkpoints.saving import Checkpoint
from ssl_lightning.run.folder.metrics import log_metrics
from ssl_lightning.testing import TinyEncoder, TinyImages

SCORES = [0.3, 0.9, 0.5, 0.9, 0.1]
"""At the end of each of five epochs of four steps."""


class Scores(pl.Callback):
    """Logs a score of each epoch, before its checkpoint; dies at one."""

    def __init__(self, die_at: int = 0) -> None:
        self.die_at = die_at

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.die_at:
            raise KeyError("dies")
        if trainer.global_step % 4 == 0:
            log_metrics(trainer, {"probe/some/top1": SCORES[trainer.global_step // 4 - 1]})


def fit(root: Path, *callbacks: pl.Callback, ckpt_path: Any = None, **settings: Any) -> Any:
    off = [cls(enabled=False) for cls in (KNNProbe, OnlineLinearProbe, HeldOut, CollapseMonitor, Report)]
    trainer = ssl_lightning.Trainer(
        **{"max_epochs": 5, "precision": "32-true", "accelerator": "cpu", "enable_progress_bar": False, **settings},
        default_root_dir=root, callbacks=[*off, *callbacks],
    )  # fmt: skip
    trainer.fit(SimCLR(TinyEncoder(), hidden_dim=8, output_dim=4), datamodule=TinyImages(), ckpt_path=ckpt_path)
    return trainer


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").glob("*.ckpt"))


def names_of(*steps: int) -> list[str]:
    return [f"step-{step:08d}.ckpt" for step in steps]


@pytest.mark.by_default(1)
@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"keep": 1}, [8, 20]),
        ({"keep": 2, "mode": "min", "top": 2}, [4, 16, 20]),
        ({"keep": 1, "top": 3, "keep_every_n_epochs": 3}, [8, 12, 16, 20]),
        pytest.param({"keep": 1, "mode": "min"}, [20], marks=pytest.mark.slow),
    ],
)
def test_the_best_by_a_metric_stay(tmp_path: Path, settings: dict[str, Any], steps: list[int]) -> None:
    checkpoint = Checkpoint(monitor="probe/some/top1", **settings)
    trainer = fit(tmp_path, Scores(), checkpoint)
    folder = trainer.run_folder / "checkpoints"
    assert names(trainer.run_folder) == names_of(*steps)
    best = names_of(20 if settings.get("mode") == "min" else 8)[0]
    assert checkpoint.best_model_path == str(folder / best)
    published = json.loads((folder / "scores.json").read_text())
    assert published["best"] == best and published["monitor"] == "probe/some/top1"
    expected = {name: SCORES[int(name[5:13]) // 4 - 1] for name in names(trainer.run_folder)}
    assert published["scores"] == pytest.approx(expected)


@pytest.mark.parametrize("die_at", [12, 14, *(pytest.param(each, marks=pytest.mark.slow) for each in (5, 6, 10, 18))])
def test_the_best_are_those_of_a_run_that_was_never_stopped(tmp_path: Path, die_at: int) -> None:
    settings: dict[str, Any] = {"monitor": "probe/some/top1", "keep": 1, "top": 2}
    with pytest.raises(KeyError):
        fit(tmp_path, Scores(die_at), Checkpoint(**settings))
    (folder,) = tmp_path.glob("*/*")
    checkpoint = Checkpoint(**settings)
    trainer = fit(tmp_path, Scores(), checkpoint, ckpt_path=find_newest(folder / "checkpoints"))
    assert trainer.run_folder == folder and names(folder) == names_of(8, 16, 20)
    assert checkpoint.best_model_path.endswith(names_of(8)[0])


def test_a_run_without_a_step_left_leaves_its_last_checkpoint_as_it_is(tmp_path: Path) -> None:
    """Written again, it would count an epoch more."""
    folder = fit(tmp_path, max_epochs=1).run_folder
    (newest,) = (folder / "checkpoints").glob("*.ckpt")
    before = newest.read_bytes()
    assert fit(tmp_path, max_epochs=1, ckpt_path=newest).run_folder == folder
    assert newest.read_bytes() == before and read(newest)["epoch"] == 0


def test_a_metric_that_is_not_logged_is_named(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"No 'probe/some/top_1' is logged by step 4.*Did you mean 'probe/some/top1'"):
        fit(tmp_path, Scores(), Checkpoint(monitor="probe/some/top_1"), max_epochs=2)


def test_a_loss_is_best_where_it_is_lowest() -> None:
    assert [Retention(1, name, 1, "auto").mode for name in ("train/loss", "probe/knn/top1")] == ["min", "max"]
    for settings in ({"top": 0}, {"mode": "most"}, {"on_error": "ignore"}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            Checkpoint(**settings)  # type: ignore[arg-type]


def test_at_no_time_is_there_no_whole_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at before and after each file comes or goes."""
    unlink, counts = Path.unlink, list[int]()

    def look() -> None:
        whole = [path for path in tmp_path.glob("*/*/checkpoints/step-*.ckpt") if is_whole(path)]
        counts.append(len(whole))

    def watched(self: Path, **settings: Any) -> None:
        look()
        unlink(self, **settings)
        look()

    monkeypatch.setattr(Path, "unlink", watched)
    fit(tmp_path, Scores(), Checkpoint(monitor="probe/some/top1", keep=1))
    first = next(number for number, count in enumerate(counts) if count)
    assert min(counts[first:]) >= 1 and len(counts) > 10


def test_what_reads_back_damaged_does_not_get_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is removed for it."""
    save = torch.save

    def flipping(value: Any, file: Any) -> None:
        save(value, file)
        if value.get("global_step") == 8:
            file.seek(3000)
            file.write(b"another")

    monkeypatch.setattr(torch, "save", flipping)
    with pytest.raises(Unwritable, match=r"step-00000008\.ckpt' cannot be written: what was written reads back dam"):
        fit(tmp_path, Checkpoint(keep=1))
    (folder,) = tmp_path.glob("*/*")
    assert names(folder) == names_of(4) and read(folder / "checkpoints" / names_of(4)[0])["global_step"] == 4


def test_tensors_that_share_memory_need_room_once(tmp_path: Path) -> None:
    weights = torch.ones(1000)
    value = {"a": weights, "b": [weights[:10], {"c": weights.view(10, 100)}], "d": torch.ones(10)}
    AtomicIO().save_checkpoint(value, tmp_path / "a.ckpt")
    assert module.bytes_in(value) == 4040 and 4040 < (tmp_path / "a.ckpt").stat().st_size < 9000


# Lightning's own.


def test_lightnings_checkpoints_lie_in_the_run_folder_and_are_not_taken_for_ours(tmp_path: Path) -> None:
    def watching() -> ModelCheckpoint:
        return ModelCheckpoint(monitor="probe/some/top1", mode="max", save_top_k=2, filename="step-{step}-mine")

    first = watching()
    trainer = fit(tmp_path / "runs", Scores(), first, Checkpoint(keep=1), max_epochs=3)
    folder, mine = trainer.run_folder, ["step-step=12-mine.ckpt", "step-step=8-mine.ckpt"]
    assert names(folder) == sorted([*names_of(12), *mine]) and list(tmp_path.iterdir()) == [tmp_path / "runs"]
    assert Path(first.best_model_path) == folder / "checkpoints" / mine[1]
    assert find_newest(folder / "checkpoints") == folder / "checkpoints" / names_of(12)[0]

    again = watching()
    fit(tmp_path / "runs", Scores(), again, Checkpoint(keep=1), ckpt_path=find_newest(folder / "checkpoints"))
    assert Path(again.best_model_path) == folder / "checkpoints" / mine[1], "it goes on from what it knew"
    assert {*names_of(20), mine[1]} <= set(names(folder))
    second = fit(tmp_path / "runs", Scores(), first, Checkpoint(keep=1), max_epochs=1).run_folder
    assert first.dirpath == str(second / "checkpoints"), "a second run of one callback"
    elsewhere = ModelCheckpoint(dirpath=tmp_path / "elsewhere")
    fit(tmp_path / "runs", elsewhere, max_epochs=1)
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


@pytest.mark.parametrize("step", [7, 10**8])
def test_a_damaged_one_of_a_later_step_does_not_push_out_what_a_resumed_run_writes(tmp_path: Path, step: int) -> None:
    """The order is that of the steps, not of the names (huggingface/transformers 27138, 37260)."""
    retention = Retention(keep=1, monitor=None, top=1, mode="auto")
    for number in (step - 1, step, step + 5):
        (tmp_path / f"step-{number:08d}.ckpt").write_bytes(b"")
    retention.add(step, {}, False)
    retention.tidy(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(names_of(step, step + 5))
    assert [path.name for path in ours(tmp_path)] == names_of(step + 5, step)
