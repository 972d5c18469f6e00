"""The features of the latest samples are negatives of MoCo, and further samples for SwAV's
assignments."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..plugins.arguments import require
from .precision import AtLeastFloat32


class FeatureQueue(AtLeastFloat32):
    """A ring buffer of features, whose oldest are replaced first (He et al. 2019, arXiv 1911.05722,
    Section 3.1).

    It consists of buffers, so a checkpoint holds it. It is the same on every process, because each
    enqueues the features of all of them (`distributed.gather`); DistributedDataParallel need not
    broadcast it, and `SSLMethod` tells it so.

    Enqueue after the optimizer step (`SSLMethod.after_update`): before it, the keys of a batch
    would be their own negatives, and the backward pass would use the changed queue.

    Args:
        length: K, number of features; they start as random directions.
        dim: D, length of a feature.

    Raises:
        ValueError: length or dim is not positive.
    """

    features: Tensor
    """[K, D] float32."""
    place: Tensor
    """[] int64, index of the oldest."""

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        require(self, at_least=1, length=length, dim=dim)
        random = torch.Generator().manual_seed(0)  # the same on every process
        self.register_buffer("features", F.normalize(torch.randn(length, dim, generator=random), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))  # on the device: nothing waits for it

    @torch.no_grad()
    def enqueue(self, features: Tensor) -> None:
        """Replaces the B oldest features by features [B, D]; of more than K, the last K are
        kept."""
        length = len(self.features)
        index = (self.place + torch.arange(len(features), device=self.place.device)) % length
        self.features.index_copy_(0, index[-length:], features[-length:].to(self.features.dtype))
        self.place.add_(len(features)).remainder_(length)
