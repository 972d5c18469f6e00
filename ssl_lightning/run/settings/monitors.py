"""Lightning's callbacks that follow a metric, `EarlyStopping` and `ModelCheckpoint`, in a run whose
metrics come at steps of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import isfunction
from typing import Any

from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason
from pytorch_lightning.utilities import rank_zero_warn

from ...plugins.messages import did_you_mean
from ..lightning import look_when_told, publish, updated, withdraw
from ..standing import Standing

PACKAGES = ("ssl_lightning", "pytorch_lightning", "lightning_fabric", "torch")
LOGS = {"log", "log_dict", "log_metrics"}
"""Functions by which a metric is logged."""
RISES = ("top1", "balanced", "auroc")
"""Last parts of the names of metrics of which more is better."""


class Monitors(Standing):
    """Lets callbacks that follow a metric of the run look at each value once.

    `EarlyStopping` looks in the step in which its metric is logged, before the checkpoint of that
    step, so that a resumed run counts as an undisturbed one does; `patience` counts these looks. At
    `train/...`, which is logged every few steps, it looks at the last step of an epoch.
    `ModelCheckpoint` looks at the last step of the epochs in which its metric was logged.

    A monitor that nothing logs is refused before training, as far as names can be known.
    """

    key = "monitors"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.followers: list[EarlyStopping | ModelCheckpoint] = []
        self.fresh: dict[str, float] = {}
        """Values of followed metrics at which `EarlyStopping` has not looked."""
        self.epoch: dict[str, float] = {}
        """Those that were logged in this epoch."""
        self.latest: dict[str, float] = {}
        self.groups: set[str] = set()
        """Groups of metrics of which some names are not known before they are logged."""

    def follow(self, trainer: Any, pl_module: Any) -> None:
        """Looks up what is followed, once the method and the data know each other.

        Raises:
            MisconfigurationException: nothing logs it, or it is to fall where more is better.
        """
        self.followers = []
        known, self.groups = names_logged(trainer, pl_module)
        for each in trainer.callbacks:
            monitor = getattr(each, "monitor", None)
            if not isinstance(monitor, str):
                continue
            if monitor not in known and monitor.partition("/")[0] not in self.groups:
                if any(map(may_log, [pl_module, *trainer.callbacks])):
                    continue  # Lightning's own way: by `self.log`
                raise unknown(each, monitor, known)
            if monitor.rpartition("/")[2] in RISES and getattr(each, "mode", None) == "min":
                raise MisconfigurationException(
                    f"{type(each).__name__}(monitor={monitor!r}, mode='min') would prefer the worst: give mode='max'."
                )
            if isinstance(each, (EarlyStopping, ModelCheckpoint)):
                self.followers.append(each)
            if isinstance(each, EarlyStopping):
                look_when_told(each)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        publish(trainer, self.epoch)  # of the epoch that a resumed run goes on with
        if any(isinstance(each, EarlyStopping) and stopped(each) for each in self.followers):
            trainer.should_stop = True  # resumed from the checkpoint of a run that had stopped

    def on_logged(self, trainer: Any, values: Mapping[str, float]) -> None:
        for each in self.followers:
            monitor = str(each.monitor)
            if monitor in values:
                self.fresh[monitor] = self.epoch[monitor] = self.latest[monitor] = values[monitor]
            elif (group := monitor.partition("/")[0]) in self.groups and complete(group, values):
                raise unknown(each, monitor, values)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if not batch_idx and self.epoch:
            withdraw(trainer, [str(each.monitor) for each in self.followers if isinstance(each, ModelCheckpoint)])
            self.epoch = {}

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (not self.fresh and not self.epoch) or not updated(trainer):
            return
        ends = batch_idx + 1 == trainer.num_training_batches
        due = {name for name in self.fresh if ends or not name.startswith("train/")}
        for each in self.followers:
            if isinstance(each, EarlyStopping) and each.monitor in due:
                each.on_validation_end(trainer, pl_module)
            elif isinstance(each, ModelCheckpoint) and ends and each.monitor in self.epoch:
                each.on_train_epoch_end(trainer, pl_module)  # now, so that this step's checkpoint knows of it
        self.fresh = {name: value for name, value in self.fresh.items() if name not in due}

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        for each in self.followers:
            if each.monitor not in self.latest and trainer.global_step:
                rank_zero_warn(
                    f"{type(each).__name__}(monitor={each.monitor!r}) has done nothing: its metric was never logged."
                )

    def state_dict(self) -> dict[str, Any]:
        return {"fresh": self.fresh, "epoch": self.epoch, "latest": self.latest} if self.followers else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.fresh, self.epoch, self.latest = (dict(state_dict[name]) for name in ("fresh", "epoch", "latest"))


def names_logged(trainer: Any, pl_module: Any) -> tuple[list[str], set[str]]:
    """The metrics that the run's callbacks log, and the groups (`train`) of which some names are
    known only once they are logged."""
    names = [
        name
        for each in trainer.callbacks
        if isinstance(each, Standing)
        for name in each.names_logged(trainer, pl_module)
    ]
    return [name for name in names if not name.endswith("/")], {name[:-1] for name in names if name.endswith("/")}


def complete(group: str, values: Mapping[str, float]) -> bool:
    """Whether these values are all that a group has."""
    return "train/loss" in values if group == "train" else any(name.startswith(f"{group}/") for name in values)


def unknown(follower: object, monitor: str, known: Iterable[str]) -> MisconfigurationException:
    """The error about a monitor that nothing logs."""
    names = sorted(known)
    return MisconfigurationException(
        f"{type(follower).__name__}(monitor={monitor!r}): this run logs no such metric."
        f"{did_you_mean(monitor, names)} It logs {', '.join(names)}."
    )


def may_log(thing: object) -> bool:
    """Whether a class from elsewhere calls a function that logs, under names that nobody knows
    before."""
    return any(
        LOGS & set(function.__code__.co_names)
        for cls in type(thing).__mro__
        if cls.__module__.partition(".")[0] not in PACKAGES
        for function in vars(cls).values()
        if isfunction(function)
    )


def stopped(callback: EarlyStopping) -> bool:
    """Whether it has ended the run before."""
    return callback.stopping_reason != EarlyStoppingReason.NOT_STOPPED
