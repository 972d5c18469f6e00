"""The features of the latest samples: negatives of MoCo, further samples for SwAV's assignments."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FeatureQueue(nn.Module):
    """A ring of features, whose oldest are replaced first (He et al. 2019, arXiv 1911.05722,
    Section 3.1).

    It lies in buffers, so a checkpoint holds it. It is the same on every process, because each
    enqueues the features of all of them (`distributed.gather`); DistributedDataParallel need not
    broadcast it, and `SSLMethod` tells it so.

    Enqueue after the optimizer step (`SSLMethod.after_update`): before it, the keys of a batch
    would be their own negatives, and the backward pass would find the queue changed.

    Args:
        length: K, features that it holds; it starts with random directions.
        dim: D, length of a feature.

    Raises:
        ValueError: length or dim is not positive.
    """

    features: Tensor
    """[K, D] float32."""
    place: Tensor

    def __init__(self, length: int, dim: int) -> None:
        super().__init__()
        if length < 1 or dim < 1:
            raise ValueError(
                f"A queue needs at least one feature of at least one number, got length={length} and dim={dim}."
            )
        random = torch.Generator().manual_seed(0)  # the same on every process
        self.register_buffer("features", F.normalize(torch.randn(length, dim, generator=random), dim=1))
        self.register_buffer(
            "place", torch.zeros((), dtype=torch.int64)
        )  # of the oldest; on the device, so that nothing waits for it

    @torch.no_grad()
    def enqueue(self, features: Tensor) -> None:
        """Puts features [B, D] in place of the B oldest; of more than K the last K."""
        length = len(self.features)
        places = (self.place + torch.arange(len(features), device=self.place.device)) % length
        self.features.index_copy_(0, places[-length:], features[-length:].to(self.features.dtype))
        self.place.add_(len(features)).remainder_(length)
