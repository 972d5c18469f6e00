"""BYOL."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from ssl_lightning import EMA, Batch, Encoder, OptimizerSpec, SSLMethod, Step, ViewSpec
from ssl_lightning.nn.heads import Norm, mlp
from ssl_lightning.nn.losses.prediction import regression
from ssl_lightning.plugins.arguments import require


class BYOL(SSLMethod):
    """Learning without negatives: from one view, the network predicts how a slow copy of itself
    sees the other.

    Grill et al., Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning (2020),
    arXiv 2006.07733, Algorithm 1.

    Args:
        encoder: the online encoder f, which the paper keeps.
        hidden_dim: width of the hidden layer of projector and predictor; None: 4 times that of the
            features, at most the paper's 4096 (Section 3.3).
        output_dim: length of projections and predictions (Section 3.3: 256).
        momentum: of the target network at the start, tau_base; it rises to 1 on a cosine (Section
            3.1). The paper's 0.996 suits runs of 300,000 steps.
        norm: of both heads; "layer" and "none" see one sample at a time, and may collapse (Section
            5 and arXiv 2010.10241).
    """

    views = ViewSpec(full=2, strength=("strong_a", "strong_b"))
    collapse_remedy = "keep --model.norm batch, or raise --model.momentum"
    optimizer_specs: ClassVar = {
        "adamw": OptimizerSpec("adamw", lr=1e-3, weight_decay=1e-5, warmup_epochs=10),
        "sgd": OptimizerSpec("sgd", lr=0.1, weight_decay=1e-5, momentum=0.9, warmup_epochs=10),
        "lars": OptimizerSpec("lars", lr=0.2, weight_decay=1.5e-6, momentum=0.9, warmup_epochs=10),  # Section 3.3
    }

    def __init__(
        self, encoder: Encoder, *, hidden_dim: int | None = None, output_dim: int = 256, momentum: float = 0.99,
        norm: Norm = "batch", **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(encoder, **kwargs)
        require(self, at_least=1, hidden_dim=hidden_dim, output_dim=output_dim)
        hidden = self.resolve("hidden_dim", hidden_dim or min(4 * encoder.dim, 4096))
        self.projector = mlp(encoder.dim, hidden, output_dim, norm=norm, last_affine=False)  # g
        self.predictor = mlp(output_dim, hidden, output_dim, norm=norm, last_affine=False)  # q
        self.teacher = EMA(nn.Sequential(encoder, self.projector), momentum, final=1.0)  # xi

    def loss_of_chance(self, samples: int) -> float:
        return 4.0  # predictions at right angles to their targets, in both directions

    def step(self, batch: Batch) -> Step:
        v1, v2 = batch["views"]
        z1, z2 = (self.projector(self.encoder(view)) for view in (v1, v2))  # [S, D] each
        loss = regression(self.predictor(z1), self.teacher(v2)) + regression(self.predictor(z2), self.teacher(v1))
        return {"loss": loss, "embeddings": z1}
