"""The optimizer and the schedule of a run, from what Lightning's Trainer knows of it."""

from __future__ import annotations

from typing import Any

from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from ..run.lightning import open_training_data
from .recipes import OptimizerSpec, warmup_cosine, warmup_linear


def configure_optimizer(spec: OptimizerSpec, module: nn.Module, trainer: Any) -> dict[str, Any]:
    """What `LightningModule.configure_optimizers` is to return: the optimizer of the module's
    parameters, and its schedule, which advances after each optimizer step.

    Args:
        spec: the settings.
        module: whose parameters to train.
        trainer: Lightning's Trainer, in a fit. It says how long the run is, and how many samples
            one optimizer step has.

    Raises:
        MisconfigurationException: the run has no end, so that no schedule can be computed.
    """
    open_training_data(trainer)  # `max_steps` alone would leave the length of an epoch unknown
    total = trainer.estimated_stepping_batches
    planned = any(getattr(callback, "by_time", False) for callback in trainer.callbacks)  # `run.pace`
    if total == float("inf") and not planned:
        raise MisconfigurationException(
            f"{type(module).__name__}'s learning-rate schedule needs the length of the run: set max_epochs or"
            " max_steps."
        )
    optimizer, schedule = spec.build(module, samples_a_step(spec, trainer), total, steps_an_epoch(trainer))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def reschedule(spec: OptimizerSpec, trainer: Any) -> None:
    """Gives the schedule of a run under way the run's present number of steps, from the next step
    on. Schedules that are not those of `configure_optimizer` stay.

    Args:
        spec: the settings.
        trainer: Lightning's Trainer, in a fit.
    """
    factor = spec.factor(trainer.estimated_stepping_batches, steps_an_epoch(trainer))
    for config in trainer.lr_scheduler_configs:
        schedule = config.scheduler
        factors: list[Any] = schedule.lr_lambdas if isinstance(schedule, LambdaLR) else [None]
        if any(getattr(each, "func", None) not in (warmup_cosine, warmup_linear) for each in factors):
            continue
        factors[:] = [factor] * len(factors)
        for group, lr in zip(schedule.optimizer.param_groups, schedule.base_lrs, strict=True):
            group["lr"] = lr * factor(schedule.last_epoch)


def steps_an_epoch(trainer: Any) -> float:
    """Optimizer steps of an epoch, at least one."""
    return float(max(1.0, trainer.num_training_batches / trainer.accumulate_grad_batches))


def samples_a_step(spec: OptimizerSpec, trainer: Any) -> int:
    """Samples of one optimizer step, over accumulated batches and processes. Of loaders that do not
    say the size of a batch: as many as the learning rate is meant for."""
    size = getattr(getattr(trainer, "datamodule", None), "batch_size", None)
    if size is None:  # plain loaders: Lightning counts per process
        share = getattr(trainer.train_dataloader, "batch_size", None) or spec.reference_batch or 1
        size = share * trainer.world_size
    return int(size) * int(trainer.accumulate_grad_batches)
