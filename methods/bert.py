"""BERT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssl_lightning import Batch, OptimizerSpec, SSLMethod, Step, TextEncoder, View, ViewSpec
from ssl_lightning.augment.random import fold, uniform
from ssl_lightning.distributed import total
from ssl_lightning.encoders.base import pooled, prediction_head
from ssl_lightning.encoders.bert_huggingface import export_bert
from ssl_lightning.nn.losses.vocabulary import vocabulary_nll
from ssl_lightning.nn.masks.words import NOTHING_HIDDEN, Hidden, TokenMasks
from ssl_lightning.nn.packing import swap_halves, unpacked
from ssl_lightning.nn.vocabulary import Vocabulary
from ssl_lightning.plugins.arguments import require

STANDARD_RATIO = 0.15
"""The ratio at which runs with different ratios are compared."""
LINEAR = OptimizerSpec(lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98), reference_batch=None, schedule="linear")
ORDER = 0x6F72646572
"""Separates the draw of swapped samples from that of the masks."""


class BERT(SSLMethod):
    """Masked language modelling: some of the tokens are hidden, and predicted from the rest.

    Devlin, Chang, Lee and Toutanova, BERT: Pre-training of Deep Bidirectional Transformers for
    Language Understanding (2018), arXiv 1810.04805, Section 3.1 and Appendix A.1.

    Args:
        encoder: reads token ids; it is what the paper keeps.
        mask_ratio: part of the tokens that is predicted (0.15; 0.3 learns faster: Wettig et al.
            2022, arXiv 2202.08005). Of those 80 % are hidden, 10 % replaced by another token of the
            vocabulary, 10 % left.
        whole_words: whether all tokens of a word are predicted together.
        sentence_order: whether half of the samples have their halves swapped, and the method also
            learns which (after Lan et al. 2019, arXiv 1909.11942, Section 3.1).
    """

    encoder: TextEncoder
    views = ViewSpec(full=1, strength="none")
    alarms = (NOTHING_HIDDEN,)
    optimizer_specs: ClassVar = {
        "adamw": LINEAR,
        "paper": LINEAR.with_changes(lr=1e-4, betas=(0.9, 0.999), warmup_epochs=0.4, recipe_epochs=40),  # A.2
    }

    def __init__(
        self, encoder: TextEncoder, *, mask_ratio: float = 0.15, whole_words: bool = False,
        sentence_order: bool = False, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(encoder, **kwargs)
        require(self, above=0, below=1, mask_ratio=mask_ratio)
        self.mask_ratio, self.answers = mask_ratio, encoder.embedding.num_embeddings * (1 + sentence_order)
        self.masks = TokenMasks(encoder.embedding.num_embeddings, whole_words)
        self.head, bias = prediction_head(encoder)
        self.bias = nn.Parameter(bias)  # the projection itself is the encoder's table of tokens
        self.order = nn.Linear(encoder.dim, 1) if sentence_order else None

    def read_vocabulary(self, vocabulary: Vocabulary) -> None:
        self.masks.read(vocabulary)

    def export(self, folder: Path, artifacts: Mapping[str, str]) -> str:
        return export_bert(self, folder, artifacts.get("tokenizer.json"))

    def step(self, batch: Batch) -> Step:
        view, swapped = self.ordered(batch)
        nll, correct, count, h = self.predict(view, *self.masks.given(view, batch["key"], self.mask_ratio))
        loss = nll / (at_least_one := count.clamp(min=1))  # a batch may have nothing to predict
        logs = {"mlm": loss.detach(), "accuracy": correct / at_least_one, "perplexity": loss.detach().exp()}
        step: Step = {"loss": loss, "weight": count, "embeddings": pooled(h.detach(), view)}
        if self.order is not None:
            logit = self.order(pooled(h, view, first=True))[:, 0].float()
            order = nn.functional.binary_cross_entropy_with_logits(logit, swapped.float())
            step |= {"loss": loss + order, "losses": {"mlm": (loss, count), "order": (order, len(logit))}}
        return {**step, "logs": {**logs, "hidden": count}}

    def ordered(self, batch: Batch) -> tuple[View, Tensor]:
        """The view, and whose halves [S] are swapped in it where their order is learned."""
        (view,), swapped = batch["views"], uniform(fold(batch["key"], ORDER), 1)[:, 0] < 0.5
        return view if self.order is None else swap_halves(view, swapped), swapped

    def corrupted(self, batch: Batch) -> dict[str, Tensor]:
        return {"seen": unpacked(self.masks.given(self.ordered(batch)[0], batch["key"], self.mask_ratio)[0])}

    def predict(self, view: View, seen: View, hidden: Hidden) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the sum of the negative log-likelihoods of the chosen tokens, how many of them
        are predicted correctly, how many there are, and the contextual tokens [B, N, D]."""
        h = self.encoder.mix(self.encoder.tokenize(seen))
        table, weight = self.encoder.embedding.weight, hidden.chosen.float()
        nll, correct = vocabulary_nll(self.head(hidden.take(h)), table, self.bias, hidden.take(view.x), weight)
        return nll, correct, weight.sum(), h

    def scores(self, batches: Iterable[Batch]) -> dict[str, Tensor]:
        """Loss, accuracy and perplexity at a ratio of 0.15, so that runs can be compared."""

        def sums(batch: Batch) -> Tensor:
            (view,) = batch["views"]
            return torch.stack(self.predict(view, *self.masks.given(view, batch["key"], STANDARD_RATIO))[:3])

        nll, correct, count = total(map(sums, batches), 3, self.bias.device)
        count = count.clamp(min=1)
        return {"mlm": nll / count, "accuracy": correct / count, "perplexity": (nll / count).exp()}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """Token ids [S, N]: the text, what the network saw of it, and its guesses."""
        (view,) = batch["views"]
        hidden = self.masks.choose(view, batch["key"], STANDARD_RATIO)
        h = self.encoder.mix(self.encoder.tokenize(seen := self.masks.hide(view, hidden)))
        scores = self.head(hidden.take(h)).float() @ self.encoder.embedding.weight.float().T + self.bias
        guess = scores.masked_fill(self.masks.special, -torch.inf).argmax(dim=1)  # padding would not be shown
        shown = {"text": view, "seen": seen, "guessed": hidden.put(view, guess)}
        return {caption: unpacked(each) for caption, each in shown.items()}
