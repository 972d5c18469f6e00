"""What this package needs of Lightning beyond its public interface, each part under a public name.

`tests/run/test_lightning.py` has a test for each that fails when Lightning changes. The file
imports nothing of this package, so that every room may import it, those below `run` too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from traceback import walk_tb
from typing import Any, Literal

import torch
from lightning_fabric.loggers.logger import _DummyExperiment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import EarlyStopping, Timer
from pytorch_lightning.plugins.io import AsyncCheckpointIO, CheckpointIO, TorchCheckpointIO
from pytorch_lightning.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher
from pytorch_lightning.utilities.exceptions import _TunerExitException

NoExperiment = _DummyExperiment
"""An experiment of a logger that takes every call and does nothing."""


def trainer_of(module: Any) -> Any:
    """The trainer that a LightningModule is attached to, or None; `module.trainer` raises outside
    of a run."""
    return module._trainer


def batches_done(trainer: Any | None) -> int:
    """Batches that a training has consumed, over all epochs and resumptions; right within
    `on_train_batch_end` too. 0 without a trainer.

    `trainer.global_step` counts optimizer steps, and `fit_loop.total_batch_idx` bears the same
    value before and after its batch is processed.
    """
    return int(trainer.fit_loop.epoch_loop.batch_progress.total.processed) if trainer is not None else 0


def updated(trainer: Any) -> bool:
    """Whether this batch ended with an optimizer step: the last of those that are accumulated, or
    of an epoch. Hooks are told of batches alone."""
    return not trainer.fit_loop._should_accumulate()


def stopping(trainer: Any) -> bool:
    """Whether the run ends with this step, by `max_time` or by a callback. `trainer.should_stop`
    alone does not tell: Lightning goes on until `min_epochs` and `min_steps` are reached."""
    return bool(trainer.should_stop and trainer.fit_loop._can_stop_early)


def count_epoch(trainer: Any) -> None:
    """Counts the epoch of a training batch where Lightning forgot to: it does after a resume from
    an epoch's last step, and the next resume would repeat the epoch."""
    epochs = trainer.fit_loop.epoch_progress
    if epochs.current.ready == epochs.current.processed:
        epochs.increment_ready()
        epochs.increment_started()


def open_training_data(trainer: Any) -> None:
    """Opens the training loader before the optimizer is built, so that
    `trainer.num_training_batches` is known there; with `max_steps` alone Lightning opens it
    later."""
    trainer.fit_loop.setup_data()


def set_epochs(trainer: Any, epochs: int) -> None:
    """Sets the length of a run after the trainer was built, when the data is known."""
    trainer.fit_loop.max_epochs = epochs


def set_steps(trainer: Any, steps: int) -> None:
    """Sets the number of optimizer steps of a run, also while it goes on; -1: no limit."""
    trainer.fit_loop.epoch_loop.max_steps = steps


def timers(trainer: Any) -> list[Timer]:
    """What ends a run's training by the clock."""
    return [each for each in trainer.callbacks if isinstance(each, Timer) and each.time_remaining() is not None]


def count_from_zero(trainer: Any) -> None:
    """Counts the steps, batches and epochs of a fit from 0; Lightning goes on counting from where
    the trainer's last fit ended. A checkpoint that is restored later has counts of its own."""
    loop = trainer.fit_loop.epoch_loop
    for progress in (
        trainer.fit_loop.epoch_progress,
        loop.batch_progress,
        loop.scheduler_progress,
        loop.automatic_optimization.optim_progress,
        loop.manual_optimization.optim_step_progress,
    ):
        progress.reset()
    loop._batches_that_stepped = 0


def limit_time(timer: Timer, seconds: float) -> None:
    """Sets the seconds of training after which a timer ends a run."""
    timer._duration = seconds


def rewind(timer: Timer) -> None:
    """Makes a timer that served in another run as if it were new: it would stand still."""
    for times in (timer._start_time, timer._end_time):
        times.update(dict.fromkeys(times))
    timer._offset = 0


def dump_checkpoint(trainer: Any, weights_only: bool | None) -> dict[str, Any]:
    """What `Trainer.save_checkpoint` writes; every process must call it."""
    checkpoint: dict[str, Any] = trainer._checkpoint_connector.dump_checkpoint(weights_only)
    return checkpoint


def publish(trainer: Any, values: Mapping[str, float]) -> None:
    """Adds values to `trainer.callback_metrics`, where other callbacks look for them: `self.log`
    would cost 0.3 ms a step and value."""
    trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})


def withdraw(trainer: Any, names: Iterable[str]) -> None:
    """Takes values out of `trainer.callback_metrics`, which are no longer those of the weights."""
    for name in names:
        trainer.callback_metrics.pop(name, None)


def look_when_told(callback: EarlyStopping) -> None:
    """Has a callback look at its metric in `on_validation_end` alone, which somebody else then
    calls: at the end of an epoch the value may be one that it has seen. Where there is none yet it
    waits."""
    callback._check_on_train_epoch_end = False
    callback.strict = False


def hide_results(trainer: Any, split: Literal["val", "test"]) -> None:
    """Keeps Lightning from printing its table of a split's metrics; `verbose=False` is an argument
    of the call, which is the user's."""
    (trainer.validate_loop if split == "val" else trainer.test_loop).verbose = False


def synchronizes_batch_norm(trainer: Any) -> bool:
    """Whether the run was started with `sync_batchnorm`, which the trainer does not tell."""
    return getattr(trainer.strategy, "_layer_sync", None) is not None


def do_not_broadcast(module: Any, names: Iterable[str]) -> None:
    """Keeps parameters and buffers of a module out of DistributedDataParallel: those that are equal
    on every process anyway. Lightning wraps the module itself, so that nothing else can tell."""
    module._ddp_params_and_buffers_to_ignore = list(names)


def use_checkpoint_io(trainer: Any, checkpoint_io: CheckpointIO) -> None:
    """Has a trainer write its checkpoints by another plugin, where the user gave none.

    Raises:
        MisconfigurationException: the user's writes in the background, and in place.
    """
    current = trainer.strategy.checkpoint_io
    if isinstance(current, AsyncCheckpointIO):
        raise MisconfigurationException(
            "AsyncCheckpointIO writes in place: a killed run would leave a torn file. Leave it out."
        )
    if type(current) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = checkpoint_io


def name_checkpoints(trainer: Any, resolve: Callable[[Any, Any], Any]) -> None:
    """Has a trainer pass the `ckpt_path` of each of its verbs through a function, once it knows
    method and data. Lightning takes some words for something else, and starts anew where there is
    nothing.

    Args:
        trainer: whose checkpoints are named.
        resolve: from the trainer and what it was given to a path; at the top level of a module,
            since trainers are sent to processes.
    """
    connector = trainer._checkpoint_connector
    connector._select_ckpt_path = partial(selected, trainer, connector, resolve)


def selected(
    trainer: Any, connector: Any, resolve: Callable[[Any, Any], Any], verb: Any, path: Any, *more: Any, **named: Any
) -> Any:
    """The checkpoint that Lightning takes for a path, after `resolve`."""
    return type(connector)._select_ckpt_path(connector, verb, resolve(trainer, path), *more, **named)


def convert_views_alone(trainer: Any, raw: Callable[[Any], bool]) -> None:
    """Keeps batches of raw samples out of the conversion to the run's precision, which Lightning
    does before any hook: waves would be augmented in half precision, and views, which a later hook
    makes, would stay in float32. That hook converts them, by `precision_plugin.convert_input`.

    Args:
        trainer: whose precision plugin is told.
        raw: whether a batch is one of raw samples.
    """
    plugin = trainer.precision_plugin
    plugin.convert_input = partial(converted, plugin, raw)


def converted(plugin: Any, raw: Callable[[Any], bool], batch: Any) -> Any:
    """A batch in the precision of a plugin; one of raw samples is returned as it is."""
    return batch if raw(batch) else type(plugin).convert_input(plugin, batch)


def take_signals(trainer: Any) -> None:
    """Keeps Lightning's hands off signals: it installs handlers that communicate or save a
    checkpoint within the handler, exits with 0 after SIGTERM, and makes the processes exchange a
    tensor before each batch, for which they wait."""
    trainer._signal_connector.register_signal_handlers = nothing
    trainer._signal_connector.teardown = nothing
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = nothing


def nothing() -> None:
    """Does nothing, in place of a method."""


def launched(trainer: Any) -> list[Any]:
    """The processes that this one has launched for the run, by Popen or by multiprocessing; whoever
    asks sees to their end. Lightning no longer watches over those of Popen: it would kill this
    process within 5 seconds of the first that ends with a code."""
    launcher = trainer.strategy.launcher
    processes = list(getattr(launcher, "procs", ()))
    if isinstance(launcher, _SubprocessScriptLauncher):
        launcher.procs.clear()
    return processes


def only_waits(trainer: Any) -> bool:
    """Whether this process trains nothing itself, but waits for those that it launches."""
    return isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)


def requeue_signal(trainer: Any) -> int | None:
    """The signal after which a run under SLURM is to be put back into the queue; None: none, or not
    under SLURM."""
    environment = trainer._accelerator_connector.cluster_environment
    if not isinstance(environment, SLURMEnvironment) or not environment.auto_requeue:
        return None
    return environment.requeue_signal


RESTORING = ("resume_start", "_restore_modules_and_callbacks", "restore_training_state")
"""Functions of Lightning that take up a checkpoint."""


def raised_while_restoring(error: BaseException) -> bool:
    """Whether an error comes from what a checkpoint holds, while a run takes it up."""
    return any(
        frame.f_code.co_name in RESTORING and "checkpoint_connector" in str(frame.f_globals.get("__name__"))
        for frame, _ in walk_tb(error.__traceback__)
    )


STEPS = ("advance", "_evaluation_step", "_predict_step")
"""Functions of Lightning's loops that run once data flows."""


def raised_in_a_step(error: BaseException) -> bool:
    """Whether an error comes from a step on data, not from the start of a run."""
    return any(
        frame.f_code.co_name in STEPS and "lightning.loops" in str(frame.f_globals.get("__name__"))
        for frame, _ in walk_tb(error.__traceback__)
    )


class RunsWithin(Trainer):
    """Lightning's Trainer, each of whose verbs runs within a context that a subclass gives: on
    every process, also on those that a launcher started, and from before they meet."""

    def within(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        with self.within():
            return super()._run(*args, **kwargs)


TunerExit = _TunerExitException
"""How Lightning's tuner ends a run that it has finished with."""


def launcher_of(trainer: Any) -> Any:
    """What starts a run's further processes from the command line of this one; None: others do."""
    launcher = trainer.strategy.launcher
    return launcher if isinstance(launcher, _SubprocessScriptLauncher) else None


def before_launch(trainer: Any, prepare: Callable[[], AbstractContextManager[None]]) -> None:
    """Has a trainer start its further processes within a context, where it starts any."""
    launcher = launcher_of(trainer)
    if launcher is None:
        return
    start = launcher._call_children_scripts

    def prepared() -> None:
        with prepare():
            start()

    launcher._call_children_scripts = prepared


def children(trainer: Any) -> dict[int, Any]:
    """The processes (`Popen`) that this one has started for a run, by rank."""
    launcher = launcher_of(trainer)
    started = launcher.procs if launcher else []
    return {trainer.global_rank + number: each for number, each in enumerate(started, start=1)}


def take_over_children(trainer: Any) -> None:
    """Ends Lightning's observer of these processes: it kills all, this one too, five seconds after
    one has failed, without a word."""
    started = [child.pid for child in children(trainer).values()]
    for thread in threading.enumerate():
        watched = getattr(thread, "_child_processes", None)
        if started and watched and [child.pid for child in watched] == started:
            thread._child_processes = []  # type: ignore[attr-defined]  # to it, all have ended well
