"""Callbacks that are part of every run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from pytorch_lightning import Callback


class Standing(Callback):
    """A callback of every run. Its state in a checkpoint bears its `key`, which stays when its
    class moves or is renamed.

    A subclass without a key of its own goes by its name, as Lightning's callbacks do.
    """

    key: ClassVar[str]
    number = 1
    """Which of a run's callbacks with this key it is; set by the trainer."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.key = vars(cls).get("key", cls.__qualname__)

    @property
    def state_key(self) -> str:
        return self.key if self.number == 1 else f"{self.key}-{self.number}"

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if stage == "fit":
            self.reset()  # Lightning reads the checkpoint afterwards

    def reset(self) -> None:
        """Sets all that changes in the course of a run, so that a callback which served in another
        one begins as if it were new."""

    def seconds_after(self, trainer: Any, seconds: float) -> float:
        """Seconds that the callback may take after the last step, for the time that a run says it
        needs.

        Args:
            trainer: of the run.
            seconds: that the training takes, as far as is known.
        """
        return 0.0

    def on_logged(self, trainer: Any, values: Mapping[str, float]) -> None:
        """Called with what any callback logs (`log_metrics`), by name; equal on every process."""

    def on_unwritable(self, trainer: Any) -> None:
        """Called on a process that could not write, where the run goes on nevertheless."""

    def names_logged(self, trainer: Any, pl_module: Any) -> Iterable[str]:
        """The names of the metrics that it will log in this run; `held_out/` stands for a group of
        which some are known only then."""
        return ()
