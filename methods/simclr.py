"""SimCLR."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch

from ssl_lightning import Batch, Encoder, OptimizerSpec, SSLMethod, Step, ViewSpec
from ssl_lightning.distributed import gather, rank
from ssl_lightning.nn.heads import Norm, mlp
from ssl_lightning.nn.losses.contrastive import nt_xent
from ssl_lightning.plugins.arguments import require


class SimCLR(SSLMethod):
    """Contrastive learning: two views of a sample attract, those of all other samples in the batch
    repel.

    Chen, Kornblith, Norouzi and Hinton, A Simple Framework for Contrastive Learning of Visual
    Representations (2020), arXiv 2002.05709, Algorithm 1.

    Args:
        encoder: the base encoder f; h = f(x) is what the paper keeps.
        hidden_dim: width of the projection head's hidden layer; None: that of h, as in the paper
            (Section 4.2).
        output_dim: length of the projection z (Section 4.2: 128).
        temperature: of NT-Xent (Section 5.1, Table 5); 0.2 suits runs of some hundred epochs, 0.5
            short ones.
        norm: after both layers of the projection head: "batch" as in the authors' code, or "layer"
            or "none", which see one sample at a time, so that several processes equal one exactly.
    """

    views = ViewSpec(full=2, strength="strong")
    couples_samples = "the negatives of a sample are the others of its batch"
    collapse_remedy = "a lower --model.temperature keeps apart what is alike"
    optimizer_specs: ClassVar = {
        "adamw": OptimizerSpec("adamw", lr=1e-3, weight_decay=1e-4, warmup_epochs=10),
        "sgd": OptimizerSpec("sgd", lr=0.3, weight_decay=1e-4, momentum=0.9, warmup_epochs=10),  # Section 2.2
        "lars": OptimizerSpec("lars", lr=0.3, weight_decay=1e-6, momentum=0.9, warmup_epochs=10),  # Section 3
    }

    def __init__(
        self,
        encoder: Encoder,
        *,
        hidden_dim: int | None = None,
        output_dim: int = 128,
        temperature: float = 0.2,
        norm: Norm = "batch",
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, **kwargs)
        require(self, above=0, temperature=temperature, hidden_dim=hidden_dim, output_dim=output_dim)
        self.temperature = temperature
        hidden = self.resolve("hidden_dim", hidden_dim or encoder.dim)
        self.projector = mlp(encoder.dim, hidden, output_dim, norm=norm, last_norm=True)

    def loss_of_chance(self, samples: int) -> float:
        return math.log(2 * samples - 1)  # all other views are equally near

    def step(self, batch: Batch) -> Step:
        z = torch.stack([self.projector(self.encoder(view)) for view in batch["views"]], dim=1)  # [S, 2, D]
        sizes = self.row_counts(z)
        z1, z2 = gather(z, sizes).unbind(dim=1)  # [G, D] each
        return {"loss": nt_xent(z1, z2, self.temperature, sizes, rank()), "embeddings": z[:, 0]}
