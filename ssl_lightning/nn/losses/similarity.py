"""What losses that compare vectors share."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 2**22
"""Similarities, or scores, held at once: 16 MiB in float32. 1,024 samples in two views need one
chunk."""


def unit_vectors(x: Tensor) -> Tensor:
    """Vectors [..., D] scaled to length 1, in at least float32: half precision would round
    similarities, which a small temperature enlarges."""
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)
