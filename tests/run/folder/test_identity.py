"""`--resume auto` goes on with a run of the same settings, and says why where there is none."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from holding import Holder
from ssl_lightning.datamodules.public import CIFAR10
from ssl_lightning.methods.simclr import SimCLR

from ssl_lightning.plugins.record import config_of
from ssl_lightning.run.checkpoints.checkpoint import AtomicIO
from ssl_lightning.run.folder.identity import TRAINER, find_resume, identity
from ssl_lightning.run.folder.lock import FolderInUse
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.trainer import STANDING, Trainer


def config(**changes: Any) -> dict[str, Any]:
    """A run's config as its folder holds it; `changes` by dotted key, with __ for a dot."""
    tree: dict[str, Any] = {
        "model": config_of(SimCLR(TinyEncoder(dim=4), temperature=0.2)),
        "data": config_of(TinyImages()),
        "trainer": {"max_epochs": 3, "max_steps": -1, "precision": "auto", "devices": "auto", "accelerator": "auto"},
        "seed_everything": 0,
        "knn_probe": {"every_n_steps": 5},
    }
    tree = copy.deepcopy(tree)
    for key, value in changes.items():
        *path, last = key.split("__")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
            node = node["init_args"] if "class_path" in node else node
        node[last] = value
    return tree


def run_in(root: Path, name: str, minute: int = 0, whole: bool = True, **changes: Any) -> Path:
    """A run's folder, of that minute; returns its checkpoint."""
    folder = root / "simclr-tiny" / name
    path = folder / "checkpoints" / "step-00000004.ckpt"
    AtomicIO().save_checkpoint({"state_dict": {"w": torch.ones(3)}}, path)
    (folder / "config.yaml").write_text(yaml.safe_dump(config(**changes)))
    if not whole:
        path.write_bytes(b"torn")
    os.utime(path.parent, (minute * 60, minute * 60))
    return path


def resumed(root: Path, **changes: Any) -> tuple[Path | None, str]:
    return find_resume(root, "simclr", "tiny", config(**changes))


# What the identity is.

SAME: dict[str, dict[str, Any]] = {
    "devices and nodes": {"trainer__devices": 4, "trainer__num_nodes": 2, "trainer__strategy": "ddp"},
    "another accelerator": {"trainer__accelerator": "cpu", "trainer__benchmark": True},
    "workers": {"data__workers": 7, "data__augment_on": "worker", "data__cache": "device"},
    "logger and root": {"trainer__logger": {"class_path": "CSV"}, "trainer__default_root_dir": "/elsewhere"},
    "progress bar": {"trainer__enable_progress_bar": False, "trainer__log_every_n_steps": 3},
    "callbacks": {"trainer__callbacks": [{"class_path": "pytorch_lightning.callbacks.LearningRateMonitor"}]},
    "probes and report": {"knn_probe__every_n_steps": 9, "report": {"enabled": False}, "checkpoint": {"keep": 5}},
    "probe sets": {"data__probe_sets": {"other": config_of(TinyImages())}, "data__predict_split": "val"},
    "its length": {"trainer__max_epochs": 9, "trainer__max_steps": 100, "trainer__max_time": "00:01:00:00"},
    "whole number": {"model__temperature": 0.2, "data__samples": 64.0},
}
OTHER: dict[str, dict[str, Any]] = {
    "temperature": {"model__temperature": 0.5},
    "an argument of a base": {"model__lr": 0.01},
    "encoder's width": {"model__encoder__dim": 8},
    "batch size": {"data__batch_size": 32},
    "samples": {"data__samples": 32},
    "seed": {"seed_everything": 1},
    "the data's seed": {"data__seed": 1},
    "precision as asked for": {"trainer__precision": "32-true"},
    **{name: {f"trainer__{name}": 3} for name in TRAINER if name != "precision"},
}


@pytest.mark.parametrize("changes", SAME.values(), ids=SAME.keys())
def test_what_may_differ_on_another_machine_or_only_watches_is_not_part_of_it(changes: dict[str, Any]) -> None:
    assert identity(config(**changes)) == identity(config())


@pytest.mark.parametrize("changes", OTHER.values(), ids=OTHER.keys())
def test_what_shapes_the_training_is_part_of_it(changes: dict[str, Any]) -> None:
    assert identity(config(**changes)) != identity(config())


def test_a_default_is_the_same_given_or_not() -> None:
    """So runs of before an argument was there, and runs from Python, are known again."""
    given = config(model__optimizer=None, model__norm="batch", trainer__accumulate_grad_batches=1)
    less = config()
    del less["model"]["init_args"]["hidden_dim"], less["seed_everything"], less["trainer"]["precision"]
    assert identity(given) == identity(less) == identity(config())


def test_where_a_public_set_lies_is_incidental() -> None:
    assert {"root", "download", "workers"} <= CIFAR10.incidental and "samples" not in CIFAR10.incidental


def test_what_it_lists_of_the_trainer_is_the_trainers() -> None:
    import inspect

    import pytorch_lightning as pl

    lightnings = inspect.signature(pl.Trainer.__init__).parameters
    assert {name: lightnings[name].default for name in TRAINER} == {**TRAINER, "precision": None}
    assert inspect.signature(Trainer.__init__).parameters["precision"].default == TRAINER["precision"]
    assert not set(STANDING) & set(identity(config()))


# Which run is gone on with.


def test_the_newest_run_of_the_same_settings_is_continued(tmp_path: Path) -> None:
    run_in(tmp_path, "oldest", 1)
    ours = run_in(tmp_path, "ours", 2)
    run_in(tmp_path, "torn", 3, whole=False)
    run_in(tmp_path, "neighbour", 4, model__temperature=0.5)
    assert resumed(tmp_path) == (ours, f"Resuming from {ours}.")
    assert resumed(tmp_path, trainer__devices=8, data__workers=2) == (ours, f"Resuming from {ours}.")


def test_a_run_of_before_is_known_by_its_old_class_paths(tmp_path: Path) -> None:
    encoder = {"class_path": "ssl_lightning.encoders.huggingface.HuggingFaceText", "init_args": {"name": "a"}}
    path = run_in(tmp_path, "before", model__encoder=encoder)
    now = {**encoder, "class_path": "ssl_lightning.encoders.hf_text.HuggingFaceText"}
    assert resumed(tmp_path, model__encoder=now)[0] == path


def test_without_any_run_it_says_so(tmp_path: Path) -> None:
    says = "--resume auto: there is no checkpoint of simclr on tiny yet; starting anew."
    assert resumed(tmp_path) == (None, says)
    run_in(tmp_path, "torn", whole=False)
    assert resumed(tmp_path) == (None, says)


def test_why_none_is_continued_is_one_line(tmp_path: Path) -> None:
    run_in(tmp_path, "far", 3, model__temperature=0.5, data__batch_size=32, model__lr=0.1, seed_everything=4)
    assert resumed(tmp_path) == (
        None,
        "--resume auto: there is no checkpoint of these settings yet; starting anew. A run of simclr on tiny has other"
        " settings (far: model.lr 0.1, not unset; model.temperature 0.5, not 0.2; data.batch_size 32, not 16; and 1"
        " more).",
    )
    run_in(tmp_path, "near", 1, model__temperature=0.5)
    assert resumed(tmp_path)[1].endswith(
        "2 runs of simclr on tiny have other settings (near: model.temperature 0.5, not 0.2)."
    )
    assert resumed(tmp_path, model__encoder__dim=8, model__temperature=0.5)[1].endswith(
        "(near: model.encoder.dim 4, not 8)."
    )


def test_what_is_no_run_is_passed_over(tmp_path: Path) -> None:
    for name, text in (("no config", None), ("torn", "model: ["), ("a list", "- 1"), ("empty", ""), ("other", "a: 1")):
        path = run_in(tmp_path, name)
        (path.parents[1] / "config.yaml").unlink()
        if text is not None:
            (path.parents[1] / "config.yaml").write_text(text)
    assert resumed(tmp_path)[1].endswith("there is no checkpoint of simclr on tiny yet; starting anew.")


def test_a_run_of_the_same_length_goes_before_one_that_would_be_extended(tmp_path: Path) -> None:
    """In a sweep over lengths each job finds its own."""
    short = run_in(tmp_path, "short", 1)
    long = run_in(tmp_path, "long", 2, trainer__max_epochs=100)
    assert resumed(tmp_path)[0] == short
    assert resumed(tmp_path, trainer__max_epochs=100)[0] == long
    assert resumed(tmp_path, trainer__max_epochs=200)[0] == long, "it is extended"


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False])
def test_a_run_that_is_going_on_is_neither_taken_nor_doubled(tmp_path: Path, whole: bool) -> None:
    """Neither is an older one taken in its place, nor a new one started where it has no checkpoint
    yet."""
    run_in(tmp_path, "ended", 1)
    living = run_in(tmp_path, "living", 2, whole=whole).parents[1]
    holder = Holder(living)
    try:
        with pytest.raises(FolderInUse, match=f"living' is in use by process {holder.pid}"):
            resumed(tmp_path)
        assert resumed(tmp_path, model__temperature=0.5)[0] is None, "a neighbour's lock is nobody's business"
        assert resumed(tmp_path, trainer__max_epochs=100)[0] is not None, "nor is that of a shorter run"
    finally:
        holder.kill()
    assert resumed(tmp_path)[0] is not None
