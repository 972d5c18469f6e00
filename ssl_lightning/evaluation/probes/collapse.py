"""Collapse monitor: do the embeddings still differ from each other, in more than a few directions,
and do they say something of their samples?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...distributed import gather
from ...nn.precision import where_double
from ...nn.spread import agreement, spread
from ...plugins.arguments import require
from ...run.folder.metrics import log_metrics
from ...run.lightning import updated
from ...run.standing import Standing
from ...types import Alarm
from .base import at_end
from .look import Features, Look, norm_of

SAMPLES = 256
"""The effective rank is that of at most this many embeddings of a batch, evenly spaced in it: the
eigenvalues for 256 of 768 values take 10 ms of the host's time, for 1,024 of 512 values 60 ms. The
agreement is that of as many pairs in each of `PAIRS_A_LOOK` steps."""
PAIRS_A_LOOK = 5
STEPS = 30
"""Steps that a low agreement lasts at least: some networks say little of a sample before they have
learned."""
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
        min_agreement: an alarm below this `collapse/agreement`, if it lasts for 30 steps. Noise,
            and noise around a line, was seen within 0.01 of 0, where heads with BatchNorm hide it
            from the other two; untrained encoders at 0.06 and more.
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
        min_agreement: float = 0.02,
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
        patience = {"agreement": max(self.patience or 0, STEPS // self.every_n_steps) or None}
        collapse = [
            Alarm(name, cause, remedy, low, None, "collapse", patience.get(name, self.patience), self.stop)
            for name, low, cause in self.lowest
        ]
        return (*(collapse if remedy else ()), growth)

    def reset(self) -> None:
        self.pending: Callable[[], dict[str, float]] | None = None
        """Gives the values of the last look, which are not logged yet."""
        self.norm: Tensor | None = None
        """The weights' norm at the last look, or as the run began."""
        self.sums: Tensor | None = None
        """Of `agreement`, since the last look; None where no pair was seen."""
        self.features = Features()
        self.most_rank: int | None = None
        """The largest effective rank that the embeddings of the last look could have."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self.alarms = self.alarms_with(remedy_of(pl_module))

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if self.enabled and self.norm is None:
            self.norm = norm_of(pl_module)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.enabled and (trainer.global_step + 1) % self.spacing == 0:
            self.features.listen(pl_module.backbone)

    @property
    def spacing(self) -> int:
        """Steps between two whose pairs of features are looked at."""
        return -(-self.every_n_steps // PAIRS_A_LOOK)

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        self.features.stop()
        self.log_pending(trainer)  # the step's work is queued on the device: it is busy meanwhile

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.features.stop()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        z = outputs["embeddings"]
        pairs = None if z is None else self.features.take(len(z))
        if not self.enabled or not updated(trainer):
            return
        with torch.no_grad(), torch.autocast(pl_module.device.type, enabled=False):
            if pairs is not None:
                self.add(pairs, pl_module.row_counts(z))
            if trainer.global_step % self.every_n_steps:
                return
            before, self.norm = self.norm, norm_of(pl_module)
            seen = {} if before is None else {"growth": self.norm / before.to(self.norm).clamp_min(1e-12)}
            if z is not None and len(all_z := gather(z, pl_module.row_counts(z))) > 1:
                all_z = where_double(all_z)  # [G, D]
                self.most_rank = min(-(-len(all_z) // -(-len(all_z) // SAMPLES)) - 1, all_z.shape[1])
                seen |= {"std": spread(all_z), "embeddings": all_z[:: -(-len(all_z) // SAMPLES)]}
            if self.sums is not None:
                seen["sums"], self.sums = self.sums, None
            self.pending = Look(**seen)
        if not runs_ahead(pl_module.device) or at_end(trainer, batch_idx):
            self.log_pending(trainer)

    def add(self, pairs: Tensor, sizes: list[int]) -> None:
        """Adds the agreement of some pairs [S, 2, D], and of the other processes', which have as
        many as `sizes` says."""
        every = -(-sum(sizes) // SAMPLES)
        some = gather(pairs[::every], [-(-size // every) for size in sizes])
        if len(some) > 1:
            sums = agreement(some)
            self.sums = sums if self.sums is None else self.sums.to(sums.device) + sums

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

    def names_logged(self, trainer: Any, pl_module: Any) -> Iterable[str]:
        return [alarm.metric for alarm in self.alarms] if self.enabled else []

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {} if self.pending is None else {"pending": self.pending()}
        state |= {} if self.norm is None else {"norm": float(self.norm)}
        return state if self.sums is None else {**state, "sums": self.sums.tolist()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if "pending" in state_dict:
            self.pending = partial(dict, state_dict["pending"])
        if "norm" in state_dict:
            self.norm = torch.tensor(state_dict["norm"])
        if "sums" in state_dict:
            self.sums = torch.tensor(state_dict["sums"])


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
