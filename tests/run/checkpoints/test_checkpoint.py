"""Checkpoints are written whole or not at all, run no code when they are read, and give the method
back."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ssl_lightning.methods.simclr import SimCLR

import ssl_lightning
from ssl_lightning import View
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.plugins.archive import is_whole, read
from ssl_lightning.run.checkpoints.checkpoint import AtomicIO, find_newest
from ssl_lightning.run.checkpoints.saving import Checkpoint
from ssl_lightning.testing import TinyEncoder, TinyImages


def fit(root: Path, checkpoint: Checkpoint | None = None, **trainer: Any) -> tuple[SimCLR, Any]:
    """Trains SimCLR on 64 tiny images, 4 steps an epoch, and watches nothing."""
    method = SimCLR(TinyEncoder(dim=4), hidden_dim=8, output_dim=4, temperature=0.3)
    callbacks = [
        Report(enabled=False),
        KNNProbe(enabled=False),
        OnlineLinearProbe(enabled=False),
        checkpoint or Checkpoint(),
    ]
    settings = {"max_epochs": 2, "precision": "32-true", "accelerator": "cpu", "enable_progress_bar": False, **trainer}
    fitted = ssl_lightning.Trainer(default_root_dir=root, callbacks=callbacks, **settings)
    fitted.fit(method, datamodule=TinyImages())
    return method.eval(), fitted


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[SimCLR, Path]:
    method, trainer = fit(tmp_path_factory.mktemp("runs"))
    return method, trainer.run_folder


@pytest.fixture
def whole(trained: tuple[SimCLR, Path], tmp_path: Path) -> Path:
    """A copy of a real checkpoint, to damage."""
    newest = find_newest(trained[1] / "checkpoints")
    assert newest is not None
    copy = tmp_path / "step-00000008.ckpt"
    copy.write_bytes(newest.read_bytes())
    return copy


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# What is inside.


def test_a_checkpoint_gives_the_method_back(trained: tuple[SimCLR, Path], whole: Path) -> None:
    method, folder = trained
    view = View(torch.rand(5, 1, 16, 16))
    for path in (whole, str(whole), folder, folder / "checkpoints"):
        loaded = ssl_lightning.load(path)
        assert type(loaded) is SimCLR and loaded.temperature == 0.3 and not loaded.training
        assert torch.equal(loaded(view), method(view)) and torch.equal(loaded.backbone(view), method(view))
        assert torch.equal(loaded.projector(loaded(view)), method.projector(method(view))), "the head is there too"


def test_a_checkpoint_holds_tensors_plain_values_and_its_config(whole: Path) -> None:
    checkpoint = torch.load(whole, weights_only=True)
    assert not {"hyper_parameters", "hparams_name", "datamodule_hyper_parameters"} & checkpoint.keys()
    config = yaml.safe_load(checkpoint["config"])
    assert config["model"]["init_args"]["encoder"]["init_args"] == {"dim": 4}
    assert config["data"]["init_args"]["samples"] == 64
    schedule = {"schedule": "cosine", "recipe_epochs": None}
    assert checkpoint["resolved"] == {"precision": "32-true", "steps": 8, "schedule": schedule}
    assert checkpoint["TinyImages"]["position"] == 2 * 64


def test_no_hyperparameters_are_saved_anywhere(trained: tuple[SimCLR, Path]) -> None:
    assert not trained[0].hparams


# What is not opened.


class Sings:
    """Unpickling it writes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.canary}",))


def poison(checkpoint: dict[str, Any], where: str, canary: Path) -> dict[str, Any]:
    evil = Sings(canary)
    return {
        "top": {**checkpoint, "evil": evil},
        "weights": {**checkpoint, "state_dict": {**checkpoint["state_dict"], "evil": evil}},
        "config": {**checkpoint, "config": evil},
        "yaml": {**checkpoint, "config": f"!!python/object/apply:os.system ['touch {canary}']"},
        "yaml in a value": {**checkpoint, "config": f"model: !!python/object/apply:os.system ['touch {canary}']"},
    }[where]


@pytest.mark.parametrize("where", ["top", "weights", "config", "yaml", "yaml in a value"])
def test_a_checkpoint_runs_no_code(whole: Path, tmp_path: Path, where: str) -> None:
    canary, evil = tmp_path / "sang", tmp_path / "evil" / "step-00000009.ckpt"
    evil.parent.mkdir()
    torch.save(poison(torch.load(whole, weights_only=True), where, canary), evil)
    for path in (evil, evil.parent):
        with pytest.raises(ValueError, match="evil"):
            ssl_lightning.load(path, trust=["os", "posix"])
    method = SimCLR(TinyEncoder(dim=4), hidden_dim=8, output_dim=4)
    if not where.startswith("yaml"):
        trainer = ssl_lightning.Trainer(
            accelerator="cpu",
            precision="32-true",
            default_root_dir=tmp_path / "runs",
            enable_progress_bar=False,
            max_epochs=3,
        )
        with pytest.raises(ValueError, match="evil"):
            trainer.fit(method, datamodule=TinyImages(), ckpt_path=evil)
    assert not canary.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_the_canary_sings_where_checkpoints_are_not_read_with_care(tmp_path: Path, zipped: bool) -> None:
    """And a file that is a plain pickle is not opened either."""
    canary, evil = tmp_path / "sang", tmp_path / "evil.ckpt"
    if zipped:
        torch.save({"state_dict": Sings(canary)}, evil)
    else:
        evil.write_bytes(pickle.dumps(Sings(canary)))
    with pytest.raises(ValueError, match="evil"):
        ssl_lightning.load(evil)
    assert not canary.exists()
    torch.load(evil, weights_only=False) if zipped else pickle.loads(evil.read_bytes())
    assert canary.exists()


def test_a_checkpoint_of_another_program_is_named_as_one(tmp_path: Path) -> None:
    for content in (
        {"state_dict": {}},
        {"state_dict": {}, "config": "- a list"},
        {"state_dict": {}, "config": "data: 1"},
        {"config": 3},
        {"config": "a: [1"},
    ):
        torch.save(content, tmp_path / "other.ckpt")
        with pytest.raises(ValueError, match=r"other\.ckpt' holds (no config|a config that cannot be read)"):
            ssl_lightning.load(tmp_path / "other.ckpt")
    torch.save([1, 2], tmp_path / "list.ckpt")
    with pytest.raises(ValueError, match=r"list\.ckpt"):
        ssl_lightning.load(tmp_path / "list.ckpt")


def test_what_is_no_whole_checkpoint_is_named(whole: Path, tmp_path: Path) -> None:
    good = whole.read_bytes()
    text, empty = b"model: simclr\n" * 100, b""
    for damaged in (good[: len(good) // 2], good[:-1], good[10:], text, empty, b"\0" * len(good)):
        whole.write_bytes(damaged)
        assert not is_whole(whole)
        with pytest.raises(
            ValueError, match=r"step-00000008\.ckpt' is not a whole checkpoint: it was truncated or damaged"
        ):
            ssl_lightning.load(whole)
    with pytest.raises(FileNotFoundError, match=r"There is no checkpoint .*absent\.ckpt"):
        ssl_lightning.load(tmp_path / "absent.ckpt")
    with pytest.raises(FileNotFoundError, match="no whole checkpoint in"):
        ssl_lightning.load(tmp_path)


def test_a_flipped_bit_in_any_record_is_found(whole: Path) -> None:
    """`torch.load` reads most of them in silence."""
    good = whole.read_bytes()
    with zipfile.ZipFile(whole) as archive:
        records = [(record.header_offset, record.file_size) for record in archive.infolist() if record.file_size]
    assert len(records) > 10
    silent = 0
    for offset, size in records:
        names_length, extra_length = (int.from_bytes(good[offset + at : offset + at + 2], "little") for at in (26, 28))
        place = offset + 30 + names_length + extra_length + size // 2
        whole.write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
        assert not is_whole(whole), f"byte {place}"
        try:
            torch.load(whole, weights_only=True)
            silent += 1
        except Exception:
            continue
    assert silent > 5, "what this protects from"


def test_the_newest_whole_checkpoint_is_found(whole: Path) -> None:
    later, hidden = whole.with_name("step-00000012.ckpt"), whole.with_name(".step-00000013.ckpt.7.tmp")
    hidden.write_bytes(whole.read_bytes())
    later.write_bytes(whole.read_bytes()[:5000])
    assert find_newest(whole.parent) == whole
    later.write_bytes(whole.read_bytes())
    assert find_newest(whole.parent) == later


# How they are written.


@pytest.mark.parametrize("failure", ["before", "midway", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str) -> None:
    path, save = tmp_path / "a.ckpt", torch.save
    AtomicIO().save_checkpoint({"old": torch.ones(3)}, path)
    before = path.read_bytes()

    def fail(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    def half(value: Any, file: Any) -> None:
        save(value, file)
        file.flush()
        os.ftruncate(file.fileno(), 100)
        fail()

    owner, name, broken = {
        "before": (torch, "save", fail),
        "midway": (torch, "save", half),
        "fsync": (os, "fsync", fail),
        "replace": (os, "replace", fail),
    }[failure]
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises(OSError, match="no space"):
        AtomicIO().save_checkpoint({"new": torch.ones(300)}, path)
    assert path.read_bytes() == before and names(tmp_path) == ["a.ckpt"]
    monkeypatch.undo()
    AtomicIO().save_checkpoint({"new": torch.ones(300)}, path)
    assert read(path).keys() == {"new"}


def test_the_file_is_on_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the folder after it: else a power cut leaves an empty file under the new name."""
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def traced(descriptor: int) -> None:
        fsync(descriptor)
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    monkeypatch.setattr(os, "fsync", traced)
    monkeypatch.setattr(os, "replace", lambda *args: (replace(*args), events.append("renamed")))
    AtomicIO().save_checkpoint({"a": torch.ones(3)}, tmp_path / "new" / "a.ckpt")
    assert events[0].startswith(".a.ckpt.") and events[1:] == ["renamed", "new"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the write really fails, in C++, halfway."""
    path, (soft, hard) = tmp_path / "a.ckpt", resource.getrlimit(resource.RLIMIT_FSIZE)
    AtomicIO().save_checkpoint({"old": torch.ones(3)}, path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises((OSError, RuntimeError)):
            AtomicIO().save_checkpoint({"new": torch.ones(1_000_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read(path).keys() == {"old"} and names(tmp_path) == ["a.ckpt"]


# When they are written, and which stay.


@pytest.mark.by_default(4)
@pytest.mark.parametrize(
    ("settings", "trainer", "steps"),
    [
        ({}, {"max_epochs": 5}, [16, 20]),
        ({"keep": 1}, {"max_epochs": 3}, [12]),
        ({"keep": 9}, {"max_epochs": 3}, [4, 8, 12]),
        ({"keep": 1, "keep_every_n_epochs": 2}, {"max_epochs": 5}, [8, 16, 20]),
        ({"keep": 9, "every_n_epochs": 2}, {"max_epochs": 5}, [8, 16, 20]),
        ({"keep": 9}, {"max_steps": 6}, [4, 6]),
        ({"keep": 9, "every_n_epochs": 9}, {"max_steps": 6}, [6]),
        ({"enabled": False}, {"max_epochs": 2}, []),
        ({}, {"max_epochs": 2, "enable_checkpointing": False}, []),
        ({"keep": 9, "minutes": 1e-9}, {"max_epochs": 1}, [1, 2, 3, 4]),
        ({"keep": 9, "minutes": 0.0}, {"max_epochs": 1}, [4]),
    ],
)
def test_the_checkpoints_asked_for_stay(
    tmp_path: Path, settings: dict[str, Any], trainer: dict[str, Any], steps: list[int]
) -> None:
    checkpoint = None if trainer.get("enable_checkpointing") is False else Checkpoint(**settings)
    _, fitted = fit(tmp_path, checkpoint, **trainer)
    assert names(fitted.run_folder / "checkpoints") == [f"step-{step:08d}.ckpt" for step in steps]
    for step in steps:
        assert read(fitted.run_folder / "checkpoints" / f"step-{step:08d}.ckpt")["global_step"] == step


@pytest.mark.parametrize("trainer", [{"max_epochs": 1}, {"max_steps": 6}])
def test_the_last_step_is_on_disk_before_the_report_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainer: dict[str, Any]
) -> None:
    """Else a run that dies in its report would train again."""
    found: list[str] = []
    monkeypatch.setattr(
        Report, "on_train_end", lambda self, trainer, module: found.extend(names(trainer.run_folder / "checkpoints"))
    )
    _, fitted = fit(tmp_path, **trainer)
    assert f"step-{fitted.global_step:08d}.ckpt" in found


@pytest.mark.parametrize(
    "settings", [{"keep": 0}, {"every_n_epochs": 0}, {"keep_every_n_epochs": -1}, {"minutes": -1.0}]
)
def test_settings_that_keep_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Checkpoint(**settings)
