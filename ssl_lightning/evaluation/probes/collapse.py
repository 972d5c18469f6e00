"""Collapse monitor: do the embeddings still differ from each other, in more than a few directions,
and do they say something of their samples?"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...distributed import gather
from ...nn.precision import where_double
from ...nn.spread import spread
from ...plugins.arguments import require
from ...run.lightning import updated
from ...run.metrics import log_metrics
from ...run.standing import Standing
from ...types import Alarm
from .base import at_end
from .look import Look, norm_of, paired

SAMPLES = 256
"""The effective rank is that of at most this many embeddings of a batch, evenly spaced in it: the
eigenvalues for 256 of 768 values take 10 ms of the host's time, for 1,024 of 512 values 60 ms. The
agreement is that of as many pairs."""
SLOWER = "Lower the learning rate or lengthen the warm-up"
REMEDY = f"{SLOWER}, and check that the two views of a sample differ, but not in what it is (plots/views.png)"
"""Against every collapse; a method may add to it (`SSLMethod.collapse_remedy`)."""


class CollapseMonitor(Standing):
    """Measures how far the embeddings that the loss sees are spread, whether the features behind
    them are more than noise, and how fast the weights grow, and gives `health` an alarm for each.

    Logged as `collapse/std` (1 is spread evenly, 0 is collapsed), `collapse/rank` (effective number
    of dimensions, of at most 256 samples), `collapse/agreement` (correlation of the encoder's
    features of two views, apart from their largest direction; of methods that pass two views of
    each sample through the encoder) and `collapse/growth` (the norm of the weights, in units of
    that at the last look). On an accelerator the values are computed while it works on the next
    step, so that an alarm that ends the run ends it one step later.

    A method with a single view, which predicts parts of its own input, may have embeddings that are
    alike: it has the alarm on growth alone (`SSLMethod.collapse_remedy`).

    Args:
        enabled: whether to run.
        every_n_steps: optimizer steps between two looks.
        min_std: an alarm below this `collapse/std`.
        min_rank: an alarm below this `collapse/rank`. Features on a line were seen at up to 2.4
            behind a projection head that bends it, healthy encoders from their first step on at 30
            and more.
        min_agreement: an alarm below this `collapse/agreement`. Noise, and noise around a line,
            was seen within 0.02 of 0, where heads with BatchNorm hide it from the other two;
            healthy encoders at 0.08 and more from their first step on.
        max_growth: an alarm above this `collapse/growth`, at the first look. Healthy runs were seen
            at up to 1.05, learning rates of 100 at 80 and more.
        patience: looks in a row that must be that low; None: as `health` says.
        stop: whether an alarm ends the run, after a checkpoint; None: as `health` says.

    Raises:
        ValueError: every_n_steps or patience is below 1.
    """

    key = "collapse"

    def __init__(
        self,
        enabled: bool = True,
        every_n_steps: int = 10,
        min_std: float = 0.05,
        min_rank: float = 2.5,
        min_agreement: float = 0.05,
        max_growth: float = 3.0,
        patience: int | None = None,
        stop: bool | None = None,
    ) -> None:
        require(self, at_least=1, every_n_steps=every_n_steps, patience=patience)
        self.enabled, self.every_n_steps = enabled, every_n_steps
        self.lowest = (
            ("std", min_std, "all samples get nearly the same embedding: complete collapse"),
            ("rank", min_rank, "the embeddings differ in few directions only: dimensional collapse"),
            ("agreement", min_agreement, "but for one direction, the features of two views of a sample have nothing in"
             " common: they collapsed to noise, or to a line in noise"),
        )  # fmt: skip
        self.max_growth, self.patience, self.stop = max_growth, patience, stop
        self.alarms = self.alarms_with(REMEDY)
        self.reset()

    def alarms_with(self, remedy: str) -> tuple[Alarm, ...]:
        """The alarms for a method with this remedy against collapse; "": it cannot collapse."""
        growth = Alarm(
            "growth", "the weights have grown many times over within a few steps, so that nothing of their start is"
            " left", f"{SLOWER}: --model.lr, --model.warmup_epochs", high=self.max_growth, group="collapse", patience=1,
            stop=self.stop,
        )  # fmt: skip
        collapse = [
            Alarm(name, cause, remedy, low=low, group="collapse", patience=self.patience, stop=self.stop)
            for name, low, cause in self.lowest
        ]
        return (*(collapse if remedy else ()), growth)

    def reset(self) -> None:
        self.pending: Callable[[], dict[str, float]] | None = None
        """Gives the values of the last look, which are not logged yet."""
        self.norm: Tensor | None = None
        """The weights' norm at the last look, or as the run began."""
        self.features: list[Tensor] = []
        self.hook: Any = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self.alarms = self.alarms_with(remedy_of(pl_module))

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if self.enabled and self.norm is None:
            self.norm = norm_of(pl_module)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Has the encoder's features kept where this step may be looked at."""
        self.let_go()
        if self.enabled and (trainer.global_step + 1) % self.every_n_steps == 0:
            self.hook = pl_module.backbone.register_forward_hook(self.keep)

    def keep(self, encoder: Any, view: Any, features: Any) -> None:
        if isinstance(features, Tensor):
            self.features.append(features.detach())

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        self.let_go()
        self.log_pending(trainer)  # the step's work is queued on the device: it is busy meanwhile

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.let_go()

    def let_go(self) -> None:
        """Removes the hook that keeps features, if there is one."""
        if self.hook is not None:
            self.hook.remove()
            self.hook = None

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        features, self.features = self.features, []
        if not self.enabled or trainer.global_step % self.every_n_steps or not updated(trainer):
            return
        with torch.no_grad(), torch.autocast(pl_module.device.type, enabled=False):
            before, self.norm = self.norm, norm_of(pl_module)
            values = {} if before is None else {"growth": self.norm / before.to(self.norm).clamp_min(1e-12)}
            self.pending = Look(values, **self.seen(pl_module, outputs["embeddings"], features))
        if not runs_ahead(pl_module.device) or at_end(trainer, batch_idx):
            self.log_pending(trainer)

    def seen(self, method: Any, z: Tensor | None, features: list[Tensor]) -> dict[str, Tensor]:
        """Embeddings of some samples, their spread, and pairs of features, of all processes."""
        if z is None:
            return {}
        sizes = method.row_counts(z)
        every = -(-sum(sizes) // SAMPLES)
        all_z = where_double(gather(z, sizes))  # [G, D]
        if len(all_z) < 2:
            return {}
        seen = {"std": spread(all_z), "embeddings": all_z[::every]}
        pairs = paired(features, len(z))
        if pairs is not None:
            seen["pairs"] = gather(pairs[::every], [-(-size // every) for size in sizes])
        return seen

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.log_pending(trainer)  # no further step may come

    def log_pending(self, trainer: Any) -> None:
        """Logs the values of the last look, if there are any that are not logged yet."""
        pending, self.pending = self.pending, None
        if pending is None:
            return
        values = pending()
        if all(map(math.isfinite, values.values())):  # else the loss is NaN too, and its error says more
            log_metrics(trainer, values)

    def state_dict(self) -> dict[str, Any]:
        pending = {} if self.pending is None else {"pending": self.pending()}
        return pending if self.norm is None else {**pending, "norm": float(self.norm)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if "pending" in state_dict:
            self.pending = partial(dict, state_dict["pending"])
        if "norm" in state_dict:
            self.norm = torch.tensor(state_dict["norm"])


def remedy_of(method: Any) -> str:
    """What to do where a method's embeddings collapse; "": they may be alike."""
    advice: str | None = getattr(method, "collapse_remedy", None)
    if advice is None:
        views = method.views
        return REMEDY if views.full + views.local + views.clean > 1 and not method.supervised else ""
    return f"{REMEDY}; {advice}" if advice else ""


def runs_ahead(device: torch.device) -> bool:
    """Whether the host queues work for the device, and does not wait until it is done."""
    return device.type != "cpu"
