"""A trained classifier as an encoder: its vector holds one score a class."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..types import View
from .base import Encoder


class Classifier(Encoder):
    """An encoder with the head that was trained on it: `forward` gives logits [S, K].

    Args:
        encoder: of the features.
        classes: the names of the K classes, in the order of the logits.
        eps: what the standardisation adds to the variance.

    Raises:
        ValueError: there are fewer than two classes.
    """

    def __init__(self, encoder: Encoder, classes: Sequence[str], *, eps: float = 1e-5) -> None:
        super().__init__()
        if len(classes) < 2:
            raise ValueError(f"Classifier(classes={list(classes)}) has nothing to tell apart; give two or more.")
        self.encoder, self.classes, self.dim = encoder, [str(name) for name in classes], len(classes)
        self.standardise = nn.BatchNorm1d(encoder.dim, eps=eps, affine=False)
        self.head = nn.Linear(encoder.dim, self.dim)
        self.reads_padding = encoder.reads_padding

    def forward(self, view: View) -> Tensor:
        logits: Tensor = self.head(self.standardise(self.encoder(view)))
        return logits
