"""Validation of a supervised run: when it is run, when the run stops early, and which weights it
ends with."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..data.datamodule import SSLDataModule
from ..data.peek import sample
from ..data.sources import Source, Subset
from ..run.folder.metrics import log_metrics
from ..run.lightning import set_steps, stopping, updated
from ..run.pace import seconds_allowed, seconds_until_end
from ..run.standing import Standing
from .budget import affordable
from .features import seconds_of_features
from .refit import learn_all, withheld

START, SOLVED = 0.1, 0.5
"""The part of a run's time, where it has one, that the regression it begins with may take, and each
look; and of a run that is nothing else."""

RETRAINED = 1.75
"""What follows the training, in times the training: the run may learn from all labels anew
(`refit`), and is compared with a network that learns from them alone."""


class Validation(Standing):
    """Evaluates the network before the first step and once per pass over the labels, and chooses
    the weights that the run ends with: those with the highest accuracy, in the mean over classes;
    of equal ones the later. The regression that the run begins with is left only for an accuracy
    that is higher by its standard error: the best of many looks at few samples tells little.

    Where the validation part was taken from the labels, and is small (`refit.withheld`), the choice
    is the number of passes: the run then learns from all labels, anew, for as many.

    It runs right after the update and before the checkpoint of that step, so the checkpoint holds
    its whole state. Logged as `val/loss`, `val/top1` and `val/balanced`.

    Args:
        patience: passes without a higher accuracy after which the run stops; 0: never.
    """

    key = "validation"

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.source: Source | None = None
        # The highest accuracy, its optimizer step, and the passes since the last that raised it.
        self.accuracy, self.step, self.waited = -math.inf, 0, 0
        self.least = 0.0
        """The accuracy that a step has to reach."""
        self.weights: dict[str, Tensor] = {}
        self.start: dict[str, Tensor] = {}
        """Those that the run started from."""
        self.passes: float | None = None
        """Passes over all labels that the network of the run's end has learned in; None: it has
        learned from those outside of the validation part."""
        self.limit = math.inf
        """Seconds that a regression, or a look, may take."""
        self.samples: int | None = None
        """Of the validation part, as many as a look has time for; None: all."""
        self.began = self.looked = 0.0
        """Seconds that the first one took, and that a sample takes in a look."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.planned = trainer.max_steps
        if stage == "fit" and pl_module.solved and splits_of(trainer, pl_module) is not None:
            set_steps(trainer, 1)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        set_steps(trainer, self.planned)  # for another method

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        data, splits = trainer.datamodule, splits_of(trainer, pl_module)
        self.source = None if splits is None else splits[1]
        seconds = min(seconds_until_end(trainer), seconds_allowed(trainer))
        self.limit = (SOLVED if pl_module.solved else START) * max(0.0, seconds)
        if self.source is not None and (self.samples is not None or self.limit < math.inf):
            self.source = self.some(trainer, pl_module, self.source)
        if self.patience and self.waited >= self.patience:
            trainer.should_stop = True  # resumed from the checkpoint of a run that had stopped
        elif self.passes is not None:  # prolonged: by weights that have not seen the validation part
            restore(pl_module, self.weights)
            self.passes = None
        if splits is not None and not trainer.global_step:
            now, context = time.monotonic(), trainer.precision_plugin.forward_context
            pl_module.settle(data, splits[0], context)
            self.start = state_of(pl_module)
            pl_module.begin(data, splits[0], context, self.limit)
            self.began = time.monotonic() - now
            self.look(trainer, pl_module, 0)

    def some(self, trainer: Any, pl_module: Any, source: Source) -> Source:
        """The samples of a validation part that a look has time for; a resumed run keeps them."""
        every = torch.arange(len(source))
        if self.samples is None:
            self.looked = seconds_of_features(pl_module, trainer.datamodule, source, every, trainer)
            self.samples = affordable(len(source), 0, self.looked, self.limit)[0]
        return Subset(source, sample(len(source), self.samples))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.source is None or not updated(trainer):
            return
        step = trainer.global_step
        ends = step >= trainer.estimated_stepping_batches or stopping(trainer)
        steps_a_pass = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
        if not pl_module.solved and (ends or step % steps_a_pass == 0):
            self.look(trainer, pl_module, step)
        if self.patience and self.waited >= self.patience:
            trainer.should_stop = True
        if ends or stopping(trainer):
            self.end(trainer, pl_module, self.step / steps_a_pass)

    def look(self, trainer: Any, pl_module: Any, step: int) -> None:
        now = time.monotonic()
        score = pl_module.judge(trainer.datamodule, self.source, trainer.precision_plugin.forward_context)
        assert self.source is not None
        self.looked = (time.monotonic() - now) / len(self.source)
        log_metrics(trainer, {f"val/{name}": value for name, value in score._asdict().items()})
        self.waited = 0 if score.balanced > self.accuracy else self.waited + 1
        if not step:
            self.least = score.balanced + math.sqrt(score.balanced * (1 - score.balanced) / len(self.source))
        if not self.weights or score.balanced >= max(self.accuracy, self.least if step else 0.0):
            self.step, self.weights = step, state_of(pl_module)
        self.accuracy = max(self.accuracy, score.balanced)

    def end(self, trainer: Any, pl_module: Any, passes: float) -> None:
        restore(pl_module, self.weights)
        every = withheld(trainer.datamodule)
        if every is not None and self.start:
            restore(pl_module, self.start)
            learn_all(trainer, pl_module, every, passes, self.limit)
            self.passes = passes

    def seconds_after(self, trainer: Any, seconds: float) -> float:
        """Learning anew, and two more regressions: on all labels, and on the features of the
        encoder that the run began with. The test samples are embedded twice, too."""
        data = trainer.datamodule
        if trainer.lightning_module.solved or not isinstance(data, SSLDataModule):
            return 0.0
        test = data.labelled_samples("test")
        embedding = self.looked * (0 if test is None else len(test))
        return RETRAINED * seconds + 2 * (min(self.began, self.limit) + min(embedding, self.limit))

    def names_logged(self, trainer: Any, pl_module: Any) -> Iterable[str]:
        return ("val/loss", "val/top1", "val/balanced")

    def state_dict(self) -> dict[str, Any]:
        names = ("accuracy", "least", "step", "waited", "weights", "start", "passes", "samples")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Earlier versions chose by the loss.
        self.accuracy, self.passes = state_dict.get("accuracy", -math.inf), state_dict.get("passes")
        self.least, self.samples = state_dict.get("least", 0.0), state_dict.get("samples")
        self.step, self.waited = state_dict["step"], state_dict["waited"]
        self.weights, self.start = dict(state_dict["weights"]), dict(state_dict.get("start", {}))


def splits_of(trainer: Any, pl_module: Any) -> tuple[Source, Source] | None:
    """The labelled samples that a run learns from, and those that it validates on; None: it has
    plain loaders, or learns from no labels."""
    data = trainer.datamodule
    return data.probe_splits() if isinstance(data, SSLDataModule) and pl_module.supervised else None


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Copies of everything in a module's state but frozen parameters, on the CPU."""
    return {name: tensor.cpu().clone() for name, tensor in _changing(module).items()}


def restore(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Puts back what `state_of` returned; a head that was built since stays as it is."""
    for name, tensor in _changing(module).items():
        if name in state:
            tensor.copy_(state[name])


def _changing(module: nn.Module) -> dict[str, Tensor]:
    """Everything in a module's state but frozen parameters."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: tensor.detach() for name, tensor in module.state_dict().items() if name not in frozen}
