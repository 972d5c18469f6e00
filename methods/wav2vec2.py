"""wav2vec 2.0."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ssl_lightning import Batch, OptimizerSpec, SSLMethod, Step, View, ViewSpec, WaveEncoder
from ssl_lightning.distributed import total
from ssl_lightning.encoders.base import pooled
from ssl_lightning.nn.losses.contrastive import quantized_nce
from ssl_lightning.nn.masks.spans import Spans, others, span_masks
from ssl_lightning.nn.masks.tokens import lengths, mean_square
from ssl_lightning.nn.quantizer import ProductQuantizer, Quantized, usage
from ssl_lightning.nn.spread import spread
from ssl_lightning.plugins.arguments import require
from ssl_lightning.types import Alarm, Tokens


class Compared(NamedTuple):
    nll: Tensor  # summed over hidden tokens
    correct: Tensor  # how many of them
    spans: Spans
    codes: Quantized  # of hidden tokens, [S, M, ...]
    features: Tokens  # of the stem [S, N, P]
    targets: Tensor  # [S, M, D]
    embeddings: Tensor  # [S, dim]


class Wav2Vec2(SSLMethod):
    """Masked prediction of waves: the context of a hidden token picks its quantized target.

    Baevski, Zhou, Mohamed and Auli, wav2vec 2.0: A Framework for Self-Supervised Learning of Speech
    Representations (2020), arXiv 2006.11477, Sections 2, 3 and 4.2, and Appendix A.

    Args:
        encoder: reads waves; it is what the paper keeps.
        mask_ratio, mask_length: part of the tokens that spans would hide if none overlapped, and
            length of a span; 0.65 and 10 hide half of the tokens.
        negatives, temperature: number of other tokens' targets, and what divides the similarities.
        codebooks, entries, target_dim: number of codebooks, entries of each, length of a target.
        gumbel_temperature: of the quantizer's softmax, at the start and from 70 % of the run on.
        diversity: weight of Equation 4, on unused entries; at the paper's 0.1 short runs collapse.
        feature_penalty, stem_gradient: weight of the stem's mean square, factor on its gradient.
    """

    encoder: WaveEncoder
    views = ViewSpec(full=1, strength="weak")
    optimizer_specs: ClassVar = {
        "adamw": OptimizerSpec(lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98), reference_batch=None, schedule="linear"),
    }
    # Section 4.2: the warm-up is the first 8 % of 400,000 steps, which are 667 epochs.
    optimizer_specs["paper"] = optimizer_specs["adamw"].with_changes(lr=5e-4, warmup_epochs=53, recipe_epochs=667)

    def __init__(
        self, encoder: WaveEncoder, *, mask_ratio: float = 0.65, mask_length: int = 10, negatives: int = 100,
        temperature: float = 0.1, codebooks: int = 2, entries: int = 320, target_dim: int = 256,
        gumbel_temperature: tuple[float, float] = (2.0, 0.5), diversity: float = 0.5, feature_penalty: float = 10.0,
        stem_gradient: float = 0.1, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(encoder, **kwargs)
        require(self, above=0, below=1, mask_ratio=mask_ratio)
        require(self, above=0, at_most=1e5, mask_length=mask_length, negatives=negatives, temperature=temperature)
        require(self, at_least=0, diversity=diversity, feature_penalty=feature_penalty, stem_gradient=stem_gradient)
        self.mask_ratio, self.mask_length, self.temperature = mask_ratio, mask_length, temperature
        self.negatives, self.answers, self.diversity = negatives, 1 + negatives, diversity
        self.feature_penalty, self.stem_gradient = feature_penalty, stem_gradient
        self.mask_token = nn.Parameter(torch.rand(encoder.dim))
        self.quantizer = ProductQuantizer(encoder.features_dim, codebooks, entries, target_dim, gumbel_temperature)
        self.target, self.predict = nn.Linear(target_dim, target_dim), nn.Linear(encoder.dim, target_dim)
        self.alarms = (
            Alarm("code_perplexity", "nearly all sounds get one code", "Raise --model.diversity or lower --model.lr",
                  low=2.0 * codebooks),
            Alarm("masked", "too few or too many tokens are hidden", "Change --model.mask_ratio or --model.mask_length",
                  low=0.1, high=0.9),
            Alarm("target_deviation", "the targets are alike", "Lower --model.feature_penalty or --model.lr", low=0.05),
        )  # fmt: skip
        self.couples_samples = "a batch is to use all codes (but with --model.diversity 0)" if diversity else ""

    def step(self, batch: Batch) -> Step:
        result = self.compare(batch["views"][0], batch["key"], noise=True)
        count = (real := result.spans.real).sum().clamp(min=1)  # real: [S, M]
        penalty = (mean_square(result.features) * real.sum(1)).sum() / count  # weighed by hidden tokens, as the loss
        used = usage(result.codes, real)
        loss = result.nll / count + self.diversity * used.unused + self.feature_penalty * penalty
        logs = {
            "contrastive": result.nll / count, "accuracy": result.correct / count, "feature_penalty": penalty,
            "prob_perplexity": used.probable, "code_perplexity": used.chosen, "codes_used": used.share,
            "masked": count / lengths(result.features).sum(),
            "target_deviation": spread(result.targets.detach().flatten(0, 1), real.flatten()),
            "gumbel_temperature": self.quantizer.temperature_at(self.progress),
        }  # fmt: skip
        return {"loss": loss, "embeddings": result.embeddings, "logs": logs, "weight": count}

    def compare(self, view: View, key: Tensor, noise: bool) -> Compared:
        """Hides tokens, and compares what the network says of them with their targets; with noise
        on the choice of codes, or without."""
        features = (stem := self.encoder.stem(view))._replace(x=stem.x.detach().lerp(stem.x, self.stem_gradient))
        spans = span_masks(key, lengths(features), features.x.shape[1], self.mask_ratio, self.mask_length)
        tokens = self.encoder.embed(normed := self.encoder.normed(features))
        h = self.encoder.mix(tokens._replace(x=spans.hide(tokens.x, self.mask_token)))
        codes = self.quantizer(spans.take(normed.x), self.progress, spans.keys(key) if noise else None)
        c, q = self.predict(spans.take(h)), self.target(codes.vector)  # [S, M, D] each
        sums = quantized_nce(c, q, codes.code, others(key, spans.real, self.negatives), spans.real, self.temperature)
        return Compared(*sums, spans, codes, features, q, pooled(h.detach(), tokens))

    def corrupted(self, batch: Batch) -> dict[str, Tensor]:
        view, spans = batch["views"][0], self.compare(batch["views"][0], batch["key"], noise=False).spans
        return {"masked": self.encoder.restore(spans.blank(self.encoder.content(view)), view)}

    def scores(self, batches: Iterable[Batch]) -> dict[str, Tensor]:
        """Contrastive loss and accuracy, with the most probable codes."""
        results = (self.compare(batch["views"][0], batch["key"], noise=False) for batch in batches)
        sums = (torch.stack([each.nll, each.correct, each.spans.real.sum()]) for each in results)
        nll, correct, count = total(sums, 3, self.mask_token.device)
        return {"contrastive": nll / count, "accuracy": correct / count}
