"""The attentive probe: a classifier whose one query attends to the tokens of a frozen encoder.

Notation for shapes: M samples to learn from, Q samples that are judged, P settings, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ...data.sources import withhold_fifth
from ..fitting import seeded
from ..measures import balanced, class_weights, outcome
from ..protocol import check_labels
from .attentive_heads import AdamW, AttentiveHeads
from .base import Judgement, Needs, Protocol, Samples
from .classes import balanced_score
from .token_store import TokenStore

JUDGED_AT_ONCE = 256
"""Samples whose logits are computed at a time."""


class Setting(NamedTuple):
    """The learning rate and the weight decay of a classifier."""

    lr: float
    weight_decay: float


@dataclass(frozen=True, kw_only=True)
class Attentive(Protocol):
    """An attentive classifier is trained on the tokens of a frozen encoder, without augmentation:
    one query, cross-attention and an MLP (`AttentiveHeads`), by AdamW and a cosine from each
    learning rate to 0. Every class counts alike.

    All learning rates and weight decays are tried in one pass over four fifths of the samples to
    learn from. The best on the fifth that is held out is trained anew on all of them; no judged
    sample has a part in it. The authors of V-JEPA 2 report the best on the judged samples.

    Args:
        lr, weight_decay: that are tried, each with each.
        epochs: passes over the samples; more, where that would be fewer steps than `least_steps`.
        least_steps: steps below which a classifier has hardly begun; V-JEPA's sets are so large
            that an epoch has more.
        batch_size: samples in a step; 256 there, for sets of millions.
        heads: of attention; as many as divide the encoder's width.
        mlp_ratio: hidden features of the MLP, in units of the width.

    Raises:
        ValueError: a setting is out of range.
    """

    name: ClassVar[str] = "attentive"
    needs: ClassVar[Needs] = Needs("tokens", "classes")
    source: ClassVar[str] = "Assran et al. 2025, V-JEPA 2 (2506.09985), appendix; Bardes et al. 2024 (2404.08471)"
    lr: tuple[float, ...] = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4)
    weight_decay: tuple[float, ...] = (0.01, 0.1, 0.4, 0.8)
    epochs: int = 20
    least_steps: int = 1_000
    batch_size: int = 64
    heads: int = 16
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        for name, values in {"lr": self.lr, "weight_decay": self.weight_decay}.items():
            wrong = [each for each in values if not isinstance(each, int | float) or not 0 <= each < math.inf]
            if wrong or not values:
                raise ValueError(f"{name}={values!r} is not a list of numbers from 0 on; give some, such as [0.001].")
        for name in ("epochs", "least_steps", "batch_size", "heads", "mlp_ratio"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is too small; give 1 or more.")

    def passes(self, samples: int) -> int:
        """Passes over so many samples."""
        return max(self.epochs, -(-self.least_steps // -(-samples // self.batch_size)))

    def judge(self, train: Samples, test: Samples, seed: int = 0) -> Judgement:
        y, answers = train.target, test.target
        check_labels(y, answers, "judged")
        tokens: TokenStore = train.x
        grid = [Setting(*each) for each in product(self.lr, self.weight_decay)]
        best, remarks = grid[0], list(tokens.remarks)
        if len(grid) > 1:
            best, remark = self.choose(tokens, y, grid, seed)
            remarks.append(remark)
        heads = self.fit(tokens, y, torch.arange(len(y)), [best], int(max(y.max(), answers.max())) + 1, seed)
        seen = outcome(logits_of(heads, test.x)[0], answers)
        return Judgement({"accuracy": balanced_score([seen], answers)}, tuple(remarks))

    def choose(self, tokens: TokenStore, y: Tensor, grid: list[Setting], seed: int) -> tuple[Setting, str]:
        """The setting whose classifier is best on a fifth of the samples that is held out, of equal
        ones that with the lower loss, and a line on it.

        Args:
            tokens: of the samples to learn from.
            y: [M] their classes.
            grid: the P settings.
            seed: of what is held out, of the first weights and of the order.
        """
        learned, held_out = withhold_fifth(y, seed)
        if not len(held_out):
            raise ValueError("No class has two samples to learn from, so that none can be held out; give more.")
        heads = self.fit(tokens, y, learned, grid, int(y.max()) + 1, seed)
        answers = y[held_out]
        logits = logits_of(heads, tokens.at(held_out))  # [P, m, K]
        weights = class_weights(y[learned], logits.shape[2])[answers]
        losses = -(logits.double().log_softmax(2)[:, torch.arange(len(answers)), answers] * weights).mean(1)
        accuracies = [balanced(each.argmax(1) == answers, answers) for each in logits]
        best = max(range(len(grid)), key=lambda number: (accuracies[number], -float(losses[number])))
        line = (
            f"lr {grid[best].lr:g} and weight decay {grid[best].weight_decay:g} were the best of {len(grid)} settings"
            f" on {len(held_out):,} samples held out from those to learn from ({100 * accuracies[best]:.1f} %)."
        )
        return grid[best], line

    def fit(
        self, tokens: TokenStore, y: Tensor, index: Tensor, settings: list[Setting], num_classes: int, seed: int
    ) -> AttentiveHeads:
        """Trains a classifier for each setting, all on the same batches and from the same weights.

        Args:
            tokens: of samples.
            y: [M] their classes.
            index: [m] the samples that are learned from.
            settings: P of them.
            num_classes: K.
            seed: of the first weights and of the order.
        """
        device = tokens.device
        with seeded(torch.device("cpu"), seed):
            heads = AttentiveHeads(
                tokens.dim, num_classes, heads=self.heads, count=len(settings), seed=seed, device=device,
                mlp_ratio=self.mlp_ratio,
            )  # fmt: skip
            rates = torch.tensor(settings, dtype=torch.float64)  # [P, 2]
            optimizer = AdamW(heads.weights, rates[:, 0], rates[:, 1])
            weights = class_weights(y[index], num_classes)
            generator = torch.Generator().manual_seed(seed)
            epochs = self.passes(len(index))
            total = epochs * -(-len(index) // self.batch_size)
            for _ in range(epochs):
                for part in index[torch.randperm(len(index), generator=generator)].split(self.batch_size):
                    log_p = heads.logits(*tokens.batch(part)).log_softmax(2)  # [P, S, K]
                    label = y[part].to(device)
                    likelihood = log_p[:, torch.arange(len(part), device=device), label]
                    loss = -(likelihood * weights[y[part]].to(likelihood)).mean(1).sum()
                    optimizer.step(loss, (1 + math.cos(math.pi * optimizer.steps / total)) / 2)
        return heads


@torch.no_grad()
def logits_of(heads: AttentiveHeads, tokens: TokenStore) -> Tensor:
    """The logits [P, M, K] of samples, on the CPU."""
    parts = torch.arange(len(tokens)).split(JUDGED_AT_ONCE)
    return torch.cat([heads.logits(*tokens.batch(part)).cpu() for part in parts], dim=1)
