"""The spectrum of the features while the encoder learns: scores that need no labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal

from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from ...data.datamodule import SSLDataModule
from ...data.peek import embed, sample
from ...data.views import Views, full_precision
from ...plugins.arguments import require
from ...run.folder.metrics import log_metrics
from ..features import in_float32
from ..label_free import FIRST, alpha_req, rankme
from ..lidar import lidar
from ..overview import pair_of
from .base import Probe, at_end
from .collapse import runs_ahead
from .look import OnTheWay

FEWEST = 2 * (FIRST + 2)
"""Eigenvalues that a fit of alpha-ReQ needs."""
COST_OF_FLOAT32 = 4.0
"""Times that a forward pass in float32 takes as long as one in the lower precision of a run."""
GROUP = "spectrum"
"""The first part of the names of these metrics."""
SCORES = ("rankme", "alpha", "lidar")


class Spectrum(Probe):
    """Measures on some of the training samples, always the same, how many directions the features
    use, and whether views of a sample lie closer together than samples do. It needs no labels.

    Logged as `spectrum/rankme` (RankMe, arXiv 2210.02885), `spectrum/alpha` (alpha-ReQ, Agrawal et
    al. 2022; not of fewer than 10 directions) and `spectrum/lidar` (LiDAR, arXiv 2312.04000, of the
    method's own views). What sizes do not allow is not logged, which a line says when the run
    begins. Features are in float32, whatever the precision of the run, since the rounding of lower
    ones would pass for directions.

    A method that learns from labels has no such curves. On an accelerator the scores are computed
    while it works on the next step.

    Args:
        enabled: whether to run.
        samples: at most this many training samples are embedded under the test transform, for
            RankMe and alpha-ReQ.
        lidar_samples: training samples of which LiDAR is computed, or more, where `dim / (views -
            1)` is more: below that some directions have no variance within samples. The official
            setting is 1,000, with 50 views.
        views: of each of these, augmented as the method's first view, or strongly where that is
            not.
        every_n_steps: optimizer steps between two looks; "auto" makes them cost about `budget` of
            the training. A run of fewer than half as many steps then has no look.
        budget: the share of the training's forward and backward passes that "auto" may cost.

    Raises:
        ValueError: an argument is out of range.
    """

    key = "spectrum"

    def __init__(
        self,
        enabled: bool = True,
        samples: int = 512,
        lidar_samples: int = 100,
        views: int = 10,
        every_n_steps: int | Literal["auto"] = "auto",
        budget: float = 0.01,
    ) -> None:
        super().__init__(enabled, every_n_steps, budget)
        require(self, at_least=2, samples=samples, lidar_samples=lidar_samples, views=views)
        self.samples, self.lidar_samples, self.views = samples, lidar_samples, views

    def reset(self) -> None:
        super().reset()
        self.scores: tuple[str, ...] = ()
        """Those that sizes allow."""
        self.pending: Callable[[], dict[str, float]] | None = None
        """Gives the scores of the last look, which are not logged yet."""

    @property
    def settings(self) -> dict[str, Any]:
        return {"views": self.views, "strength": self.strength, "lidar_samples": len(self.view_index)}

    def why_not(self, trainer: Any, pl_module: Any) -> dict[str, str]:
        """The reasons why a score cannot be computed, by its name; empty for those that can."""
        count, dim = len(trainer.datamodule.training_split), pl_module.backbone.dim
        every, most = min(count, self.samples), min(count, self.most_views(dim)) * (self.views - 1)
        few = f"{every:,} samples of {dim:,} dimensions have fewer than {FEWEST} eigenvalues"
        flat = f"{dim:,} dimensions are more than the {most:,} differences of views within samples"
        return {
            "rankme": "",
            "alpha": few if min(every - 1, dim) < FEWEST else "",
            "lidar": "there is one dimension" if dim < 2 else flat if dim > most else "",
        }

    def most_views(self, dim: int) -> int:
        """Samples of which views are embedded, where there are as many."""
        return max(self.lidar_samples, -(-dim // (self.views - 1)))

    def names_logged(self, trainer: Any, pl_module: Any) -> Iterable[str]:
        if not self.looks(trainer, pl_module):
            return []
        return [f"{GROUP}/{name}" for name, reason in self.why_not(trainer, pl_module).items() if not reason]

    def looks(self, trainer: Any, pl_module: Any) -> bool:
        """Whether the run has such curves."""
        return self.enabled and isinstance(trainer.datamodule, SSLDataModule) and not pl_module.supervised

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if not self.looks(trainer, pl_module):
            return
        reasons = self.why_not(trainer, pl_module)
        self.scores = tuple(name for name in SCORES if not reasons[name])
        data = trainer.datamodule
        count = len(data.training_split)
        self.index = sample(count, self.samples)
        self.view_index = sample(count, self.most_views(pl_module.backbone.dim))
        passes = len(self.index) + len(self.view_index) * self.views * ("lidar" in self.scores)
        cost = 1.0 if trainer.precision_plugin.precision == "32-true" else COST_OF_FLOAT32
        auto = self.cadence(trainer, cost * passes, self.budget)
        self.period = auto if self.every_n_steps == "auto" else self.every_n_steps
        for name, reason in reasons.items():
            if reason and not self.too_early(trainer.estimated_stepping_batches):
                rank_zero_warn(f"{GROUP}/{name} is not logged: {reason}. --spectrum.enabled false switches all off.")
        self.strength = pair_of(pl_module.views)[0]
        self.maker = Views([data.transform(self.strength)] * self.views, data.seed)

    def due(self, trainer: Any, batch_idx: int) -> bool:
        """Whether it looks at this step: each `period`-th, and the run's last, unless that would
        cost a short run more than twice the budget."""
        return not self.too_early(trainer.global_step) and super().due(trainer, batch_idx)

    def too_early(self, steps: float) -> bool:
        """Whether after so many steps a look would cost too much of what was trained."""
        return self.every_n_steps == "auto" and 2 * steps < self.period

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        self.log_pending(trainer)  # the step's work is queued on the device: it is busy meanwhile

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self.due(trainer, batch_idx):
            return
        data, device = trainer.datamodule, pl_module.device
        with in_float32(pl_module), full_precision(device):
            seen = {"features": embed(pl_module, data, data.training_split, self.index, device)}
            if "lidar" in self.scores:
                seen["views"] = embed(pl_module, data, data.training_split, self.view_index, device, views=self.maker)
        self.pending = partial(scores_of, OnTheWay(**seen), self.scores)
        if not runs_ahead(device) or at_end(trainer, batch_idx):
            self.log_pending(trainer)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.log_pending(trainer)  # no further step may come

    def log_pending(self, trainer: Any) -> None:
        """Logs the scores of the last look, if there are any that are not logged yet."""
        pending, self.pending = self.pending, None
        if pending is not None and (values := pending()):
            log_metrics(trainer, values)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.pending is None else {"pending": self.pending()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if "pending" in state_dict:
            self.pending = partial(dict, state_dict["pending"])


def scores_of(tensors: OnTheWay, names: Iterable[str]) -> dict[str, float]:
    """The scores of features [N, D] and of views [n, q, D], by metric; those that are not finite
    are left out, since the loss then says more."""
    here: dict[str, Tensor] = tensors.here()
    features = here["features"]
    if not bool(features.isfinite().all()):
        return {}
    compute = {
        "rankme": lambda: rankme(features),
        "alpha": lambda: alpha_req(features),
        "lidar": lambda: lidar(here["views"]),
    }
    values = {f"{GROUP}/{name}": compute[name]() for name in names}
    return {name: value for name, value in values.items() if math.isfinite(value)}
