"""BERT."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ssl_lightning import Batch, OptimizerSpec, SSLMethod, Step, TextEncoder, View, ViewSpec
from ssl_lightning.augment.random import fold, uniform
from ssl_lightning.distributed import reduce_sum
from ssl_lightning.encoder import pooled
from ssl_lightning.losses import vocabulary_nll
from ssl_lightning.masking import masked_tokens, place_keys, segments, take
from ssl_lightning.packing import swap_halves, unpacked
from ssl_lightning.vocabulary import Vocabulary

CHOICE, REPLACEMENT, ORDER = range(3)
"""What a place's random numbers are for."""
STANDARD_RATIO = 0.15
"""Where losses of runs with different ratios are compared."""


class BERT(SSLMethod):
    """Masked language modelling: hides some of the tokens and predicts them from the rest.

    Devlin, Chang, Lee and Toutanova, BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding (2018),
    arXiv 1810.04805, Section 3.1 and Appendix A.1.

    Args:
        encoder: reads token ids; it is what the paper keeps.
        mask_ratio: part of the tokens that is predicted (0.15; 0.3 learns faster: Wettig et al. 2022, arXiv 2202.08005). Of those 80 %
            are hidden, 10 % replaced by another token of the vocabulary, 10 % left.
        whole_words: whether all tokens of a word are predicted together.
        sentence_order: whether to learn besides which samples have their halves swapped (after Lan et al. 2019, arXiv 1909.11942,
            Section 3.1), which half of them have.
    """

    encoder: TextEncoder
    views = ViewSpec(full=1, strength="none")
    optimizer_specs: ClassVar = {
        "adamw": OptimizerSpec("adamw", lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98), reference_batch=None, warmup_epochs=10),
        "paper": OptimizerSpec("adamw", lr=1e-4, weight_decay=0.01, reference_batch=None, warmup_epochs=0.4),  # 10,000 of a million steps
    }
    special: Tensor
    continues: Tensor
    mask: Tensor

    def __init__(
        self, encoder: TextEncoder, *, mask_ratio: float = 0.15, whole_words: bool = False, sentence_order: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(encoder, **kwargs)
        if not isinstance(encoder, TextEncoder):
            raise TypeError(f"BERT needs an ssl_lightning.TextEncoder, such as TextTransformer, got a {type(encoder).__name__}.")
        if not 0 < mask_ratio < 1:
            raise ValueError(f"BERT(mask_ratio={mask_ratio}) is the part of the tokens to predict; give a number between 0 and 1.")
        self.mask_ratio, self.whole_words, self.sentence_order = mask_ratio, whole_words, sentence_order
        tokens, dim = encoder.embedding.weight.shape
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim, eps=1e-6))
        self.bias = nn.Parameter(torch.zeros(tokens))  # the projection itself is the encoder's table of tokens
        self.order = nn.Linear(dim, 1) if sentence_order else None
        self.read_vocabulary(Vocabulary.plain(tokens))

    def read_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Takes over which tokens are special, which go on with a word, and which one hides the others."""
        beyond = len(self.bias) - len(vocabulary)  # rows of the table that no token has
        self.register_buffer("special", nn.functional.pad(vocabulary.special, (0, beyond), value=True).to(self.bias.device))
        self.register_buffer("continues", nn.functional.pad(vocabulary.continues, (0, beyond)).to(self.bias.device))
        self.register_buffer("mask", torch.tensor(vocabulary.mask, device=self.bias.device))

    def step(self, batch: Batch) -> Step:
        (view,) = batch["views"]
        logs: dict[str, Tensor] = {}
        swapped = None
        if self.order is not None:
            swapped = uniform(fold(batch["key"], ORDER), 1)[:, 0] < 0.5
            view = swap_halves(view, swapped)
        nll, correct, count, h = self.predict(view, batch["key"], self.mask_ratio)
        loss = logs["mlm"] = nll / count
        logs |= {"accuracy": correct / count, "perplexity": loss.detach().exp()}
        if self.order is not None and swapped is not None:
            logit = self.order(pooled(h, view, first=True))[:, 0].float()
            logs["order"] = nn.functional.binary_cross_entropy_with_logits(logit, swapped.float())
            loss = loss + logs["order"]
        return {"loss": loss, "embeddings": pooled(h, view), "logs": logs, "weight": count / segments(view).numel()}

    def predict(self, view: View, key: Tensor, ratio: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sum of the negative log-likelihoods of the predicted tokens, how many of them are right, how many there are, and the
        contextual tokens [B, N, D]."""
        places, chosen = self.choose(view, key, ratio)
        h = self.encoder.mix(self.encoder.tokenize(self.corrupt(view, key, places, chosen)))
        guess, target = take(h, places).flatten(0, 1), view.x.gather(1, places).flatten()
        nll, correct = vocabulary_nll(self.head(guess), self.encoder.embedding.weight, self.bias, target, chosen.flatten().float())
        return nll, correct, chosen.sum().clamp(min=1), h

    def choose(self, view: View, key: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
        """Places [B, K] of tokens to predict, and whether each is one [B, K]; special tokens and padding never are."""
        number = uniform(place_keys(view, key, CHOICE).flatten(), 1).view_as(view.x)
        maskable = (segments(view) > 0) & ~self.special[view.x]
        return masked_tokens(number, maskable, ratio, self.continues[view.x] if self.whole_words else None)

    def corrupt(self, view: View, key: Tensor, places: Tensor, chosen: Tensor) -> View:
        """The view with the chosen tokens hidden (80 %), replaced (10 %) or left (10 %)."""
        keys = place_keys(view, key, REPLACEMENT).gather(1, places)
        fate, which = uniform(keys.flatten(), 2).view(*places.shape, 2).unbind(2)
        ordinary = (~self.special).cumsum(0)  # how many tokens of text have an id up to this one
        other = torch.searchsorted(ordinary, (which * ordinary[-1]).long() + 1)
        true = view.x.gather(1, places)
        seen = torch.where(fate < 0.8, self.mask, torch.where(fate < 0.9, other, true))
        return view._replace(x=view.x.scatter(1, places, torch.where(chosen, seen, true)))

    def scores(self, batches: Iterable[Batch]) -> dict[str, Tensor]:
        """Loss, accuracy and perplexity at a ratio of 0.15, whatever is trained with, so that runs can be compared."""
        sums = torch.zeros(3, device=self.bias.device)
        for batch in batches:
            sums += torch.stack(self.predict(batch["views"][0], batch["key"], STANDARD_RATIO)[:3])
        nll, correct, count = reduce_sum(sums)
        return {"mlm": nll / count, "accuracy": correct / count, "perplexity": (nll / count).exp()}

    def pictures(self, batch: Batch) -> dict[str, Tensor]:
        """The token ids [S, N] of each sample, as the network saw them, and with its guesses in the hidden places."""
        (view,) = batch["views"]
        places, chosen = self.choose(view, batch["key"], STANDARD_RATIO)
        true = view.x.gather(1, places)
        hidden = view._replace(x=view.x.scatter(1, places, torch.where(chosen, self.mask, true)))
        h = self.head(take(self.encoder.mix(self.encoder.tokenize(hidden)), places)).float()
        guess = (h @ self.encoder.embedding.weight.float().T + self.bias).argmax(dim=2)
        guessed = view._replace(x=view.x.scatter(1, places, torch.where(chosen, guess, true)))
        return {caption: unpacked(each) for caption, each in (("text", view), ("seen", hidden), ("predicted", guessed))}
