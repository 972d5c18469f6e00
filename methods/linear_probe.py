"""The linear probe."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

from torch import Tensor, nn

from ssl_lightning.encoders.base import Encoder
from ssl_lightning.evaluation.supervised import Supervised
from ssl_lightning.optim.recipes import OptimizerSpec


class LinearProbe(Supervised):
    """Linear probing: a linear classifier on the standardised features of a frozen encoder measures
    how good they are.

    He et al., Masked Autoencoders Are Scalable Vision Learners (2021), arXiv 2111.06377, Appendix
    A.1: a BatchNorm without parameters in front of the classifier, and no weight decay (Table 10).

    Args:
        encoder: a pretrained encoder. It is frozen, and stays in eval mode.
    """

    optimizer_specs: ClassVar = {
        "sgd": OptimizerSpec("sgd", lr=0.1, weight_decay=0.0, warmup_epochs=10, recipe_epochs=90),
        "lars": OptimizerSpec("lars", lr=0.1, weight_decay=0.0, warmup_epochs=10, recipe_epochs=90),  # Table 10
    }

    def __init__(self, encoder: Encoder, **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        encoder.requires_grad_(False)
        self.standardise = nn.BatchNorm1d(encoder.dim, eps=1e-6, affine=False)
        self.train()

    def setup(self, stage: str) -> None:
        super().setup(stage)
        warnings.filterwarnings("ignore", ".*in eval mode at the start of training.*")  # on purpose

    def train(self, mode: bool = True) -> LinearProbe:
        super().train(mode)
        self.encoder.eval()
        return self

    def logits(self, features: Tensor) -> Tensor:
        return super().logits(self.standardise(features))
