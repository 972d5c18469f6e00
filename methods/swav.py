"""SwAV."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, ClassVar

import torch
from torch import Tensor

from ssl_lightning import Batch, Encoder, Need, OptimizerSpec, SSLMethod, Step, View, ViewSpec
from ssl_lightning.distributed import gather, rank, world_size
from ssl_lightning.nn.heads import Norm, Prototypes, mlp
from ssl_lightning.nn.losses.clustering import swapped_prediction
from ssl_lightning.nn.queue import FeatureQueue
from ssl_lightning.nn.sinkhorn import sinkhorn
from ssl_lightning.plugins.arguments import require
from ssl_lightning.run.lightning import trainer_of
from ssl_lightning.types import joined


class SwAV(SSLMethod):
    """Clustering while learning: from each view, the network predicts to which prototypes another
    view of the sample was assigned.

    Caron, Misra, Mairal, Goyal, Bojanowski and Joulin, Unsupervised Learning of Visual Features by
    Contrasting Cluster Assignments (2020), arXiv 2006.09882, Algorithm 1.

    Args:
        encoder: the network f, which the paper keeps.
        local_views: number of small crops besides the two full views (Section 3.3: 6); the loss
            predicts from them, and assigns only the full ones.
        hidden_dim: width of the projection head's hidden layer; None: 4 times that of the features,
            at most the paper's 2048.
        output_dim: length of the projection z (128).
        prototypes: number of prototypes K; the paper has 3,000 for 1,000 classes.
        temperature: of the predictions (0.1).
        epsilon: entropy regularisation of the assignments: the smaller, the harder (0.05).
        iterations: of Sinkhorn-Knopp (3).
        freeze_epochs: epochs at the start in which the prototypes do not move (1).
        queue_length: number of earlier samples of each full view that are assigned along with the
            batch, for batches with few samples a prototype (3,840 for batches of 256; 0: none).
        queue_epochs: epochs after which the queue is used, once it is full (15).
        norm: of the head.
    """

    without_local: ClassVar = {"local_views": 0}
    couples_samples = "the prototypes are shared out among the samples of a batch"
    collapse_remedy = "lower --model.epsilon, or give fewer --model.prototypes than a batch and its queue have samples"
    optimizer_specs: ClassVar = {
        "adamw": OptimizerSpec("adamw", lr=1e-3, weight_decay=1e-6, warmup_epochs=10),
        "sgd": OptimizerSpec("sgd", lr=0.1, weight_decay=1e-6, momentum=0.9, warmup_epochs=10),
        "lars": OptimizerSpec("lars", lr=0.3, weight_decay=1e-6, momentum=0.9, warmup_epochs=10),  # 4.8 for 4,096
    }

    def __init__(
        self, encoder: Encoder, *, local_views: int = 6, hidden_dim: int | None = None, output_dim: int = 128,
        prototypes: int = 512, temperature: float = 0.1, epsilon: float = 0.05, iterations: int = 3,
        freeze_epochs: float = 1.0, queue_length: int = 0, queue_epochs: float = 15.0, norm: Norm = "batch",
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(encoder, **kwargs)
        require(self, above=0, temperature=temperature, epsilon=epsilon)
        require(self, at_least=1, hidden_dim=hidden_dim, output_dim=output_dim)
        require(self, at_least=1, at_most=1_000, iterations=iterations)
        require(self, at_least=0, freeze_epochs=freeze_epochs, queue_length=queue_length, queue_epochs=queue_epochs)
        require(self, at_least=0, at_most=100, local_views=local_views)
        self.views = ViewSpec(full=2, local=local_views, strength="strong")
        self.temperature, self.epsilon, self.iterations = temperature, epsilon, iterations
        self.freeze_epochs, self.queue_epochs, self.queue_length = freeze_epochs, queue_epochs, queue_length
        hidden = self.resolve("hidden_dim", hidden_dim or min(4 * encoder.dim, 2048))
        self.projector = mlp(encoder.dim, hidden, output_dim, norm=norm)
        self.prototypes, self.answers = Prototypes(output_dim, prototypes), prototypes  # C
        self.queue = FeatureQueue(queue_length, 2 * output_dim) if queue_length else None
        late = {"freeze_epochs": freeze_epochs, **({"queue_epochs": queue_epochs} if queue_length else {})}
        self.needs = tuple(Need(f"{name}={epochs:g}", epochs) for name, epochs in late.items())

    def step(self, batch: Batch) -> Step:
        z = self.project(batch["views"])  # [S, D] each
        scores = [self.prototypes(each) for each in z]  # [S, K] each
        codes = [self.assign(scores[i].detach(), i) for i in range(2)]
        state = None if self.queue is None else torch.cat(z[:2], dim=1).detach()
        return {"loss": swapped_prediction(scores, codes, self.temperature), "embeddings": z[0], "state": state}

    def project(self, views: Sequence[View]) -> list[Tensor]:
        """Projections [S, D] of each view. As in the authors' code (`src/resnet50.py`, `forward`),
        views of one size pass the encoder together, and all views the head, so that BatchNorm
        normalises them together."""
        h = [self.encoder(joined(list(group))) for _, group in groupby(views, key=lambda view: view.x.shape[1:])]
        return list(self.projector(torch.cat(h)).chunk(len(views)))

    def assign(self, scores: Tensor, view: int) -> Tensor:
        """Codes [S, K] of a full view, assigned with those of all processes and of the queue."""
        samples = len(scores)
        if self.queue is not None and self.epochs_done >= self.queue_epochs and self.filled(scores):
            earlier = self.queue.features[rank() :: world_size()].chunk(2, dim=1)[view]  # each process brings a share
            scores = torch.cat([scores, self.prototypes(earlier).detach()])
        return sinkhorn(scores, self.epsilon, self.iterations, lambda row: gather(row, [1] * world_size()))[:samples]

    def filled(self, rows: Tensor) -> bool:
        """Whether steps of as many rows filled the queue; outside of a run it is taken as full."""
        trainer = trainer_of(self)
        return trainer is None or trainer.global_step * sum(self.row_counts(rows)) >= self.queue_length

    @property
    def frozen(self) -> bool:
        """Whether the prototypes do not move in this step."""
        return self.epochs_done < self.freeze_epochs

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.frozen:
            self.prototypes.weight.grad = None

    def after_update(self, states: list[Any]) -> None:
        if not self.frozen:
            self.prototypes.normalise()
        if self.queue is not None:
            self.queue.enqueue(gather(states[0], self.row_counts(states[0])))  # [S, 2D]: nothing is accumulated
