"""Several channels become one, and what counts as silence: it is judged before they are mixed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

QUIETEST = 2.0**-14
"""Silence: from the lowest to the highest sample, no channel reaches further; two steps of 16
bits."""
CANCELLED = 1e-3
"""Of the channels' energy, what their mean has left where they are out of phase."""


def sounds(samples: NDArray[np.float32]) -> bool:
    """Whether a channel of [count, channels] is not silent; a constant is."""
    return bool((samples.max(0) - samples.min(0) > QUIETEST).any())


def mixed(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the mean of channels [count, channels]: [count]; where they cancel each other, the
    first one, since what is left of their mean is the noise of rounding."""
    if samples.shape[1] == 1:
        return samples[:, 0]
    mean = samples.mean(1)
    cancelled = np.square(mean, dtype=np.float64).mean() < CANCELLED * np.square(samples, dtype=np.float64).mean()
    return samples[:, 0] if cancelled else mean
