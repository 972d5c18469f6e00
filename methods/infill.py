"""Infilling of sound."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ssl_lightning import Batch, OptimizerSpec, SequenceEncoder, SSLMethod, Step, View, ViewSpec
from ssl_lightning.distributed import total
from ssl_lightning.encoders.base import pooled
from ssl_lightning.nn.masks.gaps import interpolated, random_gaps
from ssl_lightning.nn.skill import skill, wide
from ssl_lightning.plugins.arguments import require

STANDARD = (0.3, 1)
"""The span and the number of gaps at which runs with others are compared."""


class Filled(NamedTuple):
    """Contents [S, N, P]: the true ones, interpolated across a gap, and predicted; `hidden`
    [S, N, 1] is 1 in a gap. `embeddings` [S, dim] is the mean contextual token, `seen` the view,
    NaN in a gap."""

    content: Tensor
    interpolated: Tensor
    predicted: Tensor
    hidden: Tensor
    embeddings: Tensor
    seen: Tensor

    def error(self, guess: Tensor) -> Tensor:
        """The sum over hidden tokens of their mean absolute error."""
        return ((guess - self.content).abs() * self.hidden).sum() / guess.shape[2]


class Infill(SSLMethod):
    """Infilling: a stretch of sound is taken out, and predicted from what is around it.

    Marafioti, Perraudin, Holighaus and Majdak, A Context Encoder for Audio Inpainting (2018), arXiv
    1810.12138, here as hidden tokens of a transformer (Liu et al. 2020, Mockingjay, arXiv
    1910.12638, Section 2.2, with its absolute error).

    The gap is blank in the view itself, before it becomes tokens: where windows overlap, no token
    holds any of it. A learned token is added there to what the blank and its position give.

    Args:
        encoder: sees the sound with its gaps.
        span: part of a recording that is taken out.
        gaps: number of stretches, each in its own part of the recording; sound remains on both
            sides of each.
    """

    encoder: SequenceEncoder
    views = ViewSpec(full=1, strength="weak")
    optimizer_specs: ClassVar = {
        "adamw": OptimizerSpec(lr=1e-3, weight_decay=0.05, betas=(0.9, 0.95), reference_batch=None, warmup_epochs=5)
    }

    def __init__(self, encoder: SequenceEncoder, *, span: float = 0.3, gaps: int = 1, **kwargs: Any) -> None:
        super().__init__(encoder, **kwargs)
        require(self, above=0, below=1, span=span)
        require(self, at_least=1, at_most=1_000, gaps=gaps)
        self.span, self.gaps = span, gaps
        self.mask_token = nn.Parameter(torch.randn(encoder.dim) * 0.02)
        self.head = nn.Linear(encoder.dim, encoder.content_dim)

    def step(self, batch: Batch) -> Step:
        (view,) = batch["views"]
        result = self.fill(view, batch["key"], self.span, self.gaps)
        error, count = result.error(result.predicted), result.hidden.sum()
        logs = {"skill": skill(error.detach(), result.error(result.interpolated))}
        return {"loss": error / count.clamp(min=1), "embeddings": result.embeddings, "logs": logs, "weight": count}

    def fill(self, view: View, key: Tensor, span: float, gaps: int) -> Filled:
        """Takes gaps out of a view and fills them in."""
        content, first = self.encoder.content(view), self.encoder.prefix
        hidden = random_gaps(key, self.lengths(view, content.shape[1]), content.shape[1], span, gaps)[:, :, None]
        blank = view._replace(x=torch.zeros_like(view.x))
        gone = self.encoder.restore(hidden.expand_as(content).to(view.x.dtype), blank) > 0  # of the shape of view.x
        tokens = self.encoder.tokenize(view._replace(x=view.x.masked_fill(gone, 0.0)))
        marked = tokens.x[:, first:] + hidden * self.mask_token
        h = self.encoder.mix(tokens._replace(x=torch.cat([tokens.x[:, :first], marked], dim=1)))
        line = self.encoder.content(view._replace(x=interpolated(view.x, gone)))
        content, line, predicted = (wide(each) for each in (content, line, self.head(h[:, first:])))
        seen = view.x.masked_fill(gone, torch.nan)
        return Filled(content, line, predicted, hidden.to(content.dtype), pooled(h.detach(), tokens), seen)

    @torch.no_grad()
    def lengths(self, view: View, tokens: int) -> Tensor:
        """Tokens of each row that are not padding, [S]."""
        if view.segment is None:
            return torch.full((len(view.x),), tokens, device=view.x.device)
        segment = self.encoder.tokenize(view).segment
        assert segment is not None
        return (segment[:, self.encoder.prefix :] > 0).sum(1)

    def scores(self, batches: Iterable[Batch]) -> dict[str, Tensor]:
        """`skill` against interpolation, in absolute error, for one gap of 0.3 of the sound,
        whatever the training's are, so that runs can be compared; and this `error`."""

        def sums(batch: Batch) -> Tensor:
            result = self.fill(batch["views"][0], batch["key"], *STANDARD)
            return torch.stack([result.error(result.predicted), result.error(result.interpolated), result.hidden.sum()])

        error, interpolated, count = total(map(sums, batches), 3, self.device)
        return {"skill": skill(error, interpolated), "error": error / count.clamp(min=1)}

    def corrupted(self, batch: Batch) -> dict[str, Tensor]:
        return {"gap": self.fill(batch["views"][0], batch["key"], self.span, self.gaps).seen}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """The view, with its gap, with the gap interpolated, and as it is predicted."""
        (view,) = batch["views"]
        content, line, filled, hidden, _, seen = self.fill(view, batch["key"], *STANDARD)
        line, filled = (self.encoder.restore(torch.where(hidden > 0, each, content), view) for each in (line, filled))
        return {"original": view.x, "gap": seen, "interpolated": line, "infilled": filled}
