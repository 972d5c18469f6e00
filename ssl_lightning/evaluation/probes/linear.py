"""A linear probe that learns while the encoder does."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional as F

from ...data.order import NEWEST, Order, check_version
from ...plugins.arguments import require
from ...run.folder.metrics import log_metrics
from ...run.lightning import updated
from ..measures import class_weights
from .base import Probe, at_end

UPDATES, FIRST = 5, 50
"""Updates of the head on each batch that is embedded: they cost next to nothing. On the n-th there
are at least FIRST / n, without which the first evaluations would judge an untrained head."""
PER_CLASS = 10
"""Labelled samples of each class that a head has learned from, in the mean, when it is judged."""


class Head:
    """A linear classifier on standardised features, with an optimizer of its own.

    Args:
        dim: D of the features.
        num_classes: K.
        lr, weight_decay: of its AdamW.
        device: where the features are.
        weights: [K] of each class in the loss.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        lr: float,
        weight_decay: float,
        device: torch.device,
        weights: torch.Tensor | None = None,
    ) -> None:
        self.weights = None if weights is None else weights.to(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            # Features are standardised by running statistics, as in MAE's linear probing (arXiv
            # 2111.06377, Appendix A.1); with a momentum that follows an encoder which moves.
            self.module = nn.Sequential(
                nn.BatchNorm1d(dim, affine=False, momentum=0.5), nn.Linear(dim, num_classes)
            ).to(device)
        self.optimizer = torch.optim.AdamW(self.module.parameters(), lr=lr, weight_decay=weight_decay)

    def learn(self, features: torch.Tensor, labels: torch.Tensor, updates: int = UPDATES) -> None:
        """Takes some updates on features [S, D] and labels [S]."""
        self.module.train()
        for _ in range(updates):
            loss = F.cross_entropy(self.module(features), labels, self.weights)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()

    @torch.no_grad()
    def scores(self, features: torch.Tensor) -> torch.Tensor:
        """Computes the logits [M, K] of features [M, D]."""
        scores: torch.Tensor = self.module.eval()(features)
        return scores


class OnlineLinearProbe(Probe):
    """A linear classifier that learns beside the encoder, on labelled batches that it embeds
    itself, in eval mode.

    It has its own head and optimizer and cannot touch the method's gradients. Every class counts
    alike, in its loss and in its accuracy. Logged as `probe/linear/top1`, for a further set as
    `probe/<set>/linear/top1`; of two classes also the area under the ROC curve, as `.../auroc`.

    Args:
        enabled: whether to run.
        lr: of its AdamW.
        weight_decay: of its AdamW.
        batch_size: labelled samples in a step of the head, at least 2: it standardises over them.
        queries: at most this many labelled validation samples are classified.
        every_n_steps: optimizer steps between two steps of the head; "auto" makes them cost about
            half of `budget`.
        eval_every_n_steps: optimizer steps between two evaluations on the validation samples;
            "auto" likewise.
        budget: the share of the training's forward and backward passes that "auto" may cost.

    Raises:
        ValueError: an argument is out of range.
    """

    key = "online_probe"
    metric = "linear/top1"

    def __init__(
        self,
        enabled: bool = True,
        lr: float = 0.01,
        weight_decay: float = 1e-3,
        batch_size: int = 128,
        queries: int = 5_000,
        every_n_steps: int | Literal["auto"] = "auto",
        eval_every_n_steps: int | Literal["auto"] = "auto",
        budget: float = 0.02,
    ) -> None:
        super().__init__(enabled, every_n_steps, budget)
        require(self, above=0, lr=lr)
        require(self, at_least=0, weight_decay=weight_decay)
        require(self, at_least=2, batch_size=batch_size)
        require(self, at_least=1, queries=queries)
        require(self, at_least=1, eval_every_n_steps=None if eval_every_n_steps == "auto" else eval_every_n_steps)
        self.lr, self.weight_decay, self.batch_size, self.queries = lr, weight_decay, batch_size, queries
        self.eval_every_n_steps = eval_every_n_steps

    def reset(self) -> None:
        super().reset()
        self.heads: dict[str, Head] = {}
        self.orders: dict[str, Order] = {}
        self.order_version = NEWEST
        self.steps = 0
        self.eval_period = 0
        self._restored: dict[str, Any] = {}

    @property
    def settings(self) -> dict[str, Any]:
        return {"lr": self.lr, "weight_decay": self.weight_decay, "batch_size": self.batch_size}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.find_sets(trainer, None, self.queries)
        if not self.sets:
            return
        dim = pl_module.backbone.dim
        self.heads = {
            prefix: Head(
                dim,
                labelled.num_classes,
                self.lr,
                self.weight_decay,
                pl_module.device,
                class_weights(labelled.train_labels, labelled.num_classes),
            )
            for prefix, labelled in self.sets.items()
        }
        self.orders = {
            prefix: Order(len(labelled.train), 1, self.order_version) for prefix, labelled in self.sets.items()
        }
        for prefix, state in self._restored.items():
            if prefix in self.heads:
                self.heads[prefix].module.load_state_dict(state["head"])
                self.heads[prefix].optimizer.load_state_dict(state["optimizer"])
        passes = sum(min(self.batch_size, len(labelled.train)) for labelled in self.sets.values())
        judged = sum(len(labelled.val_index) for labelled in self.sets.values())
        half = self.budget / 2
        self.period = self.cadence(trainer, passes, half) if self.every_n_steps == "auto" else self.every_n_steps
        self.eval_period = (
            self.cadence(trainer, judged, half) if self.eval_every_n_steps == "auto" else self.eval_every_n_steps
        )

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if not self.period or not updated(trainer):
            return
        step = trainer.global_step
        looks = step % self.eval_period == 0 or at_end(trainer, batch_idx)
        if step % self.period == 0:
            self.learn(trainer, pl_module)
        while looks and self.steps < self.fewest:
            self.learn(trainer, pl_module)
        if looks:
            for prefix, labelled in self.sets.items():
                features = labelled.embed(labelled.val, labelled.val_index, trainer, pl_module)
                scores = self.heads[prefix].scores(features)
                log_metrics(trainer, labelled.measures(scores, f"probe/{prefix}{self.metric}"))

    def learn(self, trainer: Any, pl_module: Any) -> None:
        """A step of each head, on labelled samples of its set."""
        for prefix, labelled in self.sets.items():
            index = self.draw(self.orders[prefix])
            features = labelled.embed(labelled.train, index, trainer, pl_module)
            labels = labelled.train_labels[index].to(features.device)
            with torch.enable_grad():
                self.heads[prefix].learn(features, labels, max(UPDATES, FIRST // (self.steps + 1)))
        self.steps += 1

    @property
    def fewest(self) -> int:
        """Steps of the heads before the first look: without them it would judge untrained ones."""
        return max(
            -(-min(PER_CLASS * labelled.num_classes, order.n) // min(self.batch_size, order.n))
            for labelled, order in zip(self.sets.values(), self.orders.values(), strict=True)
        )

    def draw(self, order: Order) -> torch.Tensor:
        """Draws the labelled samples of the head's next step, which depend on its count of steps
        alone.

        Args:
            order: of the set's training samples; a pass takes as many as fill whole batches.

        Returns:
            [S] indices into the set's training samples.
        """
        size = min(self.batch_size, order.n)
        pass_, step = divmod(self.steps, order.n // size)
        position = pass_ * order.n + step * size + torch.arange(size)
        return order.draws(position) % order.n

    def state_dict(self) -> dict[str, Any]:
        heads = {
            prefix: {"head": head.module.state_dict(), "optimizer": head.optimizer.state_dict()}
            for prefix, head in self.heads.items()
        }
        return {"steps": self.steps, "order": self.order_version, "heads": heads or self._restored}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps, self._restored = state_dict["steps"], state_dict["heads"]
        self.order_version = check_version(state_dict.get("order", 1))
