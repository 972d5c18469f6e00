"""The keys under which checkpoints hold the states of callbacks: they stay when classes move."""

from __future__ import annotations

from typing import Any

import pytest
from pytorch_lightning import Callback
from ssl_lightning.methods.simclr import SimCLR

import ssl_lightning
from ssl_lightning.evaluation.probes.base import Probe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.report import Report
from ssl_lightning.evaluation.validation import Validation
from ssl_lightning.plugins.archive import read
from ssl_lightning.run.checkpoints.checkpoint import newest_of
from ssl_lightning.run.checkpoints.saving import Checkpoint
from ssl_lightning.run.numbers.health import Health
from ssl_lightning.testing import TinyEncoder, TinyImages
from ssl_lightning.trainer import STANDING


class Strict(Health):
    """A user's own alarms."""


class MyProbe(Probe):
    """A user's own probe."""


class Counts(Callback):
    """A user's own callback, whose class bears the name of ours."""

    def state_dict(self) -> dict[str, Any]:
        return {"steps": 1}


Counts.__qualname__ = "Metrics"


def keys(*callbacks: Callback, **trainer: Any) -> list[str]:
    built = ssl_lightning.Trainer(accelerator="cpu", enable_progress_bar=False, callbacks=list(callbacks), **trainer)
    return [callback.state_key for callback in built.callbacks]


def test_the_keys_stay() -> None:
    """Config files and checkpoints hold them: another name needs an entry in `plugins/moved.py`."""
    assert list(STANDING) == [
        "start",
        "online_probe",
        "knn_probe",
        "held_out",
        "spectrum",
        "collapse",
        "health",
        "meter",
        "report",
        "checkpoint",
    ]


@pytest.mark.parametrize("key", STANDING)
def test_the_state_of_a_standing_callback_bears_its_key_on_the_command_line(key: str) -> None:
    assert STANDING[key]().state_key == key


def test_every_callback_of_ours_has_a_key_of_its_own() -> None:
    """No class path, which would change with the next move."""
    others = ["run_folder", "metrics", "monitors", "evaluation", "votes", "pace", "stopping"]
    assert sorted(keys()) == sorted([*STANDING, *others])


def test_a_subclass_has_its_own_key_which_is_that_of_then() -> None:
    """By class path for probes, by name for others, as checkpoints of before have them."""
    assert Strict().state_key == "Strict" and Strict().state_key in keys(Strict())
    assert MyProbe(True, "auto", 0.1).state_key == f"{__name__}.MyProbe"
    assert "health" not in keys(Strict())


def test_several_instances_of_a_class_have_distinct_keys() -> None:
    """In the order in which they are given, so that a run that goes on finds them again."""
    assert [key for key in keys(Checkpoint(), Checkpoint(minutes=0), Checkpoint(keep=9)) if "check" in key] == [
        "checkpoint",
        "checkpoint-2",
        "checkpoint-3",
    ]
    probes = [OnlineLinearProbe(), OnlineLinearProbe(lr=0.1)]
    for _ in range(2):  # instances may serve in several trainers
        assert [key for key in keys(*probes) if "online" in key] == ["online_probe", "online_probe-2"]


class Twofold(SimCLR):
    """Brings two callbacks of one class."""

    def configure_callbacks(self) -> list[Callback]:
        return [Validation(1), Validation(2)]


def test_callbacks_that_a_method_brings_have_distinct_keys_too(tmp_path: Any) -> None:
    """Lightning adds them when a run begins; with equal keys one state would replace the other."""
    trainer = ssl_lightning.Trainer(
        max_steps=1,
        accelerator="cpu",
        default_root_dir=str(tmp_path),
        enable_progress_bar=False,
        callbacks=[Report(enabled=False)],
    )
    trainer.fit(Twofold(TinyEncoder()), datamodule=TinyImages())
    assert trainer.run_folder is not None
    assert {"validation", "validation-2"} <= read(newest_of(trainer.run_folder))["callbacks"].keys()


def test_a_checkpoint_holds_these_keys_and_a_users_callback_keeps_its_name(tmp_path: Any) -> None:
    trainer = ssl_lightning.Trainer(
        max_steps=1,
        accelerator="cpu",
        default_root_dir=str(tmp_path),
        enable_progress_bar=False,
        callbacks=[Counts(), *(cls(enabled=False) for key, cls in STANDING.items() if key in ("knn_probe", "report"))],  # type: ignore[call-arg]
    )
    trainer.fit(SimCLR(TinyEncoder()), datamodule=TinyImages())
    assert trainer.run_folder is not None
    states = read(newest_of(trainer.run_folder))["callbacks"]
    assert set(states) <= {*STANDING, "metrics", "Metrics"} and states["Metrics"] == {"steps": 1}
    assert "pending" in states["metrics"]
