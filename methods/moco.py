"""MoCo v2."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn

from ssl_lightning import EMA, Batch, Encoder, Need, OptimizerSpec, SSLMethod, Step, View, ViewSpec
from ssl_lightning.augment.random import fold
from ssl_lightning.distributed import gather, rank
from ssl_lightning.nn.batch_norm import split_batch_norm
from ssl_lightning.nn.heads import Norm, mlp
from ssl_lightning.nn.losses.contrastive import queue_nce
from ssl_lightning.nn.packing import reordered
from ssl_lightning.nn.queue import FeatureQueue
from ssl_lightning.plugins.arguments import require
from ssl_lightning.run.lightning import synchronizes_batch_norm

BatchNorm = Literal["whole", "shuffle", "split"]
SHUFFLE = 1
"""Separates the draw of the shuffle from others of the same key."""


class MoCo(SSLMethod):
    """Contrastive learning with a queue: a view picks the other one, as a slow encoder sees it, out
    of thousands of earlier samples.

    He, Fan, Wu, Xie and Girshick, Momentum Contrast for Unsupervised Visual Representation Learning
    (2019), arXiv 1911.05722, Algorithm 1, with the head and temperature of version 2 (Chen et al.
    2020, arXiv 2003.04297); its crops are the data's, which may be smaller.

    Args:
        encoder: the query encoder f_q, which the paper keeps.
        hidden_dim: width of the head's hidden layer; None: that of the features, as in version 2
            (2048 for a ResNet-50).
        output_dim: length of queries and keys (Section 3.3: 128).
        queue_length: number of negatives K; 65,536 in the paper for 1.3 million images. Best below
            half of the data set.
        temperature: version 2, Table 2 (0.2).
        momentum: of the key encoder; the paper's 0.999 (Section 4.1) suits 100,000 steps and more.
        symmetric: whether each view is query and key once, which takes twice the time and gives
            twice the keys of a step; in the paper one view is the query.
        batch_norm: how the statistics that a key was normalised by are kept from its query (Section
            3.3): "shuffle": other processes embed the keys, in another order; "split": queries and
            keys are embedded in `parts` of each process's batch, the keys in another order, for one
            device; "whole": neither.
        parts: number of parts for "split".
        norm: of the head; the paper's has none.
    """

    views = ViewSpec(full=2, strength="strong")
    collapse_remedy = "--model.batch_norm split hides BatchNorm's statistics from the keys"
    optimizer_specs: ClassVar = {
        "adamw": OptimizerSpec("adamw", lr=1e-3, weight_decay=1e-4, warmup_epochs=10),
        "sgd": OptimizerSpec("sgd", lr=0.03, weight_decay=1e-4, momentum=0.9, warmup_epochs=0),  # Section 4.1
        "lars": OptimizerSpec("lars", lr=0.3, weight_decay=1e-6, momentum=0.9, warmup_epochs=10),
    }

    def __init__(
        self, encoder: Encoder, *, hidden_dim: int | None = None, output_dim: int = 128, queue_length: int = 4096,
        temperature: float = 0.2, momentum: float = 0.99, symmetric: bool = True, batch_norm: BatchNorm = "whole",
        parts: int = 8, norm: Norm = "none", **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(encoder, **kwargs)
        require(self, above=0, temperature=temperature, hidden_dim=hidden_dim, output_dim=output_dim, parts=parts)
        if batch_norm not in get_args(BatchNorm):
            raise ValueError(f"MoCo(batch_norm={batch_norm!r}) is unknown; choose from whole, shuffle, split.")
        self.moves_rows = "Set --model.batch_norm split." if batch_norm == "shuffle" else ""
        self.temperature, self.symmetric, self.batch_norm = temperature, symmetric, batch_norm
        self.projector = mlp(encoder.dim, self.resolve("hidden_dim", hidden_dim or encoder.dim), output_dim, norm=norm)
        network = nn.Sequential(encoder, self.projector)  # f_q
        if batch_norm == "split":
            split_batch_norm(network, parts)
        self.teacher = EMA(network, momentum, final=momentum)  # f_k
        self.queue, self.answers = FeatureQueue(queue_length, output_dim), 1 + queue_length
        self.needs = (Need(f"queue_length={queue_length}", samples=queue_length // (1 + symmetric)),)

    def step(self, batch: Batch) -> Step:
        x1, x2 = batch["views"]
        pairs = [(x1, x2), (x2, x1)] if self.symmetric else [(x1, x2)]
        queries = [self.projector(self.encoder(query)) for query, _ in pairs]  # [S, D] each
        keys = [self.keys(key, batch["key"]) for _, key in pairs]
        losses = [queue_nce(q, k, self.queue.features, self.temperature) for q, k in zip(queries, keys, strict=True)]
        return {"loss": torch.stack(losses).mean(), "embeddings": queries[0], "state": torch.stack(keys, dim=1)}

    def after_update(self, states: list[Tensor]) -> None:
        k = torch.cat([gather(k, self.row_counts(k)) for k in states]).flatten(0, 1)  # in the order of one process
        self.queue.enqueue(nn.functional.normalize(k.to(self.queue.features.dtype), dim=1))

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.batch_norm != "whole" and synchronizes_batch_norm(self.trainer):
            raise MisconfigurationException(
                "sync_batchnorm gives all samples of a step the same statistics, which"
                f" MoCo(batch_norm={self.batch_norm!r}) is there to avoid: leave one of them out."
            )
        if stage == "fit" and self.batch_norm == "shuffle" and self.trainer.world_size == 1:
            rank_zero_warn(
                "MoCo(batch_norm='shuffle') hides nothing in a single process: --model.batch_norm split does."
            )

    @torch.no_grad()
    def keys(self, view: View, key: Tensor) -> Tensor:
        """[S, D] from the slow encoder, whose BatchNorm meets the samples in another order (Section
        3.3, "Shuffling BN")."""
        if self.batch_norm == "whole":
            return self.teacher(view)
        if self.batch_norm == "split":
            order = fold(key, SHUFFLE).argsort()
            return self.teacher(reordered(view, order))[order.argsort()]
        sizes = self.row_counts(key)
        share = slice(sum(sizes[: rank()]), sum(sizes[: rank() + 1]))  # of this process
        order = fold(gather(key, sizes), SHUFFLE).argsort()  # the same on every process
        shuffled = reordered(view.each(lambda part: gather(part, sizes)), order[share])
        return gather(self.teacher(shuffled), sizes)[order.argsort()[share]]
