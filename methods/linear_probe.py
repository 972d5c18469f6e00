"""The linear probe."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from ssl_lightning.encoders.base import Encoder
from ssl_lightning.evaluation.supervised import Supervised
from ssl_lightning.optim.recipes import OptimizerSpec


class LinearProbe(Supervised):
    """Linear probing: a linear classifier on the standardised features of a frozen encoder measures
    how good they are.

    On data with labels it is the logistic regression of a run's closing table, fitted to all labels
    that the run may use; the run has a single step. Plain loaders, whose features it cannot embed
    beforehand, it learns from step by step: He et al., Masked Autoencoders Are Scalable Vision
    Learners (2021), arXiv 2111.06377, Appendix A.1: a BatchNorm without parameters in front of the
    classifier, and no weight decay (Table 10).

    Args:
        encoder: a pretrained encoder. It is frozen, and stays in eval mode.
    """

    optimizer_specs: ClassVar = {
        "sgd": OptimizerSpec("sgd", lr=0.1, weight_decay=0.0, warmup_epochs=10, recipe_epochs=90),
        "lars": OptimizerSpec("lars", lr=0.1, weight_decay=0.0, warmup_epochs=10, recipe_epochs=90),  # Table 10
    }
    most_samples = 60_000
    solved = True

    def __init__(self, encoder: Encoder, **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        encoder.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.standardise.train(mode)
        self.encoder.eval()
        return self
