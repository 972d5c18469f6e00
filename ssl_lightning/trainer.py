"""Lightning's Trainer with our defaults: run folder, standing callbacks, `precision: auto` and
atomic checkpoints."""

from __future__ import annotations

import atexit
import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import pytorch_lightning as pl
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import Checkpoint as LastCallback
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.profilers import PassThroughProfiler, Profiler

from .data.datamodule import SSLDataModule
from .data.loaders import Stream
from .data.waiting import naming_lost_workers
from .distributed import leave, on_each
from .evaluation.commands import Evaluation
from .evaluation.probes.collapse import CollapseMonitor
from .evaluation.probes.held_out import HeldOut
from .evaluation.probes.knn import KNNProbe
from .evaluation.probes.linear import OnlineLinearProbe
from .evaluation.probes.spectrum import Spectrum
from .evaluation.report import Report
from .plugins.record import PLAIN
from .run.checkpoints.checkpoint import AtomicIO
from .run.checkpoints.saving import Checkpoint
from .run.folder.folder import RunFolder
from .run.folder.metrics import Metrics
from .run.folder.naming import checkpoint_of
from .run.lightning import (
    RunsWithin,
    before_launch,
    dump_checkpoint,
    name_checkpoints,
    set_epochs,
    take_signals,
    use_checkpoint_io,
)
from .run.loggers.base import InRunFolder
from .run.loggers.show import as_loggers
from .run.meter import Meter
from .run.numbers.health import Health
from .run.pace import Pace
from .run.progress import Progress
from .run.settings.foreign import check_callbacks
from .run.settings.limits import check_minutes, check_order, check_root, check_values
from .run.settings.monitors import Monitors
from .run.settings.precision import Precision, best_precision, check_choice
from .run.standing import Standing
from .run.start import Start
from .run.stops.peers import in_a_line
from .run.stops.signals import current
from .run.stops.stopping import Stopping, stoppable
from .run.stops.together import Lost, known_to_children, together
from .run.stops.votes import Votes

Method = TypeVar("Method", bound=Callable[..., Any])

atexit.register(leave)  # Lightning leaves only NCCL's process groups

_CLASSES: tuple[type[Standing], ...] = (
    Start, OnlineLinearProbe, KNNProbe, HeldOut, Spectrum, CollapseMonitor, Health, Meter,
    Report, Checkpoint,
)  # fmt: skip
STANDING: dict[str, type[Standing]] = {cls.key: cls for cls in _CLASSES}
"""The callbacks of every run, by their key on the command line and in checkpoints; `enabled: false`
disables one."""


def _quieten() -> None:
    """Silences Lightning's messages on defaults that we change on purpose; warnings about a run are
    kept."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    for message in (
        ".*isinstance\\(treespec, LeafSpec\\).*",
        "Total length of `list` across ranks is zero",
        ".*does not have many workers.*",
        ".*your dataloader is not resumable.*",
        ".*smaller than the logging interval.*",
        ".*could not find the monitored key.*",  # not in this epoch: `Monitors` knows that it comes
    ):
        warnings.filterwarnings("ignore", message)


def stopped_by_signals(method: Method) -> Method:
    """A method of a trainer that a signal stops."""

    @wraps(method)
    def stopped(self: Any, *args: Any, **kwargs: Any) -> Any:
        with stoppable(self):
            return method(self, *args, **kwargs)

    return cast(Method, stopped)


class NoProfiler(PassThroughProfiler):
    """Profiles nothing, in a tenth of the time of `PassThroughProfiler`: Lightning enters it around
    each hook of each callback, 100 times per step."""

    nothing: AbstractContextManager[None] = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]  # Lightning's makes a generator
        return self.nothing


class Trainer(RunsWithin):
    """Lightning's Trainer with other defaults; it takes every argument of Lightning's. What
    differs:

    - `precision="auto"` (the default) chooses bf16-mixed or float32 by the hardware.
    - `default_root_dir` is `runs`, and each `fit` writes `<root>/<method>-<data>/<time>`.
    - The standing callbacks (`STANDING`) are added; to configure one, give an instance of it.
    - Without `max_epochs`, `max_steps`, `max_time` and `minutes` a run lasts the datamodule's
      `default_epochs`.
    - `max_time` alone, and `minutes`, plan the number of steps by the speed of the first ones, so
      that the learning-rate schedule ends with the time. `minutes` are for all that a run does:
      training, probes, closing table and pictures.
    - Checkpoints are written atomically, and are read with `weights_only`.
    - `logger=None`: metrics go to the run folder's `metrics.csv` alone; `"csv"`, `"tensorboard"`,
      `"wandb"` and lists of these write into the run folder. `log_every_n_steps` is 10.
    """

    profiler: Profiler
    fast_dev_run: int | bool
    config: str | None = None
    """The run's complete config from the command line; None: it is built from the recorded
    arguments."""
    is_mistake: Callable[[BaseException], bool] | None = None
    """Whether the command line words an error in a line of its own; None: in Python, which raises
    it."""
    resumes_newest = False
    """Whether the run continues in the folder of its checkpoint or not at all (`--resume auto`)."""

    began: float | None = None
    """When the run began, on the monotonic clock; None: with `fit`."""

    def __init__(
        self, *args: Any, precision: Precision | None = "auto", minutes: float | None = None, **kwargs: Any
    ) -> None:
        if args:
            raise TypeError(f"Trainer got {len(args)} positional arguments; give keyword arguments only.")
        _quieten()
        check_values(kwargs)
        self.plain_args = {
            name: value
            for name, value in {**kwargs, "precision": precision, "minutes": minutes}.items()
            if isinstance(value, PLAIN) and value is not None
        }
        kwargs["callbacks"] = self._with_standing(kwargs, minutes)
        if minutes is not None:
            report = next((each for each in kwargs["callbacks"] if isinstance(each, Report) and each.enabled), None)
            check_minutes(minutes, kwargs, report.settings.minutes if report else "auto")
            kwargs["max_time"] = {"seconds": 60 * minutes}
        has_length = any(kwargs.get(name) not in (None, -1) for name in ("max_epochs", "max_steps", "max_time"))
        self._default_length = not has_length and kwargs.get("max_epochs") is None
        if self._default_length:
            kwargs["max_epochs"] = 1  # until `fit` knows the datamodule
        check_choice(precision)
        if precision in ("auto", None):
            precision = best_precision(kwargs.get("accelerator") or "auto") if precision == "auto" else None
        kwargs["logger"] = False if kwargs.get("logger") is None else as_loggers(kwargs["logger"])
        if kwargs.get("default_root_dir") is None:
            kwargs["default_root_dir"] = "runs"
        if kwargs.get("log_every_n_steps") is None:
            kwargs["log_every_n_steps"] = 10
        if kwargs.get("enable_model_summary") is None:
            kwargs["enable_model_summary"] = False  # the first lines of a run replace it
        super().__init__(precision=precision, **kwargs)  # type: ignore[arg-type]  # "auto" is resolved by now
        use_checkpoint_io(self, AtomicIO())
        take_signals(self)
        before_launch(self, known_to_children)
        name_checkpoints(self, checkpoint_of)
        if type(self.profiler) is PassThroughProfiler:
            self.profiler = NoProfiler()

    @contextmanager
    def within(self) -> Iterator[None]:
        """A run's processes end together, a dead worker is named, and none is left."""
        bar = self.progress_bar_callback
        speaking = bar.within(self) if isinstance(bar, Progress) and self.state.fn == "fit" else nullcontext()
        with together(self), naming_lost_workers(), speaking:
            try:
                yield
            finally:
                if isinstance(self.train_dataloader, Stream):
                    self.train_dataloader.close()

    @staticmethod
    def _with_standing(kwargs: dict[str, Any], minutes: float | None) -> list[Callback]:
        given = kwargs.get("callbacks") or []
        given = list(given) if isinstance(given, (list, tuple)) else [given]
        if kwargs.get("fast_dev_run") or kwargs.get("barebones"):
            return [each for each in given if isinstance(each, Start) or type(each) not in STANDING.values()]
        standing: list[Callback] = []
        for cls in STANDING.values():
            if cls is Checkpoint and kwargs.get("enable_checkpointing") is False:
                continue
            if cls is Report:
                standing += [Votes(), Pace(minutes), Stopping()]  # before the closing table, which takes its time
            standing += [callback for callback in given if isinstance(callback, cls)] or [cls()]
        others = [callback for callback in given if not isinstance(callback, tuple(STANDING.values()))]
        has_bar = any(isinstance(callback, ProgressBar) for callback in others)
        progress = [] if has_bar or kwargs.get("enable_progress_bar") is False else [Progress()]
        return [RunFolder(), Metrics(), *standing, Monitors(), Evaluation(), *progress, *others]

    @property
    def callbacks(self) -> list[Callback]:
        """The run's callbacks, in the order in which they are called; Lightning adds those of the
        method (`configure_callbacks`)."""
        return self._callbacks

    @callbacks.setter
    def callbacks(self, callbacks: list[Callback]) -> None:
        check_callbacks(callbacks)
        # Those that follow a metric come after all that log one, and checkpoints after them.
        callbacks = sorted(callbacks, key=lambda each: isinstance(each, Monitors) + 2 * isinstance(each, LastCallback))
        self._callbacks = callbacks
        counts: Counter[str] = Counter()
        for callback in callbacks:
            if isinstance(callback, Standing):
                counts[callback.key] += 1
                callback.number = counts[callback.key]

    @property
    def run_folder(self) -> Path | None:
        """The folder of the last `fit`; None: there was none yet."""
        return next((callback.path for callback in self._run_folders()), None)

    @property
    def log_dir(self) -> str:
        """The folder where profilers and other callbacks write: the run folder, if there is one."""
        return str(self.run_folder or self.default_root_dir)

    def fit(
        self,
        model: pl.LightningModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: pl.LightningDataModule | None = None,
        ckpt_path: str | Path | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Pretrains a method, for the datamodule's `default_epochs` if no length was given.

        Args:
            model: the method.
            train_dataloaders, val_dataloaders: in place of a datamodule.
            datamodule: the data.
            ckpt_path: a checkpoint to go on from, or a run folder; `last`: the newest checkpoint of
                a run with these settings.
            weights_only: Lightning's; checkpoints are always read so.
        """
        data = datamodule or train_dataloaders
        if self.is_global_zero and not self.plain_args.get("fast_dev_run"):
            check_root(self.default_root_dir)
        if isinstance(data, SSLDataModule):
            check_order(self.plain_args)
        if self._default_length:
            set_epochs(self, getattr(data, "default_epochs", 100))
        if isinstance(data, SSLDataModule):
            data.check_share(self.num_devices * self.num_nodes)  # before any further process is started
        for logger in self.loggers:
            if isinstance(logger, InRunFolder):
                logger.folder = None  # of an earlier `fit`
        for callback in self.callbacks:
            if isinstance(callback, Pace):
                callback.began = time.monotonic() if self.began is None else self.began
            if isinstance(callback, Start):
                callback.resumes = ckpt_path is not None
        with stoppable(self):
            try:
                super().fit(model, train_dataloaders, val_dataloaders, datamodule, ckpt_path, weights_only)
            except (Exception, Lost) as error:
                listener = current()
                if listener is None or listener.noted is None:  # else a signal stopped it
                    for callback in self._run_folders():
                        callback.lock.note_failure(in_a_line(error))
                raise
            finally:
                for callback in self._run_folders():
                    callback.lock.release()

    def _run_folders(self) -> list[RunFolder]:
        return [callback for callback in self.callbacks if isinstance(callback, RunFolder)]

    def save_checkpoint(
        self, filepath: str | Path, weights_only: bool | None = None, storage_options: Any | None = None
    ) -> None:
        """Writes a checkpoint; where rank 0 cannot, every process raises its error.

        Raises:
            Unwritable: it cannot be written.
        """
        if self.model is None:
            super().save_checkpoint(filepath, weights_only, storage_options)  # says why not
        with self.profiler.profile("save_checkpoint"):
            checkpoint = dump_checkpoint(self, weights_only)
            on_each(lambda: self.strategy.save_checkpoint(checkpoint, filepath, storage_options))

    validate = stopped_by_signals(pl.Trainer.validate)
    test = stopped_by_signals(pl.Trainer.test)
    predict = stopped_by_signals(pl.Trainer.predict)
