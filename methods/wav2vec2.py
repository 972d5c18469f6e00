"""wav2vec 2.0."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ssl_lightning import Batch, OptimizerSpec, SSLMethod, Step, View, ViewSpec, WaveEncoder
from ssl_lightning.augment.random import fold
from ssl_lightning.distributed import total
from ssl_lightning.encoders.base import pooled
from ssl_lightning.nn.losses.contrastive import quantized_nce
from ssl_lightning.nn.masks.spans import Spans, others, span_masks
from ssl_lightning.nn.masks.tokens import lengths, mean_square
from ssl_lightning.nn.quantizer import ProductQuantizer, Quantized, usage
from ssl_lightning.nn.spread import spread
from ssl_lightning.types import Alarm, Tokens

NOISE = 0x6E6F697365  # keeps the quantizer's noise apart from masks and negatives


class Compared(NamedTuple):
    nll: Tensor  # summed over hidden tokens
    correct: Tensor  # how many of them
    spans: Spans
    codes: Quantized  # of hidden tokens, [S M, ...]
    found: Tokens  # what the stem found [S, N, P]
    targets: Tensor  # [S, M, D]
    embeddings: Tensor  # [S, dim]


class Wav2Vec2(SSLMethod):
    """Hides spans of a wave's tokens, and tells from their context which of several quantized
    targets each was.

    Baevski, Zhou, Mohamed and Auli, wav2vec 2.0: A Framework for Self-Supervised Learning of Speech
    Representations (2020), arXiv 2006.11477, Sections 2 and 3; defaults of Section 4.2 and Appendix
    A.

    Args:
        encoder: reads waves; it is what the paper keeps.
        mask_ratio: part of the tokens that spans would hide if none overlapped; 0.65 with spans of
            10 hides half of them.
        mask_length: of a span, in tokens.
        negatives, temperature: how many others a target is told from, and what divides the
            similarities.
        codebooks, entries: of the quantizer, and of each of its codebooks.
        target_dim: numbers of a target.
        gumbel_temperature: of the quantizer's softmax, at the beginning and from 70 % of the run
            on.
        diversity: weight of the loss that keeps all entries in use (Equation 4; the paper's 0.1 let
            short runs collapse).
        feature_penalty: weight of the mean square of what the encoder's stem finds.
        stem_gradient: what the stem's gradient is multiplied by.
    """

    encoder: WaveEncoder
    views = ViewSpec(full=1, strength="weak")
    optimizer_specs: ClassVar = {
        "adamw": OptimizerSpec(
            "adamw", lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98), reference_batch=None, warmup_epochs=10
        ),
        "paper": OptimizerSpec(
            "adamw", lr=5e-4, weight_decay=0.01, betas=(0.9, 0.98), reference_batch=None, warmup_epochs=32
        ),
    }

    def __init__(
        self, encoder: WaveEncoder, *, mask_ratio: float = 0.65, mask_length: int = 10, negatives: int = 100, temperature: float = 0.1,
        codebooks: int = 2, entries: int = 320, target_dim: int = 256, gumbel_temperature: tuple[float, float] = (2.0, 0.5),
        diversity: float = 0.5, feature_penalty: float = 10.0, stem_gradient: float = 0.1, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(encoder, **kwargs)
        if not isinstance(encoder, WaveEncoder):
            raise TypeError(
                f"Wav2Vec2 needs an ssl_lightning.WaveEncoder, such as WaveTransformer, got a {type(encoder).__name__}."
            )
        if (
            not 0 < mask_ratio < 1
            or min(mask_length, negatives, temperature) <= 0
            or min(diversity, feature_penalty, stem_gradient) < 0
        ):
            given = (
                f"{mask_ratio=}, {mask_length=}, {negatives=}, {temperature=}, {diversity=}, {feature_penalty=},"
                f" {stem_gradient=}"
            )
            raise ValueError(f"Wav2Vec2({given}): a ratio in (0, 1), positive numbers, and weights of at least 0.")
        self.mask_ratio, self.mask_length, self.negatives, self.temperature = (
            mask_ratio,
            mask_length,
            negatives,
            temperature,
        )
        self.diversity, self.feature_penalty, self.stem_gradient = diversity, feature_penalty, stem_gradient
        self.mask_token = nn.Parameter(torch.rand(encoder.dim))
        self.quantizer = ProductQuantizer(encoder.features_dim, codebooks, entries, target_dim, gumbel_temperature)
        self.target, self.predict = nn.Linear(target_dim, target_dim), nn.Linear(encoder.dim, target_dim)
        self.alarms = (
            Alarm(
                "code_perplexity",
                "nearly all sounds get one code",
                "Raise --model.diversity or lower --model.lr",
                low=2.0 * codebooks,
            ),
            Alarm(
                "masked",
                "too few or too many tokens are hidden",
                "Change --model.mask_ratio or --model.mask_length",
                low=0.1,
                high=0.9,
            ),
            Alarm(
                "target_deviation", "the targets hardly differ", "Lower --model.feature_penalty or --model.lr", low=0.05
            ),
        )
        self.couples_samples = (
            "its codes are to be in use over a whole batch (but with --model.diversity 0)" if diversity else ""
        )

    def step(self, batch: Batch) -> Step:
        made = self.compare(batch["views"][0], batch["key"], noise=True)
        hidden = made.spans.real.sum(1)  # [S]
        count = hidden.sum().clamp(min=1)
        penalty = (
            mean_square(made.found) * hidden
        ).sum() / count  # a sample counts by its hidden tokens, as it does in the loss
        used = usage(made.codes, made.spans.real.flatten())
        loss = made.nll / count + self.diversity * used.unused + self.feature_penalty * penalty
        logs = {
            "contrastive": made.nll.detach() / count, "accuracy": made.correct / count, "feature_penalty": penalty.detach(),
            "prob_perplexity": used.probable, "code_perplexity": used.chosen, "codes_used": used.share, "masked": count / lengths(made.found).sum(),
            "target_deviation": spread(made.targets.detach().flatten(0, 1), made.spans.real.flatten()),
            "gumbel_temperature": self.quantizer.temperature_at(self.progress),
        }  # fmt: skip
        return {"loss": loss, "embeddings": made.embeddings, "logs": logs, "weight": count}

    def compare(self, view: View, key: Tensor, noise: bool) -> Compared:
        """Hides tokens, and looks for their targets from their context; with noise on the choice of
        codes, or without."""
        found = self.encoder.stem(view)
        found = found._replace(x=torch.lerp(found.x.detach(), found.x, self.stem_gradient))
        spans = span_masks(key, lengths(found), found.x.shape[1], self.mask_ratio, self.mask_length)
        tokens = self.encoder.embed(normed := self.encoder.normed(found))
        h = self.encoder.mix(
            tokens._replace(x=torch.where(spans.hidden[:, :, None], self.mask_token.to(tokens.x.dtype), tokens.x))
        )
        keys = spans.keys(fold(key, NOISE)).flatten() if noise else None
        codes = self.quantizer(spans.take(normed.x).flatten(0, 1), self.progress, keys)
        c, q = self.predict(spans.take(h)), self.target(codes.vector).unflatten(0, spans.place.shape)
        code, other = codes.code.unflatten(0, spans.place.shape), others(key, spans.real, self.negatives)
        similar = quantized_nce(c, q, code, other, spans.real, self.temperature)
        return Compared(*similar, spans, codes, found, q, pooled(h.detach(), tokens))

    def scores(self, batches: Iterable[Batch]) -> dict[str, Tensor]:
        """Contrastive loss and accuracy, with the most probable codes."""
        made = (self.compare(batch["views"][0], batch["key"], noise=False) for batch in batches)
        sums = (torch.stack([each.nll, each.correct, each.spans.real.sum()]) for each in made)
        nll, correct, count = total(sums, 3, self.mask_token.device)
        return {"contrastive": nll / count, "accuracy": correct / count}
