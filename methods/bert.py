"""BERT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssl_lightning import Batch, OptimizerSpec, SSLMethod, Step, TextEncoder, View, ViewSpec
from ssl_lightning.augment.random import fold, uniform
from ssl_lightning.distributed import reduce_sum
from ssl_lightning.encoders.base import pooled
from ssl_lightning.encoders.bert_huggingface import export_bert
from ssl_lightning.nn.losses.vocabulary import vocabulary_nll
from ssl_lightning.nn.masks.words import Hidden, TokenMasks
from ssl_lightning.nn.packing import swap_halves, unpacked
from ssl_lightning.nn.vocabulary import Vocabulary

STANDARD_RATIO = 0.15
"""Where runs with different ratios are compared."""
ORDER = 0x6F72646572
"""Keeps the draw of swapped samples apart from the masks."""


class BERT(SSLMethod):
    """Masked language modelling: hides some of the tokens and predicts them from the rest.

    Devlin, Chang, Lee and Toutanova, BERT: Pre-training of Deep Bidirectional Transformers for
    Language Understanding (2018), arXiv 1810.04805, Section 3.1 and Appendix A.1.

    Args:
        encoder: reads token ids; it is what the paper keeps.
        mask_ratio: part of the tokens that is predicted (0.15; 0.3 learns faster: Wettig et al.
            2022, arXiv 2202.08005). Of those 80 % are hidden, 10 % replaced by another token of the
            vocabulary, 10 % left.
        whole_words: whether all tokens of a word are predicted together.
        sentence_order: whether to learn besides which samples have their halves swapped (after Lan
            et al. 2019, arXiv 1909.11942, Section 3.1), which half of them have.
    """

    encoder: TextEncoder
    views = ViewSpec(full=1, strength="none")
    optimizer_specs: ClassVar = {
        "adamw": OptimizerSpec(
            "adamw", lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98), reference_batch=None, warmup_epochs=10
        ),
        "paper": OptimizerSpec(
            "adamw", lr=1e-4, weight_decay=0.01, reference_batch=None, warmup_epochs=0.4
        ),  # 10,000 of a million steps
    }

    def __init__(
        self,
        encoder: TextEncoder,
        *,
        mask_ratio: float = 0.15,
        whole_words: bool = False,
        sentence_order: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(encoder, **kwargs)
        if not isinstance(encoder, TextEncoder):
            raise TypeError(
                f"BERT needs an ssl_lightning.TextEncoder, such as TextTransformer, got a {type(encoder).__name__}."
            )
        if not 0 < mask_ratio < 1:
            raise ValueError(
                f"BERT(mask_ratio={mask_ratio}) is the part of the tokens to predict; give a number between 0 and 1."
            )
        self.mask_ratio = mask_ratio
        tokens, dim = encoder.embedding.weight.shape
        self.masks = TokenMasks(tokens, whole_words)
        self.head = nn.Sequential(nn.Linear(encoder.dim, dim), nn.GELU(), nn.LayerNorm(dim, eps=encoder.norm_eps))
        self.bias = nn.Parameter(torch.zeros(tokens))  # the projection itself is the encoder's table of tokens
        self.order = nn.Linear(encoder.dim, 1) if sentence_order else None

    def read_vocabulary(self, vocabulary: Vocabulary) -> None:
        self.masks.read(vocabulary)

    def export(self, folder: Path, artifacts: Mapping[str, str]) -> str:
        return export_bert(self, folder, artifacts.get("tokenizer.json"))

    def step(self, batch: Batch) -> Step:
        (view,) = batch["views"]
        swapped = uniform(fold(batch["key"], ORDER), 1)[:, 0] < 0.5
        view = view if self.order is None else swap_halves(view, swapped)
        hidden = self.masks.choose(view, batch["key"], self.mask_ratio)
        nll, correct, count, h = self.predict(view, self.masks.corrupt(view, batch["key"], hidden), hidden)
        some = count.clamp(min=1)  # a batch may have nothing to predict
        loss = nll / some
        logs = {"mlm": loss.detach(), "accuracy": correct / some, "perplexity": loss.detach().exp()}
        if self.order is not None:
            logit = self.order(pooled(h, view, first=True))[:, 0].float()
            logs["order"] = nn.functional.binary_cross_entropy_with_logits(logit, swapped.float())
            loss = loss + logs["order"]
        return {"loss": loss, "embeddings": pooled(h.detach(), view), "logs": logs, "weight": count}

    def predict(self, view: View, seen: View, hidden: Hidden) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sum of the negative log-likelihoods of the chosen tokens, how many of them are guessed,
        how many there are, and the contextual tokens [B, N, D] of what is seen."""
        h = self.encoder.mix(self.encoder.tokenize(seen))
        table, weight = self.encoder.embedding.weight, hidden.chosen.float()
        nll, correct = vocabulary_nll(self.head(hidden.take(h)), table, self.bias, hidden.take(view.x), weight)
        return nll, correct, weight.sum(), h

    def scores(self, batches: Iterable[Batch]) -> dict[str, Tensor]:
        """Loss, accuracy and perplexity at a ratio of 0.15, whatever is trained with, so that runs
        can be compared."""
        sums = torch.zeros(3, device=self.bias.device)
        for batch in batches:
            view, key = batch["views"][0], batch["key"]
            hidden = self.masks.choose(view, key, STANDARD_RATIO)
            sums += torch.stack(self.predict(view, self.masks.corrupt(view, key, hidden), hidden)[:3])
        nll, correct, count = reduce_sum(sums)
        count = count.clamp(min=1)
        return {"mlm": nll / count, "accuracy": correct / count, "perplexity": (nll / count).exp()}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Token ids [S, N]: the text, what the network saw of it, and its guesses in the hidden
        places."""
        (view,) = batch["views"]
        hidden = self.masks.choose(view, batch["key"], STANDARD_RATIO)
        seen = self.masks.hide(view, hidden)
        h = self.head(hidden.take(self.encoder.mix(self.encoder.tokenize(seen)))).float()
        scores = h @ self.encoder.embedding.weight.float().T + self.bias
        guess = scores.masked_fill(self.masks.special, -torch.inf).argmax(dim=1)  # padding would not be shown
        return {
            caption: unpacked(each)
            for caption, each in (("text", view), ("seen", seen), ("guessed", hidden.put(view, guess)))
        }
