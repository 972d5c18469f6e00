"""The optimizer and the schedule of a run, from what Lightning's Trainer knows of it."""

from __future__ import annotations

from typing import Any

from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from ..run.lightning import open_training_data
from .recipes import OptimizerSpec


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
    if total == float("inf"):
        raise MisconfigurationException(
            f"{type(module).__name__}'s learning-rate schedule needs the length of the run: set max_epochs or"
            " max_steps."
        )
    steps_an_epoch = max(1.0, trainer.num_training_batches / trainer.accumulate_grad_batches)
    optimizer, schedule = spec.build(module, samples_a_step(spec, trainer), int(total), steps_an_epoch)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def samples_a_step(spec: OptimizerSpec, trainer: Any) -> int:
    """Samples of one optimizer step, over accumulated batches and processes. Of loaders that do not
    say the size of a batch: as many as the learning rate is meant for."""
    size = getattr(getattr(trainer, "datamodule", None), "batch_size", None)
    if size is None:  # plain loaders: Lightning counts per process
        share = getattr(trainer.train_dataloader, "batch_size", None) or spec.reference_batch or 1
        size = share * trainer.world_size
    return int(size) * int(trainer.accumulate_grad_batches)
