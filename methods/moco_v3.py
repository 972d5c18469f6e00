"""MoCo v3."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar

from torch import nn

from ssl_lightning import EMA, Batch, Encoder, OptimizerSpec, SSLMethod, Step, ViewSpec
from ssl_lightning.distributed import gather, rank
from ssl_lightning.nn.heads import Norm, mlp
from ssl_lightning.nn.losses.contrastive import batch_nce
from ssl_lightning.plugins.arguments import require


class MoCoV3(SSLMethod):
    """Contrastive learning with a predictor and a slow encoder, made stable for vision
    transformers: a view picks the other one out of the batch.

    Chen, Xie and He, An Empirical Study of Training Self-Supervised Vision Transformers (2021),
    arXiv 2104.02057, Algorithm 1.

    Args:
        encoder: the base encoder, which the paper keeps: a vision transformer, whose positions are
            fixed in the paper (`position="sincos"`, which the command line sets), or a ResNet.
        hidden_dim: width of the hidden layers of projector and predictor; None: 4 times that of the
            features, at most the paper's 4096 (Section 4.1, "MLP heads").
        output_dim: length of queries and keys (Section 4.1: 256).
        projector_layers: None: 3 for a transformer (Section 4.1), 2 for an encoder without a patch
            projection, such as a ResNet, whose predictor then ends without a norm, as in the
            authors' code.
        temperature: Section 4.1 (0.2).
        momentum: of the slow encoder at the start; it rises to 1 on a cosine (Section 4.1: 0.99).
        freeze_patch_embedding: whether a vision transformer keeps its random patch projection,
            which makes training stable (Section 4.2, Table 4); an encoder without one is not
            changed.
        norm: of both heads.
    """

    views = ViewSpec(full=2, strength=("strong_a", "strong_b"))
    couples_samples = "its negatives come from the same batch"
    collapse_remedy = "keep --model.norm batch and, of a vision transformer, --model.freeze_patch_embedding true"
    suited_encoder_args: ClassVar = {"position": "sincos"}  # Section 4.1; for encoders that take it
    optimizer_specs: ClassVar = {
        "adamw": OptimizerSpec("adamw", lr=1e-3, weight_decay=0.1, warmup_epochs=10),
        # Section 4.1, for batches of 4,096; the same warm-up in runs of 100 epochs.
        "paper": OptimizerSpec("adamw", lr=1.5e-4, weight_decay=0.1, warmup_epochs=40, recipe_epochs=100),
        # Appendix, for a ResNet-50.
        "lars": OptimizerSpec("lars", lr=0.3, weight_decay=1.5e-6, momentum=0.9, warmup_epochs=10),
    }

    def __init__(
        self, encoder: Encoder, *, hidden_dim: int | None = None, output_dim: int = 256,
        projector_layers: int | None = None, temperature: float = 0.2, momentum: float = 0.99,
        freeze_patch_embedding: bool = True, norm: Norm = "batch", **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(encoder, **kwargs)
        require(self, above=0, temperature=temperature)
        require(self, at_least=1, at_most=100, projector_layers=projector_layers)
        require(self, at_least=1, hidden_dim=hidden_dim, output_dim=output_dim)
        self.temperature = temperature
        patches = getattr(encoder, "patch_embedding", None)
        if freeze_patch_embedding and patches is not None:
            patches.requires_grad_(False)
        hidden = self.resolve("hidden_dim", hidden_dim or min(4 * encoder.dim, 4096))
        layers = self.resolve("projector_layers", projector_layers or (2 if patches is None else 3))
        head = partial(mlp, norm=norm, last_affine=False)
        self.projector = head(encoder.dim, *[hidden] * (layers - 1), output_dim, last_norm=True)
        self.predictor = head(output_dim, hidden, output_dim, last_norm=patches is not None)
        self.teacher = EMA(nn.Sequential(encoder, self.projector), momentum, final=1.0)

    def loss_of_chance(self, samples: int) -> float:
        return 4 * self.temperature * math.log(samples)

    def step(self, batch: Batch) -> Step:
        q1, q2 = (self.predictor(self.projector(self.encoder(view))) for view in batch["views"])  # [S, D] each
        sizes = self.row_counts(q1)
        k1, k2 = (gather(self.teacher(view), sizes) for view in batch["views"])  # [G, D] each
        first = sum(sizes[: rank()])
        loss = batch_nce(q1, k2, self.temperature, first) + batch_nce(q2, k1, self.temperature, first)
        return {"loss": loss, "embeddings": q1}
