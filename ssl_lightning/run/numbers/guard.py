"""Keeps what is not finite out of a run: of its weights, its optimizer and its checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor

from ...distributed import gather_objects, rank, reduce_sum
from ...optim.finite import (
    LeftOut,
    NotFinite,
    Statistics,
    any_not_finite,
    gradients_of,
    lengths_of,
    not_finite,
    skips_on_device,
)
from ..checkpoints.checkpoint import find_newest
from ..lightning import batches_done
from .bundle import write_bundle
from .fault import REMEDY, Batches, broken, facts_of, floats, said
from .health import Health

LEAST_SCALE = 2.0**-14
"""A scale of float16 gradients below its smallest normal number: what still overflows is not the
scale's fault."""


class Guard:
    """Watches the optimizer steps of a run.

    On a CPU the host looks at each step before anything is updated. On an accelerator nothing
    waits: the optimizer leaves the step out on the device, and all that follow, until the host
    reads of it, a step later. It looks at each step where `--health.on_nan skip` has to decide at
    once, and where an optimizer cannot leave out a step on the device.

    Args:
        module: the method, on its device.
        trainer: Lightning's, in a fit.
    """

    def __init__(self, module: Any, trainer: Any) -> None:
        self.module = module
        self.health = next((each for each in trainer.callbacks if isinstance(each, Health)), None) or Health()
        self.on = self.health.enabled
        self.scaler = getattr(trainer.precision_plugin, "scaler", None)
        self.statistics = Statistics(module)
        self.current: Batches | None = None
        self.sent: Batches | None = None
        """The step whose flag is on its way to the host."""
        self.flag: Tensor | None = None
        """On an accelerator: whether this step or one before it is not finite."""
        device = module.device
        real = device.type != "cpu" and torch.accelerator.is_available()
        self.event = torch.Event(device) if real else None
        self.arriving = torch.zeros((), pin_memory=device.type == "cuda")
        self.arrived = self.arriving.numpy()
        self.exempt = {name for name, value in module.named_buffers() if broken(value) and not value.isnan().any()}
        """Buffers that begin with infinities, such as masks."""

        self.lengths: list[Tensor] = []
        """Of the gradients of the last step, before they are clipped, where they were looked at."""

    @property
    def trainer(self) -> Any:
        """Lightning's."""
        return self.module.trainer

    @property
    def logs_next(self) -> bool:
        """Whether the metrics of this step are written."""
        return bool((self.trainer.global_step + 1) % self.trainer.log_every_n_steps == 0)

    def unscaled(self, optimizer: Any) -> list[Tensor]:
        """The lengths of gradients without the scale of float16."""
        scale = 1.0 if self.scaler is None else self.scaler.get_scale()
        return [each / scale for each in lengths_of(gradients_of(optimizer))]

    # A step, in the order of the calls.

    def begin(self, batch: Any) -> None:
        """Notes a batch that is about to be trained on."""
        if not self.on:
            return
        if self.current is None:
            self.statistics.keep()
            self.current = Batches(self.trainer.global_step + 1)
        is_ours = isinstance(batch, Mapping)
        self.current.numbers.append(batches_done(self.trainer))
        self.current.samples.append(batch.get("index") if is_ours else None)
        self.current.views = list(batch.get("views", ())) if is_ours and self.looks_at_once else []

    def note(self, loss: Tensor) -> None:
        """Notes the loss of that batch."""
        if self.current is not None:
            self.current.losses.append(loss.detach())

    def look(self, optimizer: Any) -> None:
        """Looks at the gradients once they are complete, before they are clipped and used.

        Raises:
            LeftOut: they are not finite, and this step is to be left out.
            NotFinite: they are not finite, and the run is to stop.
        """
        if self.current is None or self.scaler is not None:
            self.lengths = self.unscaled(optimizer) if self.logs_next else []
            return
        self.lengths = lengths_of(gradients_of(optimizer))
        # Gradients are equal on all processes, unless something changed them since: then one would
        # stop alone, and the others wait for it.
        flag = reduce_sum(any_not_finite(self.lengths, self.module.device)).clamp(max=1)
        if self.looks_at_once or not skips_on_device(unwrapped(optimizer)):
            if bool(flag):
                self.statistics.restore()
                self.fault(self.current)
            return
        self.flag = flag if self.flag is None else torch.maximum(self.flag, flag)
        unwrapped(optimizer).found_inf = self.flag

    def end(self, optimizer: Any, stepped: bool) -> None:
        """Ends a step: what was sent to the host a step ago is read, and this step's flag is sent.

        Args:
            optimizer: of the step.
            stepped: whether it updated the weights, as far as the host knows.

        Raises:
            NotFinite: the step before was not finite; or float16 gradients still overflow at the
                least scale.
        """
        current, self.current = self.current, None
        if not stepped:
            self.lengths = []
        if current is None:
            return
        if not stepped:
            self.statistics.restore()
            if self.scaler is not None and self.scaler.get_scale() < LEAST_SCALE:
                self.fault(current, may_leave_out=False)
        if self.flag is None:
            return
        del unwrapped(optimizer).found_inf
        self.settle()
        self.arriving.copy_(self.flag, non_blocking=True)
        if self.event is not None:
            self.event.record()
        self.sent = current

    def settle(self) -> None:
        """Reads the flag that is on its way to the host.

        Raises:
            NotFinite: its step was not finite.
        """
        sent, self.sent = self.sent, None
        if sent is None:
            return
        if self.event is not None:
            self.event.synchronize()  # of the last step, while the device has this one to do
        if self.arrived > 0:
            self.fault(sent)

    @property
    def looks_at_once(self) -> bool:
        """Whether the host waits to know of each step."""
        return self.module.device.type == "cpu" or self.health.on_nan == "skip"

    # What is not finite.

    def check_weights(self, weights: Mapping[str, Any]) -> None:
        """Refuses weights that are not finite, before they are written; every process must call
        it.

        Raises:
            NotFinite: a weight is not finite, or a step before was not.
        """
        self.settle()
        watched = {name: value for name, value in weights.items() if floats(value) and name not in self.exempt}
        flag = not_finite(watched.values(), self.module.device)
        if bool(reduce_sum(flag.to(self.module.device))):
            name = next((name for name, value in watched.items() if broken(value)), "those of another process")
            raise NotFinite(self._broken_weights(name, self.trainer.global_step))

    def fault(self, batches: Batches, may_leave_out: bool = True) -> None:
        """Ends a step that is not finite; every process calls it at the same step.

        Raises:
            LeftOut: the step is left out.
            NotFinite: the run stops.
        """
        everyone = gather_objects(facts_of(self.module, batches))
        for facts in everyone:
            if facts["bad_weight"]:
                raise NotFinite(self._broken_weights(facts["bad_weight"], batches.step - 1))
        what = f"{type(self.module).__name__}, step {batches.step}: {said(everyone)}"
        if may_leave_out and self.health.may_leave_out:
            self.health.left_out = what
            raise LeftOut
        folder = self._bundle(batches, everyone, what)
        replay = f" `ssl-lightning replay {folder}` takes the step again and shows where it arises." if folder else ""
        skipped = f", after {self.health.skipped} that were left out" if self.health.skipped else ""
        raise NotFinite(f"{what} Training stops{skipped}; the weights are as before the step. {self._newest()}{replay}")

    def _bundle(self, batches: Batches, everyone: list[dict[str, Any]], what: str) -> Path | None:
        folder = getattr(self.trainer, "run_folder", None)
        if folder is None:
            return None
        path = folder / f"nan-step-{batches.step:08d}"
        if rank() == 0:
            try:
                write_bundle(path, self.module, batches.step, everyone, what)
            except OSError:
                return None  # the disk is full: the line is worth more
        return Path(path)

    def _broken_weights(self, name: str, step: int) -> str:
        lr = self.trainer.optimizers[0].param_groups[0]["lr"] if self.trainer.optimizers else math.nan
        return (
            f"{type(self.module).__name__}: the weights are not finite after step {step} (first {name}), at a learning"
            f" rate of about {lr:.3g}. Training stops, and they are not written. {self._newest()} {REMEDY}"
        )

    def _newest(self) -> str:
        folder = getattr(self.trainer, "run_folder", None)
        newest = find_newest(folder / "checkpoints") if folder else None
        return f"Newest checkpoint: {newest}." if newest else "There is no checkpoint yet."


def unwrapped(optimizer: Any) -> Any:
    """torch's optimizer within Lightning's wrapper of it."""
    return optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
