"""Lightning's own callbacks in a run of ours: those that would break it are refused."""

from __future__ import annotations

from collections.abc import Iterable

from pytorch_lightning import Callback
from pytorch_lightning import callbacks as lightning

REFUSED: dict[type[Callback], str] = {
    lightning.StochasticWeightAveraging: (
        "it replaces the method's schedule, adds an epoch, and averages after the encoder was written. Resume a"
        " finished run with a lower --model.lr instead"
    ),
    lightning.WeightAveraging: (
        "it averages the queues and teachers of a method too, and puts the average in place after the encoder was"
        " written. Average the encoders of several checkpoints instead: load(path).backbone"
    ),
    lightning.BaseFinetuning: (
        "it adds parameters to an optimizer whose schedule does not know them. Use one of the methods that learn from"
        " labels, which `ssl-lightning methods` lists"
    ),
    lightning.GradientAccumulationScheduler: (
        "the length of the run, on which schedules and teachers depend, would change as it goes on. Use"
        " --trainer.accumulate_grad_batches"
    ),
    lightning.LearningRateFinder: (
        "the learning rate belongs to the method's schedule, which the finder replaces. Try some values of --model.lr"
    ),
    lightning.BatchSizeFinder: (
        "its trial steps use up samples of the run, and the learning rate follows from the batch. Try some values of"
        " --data.batch_size"
    ),
    lightning.ModelPruning: (
        "it replaces weights by pruned ones under other names, so that configs no longer describe the encoder. Prune"
        " what load_encoder gives"
    ),
    lightning.SpikeDetection: (
        "a run with it cannot be resumed, and the numbers of batches that it lists mean nothing in an endless order."
        " Use --health.stop true"
    ),
}
"""Classes of Lightning's callbacks, subclasses included, each with the reason and the remedy."""


def check_callbacks(callbacks: Iterable[Callback]) -> None:
    """Refuses callbacks that would break a run.

    Raises:
        ValueError: there is such a one; the message says what to use in its place.
    """
    for callback in callbacks:
        for cls, reason in REFUSED.items():
            if isinstance(callback, cls):
                raise ValueError(f"The callback {type(callback).__name__} does not work here: {reason}.")
