"""Heads, small networks between an encoder and a loss."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Literal["batch", "layer", "none"]


class Head(nn.Sequential):
    """Linear layers with a norm and a ReLU between them, as `mlp` builds them.

    How a head ends has changed: SimCLR's had no last norm, that of MoCo v3 a scale, BYOL's a bias.
    A head that is given weights of then ends as theirs did.
    """

    def follow(self, names: Collection[str]) -> None:
        """Ends as the head whose weights have these names ("0.weight") did: with its bias, and with
        its norm."""
        last = max(i for i, layer in enumerate(self) if isinstance(layer, nn.Linear))
        after = last + 1
        if f"{last}.weight" not in names:
            return  # they are not those of this head
        linear: nn.Linear = self[last]  # type: ignore[assignment]
        if self.state_dict().keys() == names:
            return
        ending: list[nn.Module] = [nn.Linear(linear.in_features, linear.out_features, bias=f"{last}.bias" in names)]
        if any(name.startswith(f"{after}.") for name in names):
            norm: Norm = "batch" if f"{after}.running_mean" in names else "layer"
            ending.append(_norm(norm, linear.out_features, f"{after}.weight" in names, f"{after}.bias" in names))
        del self[last:]
        self.extend(layer.to(linear.weight).requires_grad_(linear.weight.requires_grad) for layer in ending)

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *args: Any) -> None:
        self.follow({name.removeprefix(prefix) for name in state_dict if name.startswith(prefix)})
        super()._load_from_state_dict(state_dict, prefix, *args)


def mlp(*dims: int, norm: Norm = "batch", last_norm: bool = False, last_affine: bool = True) -> Head:
    """Builds linear layers with a norm and a ReLU between them.

    `mlp(dim, dim, 128, last_norm=True)` is SimCLR's projection head (Chen et al. 2020, arXiv
    2002.05709, Section 2.1: z = W2 relu(W1 h)) as its authors' code builds it: BatchNorm after both
    layers, no bias in either, and after the last one a BatchNorm that scales but does not shift.
    The paper's text does not mention the norms.

    A linear layer has a bias only where no norm follows, since a norm would cancel it.

    Args:
        dims: input size, hidden sizes, output size.
        norm: "batch", "layer" (normalises each sample by itself, so that a batch may be split at
            will) or "none".
        last_norm: whether the output is normalised too; without a shift, which would move all
            samples alike.
        last_affine: whether the end has parameters besides the last matrix: the scale of its norm,
            or without one a bias.

    Raises:
        ValueError: fewer than two dims, one below 1, or an unknown norm.
    """
    if len(dims) < 2:
        raise ValueError(f"mlp(dims={dims}) must be an input and an output size at least.")
    if min(dims) < 1:
        raise ValueError(f"mlp(dims={dims}) must be sizes of at least 1.")
    if norm not in get_args(Norm):
        raise ValueError(f"mlp(norm={norm!r}) is unknown; choose from {', '.join(get_args(Norm))}.")
    layers: list[nn.Module] = []
    for i in range(1, len(dims)):
        last = i == len(dims) - 1
        normed = norm != "none" and (last_norm or not last)
        layers.append(nn.Linear(dims[i - 1], dims[i], bias=not normed and (last_affine or not last)))
        if normed:
            layers.append(_norm(norm, dims[i], scale=last_affine or not last, shift=not last))
        if not last:
            layers.append(nn.ReLU(inplace=True))
    return Head(*layers)


class Prototypes(nn.Module):
    """Prototypes are directions that features are compared with (Caron et al. 2020, arXiv
    2006.09882, Section 3.1: C).

    Args:
        dim: D, length of a feature.
        number: K, number of prototypes.

    Raises:
        ValueError: fewer than two prototypes.
    """

    def __init__(self, dim: int, number: int) -> None:
        super().__init__()
        if number < 2:
            raise ValueError(f"prototypes={number}: at least 2 are needed, or all samples would be assigned to one.")
        self.weight = nn.Parameter(F.normalize(torch.randn(number, dim), dim=1))

    def forward(self, z: Tensor) -> Tensor:
        """Features [B, D] -> cosine similarities [B, K], in float32 under autocast too: they are
        divided by a small temperature."""
        with torch.autocast(z.device.type, enabled=False):
            return F.normalize(z.float(), dim=1) @ self.weight.float().T

    @torch.no_grad()
    def normalise(self) -> None:
        """Scales the prototypes back to length 1, after each optimizer step."""
        self.weight.copy_(F.normalize(self.weight, dim=1))


def _norm(norm: str, dim: int, scale: bool, shift: bool) -> nn.Module:
    if norm == "layer":
        return nn.LayerNorm(dim, elementwise_affine=scale, bias=shift)
    batch_norm = nn.BatchNorm1d(dim, affine=scale)
    if not shift:
        batch_norm.register_parameter("bias", None)
    return batch_norm
