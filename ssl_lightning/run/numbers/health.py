"""Is the run healthy? Logged values, between the bounds that methods and callbacks give for them;
and steps that are not finite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from pytorch_lightning.utilities import rank_zero_warn

from ...data.files.atomic import write_text
from ...distributed import reduce_means
from ...plugins.arguments import require
from ...types import Alarm
from ..failures import tolerated
from ..folder.metrics import column, log_metrics
from ..lightning import updated
from ..loggers.show import alert
from ..standing import Standing

FILE = "alarms.txt"
"""In the run folder: a line for each alarm that was raised."""


class Health(Standing):
    """Raises an alarm that names cause and remedy where a logged value stays outside of its bounds.
    A method (`SSLMethod.alarms`) and every callback with an attribute `alarms` may give bounds.

    A step whose loss or gradients are NaN or infinite changes nothing: the run stops, or goes on
    without it.

    Args:
        enabled: whether to raise any alarm, and to look for steps that are not finite. Without,
            only checkpoints of weights that are not finite are refused.
        every_n_steps: optimizer steps between two looks at what a method logs. What callbacks log
            is looked at whenever they do.
        patience: looks in a row at which a value must be outside, where its alarm does not say.
        stop: whether an alarm ends the run, after a checkpoint, where it does not say.
        on_nan: at a step that is not finite, `stop` ends the run with an error; `skip` leaves out
            the step, counts it as `health/skipped`, and goes on. On an accelerator the host then
            waits for each step.
        skips: steps that `skip` leaves out at most in a run, before it stops.

    Raises:
        ValueError: every_n_steps, patience or skips is below 1, or on_nan is unknown.
    """

    key = "health"

    def __init__(
        self,
        enabled: bool = True,
        every_n_steps: int = 10,
        patience: int = 3,
        stop: bool = False,
        on_nan: Literal["stop", "skip"] = "stop",
        skips: int = 10,
    ) -> None:
        require(self, at_least=1, every_n_steps=every_n_steps, patience=patience, skips=skips)
        if on_nan not in ("stop", "skip"):
            raise ValueError(f"Health(on_nan={on_nan!r}) is unknown; choose stop or skip.")
        self.enabled, self.every_n_steps, self.patience, self.stop = enabled, every_n_steps, patience, stop
        self.on_nan, self.skips = on_nan, skips
        self.reset()

    def reset(self) -> None:
        self.outside: dict[str, int] = {}
        """Looks in a row at which each alarm's value was outside. They stay at `patience` once the
        alarm was raised, so that it is not raised again."""
        self.skipped = 0
        """Steps that were left out, since they were not finite."""
        self.left_out = ""
        """Why the step that ends was left out; empty where it was not."""

    @property
    def may_leave_out(self) -> bool:
        """Whether one more step that is not finite is left out."""
        return self.on_nan == "skip" and self.skipped < self.skips

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.left_out:
            self.skipped += 1
            rank_zero_warn(f"{self.left_out} The step is left out, the {self.skipped}. of at most {self.skips}.")
            self.left_out = ""
            log_metrics(trainer, {"health/skipped": float(self.skipped)})
            return
        if not self.enabled or trainer.global_step % self.every_n_steps or not updated(trainer):
            return
        alarms = keyed([pl_module, *trainer.callbacks]).values()
        self.look(trainer, means(alarms, outputs["logs"], pl_module.device))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self.enabled:
            pl_module.check_finite()  # before the report is made of it

    def on_logged(self, trainer: Any, values: Mapping[str, float]) -> None:
        self.look(trainer, {name: value for name, value in values.items() if not name.startswith("train/")})

    def look(self, trainer: Any, values: Mapping[str, float]) -> None:
        """Holds values against the alarms that there are for them; raises some, and ends the run
        where they say so."""
        if not self.enabled or not values or not trainer.training:
            return
        method = trainer.lightning_module
        raised: dict[str, tuple[str, str]] = {}  # metric and sentence by remedy: the first says what is to be done
        for key, alarm in keyed([method, *trainer.callbacks]).items():
            if alarm.metric not in values:
                continue
            looks, patience = self.outside.get(key, 0), self.patience if alarm.patience is None else alarm.patience
            if looks < patience:
                looks = self.outside[key] = 0 if alarm.healthy(values[alarm.metric]) else looks + 1
                if looks == patience:
                    raised.setdefault(alarm.remedy, (alarm.metric, alarm.sentence(values[alarm.metric])))
            if looks >= patience and (self.stop if alarm.stop is None else alarm.stop):
                trainer.should_stop = True
        for metric, sentence in raised.values():
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            line = f"{type(method).__name__}, step {trainer.global_step}: {sentence} The learning rate is now {lr:.2g}."
            rank_zero_warn(line)
            keep(trainer, metric, line)

    def state_dict(self) -> dict[str, Any]:
        return {"outside": self.outside, "skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.outside, self.skipped = dict(state_dict["outside"]), int(state_dict.get("skipped", 0))


def keep(trainer: Any, metric: str, line: str) -> None:
    """Adds an alarm to `alarms.txt` of the run folder, and tells the loggers, unless a run that was
    killed has."""
    if not (trainer.is_global_zero and trainer.run_folder):
        return
    path = trainer.run_folder / FILE
    with tolerated(trainer):
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        if line not in before.splitlines():
            write_text(path, f"{before}{line}\n")
            alert(trainer, metric, line)


def keyed(givers: Iterable[Any]) -> dict[str, Alarm]:
    """The alarms of a method and of callbacks by their metric, and by a number too where it has
    several.

    Args:
        givers: the method and the callbacks; `alarms` of each counts, where it has any.
    """
    alarms: dict[str, Alarm] = {}
    for alarm in (alarm for giver in givers for alarm in getattr(giver, "alarms", ())):
        number = sum(alarm.metric == other.metric for other in alarms.values()) + 1
        alarms[alarm.metric if number == 1 else f"{alarm.metric}-{number}"] = alarm
    return alarms


def means(alarms: Iterable[Alarm], logs: Mapping[str, Any], device: torch.device) -> dict[str, float]:
    """Those of a method's `logs` that have an alarm, by metric: means over the processes, which
    then all stop or none."""
    names = {alarm.metric: alarm.name for alarm in alarms if alarm.group == "train"}
    if not names:
        return {}
    watched = {metric: column([logs[name]], device) for metric, name in names.items() if name in logs}
    reduced = reduce_means(watched)
    values = torch.stack([each.mean() for each in reduced.values()]).tolist() if reduced else []
    return dict(zip(reduced, values, strict=True))
