"""The length of a run that ends by the clock: its steps are planned, so that all which counts by
them ends with the time."""

from __future__ import annotations

import math
import time
from typing import Any

from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities import rank_zero_warn

from ..distributed import on_first
from ..optim.configure import reschedule
from .lightning import count_from_zero, limit_time, rewind, set_steps, timers
from .settings.length import check_length
from .standing import Standing

LOOKS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9)
"""Parts of the time after which the plan is made, and looked at again."""
SLOW = 0.02
"""The part of the time that a first step takes from which a plan is made by it alone, until the
second step tells better."""
TOLERANCE = 0.1
"""The plan is changed where the steps to come would be wrong by more than this part of them."""
MARGIN = 0.97
"""The part of the time to come that is planned for: the last step shall end within it."""
PICTURES, MOST_PICTURES = 0.1, 30.0
"""The part of a run's minutes that its pictures may take after the table, and at most so many
seconds."""


class NoTime(MisconfigurationException):
    """A run's minutes are over before its first step."""


class Pace(Standing):
    """Plans how many steps a run has that only a time ends (`minutes`, or `max_time` without
    `max_steps` and `max_epochs`), from the speed of its first ones.

    From then on `trainer.max_steps` is that number, and schedule, warm-up, teachers, probes and
    forecast end with it. Where the speed changes much, so does the plan. Rank 0 plans for all
    (`Votes`). A checkpoint holds the plan: a resumed run keeps it, if its time is the same.

    Each fit of a trainer is a run of its own, and counts its steps from zero; only one that had not
    ended goes on, with the same method.

    Args:
        minutes: for all that the run does, from its start to its last picture: the training ends
            so early that the closing table has its time. None: the training alone has a time, or
            none.
    """

    key = "pace"

    def __init__(self, minutes: float | None = None) -> None:
        self.minutes = minutes
        self.began = time.monotonic()
        """When the run began; set by the trainer."""
        self.by_time = False
        """Whether only a time ends the run, so that its steps are planned."""
        self.trained: Any = None
        """The method of the last fit."""
        self.reset()

    def reset(self) -> None:
        self.heard = 0
        """Steps of the plan that rank 0 has made a step ago; or 0."""
        self.steps = -1
        """Steps of the plan; -1: there is none yet."""
        self.since = 0.0, 0
        """Time and step from which the speed is measured."""
        self.started = False
        """Whether the present fit has begun its first step."""
        self.warm = False
        """Whether a step was taken since the start, or the resumption."""
        self.looks = 0
        """Looks that were due so far."""
        self.seconds = self.ends = math.inf
        """Of the training, and the time at which all but the pictures has to be there."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        if self.by_time or self.trained is not pl_module or ended(trainer):
            count_from_zero(trainer)
        if self.by_time:
            set_steps(trainer, -1)  # planned in an earlier fit
        self.trained = pl_module
        for timer in timers(trainer):
            rewind(timer)
            if self.minutes is not None:
                limit_time(timer, 60 * self.minutes)
        self.seconds = seconds_allowed(trainer)
        self.by_time = trainer.max_epochs == -1 and trainer.max_steps == -1 and math.isfinite(self.seconds)

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        plan = checkpoint.get("callbacks", {}).get(self.state_key, {})
        if self.by_time and plan.get("seconds") == self.seconds:
            self.steps = plan["steps"]
            set_steps(trainer, self.steps)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        if self.minutes is not None:
            whole = 60 * self.minutes
            self.ends = self.began + whole - time_gone(trainer) - min(MOST_PICTURES, PICTURES * whole)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.started, self.since = False, (time.monotonic(), trainer.global_step)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.started:
            return
        self.started = True  # after all that is done before the first step, such as a regression
        if self.minutes is not None:
            gone, seconds = on_first(lambda: (time_gone(trainer), self.seconds_to_train(trainer)))
            if seconds <= 0:
                raise NoTime(
                    f"Trainer(minutes={self.minutes:g}) leaves no time to train: until the first step the run took"
                    f" {time.monotonic() - self.began:.0f} s. Give more minutes, or leave it out."
                )
            for timer in timers(trainer):
                limit_time(timer, gone + seconds)
        self.warm, self.since = False, (time.monotonic(), trainer.global_step)
        self.looks = 0 if self.steps == -1 else due(done_of(trainer))

    def seconds_to_train(self, trainer: Any) -> float:
        """Seconds that are left to train from now on, so that what comes after has its time too."""
        left = seconds_until_end(trainer)
        gone = max(0.0, time_gone(trainer) - (time.monotonic() - self.since[0]))  # without what came before a step
        least, most = 0.0, left
        for _ in range(40):  # what comes after takes the longer, the longer the training
            middle = (least + most) / 2
            whole = gone + middle
            rest = sum(each.seconds_after(trainer, whole) for each in trainer.callbacks if isinstance(each, Standing))
            least, most = (middle, most) if middle + rest <= left else (least, middle)
        return least

    def vote(self, trainer: Any) -> int:
        """Steps of the plan, where one is made or changed now; or 0."""
        given = self.steps == -1 and trainer.max_steps != -1  # since `setup`: a regression is one step
        if not self.by_time or given or not trainer.is_global_zero:
            return 0
        now, step, share = time.monotonic(), trainer.global_step, done_of(trainer)
        seconds, steps = now - self.since[0], step - self.since[1]
        first, self.warm = not self.warm, True
        if first and (self.steps != -1 or share < SLOW):  # it has more to do than the others
            self.since = now, step
            return 0
        if not first and due(share) <= self.looks:
            return 0
        self.looks, self.since = 0 if first else due(share), (now, step)
        left = MARGIN * seconds_allowed(trainer) * steps / max(seconds, 1e-9)
        planned = self.steps - step
        if not left or (self.steps != -1 and (planned < 1 or abs(left - planned) <= TOLERANCE * planned)):
            return 0
        fewest = 2 if first or trainer.world_size > 1 else 1  # the next look comes in time, and several hear late
        return step + max(fewest, int(left))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.heard in (0, self.steps):
            return
        first, self.steps = self.steps == -1, self.heard
        set_steps(trainer, self.steps)
        reschedule(pl_module.optimizer_spec, trainer)
        if first:
            check_length(trainer, pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.global_step < (1 - TOLERANCE) * self.steps and seconds_allowed(trainer) <= 0:
            rank_zero_warn(
                f"The time ended the run at step {trainer.global_step:,} of the {self.steps:,} that its"
                " learning-rate schedule was planned for: the machine paused, or became slower. Resume it with more"
                " time."
            )

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "seconds": self.seconds} if self.by_time else {}


def ended(trainer: Any) -> bool:
    """Whether the trainer's last fit has done all its steps: a further one would train nothing, and
    call it a result."""
    return trainer.global_step == trainer.max_steps or trainer.current_epoch == trainer.max_epochs


def due(share: float) -> int:
    """Number of looks that are due when so much of the time is gone."""
    return sum(share >= each for each in LOOKS)


def time_gone(trainer: Any) -> float:
    """Seconds that a run has trained for, over all resumptions, where its training has a time."""
    return max((timer.time_elapsed() for timer in timers(trainer)), default=0.0)


def seconds_until_end(trainer: Any) -> float:
    """Seconds until all but the pictures has to be there; infinite where the run has no
    `minutes`."""
    paces = [each for each in trainer.callbacks if isinstance(each, Pace)]
    return min((each.ends - time.monotonic() for each in paces), default=math.inf)


def seconds_allowed(trainer: Any) -> float:
    """Seconds until `max_time` ends the training; infinite where it does not."""
    return min((max(0.0, timer.time_remaining() or 0.0) for timer in timers(trainer)), default=math.inf)


def done_of(trainer: Any) -> float:
    """The part of a run that is done, by its steps or by `max_time`."""
    gone = time_gone(trainer)
    by_time = gone / max(gone + seconds_allowed(trainer), 1e-9)
    return max(by_time, float(trainer.global_step / trainer.estimated_stepping_batches))
