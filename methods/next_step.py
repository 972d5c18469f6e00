"""Next-step prediction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ssl_lightning import Batch, OptimizerSpec, SequenceEncoder, SSLMethod, Step, View, ViewSpec
from ssl_lightning.distributed import reduce_sum
from ssl_lightning.encoders.base import pooled
from ssl_lightning.nn.precision import sum_dtype
from ssl_lightning.nn.skill import skill, wide
from ssl_lightning.plugins.arguments import require


class Ahead(NamedTuple):
    """Predictions, what they predict, and what is there n steps before, [S, N - n, P] each; `real`
    [S, N - n, 1] is 0 where a sample has ended."""

    predicted: Tensor
    future: Tensor
    now: Tensor
    real: Tensor

    def total(self, error: Tensor) -> Tensor:
        """Errors [S, N - n, P] -> the sum over tokens of their mean over P."""
        return (error * self.real).sum() / error.shape[2]


class NextStep(SSLMethod):
    """Autoregressive predictive coding: from the sound so far, the network predicts what comes a
    little later.

    Chung, Hsu, Tang and Glass, An Unsupervised Autoregressive Model for Speech Representation
    Learning (2019), arXiv 1904.03240, Section 2.2. Sound changes slowly, so that a prediction is
    measured against a baseline that repeats the present.

    Args:
        encoder: a causal one, whose tokens follow each other in time; it is what the paper keeps.
        steps: n, number of time steps ahead (Table 1: 3 frames suit phones best).
    """

    encoder: SequenceEncoder
    views = ViewSpec(full=1, strength="weak")
    suited_encoder_args: ClassVar = {"causal": True}
    optimizer_specs: ClassVar = {
        "adamw": OptimizerSpec(lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98), reference_batch=None, warmup_epochs=5)
    }

    def __init__(self, encoder: SequenceEncoder, *, steps: int = 3, **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        require(self, at_least=1, steps=steps)
        if not encoder.causal:
            raise ValueError(
                f"NextStep predicts from the past, and this {type(encoder).__name__} sees the future: set"
                " --model.encoder.causal true, or take an encoder that has it: --model.encoder frames."
            )
        self.steps = steps
        self.head = nn.Linear(encoder.dim, encoder.content_dim)

    def step(self, batch: Batch) -> Step:
        (view,) = batch["views"]
        ahead, embeddings = self.predict(view)
        count = ahead.real.sum()
        error, repeated = (ahead.total((each - ahead.future).abs()) for each in (ahead.predicted, ahead.now))
        logs = {"skill": skill(error.detach(), repeated)}
        return {"loss": error / count.clamp(min=1), "embeddings": embeddings, "logs": logs, "weight": count}

    def predict(self, view: View) -> tuple[Ahead, Tensor]:
        """Predictions for each token that has a future in its sample, and the mean contextual token
        of each sample [S, dim]."""
        tokens, first = self.encoder.tokenize(view), self.encoder.prefix
        h = self.encoder.mix(tokens)
        content = wide(self.encoder.content(view))  # [S, N, P]
        times, length = self.encoder.grid(view)[0], content.shape[1]
        if self.steps >= times:
            raise ValueError(
                f"NextStep(steps={self.steps}) looks beyond the end of views of {times} time steps; give fewer steps,"
                " or longer views."
            )
        n = self.steps * (length // times)
        predicted = wide(self.head(h[:, first : first + length - n]))
        real = torch.ones_like(content[:, n:, :1])
        if tokens.segment is not None:
            sample = tokens.segment[:, first:, None]
            real = ((sample[:, n:] == sample[:, :-n]) & (sample[:, n:] > 0)).to(content.dtype)
        return Ahead(predicted, content[:, n:], content[:, :-n], real), pooled(h.detach(), tokens)

    def scores(self, batches: Iterable[Batch]) -> dict[str, Tensor]:
        """`skill` against repeating the present, in absolute error, and `explained`: the part of
        the variance around each feature's mean that the prediction explains."""
        exact = sum_dtype(self.device)
        sums = torch.zeros(6, self.encoder.content_dim, device=self.device, dtype=exact)
        for batch in batches:
            (view,) = batch["views"]
            (predicted, future, now, real), _ = self.predict(view)
            error, repeated = predicted - future, now - future
            parts = (error.abs(), repeated.abs(), error.square(), future, future.square(), torch.ones_like(future))
            sums += torch.stack([(part * real).sum((0, 1), dtype=exact) for part in parts])
        error, repeated, squares, total, power, count = reduce_sum(sums)
        variance = power - total.square() / count.clamp(min=1)  # around the mean
        return {
            "skill": skill(error.sum(), repeated.sum()).float(),
            "explained": skill(squares.sum(), variance.sum()).float(),
        }
