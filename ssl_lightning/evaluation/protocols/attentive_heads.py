"""Attentive classifiers, several of one architecture at once on the same tokens.

Notation for shapes: P classifiers, S samples, N tokens, D features, H attention heads of D / H
features, K classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

EPS = 1e-5
"""What layer norms add to a variance."""
BETAS, ADAM_EPS = (0.9, 0.999), 1e-8
DECAYED = ("query", "to_query", "to_key", "to_value", "out", "up", "down", "classes")
"""The weights that decay: no biases, and no norms."""


class AttentiveHeads:
    """P classifiers of tokens: one learned query attends to the tokens, which are normed, and is
    followed by an MLP and a linear layer (Bardes et al. 2024, V-JEPA, arXiv 2404.08471, Section 3.3
    and the authors' `AttentiveClassifier` of depth 1). All start from the same weights.

    A bias of the keys would add the same to all tokens' logits, and is left out. Since there is one
    query, keys and values need not be computed of each token: the query goes through the keys'
    weights, and the values' weights apply to the weighted mean of tokens.

    Args:
        dim: D.
        num_classes: K.
        heads: at most this many attention heads: the most that divide D.
        count: P.
        seed: of the first weights.
        device: where they are.
        mlp_ratio: hidden features of the MLP, in units of D.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        heads: int = 16,
        count: int = 1,
        seed: int = 0,
        device: torch.device | str = "cpu",
        mlp_ratio: int = 4,
    ) -> None:
        self.heads = max(number for number in range(1, heads + 1) if dim % number == 0)
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int, scale: float = 1.0) -> Tensor:
            weight = torch.nn.init.trunc_normal_(torch.empty(shape), std=0.02, generator=generator)
            return weight * scale

        hidden, less = mlp_ratio * dim, 1 / math.sqrt(2)  # the authors shrink what adds to the query
        first = {
            "query": normal(dim), "norm": torch.ones(dim), "norm_bias": torch.zeros(dim),
            "to_query": normal(dim, dim), "query_bias": torch.zeros(dim),
            "to_key": normal(dim, dim), "to_value": normal(dim, dim), "value_bias": torch.zeros(dim),
            "out": normal(dim, dim, scale=less), "out_bias": torch.zeros(dim),
            "norm2": torch.ones(dim), "norm2_bias": torch.zeros(dim),
            "up": normal(dim, hidden), "up_bias": torch.zeros(hidden),
            "down": normal(hidden, dim, scale=less), "down_bias": torch.zeros(dim),
            "classes": normal(dim, num_classes), "classes_bias": torch.zeros(num_classes),
        }  # fmt: skip
        self.weights = {
            name: weight.expand(count, *weight.shape).clone().to(device).requires_grad_()
            for name, weight in first.items()
        }

    def logits(self, x: Tensor, real: Tensor) -> Tensor:
        """Tokens [S, N, D], and which of them are real [S, N] -> logits [P, S, K]."""
        w, (samples, _, dim) = self.weights, x.shape
        count, size = len(w["query"]), dim // self.heads
        x = F.layer_norm(x, (dim,), eps=EPS)  # what the norms scale and shift comes later
        query = _linear(w["query"][:, None], w["to_query"], w["query_bias"])  # [P, 1, D]
        keys = (w["to_key"] * query).unflatten(2, (self.heads, size)).sum(3)  # [P, D, H]
        keys = (keys * w["norm"][..., None] / math.sqrt(size)).transpose(0, 1).flatten(1)  # [D, P H]
        attention = (x @ keys).masked_fill(~real[..., None], -math.inf).softmax(dim=1)  # [S, N, P H]
        mean = (attention.mT @ x).unflatten(1, (count, self.heads)).permute(1, 2, 0, 3)  # [P, H, S, D]
        mean = mean * w["norm"][:, None, None] + w["norm_bias"][:, None, None]
        values = w["to_value"].unflatten(2, (self.heads, size)).transpose(1, 2)  # [P, H, D, D / H]
        pooled = (mean @ values).transpose(1, 2).reshape(count, samples, dim) + w["value_bias"][:, None]
        z = w["query"][:, None] + _linear(pooled, w["out"], w["out_bias"])
        inner = F.layer_norm(z, (dim,), eps=EPS) * w["norm2"][:, None] + w["norm2_bias"][:, None]
        z = z + _linear(F.gelu(_linear(inner, w["up"], w["up_bias"])), w["down"], w["down_bias"])
        return _linear(z, w["classes"], w["classes_bias"])


class AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) with a learning rate and a weight decay
    for each of P models whose weights are stacked.

    Args:
        weights: [P, ...] by name.
        lr: [P].
        weight_decay: [P], of those in `DECAYED`.
    """

    def __init__(self, weights: dict[str, Tensor], lr: Tensor, weight_decay: Tensor) -> None:
        self.weights, self.lr, self.decay, self.steps = weights, lr, weight_decay, 0
        self.first = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        self.second = {name: torch.zeros_like(weight) for name, weight in weights.items()}

    @torch.no_grad()
    def step(self, loss: Tensor, factor: float) -> None:
        """Takes a step down a loss, the sum of the models', with the learning rates times a
        factor."""
        self.steps += 1
        gradients = torch.autograd.grad(loss, list(self.weights.values()))
        scale = math.sqrt(1 - BETAS[1] ** self.steps)
        for (name, weight), gradient in zip(self.weights.items(), gradients, strict=True):
            lr = _column(factor * self.lr, weight)
            if name in DECAYED:
                weight.mul_(1 - lr * _column(self.decay, weight))
            self.first[name].lerp_(gradient, 1 - BETAS[0])
            self.second[name].mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            size = self.second[name].sqrt().div_(scale).add_(ADAM_EPS)
            weight.sub_(lr / (1 - BETAS[0] ** self.steps) * self.first[name] / size)


def _linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[P, S, I], [P, I, O], [P, O] -> [P, S, O]."""
    return torch.baddbmm(bias[:, None], x, weight)


def _column(values: Tensor, weight: Tensor) -> Tensor:
    """[P] -> [P, 1, ...] with the dimensions of a weight."""
    return values.view(-1, *(1,) * (weight.ndim - 1)).to(weight)
